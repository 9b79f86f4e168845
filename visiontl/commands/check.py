"""visiontl check"""

from __future__ import annotations

import argparse

from visiontl.commands.results import answer, json_flag
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="a plugin, task, backbone, freeze policy or command")
    parser.add_argument("--quick", action="store_true", help="without the checks that train many times")
    json_flag(parser, "the verdicts")


def run(given: argparse.Namespace) -> int:
    from dataclasses import asdict
    from itertools import chain

    from visiontl.kit.words import count
    from visiontl.report.console import Console
    from visiontl.testing.verdicts import require_known, verdicts

    names = list(dict.fromkeys(given.names))
    require_known(names)
    console, found = Console(), []
    for one in chain.from_iterable(verdicts(name, given.quick) for name in names):
        found.append(one)
        if not given.json:
            console.write(f"{'fails' if one.said else 'holds'}  {one.of}: {one.check}  {one.seconds:.1f} s")
            if one.said:
                console.write(f"       {one.said}\n       the contract: {one.clause}")
    failed = sum(bool(one.said) for one in found)
    answer([asdict(one) for one in found])
    if not given.json:
        seconds = sum(one.seconds for one in found)
        console.write(f"{count(len(found), 'check')} of {', '.join(names)}, {failed} failed, in {seconds:.0f} s")
    return 1 if failed else 0


EPILOG = """The contract of a plugin as checks (docs/task.md). What fails says which field and place, and the clause.
They train the bundled tiny backbone on the task's `example` data. Exit code 1 where one fails.
  visiontl check keypoints --quick"""

COMMAND = Command("check", "hold plugins, or things that they offer, against the contract", arguments, run, EPILOG)
