"""What is shown of several runs: tables, curves over each other, and one self-contained page. Imports no torch, and
matplotlib only to draw."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visiontl.report import compared
from visiontl.report.compared import Compared, Seeds, Verdict
from visiontl.report.curves import keys, running_mean, thin
from visiontl.report.figures import render_figure, themed
from visiontl.report.formats import cell, duration, human, is_number, titled
from visiontl.report.items import Figure
from visiontl.report.noise import LEVEL, Interval
from visiontl.report.page import render
from visiontl.report.tables import Grid

# Ten hues that differ on white and on black; the second ten runs are dashed
COLORS = (
    "#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#17a2b8", "#c0392b", "#808080",
)  # fmt: skip
SECTIONS = (
    ("trials", "Trials"),
    ("notes", "To know first"),
    ("noise", "What is noise"),
    ("curves", "Curves"),
    ("settings", "Settings"),
    ("scores", "All scores"),
    ("cost", "Time and cost"),
)
SCORES = 6  # figures of scores
SHORT = 100  # seconds below which a tenth is told
SMOOTHED = 40  # points of a curve from which on its running mean is drawn
ABOUT = (
    "Scores lie in their intervals with 95 %: Wilson's of a share (1927), Student's of another mean over images. Two "
    "runs that judged the same images are compared image by image: McNemar's exact test for right and wrong (1947), a "
    "paired t-test for other numbers; otherwise Welch's t-test. p is how often chance alone would make a difference as "
    f"large; from {LEVEL:g} on it is called noise. With several runs p is raised by Holm's rule (1979). This is the "
    "noise of the images: what other images of the same kind would say. What another seed would say is known from "
    "several runs that differ in the seed alone: their mean, standard deviation (n - 1) and Welch's t-test. Val scores "
    "flatter every run, since they picked its weights; test scores do not."
)


@dataclass(frozen=True)
class Legend:
    """A run's name with its color, as the curves have it."""

    name: str
    color: str
    dashed: bool


@dataclass(frozen=True)
class Judged:
    """The table of one split by one score. chief: of the score that picked the weights."""

    grid: Grid
    chief: bool


def legends(runs: Sequence[Compared]) -> list[Legend]:
    return [Legend(run.name, COLORS[i % len(COLORS)], i >= len(COLORS)) for i, run in enumerate(runs)]


# -------------------------------------------------------------------------------------------------------------- tables


def overview(runs: Sequence[Compared]) -> Grid:
    """The one table that is printed: a line a run, with the score that picked the weights, what is within noise, and
    time."""
    score, names = compared.picking(runs), compared.splits(runs)
    columns, right = ["run"], [False]
    lines = [[run.name] for run in runs]
    if score is not None:
        for split in names:
            columns += [titled(f"{split} {score}")]
            right += [True]
            for line, run in zip(lines, runs, strict=True):
                line.append(cell(run.score(split, score)))
        judged = [
            split
            for split in ("test", "val", *names)
            if split in names and sum(run.score(split, score) is not None for run in runs) > 1
        ]
        if judged:
            columns.append(f"against the best on {judged[0]}")
            right.append(False)
            for line, verdict in zip(lines, compared.verdicts(runs, judged[0], score), strict=True):
                line.append(verdict.words)
    columns += ["time", "images/s"]
    right += [True, True]
    for line, run in zip(lines, runs, strict=True):
        line += [_time(run), cell(images_per_second(run))]
    return Grid(columns, lines, right, "Runs")


def judged_tables(runs: Sequence[Compared]) -> list[Judged]:
    """For each split, and each score of which it is known which way is better, the runs against the best of them; those
    of the score that picked the weights first."""
    found: list[Judged] = []
    chief = compared.picking(runs)
    for score in compared.ranked_scores(runs):
        for split in compared.splits(runs):
            verdicts = compared.verdicts(runs, split, score)
            if sum(verdict.value is not None for verdict in verdicts) > 1:
                found.append(Judged(_judged(runs, verdicts, f"{split} {score.replace('_', ' ')}"), score == chief))
    return found


