"""What a report suggests: each rule fires on curves drawn for it and stays silent on others, and each command is one
that visiontl takes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from visiontl.report.advice import MOST, advice
from visiontl.report.run import Best, PhaseRows, Ranked, Report, StageRow, Suggestion, Training, Trivial

STEPS = 100
CONFIG = """
task: {name: any, loss: {class_weights: null}}
freeze: {policy: none}
optim: {lr: 0.01, weight_decay: 0.05}
train: {epochs: 10, seed: 3}
run: {name: null}
"""


def rows(*trained: bool) -> list[StageRow]:
    named = ("stem", "layer1", "layer2", "layer3")
    stages = [
        StageRow(stage=name, mode="train" if on else "frozen", parameters=10, trainable=10 * on, lr=0.1 * on)
        for name, on in zip(named, trained, strict=True)
    ]
    head = StageRow(stage="head", mode="train", parameters=5, trainable=5, lr=0.1)
    return [*stages, StageRow(stage="last", mode="unread", parameters=10, trainable=0, lr=0.0), head]


WHOLE, FROZEN = rows(True, True, True, True), rows(False, False, False, False)


def records(loss: Callable[[float], float | None], score: Callable[[float], float]) -> list[dict[str, Any]]:
    """40 lines of training and 11 evaluations, as functions of the share of the run."""
    train = [{"kind": "train", "step": step, "loss": loss(step / STEPS)} for step in range(1, STEPS + 1, 2)]
    val = [{"kind": "val", "step": step, "accuracy": score(step / STEPS)} for step in range(0, STEPS + 1, 10)]
    return [*train, *val]


def suggested(
    metrics: Sequence[dict[str, Any]], stages: Sequence[StageRow] = WHOLE, /, **more: Any
) -> list[Suggestion]:
    scores = [(record["accuracy"], record["step"]) for record in metrics if "accuracy" in record]
    value, step = max(scores, key=lambda one: one[0])
    training = Training(
        policy="none",
        cached_features=[],
        trainability=[PhaseRows(epoch=0, rows=stages)],
        steps=STEPS,
        best=Best(score="accuracy", value=value, step=step, epoch=step / 10),
    )
    values: dict[str, Any] = {
        "run": "my runs/one",
        "status": "finished",
        "command": "visiontl train one.yaml",
        "seed": 3,
        "data": {"train": 500, "val": 1000},
        "backbone": {"name": "any", "weights": "a1"},
        "config": CONFIG,
    }
    report = Report.from_json(values | {"ranked": {"score": "accuracy", "better": "max"}} | more)
    return advice(Report(**{**vars(report), "training": training}), metrics)


def told(found: Sequence[Suggestion]) -> list[str]:
    """The overrides of the commands, or the command where it does not train."""
    words = [shlex.split(one.command) for one in found]
    return [" ".join(one[3:] if "train" in one else one[1:2]) for one in words]


def falls(share: float) -> float:
    return 2.0 * math.exp(-3 * share)  # by a third and more in each third


def settles(share: float) -> float:
    return 0.5 + 1.5 * math.exp(-20 * share)


def learns(share: float) -> float:
    return 0.3 + 0.4 * share


def rises_then_rests(share: float) -> float:
    return 0.3 + 0.5 * min(1.0, share / 0.5)


def peaks(share: float) -> float:
    return 0.3 + 0.5 * (share / 0.3 if share < 0.3 else 1 - 0.4 * (share - 0.3))


def test_a_run_that_needs_nothing_is_told_of_chance_alone() -> None:
    found = suggested(records(settles, rises_then_rests))
    assert told(found) == ["train.seed=4"]
    assert found[0].command == "visiontl train 'my runs/one/config.yaml' train.seed=4"


def test_a_learning_rate_that_is_too_high() -> None:
    for loss in (lambda share: 2 + share, lambda share: None if share > 0.9 else 2 - share):
        assert told(suggested(records(loss, lambda _: 0.3)))[0] == "optim.lr=0.001"
    jumps = lambda share: settles(share) + (4.0 if round(share * STEPS) in (31, 61, 81) else 0.0)  # noqa: E731
    found = suggested(records(jumps, learns))
    assert told(found) == ["optim.lr=0.00333"]  # and nothing that the curves would else say
    assert "jumped 3 times" in found[0].why
    once = lambda share: settles(share) + (4.0 if round(share * STEPS) == 61 else 0.0)  # noqa: E731
    assert "optim.lr=0.00333" not in told(suggested(records(once, rises_then_rests)))
    small = lambda share: 2.0 if share < 0.1 else 0.01 * (1 + 3.5 * (round(share * STEPS) % 10 == 1))  # noqa: E731
    assert told(suggested(records(small, rises_then_rests))) == ["train.seed=4"]


def test_a_learning_rate_that_is_too_low() -> None:
    flat = lambda share: 2.0 - 0.02 * share  # noqa: E731
    assert told(suggested(records(flat, lambda _: 0.3))) == ["optim.lr=0.1"]
    assert "optim.lr=0.1" not in told(suggested(records(flat, learns)))  # the score moves
    assert told(suggested(records(flat, lambda _: 0.99))) == ["train.seed=4"]  # nothing left to learn


def test_overfitting_and_what_helps_depends_on_what_trains() -> None:
    metrics = records(falls, peaks)
    assert told(suggested(metrics)) == ["freeze.policy=all", "optim.weight_decay=0.5", "doctor"]
    assert "val accuracy was best at step 30 (0.8000)" in suggested(metrics)[0].why
    many = {"data": {"train": 50_000, "val": 1000}}
    assert told(suggested(metrics, **many)) == ["optim.weight_decay=0.5", "doctor"]
    assert told(suggested(metrics, FROZEN)) == ["optim.weight_decay=0.5", "doctor"]
    assert "freeze.policy=all" not in told(suggested(records(settles, peaks)))  # the loss does not go on falling
    few = {"data": {"train": 500, "val": 10}}  # 0.14 is one standard error of 0.8 on 10 images
    assert "doctor" not in told(suggested(records(falls, lambda share: peaks(share) * 0.5 + 0.4), **few))


def test_a_run_that_was_too_short() -> None:
    assert told(suggested(records(falls, learns))) == ["train.epochs=20"]
    assert told(suggested(records(falls, learns), status="stopped early")) == ["train.seed=4"]
    assert told(suggested(records(settles, learns))) == ["train.seed=4"]
    assert told(suggested(records(falls, rises_then_rests))) == ["train.seed=4"]


def test_a_frozen_backbone_that_fits_too_little() -> None:
    assert told(suggested(records(settles, rises_then_rests), FROZEN)) == ["freeze.policy=until:layer2"]
    good = lambda share: min(0.98, 0.5 + share)  # noqa: E731
    assert told(suggested(records(settles, good), FROZEN)) == ["train.seed=4"]


def test_random_weights_are_not_transfer() -> None:
    none = {"backbone": {"name": "any", "weights": "none"}}
    assert told(suggested(records(settles, rises_then_rests), **none)) == ["list"]
    found = told(suggested(records(settles, rises_then_rests), FROZEN, **none))
    assert found == ["freeze.policy=none", "list"]
    assert "freeze.policy=all" not in told(suggested(records(falls, peaks), **none))


def test_no_better_than_the_trivial_answer() -> None:
    trivial = {"trivial": {"val": {"answer": "cat", "value": 0.8}}}
    assert told(suggested(records(settles, rises_then_rests), **trivial)) == ["doctor"]
    least = {"ranked": {"score": "accuracy", "better": "min"}}
    assert told(suggested(records(settles, lambda _: 0.7), **trivial, **least)) == ["train.seed=4"]


def test_classes_that_are_rare() -> None:
    metrics = records(settles, rises_then_rests)
    classes = {"classes": {"cat": 500, "a dog": 20, "none": 0}}
    [found] = suggested(metrics, **classes)
    assert told([found]) == ["task.loss.class_weights=balanced"]
    assert "Class 'cat' is 25 times as frequent as class 'a dog'" in found.why
    assert told(suggested(metrics, classes={"cat": 40, "dog": 20})) == ["train.seed=4"]
    for given in (CONFIG.replace("null}}", "balanced}}"), CONFIG.replace("class_weights", "other")):
        assert told(suggested(metrics, **classes, config=given)) == ["train.seed=4"]


def test_a_command_begins_as_the_run_did_and_takes_a_name_of_its_own() -> None:
    metrics = records(falls, learns)
    named = CONFIG.replace("name: null", "name: it's mine")
    [found] = suggested(metrics, config=named)
    assert shlex.split(found.command)[3:] == ["train.epochs=20", "run.name=it's mine-longer"]
    [found] = suggested(metrics, command="__main__.py train one.yaml")
    assert found.command.startswith("python -m visiontl train ")
    [found] = suggested(metrics, environment={"processes": 4})
    assert found.command.startswith("torchrun --nproc_per_node 4 -m visiontl train ")


def test_little_that_was_measured_makes_no_trouble() -> None:
    assert advice(Report.from_json({"status": "evaluated"}), []) == []
    bare = Training(policy="", cached_features=(), trainability=())
    for config in ("", "[", "- a", "optim: 3", CONFIG):
        report = Report.from_json({"config": config, "ranked": {"score": "x", "better": "min"}})
        values = {**vars(report), "training": bare}
        for metrics in ([], [{}], [{"kind": "train"}, {"kind": "val", "step": 1, "x": 2.0}]):
            [found] = advice(Report(**values), metrics)
            assert "train.seed=1" in found.command
    everything = {"classes": {"a": 100, "b": 1}, "trivial": {"val": {"answer": "a", "value": 0.99}}}
    assert len(suggested(records(falls, peaks), **everything)) == MOST


@pytest.mark.parametrize("better", ["max", "min"])
def test_a_score_to_be_made_small_is_read_the_other_way(better: str) -> None:
    metrics = records(falls, lambda share: 1 - learns(share))
    best = Best(score="accuracy", value=0.3, step=STEPS, epoch=10)
    training = Training(
        policy="none", cached_features=[], trainability=[PhaseRows(epoch=0, rows=WHOLE)], steps=STEPS, best=best
    )
    report = Report.from_json({"status": "finished", "config": CONFIG, "data": {"val": 1000}})
    values = {**vars(report), "training": training, "ranked": Ranked(score="accuracy", better=better)}  # type: ignore[arg-type]
    found = told(advice(Report(**values), metrics))
    assert ("train.epochs=20" in found) == (better == "min")
    assert "optim.weight_decay=0.5" not in found or better == "max"


def test_a_report_keeps_what_it_suggests() -> None:
    [one] = suggested(records(falls, learns))
    report = Report.from_json({"suggestions": [vars(one)], "trivial": {"val": vars(Trivial(answer="cat", value=0.5))}})
    again = Report.from_json(report.to_json())
    assert list(again.suggestions) == [one]
    assert again.trivial["val"].value == 0.5
    assert "suggestions" not in Report.from_json({}).to_json()
