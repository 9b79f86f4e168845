"""What `visiontl tune` does: the learning rate, the micro-batch, or both, each by real updates that leave nothing."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiontl.config.resolve import Resolved
from visiontl.kit.words import count
from visiontl.report.console import Console
from visiontl.report.formats import cell
from visiontl.report.items import Figure
from visiontl.report.plain import Section, plain_page
from visiontl.report.tables import Grid
from visiontl.runs.files import write_text
from visiontl.search import rates
from visiontl.search.fitting import Fit, Fitted, largest_fit
from visiontl.search.rates import RangeTest
from visiontl.search.updates import for_a_moment, losses

HOW_RATE = (
    "The range test of Smith 2017 (Cyclical learning rates for training neural networks, section 3.3): one pass in "
    "which the rate grows from update to update, the other rates with it, from the weights that training starts from. "
    "The suggestion is the geometric mean of the rate where the running mean of the loss falls fastest and a tenth of "
    "the rate where it is lowest, or the first of the two where the loss never rose: a rule of thumb. A sweep around "
    "it is the test: visiontl sweep CONFIG optim.lr=..."
)
HOW_BATCH = (
    "Three real updates of each size, without the cache of features. Accumulation keeps the images of an "
    "update the same, so the learning rate stays right; batch norm sees the images of one micro-batch. The fastest "
    "size need not be the largest."
)


@dataclass
class Tuned:
    """What was found. changes: of the config, {"optim.lr": 0.003}; said: sentences on each."""

    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    said: list[str] = field(default_factory=list[str])
    test: RangeTest | None = None
    fitted: Fitted | None = None


def tune_batch(resolved: Resolved, console: Console, found: Tuned) -> None:
    """The largest micro-batch that fits, with its accumulation."""

    def told(fit: Fit) -> None:
        what = fit.why or f"{cell(fit.megabytes)} MB, {cell(fit.speed)} images/s"
        console.say(f"micro-batch of {fit.size}: {what}")

    found.fitted = fitted = largest_fit(resolved, told)
    if fitted.best is None:
        found.said.append(f"batch: {fitted.why}")
        return
    size, accumulate = fitted.best
    found.changes |= {"train.batch_size": size, "train.accumulate": accumulate}
    found.said.append(
        f"train.batch_size={size} train.accumulate={accumulate}: {fitted.why}; an update still has "
        f"{count(size * accumulate, 'image')}"
    )


def tune_rate(resolved: Resolved, console: Console, found: Tuned, steps: int) -> None:
    """The learning rate that a range test suggests."""
    wanted = rates.rates_between(steps)
    section, kept = resolved.config.train, resolved.config.features.cache
    changes = {"train.epochs": steps, "features.cache": "off", "optim.lr": 1.0, "optim.warmup": "none"}
    tried: list[tuple[float, float]] = []
    with console.progress(total=steps, what="range test") as bar, ExitStack() as moments:
        run = moments.enter_context(for_a_moment(resolved, changes, steps))
        assert run.data.train is not None
        if kept != "off" and len(run.data.train) < section.batch_size * section.accumulate * steps:
            # features of a frozen backbone are computed once, where these are fewer than the test asks for
            moments.pop_all().close()
            run = moments.enter_context(for_a_moment(resolved, {**changes, "features.cache": kept}, steps))
        for pair in rates.until_diverged(wanted, losses(run, wanted)):
            tried.append(pair)
            bar.update(len(tried))
    found.test = test = rates.suggestion([rate for rate, _ in tried], [loss for _, loss in tried])
    if test.lr is None:
        found.said.append(f"optim.lr: no suggestion: {test.why}")
        return
    found.changes["optim.lr"] = test.lr
    found.said.append(f"optim.lr={test.lr:g}: {test.why}")


def write_page(place: Path, resolved: Resolved, found: Tuned, command: str) -> None:
    """The page, written over the one before."""
    sections: list[Section] = []
    if found.test is not None:
        figure = Figure("Loss over the learning rate", functools.partial(rates.draw, found.test), size=(6.4, 3.8))
        sections.append(Section("Learning rate", None, [figure], [HOW_RATE]))
    if found.fitted is not None:
        sections.append(Section("Micro-batch", batch_grid(found.fitted.fits), (), [HOW_BATCH]))
    title = f"Tuning {Path(resolved.source).stem or resolved.task.name}"
    write_text(place, plain_page(title, [f"{line}." for line in found.said], sections, command))


def batch_grid(fits: Sequence[Fit]) -> Grid:
    rows = [[str(one.size), cell(one.megabytes), cell(one.speed), one.why or "fits"] for one in fits]
    return Grid(["micro-batch", "megabytes", "images/s", ""], rows, [True, True, True, False], "Micro-batches")


def told_of(found: Tuned) -> dict[str, Any]:
    """As JSON values."""
    test, fitted = found.test, found.fitted
    values: dict[str, Any] = {"changes": found.changes, "said": found.said}
    if test is not None:
        tried = [[rate, loss] for rate, loss in zip(test.rates, test.losses, strict=True)]
        found_at = {"suggested": test.lr, "steepest": test.steepest, "lowest": test.lowest}
        values["lr"] = {**found_at, "test": tried}
    if fitted is not None:
        values["batch"] = [vars(one) for one in fitted.fits]
    return values


def as_words(changes: Mapping[str, Any]) -> list[str]:
    """`a.b=c` each."""
    return [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in changes.items()]
