"""The report of a run as one self-contained HTML file. Imports no torch, and matplotlib only to draw."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from visiontl.errors import clean, refused_by_disk
from visiontl.report.curves import training_figures
from visiontl.report.figures import render_figure, themed
from visiontl.report.formats import cell, duration, human
from visiontl.report.headline import WARNINGS, how_good, what_went_wrong
from visiontl.report.items import Figure, Pictures, Table
from visiontl.report.pictures import picture_grid
from visiontl.report.run import BackboneFacts, Report
from visiontl.report.tables import compared_scores, nested_tables, phase_tables, score_table, task_table

MANY_ROWS = 15  # a longer table scrolls in its box
WIDE = 7  # columns from which on a table stands alone in its row
SECTIONS = (
    ("scores", "Scores"),
    ("task", "Results"),
    ("curves", "Training"),
    ("trainability", "What trains"),
    ("notes", "Notes"),
    ("environment", "Environment"),
    ("config", "Config"),
)

Item = Figure | Table | Pictures


def write_report(
    folder: Path,
    report: Report,
    metrics: Sequence[Mapping[str, Any]] = (),
    items: Iterable[Item] = (),
    training: Iterable[Item] = (),
) -> Path:
    """Writes folder/report.html, and each figure and picture as a file into folder/pictures/.

    metrics: the records of metrics.jsonl. items: what the task's `report` gave; training: what stands with the curves.
    One that cannot be drawn becomes a note, never a failure. Raises OSError where the folder cannot be written to.
    """
    problems: list[str] = []
    names: set[str] = set()
    shown = shown_items(items, folder / "pictures", problems, names)
    seen = shown_items(training, folder / "pictures", problems, names)
    curves = drawn_curves(report, metrics, problems)
    notes = [*report.notes, *problems]
    warnings = [note.removeprefix("warning: ") for note in notes if note.startswith("warning:")]
    plain = [note for note in notes if not note.startswith("warning:")]
    scores = compared_scores(report)
    values: dict[str, Any] = {
        "good": how_good(report),
        "wrong": what_went_wrong(report, warnings, len(plain)),
        "facts": _facts(report),
        "score_table": score_table(scores),
        "nested_tables": nested_tables(scores),
        "items": shown,
        "curves": curves,
        "seen": seen,
        "phases": phase_tables(report.training.trainability if report.training else ()),
        "warnings": warnings[WARNINGS:],
        "notes": plain,
        "environment": _environment(report),
    }
    there = {
        "scores": values["score_table"] or values["nested_tables"],
        "task": shown,
        "curves": curves or seen,
        "trainability": values["phases"],
        "notes": plain or values["warnings"],
        "environment": values["environment"],
        "config": report.config,
    }
    page = render(
        "report.html.j2",
        report=report,
        title=_title(report),
        started=_moment(report.started),
        links=[(place, name) for place, name in SECTIONS if there[place]],
        many_rows=MANY_ROWS,
        **values,
    )
    path = folder / "report.html"
    write_file(path, page.encode("utf-8", "backslashreplace"))
    return path


def render(template: str, **values: Any) -> str:
    """A page of templates/, everything in it escaped."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    return environment.get_template(template).render(**values).lstrip()


def drawn_curves(report: Report, metrics: Sequence[Mapping[str, Any]], problems: list[str]) -> list[str]:
    """The run's curves as SVG elements. Adds to the problems what could not be drawn."""
    curves: list[str] = []
    for figure in training_figures(report.training, metrics):
        try:
            curves.append(themed(render_figure(figure, f"curve{len(curves)}-")))
        except Exception as error:  # a curve is worth less than the report
            problems.append(f"warning: figure '{figure.title}' could not be drawn: {_why(error)}")
    return curves


