"""What is shown of a ranking: its verdict, tables and one page. Imports no torch, and matplotlib only to draw."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontl.report.figures import BLUE, GRAY, ORANGE
from visiontl.report.formats import cell, human
from visiontl.report.items import Figure
from visiontl.report.plain import Section, plain_page
from visiontl.report.tables import Grid
from visiontl.runs.files import write_text

if TYPE_CHECKING:
    from visiontl.search.ranking import Ranked, Ranking
    from visiontl.search.settling import Settled

AGREE = 0.6  # Kendall's tau from which on two orders are said to agree
UNITS = {"image": "", "box": "boxes and places without objects", "pixel": "pixels"}
HOW = (
    "Linear probe: logistic regression on the frozen, standardized features, with the penalty of scikit-learn's C = 1, "
    "fitted on four fifths of the training images and scored on the fifth, five times; ± is the standard deviation "
    "over the five. It gives the order. Each is compared with the best image by image, by what the probe got right "
    "while the image was left out (McNemar's exact test, or Student's paired where an image has several labels), p "
    "raised by Holm's rule. Nearest neighbors: a vote of the 5 most similar rows of the other folds by cosine. "
    "LogME: You et al. 2021, the evidence of a Bayesian linear model per label. Megabytes: the weights in fp32, and "
    "the outputs of all layers for one image, about what training the whole backbone keeps of it. Milliseconds: an "
    "image's share of a batch of 8 on this machine, after a first pass."
)
HOW_SETTLED = (
    "Ordinary runs of the config, one seed each: all for a quarter of its epochs, the better half for all of them "
    "(successive halving). They are compared image by image on val; val also picked their weights."
)


def verdict(ranking: Ranking, settled: Sequence[Settled]) -> list[str]:
    """The sentences at the top: who leads, whether that is more than noise, what the runs said."""
    best, close = ranking.rows[0], ranking.close
    told = f"{best.candidate.title} leads the linear probe, {ranking.score} {best.mean:.4f} ± {best.spread:.4f}"
    if len(close) > 1:
        names = ", ".join(row.candidate.title for row in close[1:])
        told = f"Too close to call by features: {told}, and within its noise lie {names}"
    lines = [told + "."]
    floor = next((row for row in ranking.sound if row.candidate.random), None)
    if floor is not None and floor in close:
        lines.append("Random weights lie within that noise too: pretraining shows nothing here.")
    lines.append(agreement(ranking))
    if settled:
        lines.append(settled_words(settled))
    return lines


def agreement(ranking: Ranking) -> str:
    """Whether the three measures give one order."""
    parts = [
        f"{name} ({'agrees' if tau >= AGREE else 'does not agree'}, Kendall's tau {tau:.2f})"
        for name, tau in ranking.agreement.items()
        if not math.isnan(tau)
    ]
    return f"Beside it: {', '.join(parts)}." if parts else "With one backbone there is no order to agree on."


def settled_words(settled: Sequence[Settled]) -> str:
    from visiontl.search.settling import tied

    same = tied(settled)
    if not same:
        return "None of the real runs came to its end."
    best = same[0]
    told = f"{best.row.candidate.title} is first of the real runs with {best.value:.4f} on val"
    if len(same) == 1:
        return f"{told}."
    cheap = min(same, key=lambda one: one.row.ms)
    others = ", ".join(one.row.candidate.title for one in same[1:])
    advice = f" The fastest of these is {cheap.row.candidate.title}, {cell(cheap.row.ms)} ms an image."
    return f"Too close to call by real runs: {told}, and {others} lie within the noise of the images.{advice}"


def choice(ranking: Ranking, settled: Sequence[Settled]) -> Ranked:
    """The one whose line is offered: first of the real runs, else of the probe."""
    whole = [one for one in settled if one.value is not None]
    return whole[0].row if whole else ranking.rows[0]


def table(ranking: Ranking) -> Grid:
    columns = ["", "backbone", ranking.score, "±", "against the best", "neighbors", "LogME"]
    columns += ["parameters", "MB weights", "MB an image", "ms an image", "pixels", "license", "source"]
    rows = [
        [
            str(place),
            row.candidate.title,
            *map(cell, (row.mean, row.spread)),
            row.said,
            *map(cell, (row.neighbors, row.logme)),
            human(row.parameters),
            *(f"{one:.0f}" for one in row.megabytes),
            f"{row.ms:.1f}",
            " x ".join(map(str, reversed(row.pixels))),
            row.candidate.license or "-",
            row.candidate.source,
        ]
        for place, row in enumerate(ranking.sound, start=1)
    ]
    words = {"backbone", "against the best", "license", "source", "pixels"}
    return Grid(columns, rows, [name not in words for name in columns], "Backbones")


def short_table(ranking: Ranking) -> tuple[list[str], list[list[Any]]]:
    """What a terminal shows: (columns, rows)."""
    grid = table(ranking)
    keep = [i for i, name in enumerate(grid.columns) if name not in ("", "MB weights", "pixels", "source")]
    return [grid.columns[i] for i in keep], [[row[i] for i in keep] for row in grid.rows]


def settled_table(settled: Sequence[Settled], score: str) -> Grid:
    columns = ["backbone", "epochs", f"val {score}".replace("_", " "), "against the best", "run"]
    rows = [
        [one.row.candidate.title, str(one.epochs), cell(one.value), one.failure or one.said or "-", one.run]
        for one in settled
    ]
    return Grid(columns, rows, [False, True, True, False, False], "Real runs")


def write_page(place: Path, ranking: Ranking, settled: Sequence[Settled], score: str, command: str) -> None:
    """The page, written over the one before."""
    figures = [
        Figure(f"{ranking.score} by features", functools.partial(draw_order, ranking), size=(6.4, size_of(ranking)))
    ]
    if len(ranking.sound) > 2:
        figures.append(Figure("What it costs", functools.partial(draw_cost, ranking), size=(5.6, 3.6)))
    parts = UNITS[ranking.kind]
    read = f"{ranking.images:,} training images" + (f", {ranking.labels:,} {parts}" if parts else "")
    read += ". In the second figure a number is the place in the table."
    sections = [Section("Backbones", table(ranking), figures, [read, HOW])]
    if settled:
        sections.append(Section("Real runs", settled_table(settled, score), (), [HOW_SETTLED]))
    failed = [f"{row.candidate.title} failed: {row.failure}" for row in ranking.rows if row.failure]
    notes = [*ranking.notes, *failed]
    write_text(place, plain_page("Backbones for these images", verdict(ranking, settled), sections, command, notes))


def size_of(ranking: Ranking) -> float:
    """Inches."""
    return 1.2 + 0.28 * len(ranking.sound)


def draw_order(ranking: Ranking, ax: Any) -> None:
    rows = list(reversed(ranking.sound))
    for i, row in enumerate(rows):
        color = GRAY if row.candidate.random else BLUE if row.verdict == "worse" else ORANGE
        ax.errorbar([row.mean], [i], xerr=[row.spread], fmt="o", color=color, markersize=6, capsize=3)
    ax.set_yticks(range(len(rows)), [row.candidate.title for row in rows])
    ax.set_xlabel(f"{ranking.score} (orange: too close to call)")
    ax.grid(axis="x")


def draw_cost(ranking: Ranking, ax: Any) -> None:
    for place, row in enumerate(ranking.sound, start=1):
        color = GRAY if row.candidate.random else BLUE if row.verdict == "worse" else ORANGE
        ax.plot([row.ms], [row.mean], "o", color=color)
        ax.annotate(str(place), (row.ms, row.mean), xytext=(5, 4), textcoords="offset points", fontsize=9)
    ax.set_xlim(0, 1.15 * max(row.ms for row in ranking.sound))
    ax.set_xlabel("milliseconds an image, forward")
    ax.set_ylabel(ranking.score)
    ax.grid()


def told_of(ranking: Ranking, settled: Sequence[Settled], page: Path) -> Mapping[str, Any]:
    """As JSON values."""
    return {
        "score": ranking.score,
        "kind": ranking.kind,
        "images": ranking.images,
        "verdict": verdict(ranking, settled),
        "agreement": dict(ranking.agreement),
        "backbones": [
            {
                "name": row.candidate.name,
                "weights": row.candidate.weights,
                "license": row.candidate.license,
                "source": row.candidate.source,
                "failure": row.failure or None,
                "mean": row.mean,
                "spread": row.spread,
                "folds": row.folds,
                "against_best": row.said,
                "neighbors": row.neighbors,
                "logme": row.logme,
                "parameters": row.parameters,
                "megabytes": list(row.megabytes),
                "milliseconds": row.ms,
            }
            for row in ranking.rows
        ],
        "runs": [
            {"name": one.row.candidate.name, "weights": one.row.candidate.weights, "epochs": one.epochs}
            | {"value": one.value, "against_best": one.said, "run": one.run, "failure": one.failure or None}
            for one in settled
        ],
        "notes": list(ranking.notes),
        "page": str(page),
    }
