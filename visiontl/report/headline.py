"""The first screen of a report: how good, compared with what, and what went wrong. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from visiontl.report.formats import cell, is_number, titled
from visiontl.report.run import Report

WARNINGS = 4  # on the first screen; the others stand with the notes


@dataclass(frozen=True)
class Compared:
    """A number beside the headline's. width: of its bar, percent, None where there is no number. own: of this model's
    weights, not of what they are compared with."""

    name: str
    value: str
    width: float | None
    own: bool


@dataclass(frozen=True)
class Good:
    """The headline. words: what else is known of what the numbers are compared with."""

    score: str
    value: str
    split: str
    where: str
    compared: Sequence[Compared]
    words: str


@dataclass(frozen=True)
class Wrong:
    warnings: Sequence[str]
    lines: Sequence[str]
    more: str


def how_good(report: Report) -> Good | None:
    """The ranked score of the best weights on val, or of the first split that was measured, and what it is compared
    with; None where there is no such number."""
    best = report.training.best if report.training else None
    score = best.score if best else report.ranked.score if report.ranked else ""
    own = _values(report.scores, score)
    if best is not None and best.value is not None:
        own = {"val": best.value} | own
        own["val"] = best.value
    if not own:
        return None
    split = next(iter(own))
    weights = "best weights" if best is not None and best.value is not None else "last weights" if best else ""
    where = [weights]
    if best is not None and best.value is not None:
        where.append(f"epoch {best.epoch:.4g}, step {best.step}")
    if report.ranked is not None:
        where.append("higher is better" if report.ranked.better == "max" else "lower is better")
    return Good(
        score=titled(score),
        value=cell(own[split]),
        split=split,
        where=", ".join(filter(None, where)),
        compared=_compared(report, score, own),
        words=_words(report),
    )


def _compared(report: Report, score: str, own: Mapping[str, float]) -> list[Compared]:
    found = [(name, value, True) for name, value in own.items()]
    if report.training:
        before = _values(report.training.scores_at_start, score)
        found += [(f"{name} before training", value, False) for name, value in before.items()]
    found += [(f"{name}, trivial answer", one.value, False) for name, one in report.trivial.items()]
    largest = max(abs(value) for _, value, _ in found)
    scale = 1.0 if all(0 <= value <= 1 for _, value, _ in found) else largest  # a share is a share of the whole bar
    return [
        Compared(name, cell(value), round(100 * abs(value) / scale, 1) if scale else 0.0, mine)
        for name, value, mine in found
    ]


def _words(report: Report) -> str:
    answers = dict.fromkeys(one.answer for one in report.trivial.values())
    words = [f"Trivial answer: {'; '.join(answers)}."] if answers else []
    if report.training and report.backbone.weights == "none":
        words.append("The backbone began with random weights, so nothing was transferred.")
    return " ".join(words)


def _values(scores: Mapping[str, Mapping[str, object]], score: str) -> dict[str, float]:
    """{split: the score} where it is a number."""
    found = {split: values.get(score) for split, values in scores.items()}
    return {split: float(value) for split, value in found.items() if is_number(value)}


def what_went_wrong(report: Report, warnings: Sequence[str], notes: int) -> Wrong | None:
    """Warnings first, then counts; None for a report that says nothing of itself. notes: how many there are."""
    lines = list(_counts(report))
    if not (report.status or warnings or lines):
        return None
    if not warnings and not report.left_out:
        lines.append("No warning was given, and no image was left out.")
    rest = [
        f"{len(warnings) - WARNINGS} more warnings" if len(warnings) > WARNINGS else "",
        f"{notes} {'note' if notes == 1 else 'notes'} on what was skipped, counted or assumed" if notes else "",
    ]
    return Wrong(warnings[:WARNINGS], lines, ", ".join(filter(None, rest)))


def _counts(report: Report) -> Iterator[str]:
    for split, wrong in report.mistakes.items():
        images, be = report.data.get(split), "is" if wrong.number == 1 else "are"
        if wrong.pairs or not images:
            what = f"{wrong.number:,} {'pair' if wrong.pairs else 'image'}{'' if wrong.number == 1 else 's'}"
        else:
            what = f"{wrong.number:,} of {images:,} {'image' if images == 1 else 'images'}"
        yield f"{what} of {split} {be} not wholly right; the worst: {wrong.worst}."
    for split, gone in report.left_out.items():
        yield f"{gone:,} {'image' if gone == 1 else 'images'} of {split} cannot be read and took no part."
