"""visiontl explain"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from visiontl.commands.arguments import run_here, split_arguments, warn_of_plugins
from visiontl.commands.predict import task_of
from visiontl.commands.results import answer, speech_flags
from visiontl.errors import ConfigError
from visiontl.processes import garbage
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, its model/ alone, or hf-hub:owner/name")
    parser.add_argument(
        "rest",
        metavar="IMAGE | what=value",
        nargs="*",
        help="files, folders or globs; what of the answer is explained, if not what the task thinks of first",
    )
    parser.add_argument("--out", metavar="DIR", help="where explanations are written; default: beside the run")
    speech_flags(parser, "a line for each image, with what was explained or its error,")


def run(given: argparse.Namespace) -> None:
    from visiontl.config.asked import explain_options
    from visiontl.config.overrides import option_values, parse_options
    from visiontl.runs.recent import instead_of_config, is_config, no_such_run

    images, assigned = split_arguments(given.rest)
    given.run = run_here(given.run)
    if is_config(given.run):
        raise ConfigError(instead_of_config(given.run, ["explain", given.run, *given.rest]))
    if not images:
        raise ConfigError("no images; name files, folders or globs: visiontl explain RUN IMAGE ...")
    options = option_values(assigned, "explain")
    if not Path(given.run).exists():
        raise ConfigError(no_such_run(Path(given.run)))
    warn_of_plugins()
    task = task_of(given.run)
    if task is not None:  # mistakes are told before torch is imported
        parse_options(explain_options(task), options, f"explain with task {task.name}")
    with garbage.uncollected():
        from visiontl.engine import explanations

    done = explanations.explain_files(given.run, images, out=given.out, options=options)
    if not given.json:
        failed = f", {len(done['failed'])} not" if done["failed"] else ""
        answer(None, f"{done['explained']} explained{failed}; {done['folder']}")
        return
    with (Path(done["folder"]) / "explanations.jsonl").open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            answer(json.loads(line))
    for name, reason in done["failed"].items():
        answer({"file": name, "error": reason})


def options_help(words: Sequence[str]) -> str:
    """Below the help: of what the task of the named run can give an explanation."""
    from visiontl.config.asked import explain_options
    from visiontl.config.overrides import option_lines

    task = next((found for word in words if not word.startswith("-") and (found := task_of(word))), None)
    if task is None:
        return "`visiontl explain RUN --help` lists what can be asked of that run's task."
    lines = option_lines(explain_options(task))
    return "\n".join([f"what can be asked of task {task.name} (name=value):", *lines])


COMMAND = Command("explain", "show where in a photo a model looked (Grad-CAM)", arguments, run, options_help)
