"""visiontl predict"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from visiontl.commands.arguments import run_here, split_arguments, warn_of_plugins
from visiontl.commands.results import answer, speech_flags
from visiontl.errors import ConfigError
from visiontl.processes import garbage
from visiontl.task import Command, Task

EXPORTED = ".onnx"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="a run folder, its model/ alone, hf-hub:owner/name, or an exported model.onnx"
    )
    parser.add_argument(
        "rest",
        metavar="IMAGE | option=value",
        nargs="*",
        help="files, folders or globs; what the task offers",
    )
    parser.add_argument("--out", metavar="DIR", help="where predictions are written; default: beside the run")
    speech_flags(parser, "a line for each image, with its prediction or its error,")
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing on the images")


def run(given: argparse.Namespace) -> None:
    from visiontl.config.overrides import option_values, parse_options
    from visiontl.runs.recent import instead_of_config, is_config, no_such_run

    images, assigned = split_arguments(given.rest)
    given.run = run_here(given.run)
    exported = given.run.lower().endswith(EXPORTED)
    if not exported and is_config(given.run):
        raise ConfigError(instead_of_config(given.run, ["predict", given.run, *given.rest]))
    if not images:
        raise ConfigError("no images; name files, folders or globs: visiontl predict RUN IMAGE ...")
    options = option_values(assigned, "predict")
    if not os.path.exists(given.run):
        raise ConfigError(no_such_run(Path(given.run)))
    warn_of_plugins()
    if exported:
        from visiontl.engine.exported import predict_exported

        return told(predict_exported(given.run, images, given.out, options, not given.no_pictures), given.json)
    task = task_of(given.run)
    if task is not None and task.options is not None:  # mistakes are told before torch is imported
        parse_options(task.options, options, f"predict with task {task.name}")
    with garbage.uncollected():
        from visiontl.engine import predict as prediction

    pictures = not given.no_pictures
    told(prediction.predict_files(given.run, images, out=given.out, options=options, pictures=pictures), given.json)


def told(done: dict[str, Any], as_json: bool) -> None:
    """What a call wrote, for a program or in a line."""
    failed = f", {len(done['failed'])} could not be read" if done["failed"] else ""
    if as_json:
        for line in predicted(Path(done["folder"])):
            answer(line)
        for file, reason in done["failed"].items():
            answer({"file": file, "error": reason})
    else:
        answer(None, f"{done['predicted']} predicted{failed}; {done['folder']}")


def predicted(folder: Path) -> Iterator[Any]:
    """The predictions that a call wrote, one by one."""
    with (folder / "predictions.jsonl").open(encoding="utf-8", errors="surrogateescape") as file:
        yield from map(json.loads, file)


def task_of(run: str | Path) -> Task | None:
    """The task of a run folder, of its `model/` alone, or of hf-hub:owner/name, which is downloaded; None where there
    is no such folder."""
    from visiontl.config.resolve import resolve

    run = run_here(str(run))
    files = (Path(run) / place / "config.yaml" for place in ("model", "."))
    found = next((file for file in files if file.is_file()), None)
    return resolve(found).task if found is not None else None


def options_help(words: Sequence[str]) -> str:
    """Below the help: what the task of the named run can be asked."""
    from visiontl.config.overrides import option_lines

    task = next((found for word in words if not word.startswith("-") and (found := task_of(word))), None)
    if task is None:
        return "`visiontl predict RUN --help` lists the options of that run's task."
    if task.options is None:
        return f"task {task.name} takes no options"
    return "\n".join([f"options of task {task.name} (name=value):", *option_lines(task.options)])


COMMAND = Command("predict", "use a finished run on images", arguments, run, options_help)
