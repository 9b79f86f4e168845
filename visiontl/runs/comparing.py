"""Reading run folders to compare them: what a run, an evaluation or an unfinished run left, and what cannot be read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from visiontl.config.resolve import ranked, resolve
from visiontl.config.yaml_text import parse_text
from visiontl.errors import CheckpointError, ConfigError, VisionTLError, shortened
from visiontl.kit.words import count, plural
from visiontl.report.compared import Answers, Compared
from visiontl.report.run import BackboneFacts, Report
from visiontl.runs.files import read_lines
from visiontl.runs.images import images_file, read_images

FEWEST, MOST = 2, 20  # runs


def read_runs(folders: Sequence[Path]) -> tuple[list[Compared], list[str]]:
    """The runs that can be compared, of the task of the first one, and a sentence on each that cannot.

    Raises ConfigError for fewer than two or more than twenty folders, CheckpointError where fewer than two of them can
    be compared.
    """
    places = [os.path.realpath(folder) for folder in folders]
    unique = [folder for i, folder in enumerate(folders) if places[i] not in places[:i]]
    if not FEWEST <= len(folders) <= MOST:
        given = f"{count(len(folders), 'run folder')} {plural(len(folders), 'was')} given"
        raise ConfigError(f"{given}; {FEWEST} to {MOST} can be compared")
    left_out = [] if len(unique) == len(folders) else [f"{len(folders) - len(unique)} of the folders stand twice"]
    found: list[Compared] = []
    for folder, name in zip(unique, short_names(unique), strict=True):
        try:
            run = read_run(folder, name)
        except VisionTLError as error:
            left_out.append(f"{folder} is left out: {str(error).splitlines()[0].removeprefix(f'{folder}: ')}")
            continue
        if found and run.report.task != found[0].report.task:
            task, first = run.report.task or "unknown", found[0]
            left_out.append(f"{folder} is left out: its task is {task}, that of {first.name} {first.report.task}")
            continue
        found.append(run)
    if len(found) < FEWEST:
        raise CheckpointError(
            f"{len(found)} of the {len(folders)} folders can be compared, two are needed",
            lines=[f"- {line}" for line in left_out],
        )
    return found, left_out


def read_run(folder: Path, name: str) -> Compared:
    """A run folder, finished or not, or that of an evaluation. Raises CheckpointError for one that is neither, or whose
    report is damaged; what else is damaged is among its notes."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    written, config = folder / "report.json", folder / "config.yaml"
    if not written.is_file() and not config.is_file():
        raise CheckpointError(f"{folder}: holds neither report.json nor config.yaml, so no run was made there")
    notes: list[str] = []
    ended = written.is_file()
    report = Report.read(written) if ended else None
    try:
        text = config.read_text(encoding="utf-8") if config.is_file() else report.config if report else ""
        values = parse_text(text, str(config)).values
    except (VisionTLError, OSError, UnicodeError) as error:
        if report is None:
            raise CheckpointError(f"{config}: cannot be read ({shortened(str(error), 200)})") from None
        notes.append(f"{name}: its config cannot be read, so its settings are not compared")
        values = {}
    if report is None:
        report = unfinished(folder, values)
        notes.append(f"{name} is not finished: its settings and curves are shown, it has no scores yet")
    elif report.training is None:
        notes.append(f"{name} is an evaluation: it has scores, and no training")
    answers: dict[str, Answers] = {}
    for split in report.scores:
        try:
            kept = read_images(folder, split)
        except ValueError as error:
            notes.append(f"{name}: {images_file(folder, split).name} is damaged and not used ({error})")
            continue
        if kept is not None:
            answers[split] = kept
    return Compared(
        name=name,
        report=report,
        settings=flat(values),
        metrics=read_lines(folder)[0],
        answers=answers,
        better=directions(config) if config.is_file() else {},
        ended=ended,
        notes=notes,
    )


def unfinished(folder: Path, values: Mapping[str, Any]) -> Report:
    """What the config of a run without a report says of it."""
    task, backbone, train = (_section(values, name) for name in ("task", "backbone", "train"))
    seed = train.get("seed")
    facts = BackboneFacts(name=str(backbone.get("name", "")), weights=str(backbone.get("weights", "")))
    nothing = Report.from_json({})
    return replace(
        nothing,
        run=str(folder),
        task=str(task.get("name", "")),
        status="not finished",
        seed=seed if isinstance(seed, int) else None,
        backbone=facts,
    )


def directions(config: Path) -> dict[str, str]:
    """{score: "max" or "min"} of the run's task; empty where its plugin, or a key of its config, is not there."""
    try:
        resolved = resolve(config)
        return dict(ranked(resolved.task, resolved.cfg))
    except VisionTLError:
        return {}


def short_names(folders: Sequence[Path]) -> list[str]:
    """As few of the last parts of each path as tell all apart."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"optim.lr": 0.001}; lists stay."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return cast(Mapping[str, Any], found) if isinstance(found, Mapping) else {}
