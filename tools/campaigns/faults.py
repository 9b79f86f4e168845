"""What the world does to a run: full disks, too few files, vanished folders, stopped ranks.

    python tools/campaigns/faults.py FOLDER [--number N] [--task NAME ...] [--family NAME ...]

Each fault hits one tiny run of one task, in a process forked from this one, through the command line. Either the run
goes on to its end, or it ends within a minute in words, with its exit code and without a trace; what had been written
before the fault is still there; and what is resumed once the fault is mended ends with the bits of a run that met none.
Going on in the same FOLDER continues an earlier campaign. Exits with 1 where a fault did otherwise.

Full and read-only disks are small ones that are mounted for the purpose, which takes root on Linux; elsewhere the
system's refusal is raised where the run opens its files, and what needs a disk or a /dev/shm of its own is skipped.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.campaigns.faulting.catalog import faults
from tools.campaigns.faulting.runner import campaign
from tools.campaigns.faulting.scenes import Result
from visiontl import plugins


def table(results: Sequence[Result]) -> str:
    """Markdown: one line per family, then one per fault."""
    families = collections.defaultdict(list)
    for result in results:
        families[result.family].append(result)
    families["all"] = list(results)
    lines = ["| family | faults | went on | ended in words | resumed | well |", "| --- | --- | --- | --- | --- | --- |"]
    for family, found in families.items():
        on, again = sum(r.code == 0 for r in found), sum(bool(r.resumed) for r in found)
        ended, well = sum(r.code not in (0, None) for r in found), sum(not r.problems for r in found)
        lines.append(f"| {family} | {len(found)} | {on} | {ended} | {again} | {well} |")
    lines += ["", "| fault | task | processes | how it ended | resumed | |", "| --- | --- | --- | --- | --- | --- |"]
    for r in results:
        what = f"{r.family}: {r.what}" if r.command == "train" else f"{r.family}: {r.what}, {r.command}"
        ended = r.ended.replace("|", "/")[:160]
        lines.append(f"| {what} | {r.task} | {r.processes} | {ended} | {r.resumed[:7]} | {'; '.join(r.problems)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where runs and faults.jsonl go; an earlier campaign is continued")
    parser.add_argument("--number", type=int, default=1000, help="faults at most (default: all)")
    parser.add_argument("--task", action="append", help="a task's name; repeatable (default: all that are installed)")
    parser.add_argument("--family", action="append", help="a family of faults; repeatable (default: all)")
    given = parser.parse_args(arguments)
    chosen = [
        fault
        for fault in faults(given.task or sorted(plugins.tasks()))
        if given.family is None or fault.family in given.family
    ]
    results = campaign(given.folder.resolve(), chosen, given.number)
    print(table(results))
    for result in results:
        for problem in result.problems:
            print(f"{result.fault}: {problem}", file=sys.stderr)
    return 1 if any(result.problems for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