def _judged(runs: Sequence[Compared], verdicts: Sequence[Verdict], title: str) -> Grid:
    rows = [
        [
            run.name,
            cell(verdict.value),
            between(verdict.interval),
            signed(verdict.test.difference) if verdict.test else "-",
            verdict.words,
            f"{verdict.test.how}, {verdict.test.count:,} images" if verdict.test else "-",
        ]
        for run, verdict in zip(runs, verdicts, strict=True)
        if verdict.value is not None
    ]
    columns = ["run", title, "95 % between", "difference", "against the best", "how"]
    return Grid(columns, rows, [False, True, True, True, False, False], title)


def seed_tables(runs: Sequence[Compared]) -> list[Grid]:
    """Means over seeds, for each split, by the score that picked the weights; empty where no config ran twice."""
    score = compared.picking(runs)
    if score is None:
        return []
    tables: list[Grid] = []
    for split in compared.splits(runs):
        groups = compared.seeds(runs, split, score)
        if groups:
            title = f"{split} {score.replace('_', ' ')} over seeds"
            rows = [_seed_row(runs, group) for group in groups]
            columns = ["runs", "seeds", "mean", "deviation", "lowest", "highest", "against the best"]
            tables.append(Grid(columns, rows, [False, True, True, True, True, True, False], title))
    return tables


def _seed_row(runs: Sequence[Compared], group: Seeds) -> list[str]:
    names = ", ".join(runs[place].name for place in group.places)
    numbers = [group.mean, group.deviation, min(group.values), max(group.values)]
    return [names, str(len(group.places)), *map(cell, numbers), group.words]


def score_grid(runs: Sequence[Compared]) -> Grid | None:
    """All plain scores: a line for each score of each split, a column a run."""
    rows: list[list[str]] = []
    for split in compared.splits(runs):
        names = dict.fromkeys(
            name for run in runs for name, value in run.report.scores.get(split, {}).items() if is_number(value)
        )
        for name in names:
            rows.append([f"{split} {name.replace('_', ' ')}", *(cell(run.score(split, name)) for run in runs)])
    return Grid(["score", *(run.name for run in runs)], rows, [False] + [True] * len(runs)) if rows else None


def settings_grid(runs: Sequence[Compared]) -> Grid | None:
    """The settings that differ, a line each; None where none do."""
    rows = [[key, *map(setting, values)] for key, values in compared.differences(runs)]
    return Grid(["setting", *(run.name for run in runs)], rows, [False] * (1 + len(runs))) if rows else None


def cost_grid(runs: Sequence[Compared]) -> Grid:
    """Time and cost, a line a run; what nobody recorded is '-'."""
    columns = [
        "run",
        "status",
        "time",
        "images/s",
        "updates",
        "parameters trained",
        "of",
        "backbone",
        "memory",
        "device",
    ]
    rows: list[list[str]] = []
    for run in runs:
        report = run.report
        trained = parameters_trained(run)
        rows.append(
            [
                run.name,
                report.status,
                _time(run),
                cell(images_per_second(run)),
                cell(report.training.steps if report.training else None),
                human(trained[0]) if trained else "-",
                human(trained[1]) if trained else "-",
                report.backbone.name,
                memory(run),
                device(run),
            ]
        )
    kept = [i for i in range(len(columns)) if i < 3 or any(row[i] not in ("-", "") for row in rows)]
    right = [name in ("time", "images/s", "updates", "parameters trained", "of", "memory") for name in columns]
    return Grid([columns[i] for i in kept], [[row[i] for i in kept] for row in rows], [right[i] for i in kept])


def images_per_second(run: Compared) -> float | None:
    """The median over the lines of training."""
    known = [
        r["images_per_second"]
        for r in run.metrics
        if r.get("kind") == "train" and is_number(r.get("images_per_second"))
    ]
    return statistics.median(known) if known else None