def shown_items(
    items: Iterable[Any], folder: Path, problems: list[str], names: set[str] | None = None
) -> list[dict[str, Any]]:
    """The task's items, ready for the template, their files written. Adds to the problems what could not be drawn, and
    to the names of files those that are taken now."""
    shown: list[dict[str, Any]] = []
    names = set[str]() if names is None else names
    for item in items:
        title = str(item.title) if isinstance(item, Item) else "of the task"
        try:
            found = _shown(item, folder, names, problems)
            shown.append({"title": title, "caption": item.caption, **found})
        except Exception as error:  # the task's own code runs here; a report must not end a run that succeeded
            if refused_by_disk(error):  # the report is made again, whole, once there is room
                raise
            kind = type(item).__name__.lower()
            problems.append(f"warning: {kind} '{title}' could not be drawn: {_why(error)}")
    return shown


def _shown(item: Any, folder: Path, names: set[str], problems: list[str]) -> dict[str, Any]:
    if isinstance(item, Figure):
        name = slug(item.title, names)
        svg = render_figure(item, f"{name}-")
        # A file of its own is XML, which allows no control characters and needs a declared namespace.
        write_file(folder / f"{name}.svg", svg.encode("utf-8", "replace"))
        return {"kind": "figure", "svg": themed(svg)}
    if isinstance(item, Table):
        return {"kind": "table", "table": task_table(item), "whole": len(item.columns) >= WIDE}
    if isinstance(item, Pictures):
        name = slug(item.title, names)
        return picture_grid(item, folder, name, write_file, lambda text: problems.append(f"warning: {text}"))
    raise TypeError(f"expected a Figure, Table or Pictures of visiontl, got {type(item).__name__}")


def slug(text: str, taken: set[str] | None = None) -> str:
    """A file name of letters, digits and dashes, never empty; numbered where it is taken already."""
    base = re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")[:60].strip("-") or "item"
    taken = set() if taken is None else taken
    name, count = base, 2
    while name in taken:
        name, count = f"{base}-{count}", count + 1
    taken.add(name)
    return name


def _facts(report: Report) -> list[tuple[str, str]]:
    """The headline's second line: what was trained on what, and how."""
    backbone, training = report.backbone, report.training
    parameters = f"{human(backbone.parameters)} in the backbone" if backbone.parameters is not None else ""
    facts = [
        ("data", ", ".join(f"{name} {cell(count)}" for name, count in report.data.items())),
        ("backbone", backbone.name),
        ("weights", _weights(backbone)),
        ("parameters", parameters),
        ("freeze policy", training.policy if training else ""),
        ("time", duration(report.seconds) if report.seconds is not None else ""),
        ("seed", str(report.seed) if report.seed is not None else ""),
    ]
    return [(name, text) for name, text in facts if text]


def _weights(backbone: BackboneFacts) -> str:
    """'a1_in1k, 99.8% of the backbone's values loaded (120 of 122 tensors)'"""
    loaded = backbone.loaded
    if loaded is None:
        return backbone.weights
    if loaded.values.matched == loaded.values.total:
        share = "all of the backbone loaded"
    else:  # never rounded up to 100.0%
        share = f"{min(loaded.values.fraction, 0.999):.1%} of the backbone's values loaded"
        if loaded.tensors is not None:
            share += f" ({loaded.tensors.matched} of {loaded.tensors.total} tensors)"
    return ", ".join(filter(None, [backbone.weights, share]))


def _environment(report: Report) -> list[tuple[str, str]]:
    rows = [("command", report.command), ("run folder", report.run), ("visiontl", report.visiontl)]
    rows += [(key.replace("_", " "), cell(value)) for key, value in report.environment.items() if value is not None]
    return [(key, text) for key, text in rows if text]


def _title(report: Report) -> str:
    return re.split(r"[/\\]", report.run.rstrip("/\\"))[-1] or report.task or "report"


def _moment(text: str) -> str:
    """ISO date and time -> '2025-11-24 01:59'; anything else as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return text


def _visible(value: Any) -> Any:
    """Text with control characters, and those that turn the writing direction, written out. Markup passes."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else clean(value)


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def write_file(path: Path, content: bytes) -> None:
    """The whole file or none: written beside it, then moved into its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp's files are their owner's alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
