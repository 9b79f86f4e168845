"""What to try next, drawn from what a run has measured: a pure function of its report and its records.

Each rule says what it has seen and gives one command. A rule stays silent where too little was measured for it.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from visiontl.report.curves import Points, points
from visiontl.report.formats import cell, is_number, titled
from visiontl.report.run import Report, StageRow, Suggestion, Training

MOST = 4  # suggestions of one report
HEAD = "head"  # the row of a phase that is no stage of the backbone
ROSE = 0.10  # of the first losses: an end above them by more has not converged
JUMP, JUMPS = 3.0, 2  # times the median of the losses before; so many of them are a habit
STILL = 0.03  # of the first losses: a fall by less is hardly any
FALLS = 0.05  # of the losses of the middle third: a fall by more in the last third is still going on
WORSE = 0.05  # of all that the score gained: a loss of more since the best evaluation
EARLY, LATE = 0.75, 0.8  # shares of the run: before and after which a best evaluation came early, late
GOOD = 0.97  # a score that is a share: from here on little is left to gain
FEW = 5000  # training images, with which a whole backbone is easily learned by heart
UNEQUAL = 5.0  # times as often as the rarest class the most frequent one is


def advice(report: Report, metrics: Sequence[Mapping[str, Any]]) -> list[Suggestion]:
    """What to try next, the most telling first; at least one for a run in training, none for an evaluation.

    metrics: the records of metrics.jsonl.
    """
    if report.training is None:
        return []
    run = Measured(report, report.training, metrics)
    found = [one for rule in RULES for one in rule(run)]
    if run.rate_is_wrong:  # the curves say nothing else then
        found = [one for one in found if "optim.lr=" in one.command or "class_weights" in one.command]
    return found[:MOST] or [again_by_chance(run)]


@dataclass(frozen=True)
class Measured:
    """A run's report and records, and what the rules ask of them."""

    report: Report
    training: Training
    metrics: Sequence[Mapping[str, Any]]

    # ------------------------------------------------------------------------------------------------ what was asked

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The config as mappings; empty where it cannot be read."""
        import yaml

        try:
            values = yaml.safe_load(self.report.config)
        except yaml.YAMLError:
            return {}
        return cast(Mapping[str, Any], values) if isinstance(values, Mapping) else {}

    def value(self, key: str, default: Any = None) -> Any:
        """The config's value of a key such as optim.lr."""
        here: Any = self.config
        for part in key.split("."):
            here = cast(Mapping[str, Any], here).get(part) if isinstance(here, Mapping) else None
        return default if here is None else here

    def number(self, key: str) -> float | None:
        value = self.value(key)
        return float(value) if is_number(value) else None

    @property
    def stages(self) -> list[list[StageRow]]:
        """Of each phase the stages of the backbone that the loss reads and that have parameters."""
        asked = ("unread", "empty")
        return [
            [row for row in phase.rows if row.stage != HEAD and row.mode not in asked and row.parameters]
            for phase in self.training.trainability
        ]

    @property
    def frozen(self) -> bool:
        """No stage of the backbone ever trains."""
        rows = [row for phase in self.stages for row in phase]
        return bool(rows) and not any(row.trainable for row in rows)

    @property
    def whole(self) -> bool:
        """Every stage of the backbone trains from the first update on."""
        rows = [row for phase in self.stages for row in phase]
        return bool(rows) and all(row.trainable for row in rows)

    @property
    def random(self) -> bool:
        return self.report.backbone.weights == "none"

    # --------------------------------------------------------------------------------------------- what was measured

    @cached_property
    def losses(self) -> Points:
        return points([record for record in self.metrics if record.get("kind") == "train"], "loss")

    @property
    def lost(self) -> int:
        """Lines whose loss was not finite."""
        lines = [record for record in self.metrics if record.get("kind") == "train" and "loss" in record]
        return len(lines) - len(self.losses[0])

    def level(self, begin: float, end: float) -> float | None:
        """Mean training loss between two shares of the run; None where fewer than 2 losses lie there."""
        steps, values = self.losses
        first, last = (steps[0], steps[-1]) if steps else (0.0, 0.0)
        inside = [
            value
            for step, value in zip(steps, values, strict=True)
            if begin <= (step - first) / max(last - first, 1e-9) <= end
        ]
        return sum(inside) / len(inside) if len(inside) > 1 else None

    def fall(self, before: tuple[float, float], after: tuple[float, float]) -> float | None:
        """By what share of itself the loss fell from one part of the run to another."""
        high, low = self.level(*before), self.level(*after)
        return None if high is None or low is None or high == 0 else (high - low) / abs(high)

    @cached_property
    def scores(self) -> Points:
        """The score of val that picks the weights, at each evaluation; negative where lower is better."""
        best = self.training.best
        if best is None or best.value is None:
            return [], []
        steps, values = points([record for record in self.metrics if record.get("kind") == "val"], best.score)
        down = self.report.ranked is not None and self.report.ranked.better == "min"
        return steps, [-value for value in values] if down else values

    @property
    def score(self) -> float:
        """The best of them; only where there are scores."""
        return max(self.scores[1])

    @property
    def noise(self) -> float:
        """One standard error of a score that is a share of the val images; 0 for another score."""
        images = self.report.data.get("val", 0)
        if not images or not self.scores[1] or not all(0 <= value <= 1 for value in self.scores[1]):
            return 0.0
        return math.sqrt(self.score * (1 - self.score) / images)

    @property
    def good(self) -> bool:
        """The score is a share and has little left to gain."""
        return bool(self.scores[1]) and self.noise >= 0 and GOOD <= self.score <= 1

    @property
    def best_at(self) -> float:
        """At what share of the run the best evaluation was made; only where there are scores."""
        steps, values = self.scores
        return steps[values.index(max(values))] / max(self.training.steps or steps[-1], 1)

    @cached_property
    def rate_is_wrong(self) -> bool:
        return any(True for rule in (rate_too_high, rate_too_low) for _ in rule(self))

    @cached_property
    def overfit(self) -> str:
        """What says that the model learned its training images by heart; empty where nothing does."""
        steps, values = self.scores
        if len(values) < 4 or self.best_at > EARLY:
            return ""
        end, least = sum(values[-2:]) / 2, max(self.noise, WORSE * (max(values) - min(values)))
        since = self.fall((max(0.0, self.best_at - 0.1), min(1.0, self.best_at + 0.1)), (0.8, 1.0))
        if self.score - end <= least or since is None or since < FALLS:
            return ""
        assert self.training.best is not None
        name = titled(self.training.best.score)
        return (
            f"val {name} was best at step {steps[values.index(max(values))]:,.0f} ({cell(abs(self.score))}) and went "
            f"to {cell(abs(end))}, while the training loss fell by another {since:.0%}."
        )

    @cached_property
    def goes_on(self) -> float | None:
        """By what share the loss still fell in the last third of the run."""
        return self.fall((1 / 3, 2 / 3), (2 / 3, 1.0))

    # -------------------------------------------------------------------------------------------------- what to paste

    def again(self, name: str, *overrides: str) -> str:
        """The command that trains once more with the run's own config and other values. name: what is added to a
        run's name, where the config gives one."""
        named = self.value("run.name")
        renamed = [f"run.name={named}-{name}"] if named else []
        return shlex.join([*self._program(), "train", self._config_file, *overrides, *renamed])

    def doctor(self) -> str:
        return shlex.join([*self._start, "doctor", self._config_file])

    def listing(self) -> str:
        return shlex.join([*self._start, "list", "backbones"])

    @property
    def _config_file(self) -> str:
        return f"{self.report.run.rstrip('/')}/config.yaml"

    @property
    def _start(self) -> list[str]:
        module = self.report.command.startswith("__main__.py")  # python -m visiontl
        return ["python", "-m", "visiontl"] if module else ["visiontl"]

    def _program(self) -> list[str]:
        processes = self.report.environment.get("processes")
        if isinstance(processes, int) and processes > 1:
            return ["torchrun", "--nproc_per_node", str(processes), "-m", "visiontl"]
        return self._start


