"""visiontl samples"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from visiontl.commands.arguments import warn_of_plugins
from visiontl.errors import ConfigError, did_you_mean, sentence
from visiontl.report.layout import tell
from visiontl.task import Command, SamplesStep, Task

FLOW: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": 10_000}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a new or empty folder")
    parser.add_argument("--task", metavar="TASK", help="of this task alone")
    parser.add_argument("--format", metavar="FORMAT", help="in this format alone, such as coco or folders")


def run(given: argparse.Namespace) -> None:
    from visiontl import plugins
    from visiontl.kit.example import once
    from visiontl.report.console import Console

    warn_of_plugins()
    target = Path(given.folder)
    check_target(target)
    wanted = chosen(plugins.tasks(), given.task, given.format)
    many = sum(map(len, wanted.values()))
    print(f"drawing samples of {len(wanted)} {'task' if len(wanted) == 1 else 'tasks'} ...", flush=True)

    def place_of(root: Path, task: str, form: str) -> Path:
        return root / task / form if given.task is None else root / form if given.format is None else root

    def write(root: Path) -> None:
        for task, formats in wanted.items():
            for form, step in formats.items():
                step(place_of(root, task, form))
            print(f"  {task}: {', '.join(formats)}", flush=True)

    once(target, write)
    # the steps know what reads their folders; they keep those that are there
    sections = [
        (task, form, place_of(target, task, form), dict(step(place_of(target, task, form))))
        for task, formats in wanted.items()
        for form, step in formats.items()
    ]
    rows = [[task, form, photos(place), overrides(section)] for task, form, place, section in sections]
    Console().table(f"in {target}", ["task", "format", "photos", "what reads it"], rows)
    task, _, place, section = sections[0]
    tell(sentence(f"next: visiontl train {task}/quickstart {overrides(section)}"), sys.stdout)
    if (place / "new").is_dir():
        new = shlex.quote(str(place / "new"))
        tell(sentence(f"      visiontl predict RUN {new}    # photos that no split holds"), sys.stdout)
    if many > 1:
        print("each format holds the same world; the first of a task is what `task.data: samples` draws")


def check_target(target: Path) -> None:
    """Raises ConfigError for a folder that holds something, and for what is no folder."""
    if target.is_dir():
        if inside := sorted(one.name for one in target.iterdir()):
            raise ConfigError(
                f"{target} is not empty (it holds {inside[0]}); nothing is overwritten: name a new folder"
            )
    elif target.exists() or target.is_symlink():
        raise ConfigError(f"{target} is no folder; name a new one")


def chosen(tasks: Mapping[str, Task], task: str | None, form: str | None) -> dict[str, Mapping[str, SamplesStep]]:
    """{task: {format: step}} of what is asked for. Raises ConfigError with the closest names."""
    able = {name: one.samples for name, one in sorted(tasks.items()) if one.samples}
    if task is not None and task not in tasks:
        raise ConfigError(f"no task {task!r}{did_you_mean(task, able)}")
    if task is not None and task not in able:
        raise ConfigError(f"task {task} draws no samples; {', '.join(able) or 'no other'} does")
    within = able if task is None else {task: able[task]}
    if form is None:
        return dict(within)
    found: dict[str, Mapping[str, SamplesStep]] = {
        name: {form: formats[form]} for name, formats in within.items() if form in formats
    }
    if not found:
        known = sorted({one for formats in within.values() for one in formats})
        whose = f"task {task}" if task else "any task"
        raise ConfigError(
            f"no format {form!r} of {whose}{did_you_mean(form, known) or '; choose from ' + ', '.join(known)}"
        )
    return found


def overrides(section: Mapping[str, Any]) -> str:
    """`task.data=...` and what must stand beside it, as words of a command line."""
    flow = {key: yaml.safe_dump([value], **FLOW).strip()[1:-1] for key, value in section.items()}
    return " ".join(shlex.quote(f"task.{key}={value}") for key, value in flow.items())


def photos(place: Path) -> int:
    """How many lie there; masks and paintings are .png."""
    return sum(one.suffix == ".jpg" for one in place.rglob("*"))


EXAMPLES = """Without --task and --format: DIR/TASK/FORMAT for all of them. The same pixels every time.
  visiontl samples practice --task detection
  visiontl train detection/quickstart task.data=practice/yolo/scenes"""

COMMAND = Command("samples", "draw sample data of every task, in every format that is read", arguments, run, EXAMPLES)
