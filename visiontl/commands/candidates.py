"""What may follow on a command line. Imports no torch, and plugins where they are asked for alone."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from visiontl.commands import COMMANDS
from visiontl.commands.arguments import split_arguments
from visiontl.commands.completion import SCRIPTS
from visiontl.commands.list import LISTS
from visiontl.errors import VisionTLError
from visiontl.task import Command

if TYPE_CHECKING:
    from pydantic import BaseModel


def candidates(line: str) -> list[str]:
    """What the last word of the line may become, sorted."""
    words = _split(line)[1:]
    if not words:
        return []
    before, word = words[:-1], words[-1]
    try:
        return sorted({found for found in _following(before, word) if found.startswith(word)})
    except (VisionTLError, OSError):  # what is wrong is told when the command runs
        return []


def _split(line: str) -> list[str]:
    """The words, the one that is being typed last; a quote may still be open."""
    for closing in ("", "'", '"'):
        try:
            return shlex.split(line + closing) + ([""] if line[-1:].isspace() and not closing else [])
        except ValueError:
            continue
    return line.split()


def _following(before: Sequence[str], word: str) -> Iterable[str]:
    if before and before[0] in COMMANDS:  # which needs no plugin
        return _arguments(COMMANDS[before[0]], before[1:], word)
    from visiontl import plugins

    commands, tasks = plugins.commands(), {name: task for name, task in plugins.tasks().items() if task.commands}
    if not before:
        return [*COMMANDS, *commands, *tasks, "--help", "--version"]
    if before[0] in commands:
        return _arguments(commands[before[0]], before[1:], word)
    own = {command.name: command for command in tasks[before[0]].commands} if before[0] in tasks else {}
    if len(before) == 1:
        return own
    return _arguments(own[before[1]], before[2:], word) if before[1] in own else []


def _arguments(command: Command, before: Sequence[str], word: str) -> Iterator[str]:
    parser = argparse.ArgumentParser(add_help=False)
    command.arguments(parser)
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    takes = {flag for flag, action in flags.items() if action.nargs != 0}
    if before and before[-1] in takes:
        yield from flags[before[-1]].choices or _files(word)
        return
    if word.startswith("-"):
        yield from (flag for flag, action in flags.items() if action.help != argparse.SUPPRESS)
        yield from ("--help", "--debug")
        return
    if command.options is not None:
        yield from _keys(command.options, word)
    free = [one for i, one in enumerate(before) if one[:1] != "-" and (i == 0 or before[i - 1] not in takes)]
    places = [action for action in parser._actions if not action.option_strings]
    stood = len(split_arguments(free)[0])
    if places and (stood < len(places) or places[-1].nargs in ("*", "+")):
        here = places[min(stood, len(places) - 1)]
        for kind in str(here.metavar or here.dest).split(" | "):
            yield from _of_kind(kind, free, word)


def _of_kind(kind: str, before: Sequence[str], word: str) -> Iterable[str]:
    """What an argument of that metavar may be; files where nothing else is known."""
    from visiontl.config import ready

    if kind == "a.b=c":
        return _config_keys(before[0], word)
    if kind == "option=value":
        from visiontl.commands.predict import task_of

        task = task_of(before[0])
        return _keys(task.options, word) if task is not None and task.options is not None else []
    if kind == "what=value":
        from visiontl.commands.predict import task_of
        from visiontl.config.asked import explain_options

        task = task_of(before[0])
        return _keys(explain_options(task), word) if task is not None else []
    known: dict[str, Iterable[str]] = {"WHAT": LISTS, "SHELL": SCRIPTS, "READY": ready.configs(), "cp": ["cp"]}
    if kind in known:
        return known[kind]
    return [*(ready.runs() if kind == "CONFIG" else []), *_files(word)]


def _config_keys(config: str, word: str) -> Iterator[str]:
    """Keys of the core and, below `task`, of the task that the config names; `backbone.name=` has values too."""
    from visiontl import plugins
    from visiontl.config.resolve import task_name
    from visiontl.config.schema import Config

    if word.startswith("backbone.name="):
        for name in plugins.backbones():
            yield f"backbone.name={name}"
            yield f"backbone.name={name.removeprefix('timm/')}"  # a bare name means timm
        return
    yield from (key for key in _keys(Config, word) if key != "task=")
    if word.startswith("task."):
        yield from _keys(plugins.task(task_name(config)).config, word, "task.")
    else:
        yield "task."


def _keys(model: type[BaseModel], word: str, prefix: str = "") -> Iterator[str]:
    """`a.b=` for each key; after it the values, where it takes one of a few, or else files."""
    from visiontl.config.problems import all_keys, field_at

    for key in all_keys(model):
        name = f"{prefix}{'.'.join(key)}="
        if not word.startswith(name):
            yield name
            continue
        values = list(_literals(field_at(model, key).annotation)) or _files(word.removeprefix(name))
        yield from (name + value for value in values)


def _literals(annotation: Any) -> Iterator[str]:
    if annotation is bool:
        yield from ("true", "false")
    for inner in get_args(annotation):
        if isinstance(inner, str):
            yield inner
        else:
            yield from _literals(inner)


def _files(word: str) -> Iterator[str]:
    """Files and folders that begin so; a folder with a slash at its end."""
    folder, name = os.path.split(word)
    place = Path(folder or ".").expanduser()
    if not place.is_dir():
        return
    for entry in os.scandir(place):
        if entry.name.startswith(name) and (name or not entry.name.startswith(".")):
            yield os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
