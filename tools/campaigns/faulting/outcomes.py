"""What came of a fault: how a command ended, and what it lost."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools.campaigns.faulting.scenes import Scene
from visiontl.runs import store
from visiontl.runs.files import read_lines

USUAL = ("the best weights are those of the start", "never beat the trivial answer")  # of runs as short as these
ERROR = re.compile(r"(rank \d+: )?error: |\d+ errors$")


def in_words(code: int | None, said: str) -> str:
    lines = [line for line in said.splitlines() if ERROR.match(line)]
    if code is None:
        return "did not end"
    if code == 0:
        warned = [line.removeprefix("warning: ") for line in said.splitlines() if line.startswith("warning: ")]
        warned = [line for line in warned if not any(words in line for words in USUAL)]
        return f"went on: {warned[0]}" if warned else "went on"
    return (lines or [last_line(said)])[0]


def last_line(said: str) -> str:
    return (said.strip().splitlines() or ["nothing was said"])[-1][:300]


def lost(scene: Scene) -> list[str]:
    """What stood when the fault came, and is gone."""
    if not scene.marker.exists():
        return []
    before = json.loads(scene.marker.read_text())
    whole = [path.name for path in store.step_folders(scene.run / "checkpoints") if store.damage(path) is None]
    found = []
    if before["checkpoints"] and max(whole, default="") < max(before["checkpoints"]):
        found.append(f"{max(before['checkpoints'])} was whole and is gone; whole: {whole}")
    if len(read_lines(scene.run)[0]) < before["lines"]:
        found.append("lines of metrics.jsonl are gone")
    return found


def half_lines(folder: Path) -> list[str]:
    """Files of lines in which one is no JSON."""
    found = []
    for file in folder.glob("*.jsonl"):
        try:
            [json.loads(line) for line in file.read_text().splitlines()]
        except ValueError:
            found.append(f"{file.name} holds half a line")
    return found