# ------------------------------------------------------------------------------------------------------------ the rules


def rate_too_high(run: Measured) -> Iterator[Suggestion]:
    """The loss was not finite, ended above its beginning, or jumped."""
    rate, (steps, values) = run.number("optim.lr"), run.losses
    if rate is None:
        return
    what = "A smaller learning rate."
    if run.lost:
        why = f"The loss was not finite in {run.lost} of {run.lost + len(steps)} logged lines."
        yield Suggestion(what=what, why=why, command=run.again("lower-lr", f"optim.lr={rate / 10:.3g}"))
        return
    if len(values) < 8:
        return
    start, end = _mean(values[: max(2, len(values) // 10)]), run.level(0.75, 1.0)
    if end is not None and end > start + ROSE * abs(start):
        why = f"The training loss rose from {cell(start)} to {cell(end)}."
        yield Suggestion(what=what, why=why, command=run.again("lower-lr", f"optim.lr={rate / 10:.3g}"))
        return
    jumps = [index for index in range(4, len(values)) if _jumped(values, index, abs(start))]
    if len(jumps) >= JUMPS:
        why = f"The training loss jumped {len(jumps)} times to more than {JUMP:.0f} times what it was before."
        yield Suggestion(what=what, why=why, command=run.again("lower-lr", f"optim.lr={rate / 3:.3g}"))


def rate_too_low(run: Measured) -> Iterator[Suggestion]:
    """The loss hardly moved, and the score did not either."""
    rate, values = run.number("optim.lr"), run.losses[1]
    if rate is None or len(values) < 8 or run.good or run.lost:
        return
    start, end = _mean(values[: max(2, len(values) // 10)]), run.level(0.75, 1.0)
    if end is None or start == 0 or abs(start - end) > STILL * abs(start):
        return
    scores = run.scores[1]
    if scores and max(scores) - scores[0] > max(2 * run.noise, STILL * abs(scores[0])):
        return
    if run.frozen and run.random:  # there is nothing to read for a head, at any rate
        return
    why = f"The training loss hardly moved: {cell(start)} at the beginning, {cell(end)} at the end."
    command = run.again("higher-lr", f"optim.lr={rate * 10:.3g}")
    yield Suggestion(what="A larger learning rate.", why=why, command=command)


def no_better_than_trivial(run: Measured) -> Iterator[Suggestion]:
    """The best weights do not beat an answer that needs no training."""
    trivial, best, ranked = run.report.trivial.get("val"), run.training.best, run.report.ranked
    if trivial is None or best is None or best.value is None or ranked is None:
        return
    worse = best.value <= trivial.value if ranked.better == "max" else best.value >= trivial.value
    if worse:
        why = (
            f"The trivial answer scores {cell(trivial.value)}, the model {cell(best.value)}: labels or files may be "
            "wrong."
        )
        yield Suggestion(what="Look at the data first.", why=why, command=run.doctor())


def random_weights(run: Measured) -> Iterator[Suggestion]:
    """A backbone of random weights: frozen it gives a head nothing to learn from, and training it takes many images."""
    if not run.random or run.good:
        return
    if run.frozen:
        why = "The backbone is frozen with random weights, so all that trains is a head on random features."
        command = run.again("unfrozen", "freeze.policy=none")
        yield Suggestion(what="Train the backbone.", why=why, command=command)
    why = "The backbone began with random weights; this lists those that come with pretrained ones."
    yield Suggestion(what="Start from pretrained weights.", why=why, command=run.listing())


def overfitted(run: Measured) -> Iterator[Suggestion]:
    """Val got worse while the training loss went on falling."""
    images = run.report.data.get("train", 0)
    if not run.overfit:
        return
    if run.whole and not run.random and images <= FEW:
        why = f"Overfitting: {run.overfit} All of the backbone trains, on {images:,} images."
        command = run.again("frozen", "freeze.policy=all")
        yield Suggestion(what="Freeze the backbone.", why=why, command=command)
    decay = run.number("optim.weight_decay")
    if decay is not None:
        why = "It keeps the weights small, which leaves less room to learn images by heart."
        why = why if run.whole and not run.random and images <= FEW else f"Overfitting: {run.overfit} {why}"
        command = run.again("decay", f"optim.weight_decay={max(10 * decay, 0.01):.3g}")
        yield Suggestion(what="More weight decay.", why=why, command=command)
    why = (
        f"With {images:,} training images more of them help most; this reads those there are, and names what is twice, "
        "unreadable or labeled oddly."
    )
    yield Suggestion(what="More images, or better ones.", why=why, command=run.doctor())


def too_short(run: Measured) -> Iterator[Suggestion]:
    """Loss and score were both still getting better when the run ended."""
    epochs, scores = run.number("train.epochs"), run.scores[1]
    if epochs is None or run.overfit or run.good or run.report.status != "finished" or run.goes_on is None:
        return
    if run.goes_on < FALLS or (scores and (run.best_at < LATE or not _gained(run))):
        return
    why = f"The training loss still fell by {run.goes_on:.0%} in the last third of the run"
    why += ", and the best evaluation was a late one." if scores else "."
    command = run.again("longer", f"train.epochs={2 * int(epochs)}")
    yield Suggestion(what="Train longer.", why=why, command=command)


def too_frozen(run: Measured) -> Iterator[Suggestion]:
    """A frozen backbone whose head has learned what it can, with something left to gain."""
    if not run.frozen or run.random or run.overfit or run.good or not run.scores[1] or run.goes_on is None:
        return
    if run.goes_on >= FALLS:
        return
    stages = [row.stage for row in run.stages[-1]]
    stage = stages[-2] if len(stages) > 2 else stages[-1]
    why = (
        f"The loss has settled (it fell by {max(run.goes_on, 0):.1%} in the last third) with a frozen backbone; from "
        f"{stage} on it can fit this data better. It takes longer."
    )
    command = run.again("unfrozen", f"freeze.policy=until:{stage}")
    yield Suggestion(what="Let the last stages train.", why=why, command=command)


def unequal_classes(run: Measured) -> Iterator[Suggestion]:
    """Some classes are much rarer than others, and the task knows `class_weights: balanced`, which is not asked for."""
    counts = {name: number for name, number in run.report.classes.items() if number > 0}
    task = run.value("task", {})
    if len(counts) < 2 or max(counts.values()) < UNEQUAL * min(counts.values()) or "balanced" in _leaves(task):
        return
    place = _place(task, "class_weights", "task")
    if place is None:
        return
    most, least = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    times = counts[most] / counts[least]
    why = f"Class {most!r} is {times:.0f} times as frequent as class {least!r} in the training data."
    command = run.again("balanced", f"{place}=balanced")
    yield Suggestion(what="Weigh the classes.", why=why, command=command)


def again_by_chance(run: Measured) -> Suggestion:
    """What is left where no rule speaks: how much of the score is chance."""
    seed = run.report.seed or 0
    why = "Nothing in the curves asks for a change. Another seed shows how much of the score is chance."
    command = run.again(f"seed{seed + 1}", f"train.seed={seed + 1}")
    return Suggestion(what="Train once more with another seed.", why=why, command=command)


RULES: Sequence[Callable[[Measured], Iterator[Suggestion]]] = (
    rate_too_high,
    rate_too_low,
    no_better_than_trivial,
    overfitted,
    too_short,
    too_frozen,
    random_weights,
    unequal_classes,
)


def _jumped(values: Sequence[float], index: int, scale: float) -> bool:
    """Whether a loss is far above those before it, by an amount that counts beside the first losses."""
    before = sorted(values[max(0, index - 8) : index])
    usual = before[len(before) // 2]
    return usual > 0 and values[index] > JUMP * usual and values[index] - usual > 0.25 * scale


def _gained(run: Measured) -> bool:
    """Whether the score at the end beats what it was at three fifths of the run."""
    steps, values = run.scores
    before = [value for step, value in zip(steps, values, strict=True) if step <= 0.6 * steps[-1]]
    return bool(before) and max(values) - max(before) > max(run.noise / 2, 0.02 * (max(values) - min(values)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _leaves(value: Any) -> list[Any]:
    """All values of nested mappings, lists left whole."""
    if isinstance(value, Mapping):
        return [one for inner in cast(Mapping[Any, Any], value).values() for one in _leaves(inner)]
    return [value]


def _place(value: Any, key: str, place: str) -> str | None:
    """Where a key stands in nested mappings without a value of its own ('none' or null), such as task.loss.KEY."""
    if not isinstance(value, Mapping):
        return None
    for name, inner in cast(Mapping[str, Any], value).items():
        here = f"{place}.{name}"
        if name == key and inner in (None, "none"):
            return here
        if (found := _place(inner, key, here)) is not None and re.fullmatch(r"[\w.]+", found):
            return found
    return None
