"""What is shown of a sweep: its table, a plot for each setting, and one page that compares its runs. Imports no torch,
and matplotlib only to draw."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visiontl.errors import VisionTLError
from visiontl.kit.words import count
from visiontl.report import comparison
from visiontl.report.compared import said
from visiontl.report.figures import BLUE
from visiontl.report.formats import cell, duration
from visiontl.report.items import Figure
from visiontl.report.tables import Grid
from visiontl.runs.comparing import FEWEST, MOST, read_runs
from visiontl.runs.files import write_text
from visiontl.search.space import Axis, Choice
from visiontl.search.sweep import Sweep
from visiontl.search.trials import Trial, against, by_score, margin

PAGE = "sweep.html"


def table(sweep: Sweep, trials: Sequence[Trial]) -> Grid:
    """A line a trial: the best first, then those that are not whole."""
    ranked = by_score(trials, sweep.better)
    others = [one for one in trials if not one.whole]
    many = len(sweep.parts) > 1
    columns = ["trial", "settings", f"val {sweep.score}".replace("_", " "), *(["deviation", "runs"] if many else [])]
    columns += [*(["against the best"] if many else []), "time", "state"]
    rows: list[list[str]] = []
    for one in [*ranked, *others]:
        mean = cell(one.mean) if one.values else "-"
        row = [one.name, one.title, mean]
        if many:
            row += [cell(one.spread), str(len(one.values))]
            test = against(one, ranked[0]) if one.whole else None
            row.append("the best" if ranked and one is ranked[0] else said(test, sweep.better) if test else "-")
        rows.append([*row, duration(one.seconds), one.state])
    right = [name not in ("trial", "settings", "against the best", "state") for name in columns]
    return Grid(columns, rows, right, "Trials")


def write_page(
    sweep: Sweep, axes: Sequence[Axis], trials: Sequence[Trial], command: str, notes: Sequence[str] = ()
) -> Path | None:
    """sweep.html in the sweep's folder; None where fewer than two runs have ended."""
    runs = [
        sweep.place(trial, part)
        for trial in by_score(trials, sweep.better)
        for part in sweep.parts
        # parts of one data set that were judged on different images do not compare image by image
        if part.label in trial.values and (part.fold is None or part.fold == sweep.parts[0].fold)
    ]
    if len(runs) < FEWEST:
        return None
    told = list(notes)
    if len(runs) > MOST:
        told.append(f"of {count(len(runs), 'run')} the {MOST} of the best trials are compared below")
    if sweep.parts[0].fold is not None:
        told.append(f"below the table the runs of fold {sweep.parts[0].fold} stand for all: they judge the same images")
    try:
        found, left_out = read_runs(runs[:MOST])
    except VisionTLError:  # somebody took the folders away
        return None
    ranked = by_score(trials, sweep.better)
    before = comparison.Before(
        title=f"{count(len(trials), 'trial')} of {found[0].report.task}",
        verdict=capitalized(margin(ranked, sweep.score)),
        table=table(sweep, trials),
        figures=plots(sweep, axes, ranked),
    )
    page = sweep.folder / PAGE
    write_text(page, comparison.page(found, [*told, *left_out], command, before))
    return page


def plots(sweep: Sweep, axes: Sequence[Axis], trials: Sequence[Trial]) -> list[Figure]:
    """The score over each setting, a dot a trial, with its deviation where there are several runs."""
    made: list[Figure] = []
    for i, axis in enumerate(axes):
        points = [(one.words[i].partition("=")[2], one.mean, one.spread or 0.0) for one in trials]
        title = f"val {sweep.score} over {axis.key}".replace("_", " ")
        if points:
            made.append(Figure(title, functools.partial(draw, axis, points, title), size=(5.6, 3.3)))
    return made


def draw(axis: Axis, points: Sequence[tuple[str, float, float]], title: str, ax: Any) -> None:
    """points: (value as text, score, deviation) of each trial."""
    numbers = [number(text) for text, _, _ in points]
    known = [one for one in numbers if one is not None]
    names = list(axis.values) if isinstance(axis, Choice) else []
    if len(known) < len(numbers):
        xs = [float(names.index(text)) for text, _, _ in points]
        ax.set_xticks(range(len(names)), [name if len(name) < 22 else f"…{name[-20:]}" for name in names])
        if sum(map(len, names)) > 50:
            ax.tick_params(axis="x", labelrotation=30)
            for label in ax.get_xticklabels():
                label.set_ha("right")
    else:
        xs = known
        if min(xs) > 0 and max(xs) / min(xs) >= 10:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.xaxis.set_minor_formatter(lambda value, _: "")
    ys, spreads = [y for _, y, _ in points], [spread for _, _, spread in points]
    ax.errorbar(xs, ys, yerr=spreads if any(spreads) else None, fmt="o", markersize=5, capsize=2, color=BLUE)
    ax.set_title(title)
    ax.set_xlabel(axis.key)
    ax.grid(axis="y")


def capitalized(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
