"""Measure visiontl against bare PyTorch and against its peers, side by side on this machine.

    python tools/benchmark.py engine policies memory start --out docs/results

Each section prints its tables; with --out they are also kept in benchmark_SECTION.md and .jsonl, and tables that the
.jsonl holds already are not measured again. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

SECTIONS = (
    "engine", "policies", "memory", "start", "peers", "loading", "regions",
    "detection", "segmentation", "face", "painting", "growth", "features",
)  # fmt: skip


def material(name: str) -> Path | None:
    """A folder of real photos or weights below VISIONTL_TEST_DATA, where that is set and holds one."""
    base = os.environ.get("VISIONTL_TEST_DATA")
    return Path(base, name) if base and Path(base, name).is_dir() else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=SECTIONS, help="what is measured")
    parser.add_argument("--out", type=Path, help="a folder for the tables; without it they are only printed")
    parser.add_argument("--quick", action="store_true", help="a sample in seconds, whose numbers mean nothing")
    parser.add_argument("--data", type=Path, default=material("data"), help="photos; default: %(default)s")
    parser.add_argument("--weights", type=Path, default=material("weights"), help="weights; default: %(default)s")
    arguments = parser.parse_args()
    from benchmarks.harness import Options, run_section

    options = Options(arguments.quick, arguments.data, arguments.weights)
    for name in arguments.sections:
        section = importlib.import_module(f"benchmarks.{name}")
        run_section(name, section.ABOUT, section.tables(options), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