def parameters_trained(run: Compared) -> tuple[int, int] | None:
    """(parameters that train in the phase in which most do, all of the model), single numbers."""
    phases = run.report.training.trainability if run.report.training else ()
    counts = [(sum(row.trainable for row in phase.rows), sum(row.parameters for row in phase.rows)) for phase in phases]
    return max(counts) if counts else None


def memory(run: Compared) -> str:
    """The most that any line of training recorded; '-' where none did."""
    _, used = line(run, "train", "memory")  # megabytes
    return f"{cell(max(used) / 1000)} GB" if used else "-"


def device(run: Compared) -> str:
    known, processes = run.report.environment.get("device"), run.report.environment.get("processes")
    many = f", {processes} processes" if isinstance(processes, int) and processes > 1 else ""
    return f"{known}{many}" if known else "-"


def remarks(runs: Sequence[Compared]) -> list[str]:
    """What to know before the numbers are believed."""
    found = [note for run in runs for note in run.notes]
    machines = {device(run) for run in runs if device(run) != "-"}
    if len(machines) > 1:
        found.append(f"the runs are of {len(machines)} different machines, so their times do not compare")
    for split in compared.splits(runs):
        counts = {run.report.data[split] for run in runs if split in run.report.data and split in run.report.scores}
        if len(counts) > 1:
            told = ", ".join(f"{one:,}" for one in sorted(counts))
            found.append(f"the runs were judged on {split} splits of different sizes ({told} images)")
    scores = {run.report.training.best.score for run in runs if run.report.training and run.report.training.best}
    if len(scores) > 1:
        found.append(
            f"different scores picked the weights ({', '.join(sorted(scores))}); {compared.picking(runs)} is shown"
        )
    score = compared.picking(runs)
    if score is not None and compared.direction(runs, score) is None:
        found.append(f"whether a higher {score} is better is not known here (is the task's plugin installed?)")
    return found


def setting(value: Any) -> str:
    """A value of a config; '-' where the run has no such key, or none."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return cell(value)


def between(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.4g} to {interval.high:.4g}"


def signed(value: float) -> str:
    return f"{'-' if value < 0 else '+' if value > 0 else ''}{cell(abs(value))}"


def _time(run: Compared) -> str:
    seconds = run.report.seconds
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < SHORT else duration(seconds)


# -------------------------------------------------------------------------------------------------------------- curves


@dataclass(frozen=True)
class Curve:
    """One run's line: epochs and values."""

    legend: Legend
    x: Sequence[float]
    y: Sequence[float]


def figures(runs: Sequence[Compared]) -> list[Figure]:
    """Loss while training and the scores of each evaluation, of all runs; those that no run has are left out."""
    wanted = [("train", "loss", "Training loss"), ("val", "loss", "Validation loss")]
    first = compared.picking(runs)
    val = dict.fromkeys(
        key for run in runs for key in keys(record for record in run.metrics if record.get("kind") == "val")
    )
    ordered = sorted((key for key in val if key != "loss"), key=lambda key: key != first)
    wanted += [("val", key, f"Val {key.replace('_', ' ')}") for key in ordered[:SCORES]]
    made: list[Figure] = []
    for kind, key, title in wanted:
        curves = [Curve(legend, *line(run, kind, key)) for legend, run in zip(legends(runs), runs, strict=True)]
        if any(len(curve.x) > 1 for curve in curves):  # one evaluation is no curve
            made.append(Figure(title, functools.partial(draw, curves, title), size=(5.6, 3.3)))
    return made


def line(run: Compared, kind: str, key: str) -> tuple[list[float], list[float]]:
    """(epochs, values) of the lines of that kind that hold a finite number under the key."""
    x: list[float] = []
    y: list[float] = []
    for record in run.metrics:
        value, epoch = record.get(key), record.get("epoch")
        if record.get("kind") == kind and is_number(value) and is_number(epoch) and math.isfinite(value):
            x.append(float(epoch))
            y.append(float(value))
    return x, y


