"""visiontl list"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from visiontl.backbones.listing import matches
from visiontl.commands.arguments import warn_of_plugins
from visiontl.commands.results import answer, json_flag
from visiontl.entry import BackboneEntry
from visiontl.errors import ConfigError, did_you_mean
from visiontl.report.layout import tell
from visiontl.task import Command

LISTS = ("tasks", "backbones", "policies", "plugins", "commands")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="WHAT", help=" | ".join(LISTS))
    json_flag(parser, "the rows")
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", help="a name with * and ?, or a part of one")


def run(given: argparse.Namespace) -> None:
    if given.kind not in LISTS:
        raise ConfigError(f"cannot list {given.kind!r}{did_you_mean(given.kind, LISTS)}")
    from visiontl.report.console import Console

    warn_of_plugins()
    columns, rows, names = TABLES[given.kind](given.pattern)
    if not rows and given.pattern:
        near = did_you_mean(given.pattern.strip("*?"), names)
        raise ConfigError(f"none of the {given.kind} matches {given.pattern!r}{near}")
    answer([dict(zip(columns, row, strict=True)) for row in rows])
    if given.json:
        return
    console = Console()
    told = [i for i in range(len(columns)) if any(row[i] not in ("", None) for row in rows)]  # no column of nothing
    console.table("", [columns[i] for i in told], [[row[i] for i in told] for row in rows])
    for line in MORE[given.kind](given.pattern) if given.kind in MORE else ():
        console.write(line)


Listing = tuple[Sequence[str], Sequence[Sequence[Any]], Sequence[str]]
"""(columns, rows that match, all names)."""


def list_tasks(pattern: str | None) -> Listing:
    from visiontl import plugins
    from visiontl.config.write import first_sentence

    tasks = plugins.tasks()
    rows = []
    for name, task in sorted(tasks.items()):
        if matches(name, pattern):
            plugin, distribution, version = plugins.owner(name)
            what = first_sentence(task.config.__doc__ or plugins.manager().get_plugin(plugin).__doc__)
            rows.append([name, plugin, f"{distribution} {version}".strip(), what])
    return ["task", "plugin", "package", "what"], rows, list(tasks)


def list_backbones(pattern: str | None) -> Listing:
    from visiontl import plugins
    from visiontl.backbones import catalog, listing

    note = catalog.stale()
    if note:
        tell(f"note: {note}", sys.stderr)
    entries = plugins.backbones()
    cells = [listing.cells(entry) for entry in wanted_backbones(pattern)]
    names = [*entries, *(name.partition("/")[2] for name in entries)]
    return list(cells[0]) if cells else [], [list(cell.values()) for cell in cells], names


def wanted_backbones(pattern: str | None) -> list[BackboneEntry]:
    """Those whose full or bare name matches."""
    from visiontl import plugins

    found = plugins.backbones().items()
    return [entry for name, entry in found if matches(name, pattern) or matches(name.partition("/")[2], pattern)]


def packaged_weights(pattern: str | None) -> list[str]:
    """What Python packages carry of the weights of the listed backbones."""
    from visiontl.backbones import listing

    lines = [line for entry in wanted_backbones(pattern) for line in listing.packaged(entry)]
    return ["", "weights that come as Python packages, read without a network:", *lines] if lines else []


def list_policies(pattern: str | None) -> Listing:
    from visiontl import plugins
    from visiontl.config.write import first_sentence

    factories = plugins.policies()
    rows = [
        [name, first_sentence(f.__doc__).removeprefix(f"{name}: ")]
        for name, f in factories.items()
        if matches(name, pattern)
    ]
    return ["policy", "what"], rows, list(factories)


def list_plugins(pattern: str | None) -> Listing:
    from dataclasses import astuple

    from visiontl import plugins

    found = plugins.installed()
    rows = [astuple(one) for one in found if matches(one.name, pattern)]
    return ["plugin", "package", "version", "contract", "state", "offers", "error"], rows, [one.name for one in found]


def list_commands(pattern: str | None) -> Listing:
    from visiontl import plugins

    found = {name: (plugins.owner(name, "visiontl_commands")[0], one.help) for name, one in plugins.commands().items()}
    for task in plugins.tasks().values():
        found |= {f"{task.name} {one.name}": (plugins.owner(task.name)[0], one.help) for one in task.commands}
    rows = [[name, owner, what] for name, (owner, what) in found.items() if matches(name, pattern)]
    return ["command", "plugin", "what"], rows, list(found)


TABLES: dict[str, Callable[[str | None], Listing]] = {
    "tasks": list_tasks,
    "backbones": list_backbones,
    "policies": list_policies,
    "plugins": list_plugins,
    "commands": list_commands,
}

MORE: dict[str, Callable[[str | None], Sequence[str]]] = {"backbones": packaged_weights}  # lines below the table


COMMAND = Command("list", "show what is installed: tasks, backbones, policies, plugins, commands", arguments, run)
