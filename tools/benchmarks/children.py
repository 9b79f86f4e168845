"""Starts the loops of a section: several children that wait for each other, in folders that are removed."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.harness import ROOT, Child

CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


@contextmanager
def children(
    specs: Mapping[str, Mapping[str, Any]], common: Mapping[str, Any], gpu: bool = False, file: str = "loops.py"
) -> Iterator[dict[str, Child]]:
    """name -> a child that is ready to run rounds. specs: what sets each apart; common: the rest. Together they are
    the Spec of the file, a neighbor of this one."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        found = {}
        for name, spec in specs.items():
            told = {"folder": folder, **common, **spec}
            command = [sys.executable, str(ROOT / "tools" / "benchmarks" / file), json.dumps(told)]
            if told.get("cache"):  # what it measures in its set-up is to be undisturbed
                wait(found)
            found[name] = stack.enter_context(Child(name, command, told.get("threads", 1), {} if gpu else CPU))
            if told.get("cache"):
                wait(found)
        wait(found)
        yield found


def wait(found: Mapping[str, Child]) -> None:
    for child in found.values():
        child.wait_until_ready()
