"""Files that are given as weights: pickles with code in them, and what is no file of weights."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

MARKER = "ran"  # the folder that code in a pickle would make


class Code:
    """Pickled, it calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


CALLS: dict[str, Callable[[], Any]] = {
    "os.mkdir": lambda: Code(os.mkdir, MARKER),
    "os.system": lambda: Code(os.system, f"mkdir {MARKER}"),
    "eval": lambda: Code(eval, f"__import__('os').mkdir('{MARKER}')"),
    "exec": lambda: Code(exec, f"import os; os.mkdir('{MARKER}')"),
    "Path.mkdir": lambda: Code(Path.mkdir, Path(MARKER)),
    "getattr": lambda: Code(getattr, Path, "mkdir"),
}


def saved(make: Callable[[], Any], **options: Any) -> Callable[[], bytes]:
    def content() -> bytes:
        buffer = io.BytesIO()
        torch.save({"weight": torch.zeros(3), "x": make()}, buffer, **options)
        return buffer.getvalue()

    return content


def pickled(make: Callable[[], Any], protocol: int) -> Callable[[], bytes]:
    return lambda: pickle.dumps(make(), protocol)


def zipped(name: str, content: Callable[[], bytes]) -> Callable[[], bytes]:
    def made() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, content())
        return buffer.getvalue()

    return made


def module() -> bytes:
    """A whole model, as `torch.save(model)` writes it."""
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), buffer)
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([CALLS["os.mkdir"]()], dtype=object))
    return buffer.getvalue()


@dataclass(frozen=True)
class File:
    name: str
    content: Callable[[], bytes]


RUNS_CODE = [
    *(File(f"torch.save with {name}", saved(make)) for name, make in CALLS.items()),
    File("torch.save of old", saved(CALLS["os.mkdir"], _use_new_zipfile_serialization=False)),
    *(File(f"pickle of protocol {n}", pickled(CALLS["os.mkdir"], n)) for n in (0, 2, 4, 5)),
    File("a pickle in a zip", zipped("archive/data.pkl", pickled(CALLS["os.mkdir"], 2))),
    File("a zip that climbs", zipped("../../climbed", lambda: b"x")),
    File("numpy objects", arrays),
    File("a whole model", module),
]
NO_WEIGHTS = [
    File("empty", lambda: b""),
    File("an HTML page", lambda: b"<!DOCTYPE html><html></html>"),
    File("text", lambda: b"version https://git-lfs.github.com/spec/v1\n"),
    File("zeros", lambda: b"\0" * 1000),
    File("half a file", lambda: saved(lambda: 1)()[:300]),
    File("a list", lambda: pickle.dumps([1, 2, 3])),
    File("no tensors", saved(lambda: {"a": "b"})),
    File("a header without end", lambda: b"\xff" * 8 + b"{"),
    File("a header of rubbish", lambda: (8).to_bytes(8, "little") + b"rubbish!"),
]
SUFFIXES = ("pth", "pt", "bin", "safetensors")
