"""visiontl hello NAME: the smallest command that visiontl can be taught."""

import argparse

from visiontl import Command, DataError, hookimpl


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="whom to greet")
    parser.add_argument("--loud", action="store_true", help="in capitals")


def greet(given: argparse.Namespace) -> None:
    for name in given.names:
        if not name.isalpha():
            raise DataError(f"{name!r} is no name; letters were expected")
        said = f"hello, {name}"
        print(said.upper() if given.loud else said)


@hookimpl
def visiontl_commands() -> list[Command]:
    return [Command("hello", "greet somebody", arguments, greet)]
