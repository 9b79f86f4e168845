"""`visiontl rank` in this process: what it holds after each backbone, and at most so far. Prints JSON."""

from __future__ import annotations

import json
import sys

import psutil
import torch

from visiontl.config.resolve import resolve
from visiontl.engine.device import current_device
from visiontl.report.console import Console
from visiontl.search import ranking
from visiontl.search.candidates import Candidate


def main() -> None:
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    current_device()
    mine, attempt, found = psutil.Process(), ranking.attempt, []

    def watched(row: ranking.Ranked, step: object) -> None:
        attempt(row, step)
        if row.failure:
            raise SystemExit(f"{row.candidate.title}: {row.failure}")
        found.append((row.candidate.name, row.parameters, mine.memory_info().rss, peak()))

    ranking.attempt = watched
    candidates = [Candidate(name, "none") for name in spec["backbones"]]
    ranking.rank(resolve(spec["config"]), candidates, 1e9, spec["images"], Console(main=False))
    half = len(found) // 2  # what each costs was measured before, one at a time as well
    print(json.dumps({"cost": found[:half], "features": found[half:]}))


def peak() -> int:
    """Bytes that this process has held at most."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
