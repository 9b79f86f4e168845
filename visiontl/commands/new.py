"""visiontl new"""

from __future__ import annotations

import argparse
import keyword
import re
from collections.abc import Iterator
from pathlib import Path

from visiontl.errors import ConfigError, did_you_mean
from visiontl.task import Command

KINDS = ("task", "backbone", "policy", "command", "tracker")
TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
NEXT = {
    "task": "visiontl train {name}.yaml && visiontl check {name} --quick",
    "backbone": "visiontl check {name}/small",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", help=" | ".join(KINDS))
    parser.add_argument("name", metavar="NAME", help="what it will be called: small letters, digits and _")
    parser.add_argument("folder", metavar="DIR", nargs="?", help="a new folder; by default visiontl-NAME here")


def run(given: argparse.Namespace) -> None:
    from visiontl.kit.example import once
    from visiontl.report.console import Console

    if given.kind not in KINDS:
        near = did_you_mean(given.kind, KINDS)
        raise ConfigError(f"cannot make a new {given.kind!r}{near}; expected one of {', '.join(KINDS)}")
    check_name(given.name)
    target = Path(given.folder or f"visiontl-{given.name}")
    if target.is_symlink() or target.exists():
        raise ConfigError(f"{target} is there already; nothing is overwritten: name a new folder")
    try:
        once(target, lambda place: write(place, given.kind, given.name))
    except OSError as error:
        raise ConfigError(f"{target} cannot be made: {error.strerror or error}") from None
    console = Console()
    for file, _ in files(given.kind, given.name):
        console.write(str(target / file))
    then = NEXT.get(given.kind, "visiontl check {name}").format(name=given.name)
    console.write(f"next: cd {target} && pip install -e '.[test]' && {then}")


def check_name(name: str) -> None:
    """Raises ConfigError for a name that no package can have, or that an installed plugin has."""
    from visiontl import plugins

    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name!r} is no name for a package; expected small letters, digits and _, such as keypoints")
    taken = {one.name for one in plugins.installed()} | set(plugins.tasks()) | set(plugins.policies())
    if name in taken | set(plugins.commands()):
        raise ConfigError(f"{name!r} is installed already, and a name can be offered once; choose another")


def files(kind: str, name: str) -> Iterator[tuple[str, str]]:
    """(path, content) of the package."""
    text = (TEMPLATES / f"{kind}.txt").read_text(encoding="utf-8")
    text = (
        text.replace("THING", name)
        .replace("DASHED", name.replace("_", "-"))
        .replace("CLASS", "".join(map(str.capitalize, name.split("_"))))
    )
    for part in text.split("=== ")[1:]:
        path, _, content = part.partition("\n")
        yield path, content


def write(place: Path, kind: str, name: str) -> None:
    for path, content in files(kind, name):
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


EPILOG = """A whole package: code, an entry point, data that it draws, tests of the contract, a README, a CI file.
It installs, trains and passes as it is.
  visiontl new task keypoints"""

COMMAND = Command(
    "new", "write a package of your own: a task, backbone, policy, command or tracker", arguments, run, EPILOG
)
