"""visiontl push"""

from __future__ import annotations

import argparse

from visiontl.commands.arguments import warn_of_plugins
from visiontl.commands.results import answer, speech_flags
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or its model/ alone")
    parser.add_argument(
        "repository", metavar="OWNER/NAME", help="the repository on the hub; made where it is not there"
    )
    parser.add_argument(
        "--license", metavar="NAME", help="as the hub spells it; default: that of the weights it is from"
    )
    parser.add_argument("--data", metavar="TEXT", help="what the data are called, for the card")
    parser.add_argument("--datasets", metavar="A,B", default="", help="their names on the hub, for the card")
    parser.add_argument("--private", action="store_true", help="a repository that is made is a private one")
    parser.add_argument("--out", metavar="DIR", help="write what would be sent there, and send nothing")
    speech_flags(parser, "what was written")


def run(given: argparse.Namespace) -> None:
    warn_of_plugins()
    from visiontl.engine import pushing

    datasets = [name.strip() for name in given.datasets.split(",") if name.strip()]
    wanted = pushing.Wanted(given.repository, given.license, given.data, datasets, given.private, given.out)
    done = pushing.push(given.run, wanted)
    answer(done, f"{done.get('url') or done['folder']}: license {done['license']}")


COMMAND = Command("push", "a run's model to the hub, with its card", arguments, run)
