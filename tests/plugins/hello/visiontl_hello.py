"""visiontl hello NAME: the smallest command that visiontl can be taught."""

import argparse

from pydantic import Field

from visiontl import Command, DataError, Section, hookimpl


class Options(Section):
    times: int = Field(1, ge=1, description="how often")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="whom to greet")
    parser.add_argument("--loud", action="store_true", help="in capitals")


def greet(given: argparse.Namespace) -> None:
    for name in given.names:
        if not name.isalpha():
            raise DataError(f"{name!r} is no name; letters were expected")
        said = f"hello, {name}" + f" and {name}" * (given.options.times - 1)
        print(said.upper() if given.loud else said)


@hookimpl
def visiontl_commands() -> list[Command]:
    return [Command("hello", "greet somebody", arguments, greet, options=Options)]