def draw(curves: Sequence[Curve], title: str, ax: Any) -> None:
    """The curves on matplotlib Axes; the legend stands beside, on the page."""
    for curve in curves:
        if not curve.x:
            continue
        x, y = thin(list(curve.x), list(curve.y))
        if len(y) >= SMOOTHED:
            y = running_mean(y, max(3, len(y) // 25))
        dots = "o" if len(x) <= SMOOTHED else ""
        dashes = "--" if curve.legend.dashed else "-"
        ax.plot(x, y, color=curve.legend.color, linewidth=1.5, linestyle=dashes, marker=dots, markersize=3)
    ax.set_title(title)
    ax.set_xlabel("epoch")
    ax.grid(axis="y")


# ---------------------------------------------------------------------------------------------------------------- page


@dataclass(frozen=True)
class Before:
    """What stands before the comparison, where the runs are of a sweep. title: of the page; verdict: a sentence."""

    title: str
    verdict: str
    table: Grid
    figures: Sequence[Figure] = ()


def page(runs: Sequence[Compared], left_out: Sequence[str], command: str, before: Before | None = None) -> str:
    """The page, as one self-contained HTML text."""
    notes = [*left_out, *remarks(runs)]
    curves, plots = drawn(figures(runs), "curve", notes), drawn(before.figures if before else (), "plot", notes)
    tables = judged_tables(runs)
    values: dict[str, Any] = {
        "trials": before and before.table,
        "overview": overview(runs),
        "notes": notes,
        "chief": [table.grid for table in tables if table.chief],
        "others": [table.grid for table in tables if not table.chief],
        "seeds": seed_tables(runs),
        "curves": curves,
        "settings": settings_grid(runs),
        "scores": score_grid(runs),
        "cost": cost_grid(runs),
    }
    return render(
        "compare.html.j2",
        title=before.title if before else f"{len(runs)} runs of {runs[0].report.task or 'a task'}",
        verdict=before.verdict if before else "",
        plots=plots,
        links=[(place, name) for place, name in SECTIONS if values.get(place) or place in ("settings", "noise")],
        legends=legends(runs),
        about=ABOUT,
        command=command,
        **values,
    )


def drawn(figures: Sequence[Figure], prefix: str, notes: list[str]) -> list[str]:
    """Figures as SVG elements. Adds to the notes what could not be drawn."""
    made: list[str] = []
    for figure in figures:
        try:
            made.append(themed(render_figure(figure, f"{prefix}{len(made)}-")))
        except Exception as error:  # a curve is worth less than the page
            notes.append(f"figure '{figure.title}' could not be drawn: {type(error).__name__}: {error}")
    return made


def told(runs: Sequence[Compared], left_out: Sequence[str]) -> dict[str, Any]:
    """The comparison as JSON values: by the score that picked the weights, all runs against the best of each split."""
    score, names = compared.picking(runs), compared.splits(runs)
    judged = {split: compared.verdicts(runs, split, score) for split in names} if score else {}
    return {
        "task": runs[0].report.task,
        "score": score,
        "runs": [
            {
                "name": run.name,
                "run": run.report.run,
                "status": run.report.status,
                "scores": {split: verdicts[place].value for split, verdicts in judged.items()},
                "against_best": {split: _told(verdicts[place]) for split, verdicts in judged.items()},
                "seconds": run.report.seconds,
                "images_per_second": images_per_second(run),
            }
            for place, run in enumerate(runs)
        ],
        "differences": {
            key: dict(zip((run.name for run in runs), values, strict=True))
            for key, values in compared.differences(runs)
        },
        "notes": [*left_out, *remarks(runs)],
    }


def _told(verdict: Verdict) -> dict[str, Any]:
    test, interval = verdict.test, verdict.interval
    return {
        "said": verdict.words,
        "interval": [interval.low, interval.high] if interval else None,
        "difference": test.difference if test else None,
        "p": test.p if test else None,
    }
