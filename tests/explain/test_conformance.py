"""The conformance checks of `mistakes`, `explain` and `explain_options` see what a plugin can do wrong."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import BaseModel, Field

from visiontl import Scalar, plugins
from visiontl.engine.prepare import Run
from visiontl.testing import CHECKS, Case
from visiontl.testing.explaining import (
    explains_a_number_of_the_photo,
    lets_every_option_of_an_explanation_be_left_out,
    names_mistakes_that_are_images_of_the_split,
)

TASK = plugins.task("classification")


def logits(model: Any, batch: Any) -> torch.Tensor:
    return model(batch)["logits"][0]


def a_constant(cfg, model, batch, meta, options):
    logit = logits(model, batch)[0]
    return Scalar(logit - logit.detach(), "always 0", 0.0)


def without_gradient(cfg, model, batch, meta, options):
    logit = logits(model, batch)[0]
    return Scalar(logit.detach(), "class a", float(logit.detach()))


def of_the_weights_alone(cfg, model, batch, meta, options):
    logits(model, batch)
    return Scalar((model.head[-1].weight * 2).sum().requires_grad_(), "a sum of weights", 1.0)


def a_plain_tensor(cfg, model, batch, meta, options):
    return logits(model, batch)[0]


def all_logits(cfg, model, batch, meta, options):
    return Scalar(logits(model, batch)[:3], "all classes", 1.0)


def not_a_number(cfg, model, batch, meta, options):
    logit = logits(model, batch)[0]
    return Scalar(logit.clamp(max=0).sub(1).log(), "class a", float("nan"))


def an_infinite_slope(cfg, model, batch, meta, options):
    logit = logits(model, batch)[0]
    return Scalar((logit - logit.detach()).sqrt() + logit, "class a", float(logit.detach()))


def without_words(cfg, model, batch, meta, options):
    return Scalar(logits(model, batch)[0], " ", 1.0)


def another_at_each_call(cfg, model, batch, meta, options):
    logit = logits(model, batch)[0] * torch.rand(())
    return Scalar(logit, "class a", float(logit.detach()))


def of_two_passes(cfg, model, batch, meta, options):
    return Scalar(logits(model, batch)[0] + logits(model, batch)[1], "two", 1.0)


def that_changes_the_model(cfg, model, batch, meta, options):
    logit = logits(model, batch)[0]
    with torch.no_grad():
        model.head[-1].bias[1] += 1e-3
    return Scalar(logit, "class a", float(logit.detach()))


def of_a_place_without_extent(cfg, model, batch, meta, options):
    logit = logits(model, batch)[0]
    return Scalar(logit, "class a", float(logit.detach()), shown=(3.0, 0.0, 3.0, 10.0))


EXPLAINS: dict[Callable[..., Any], str] = {
    a_constant: "one number",
    without_gradient: "not computed from its maps",
    of_the_weights_alone: "not computed from its maps",
    a_plain_tensor: "gave a Tensor; expected visiontl.Scalar",
    all_logits: r"of shape \(3,\) as value; expected a tensor of shape \(\)",
    not_a_number: "nan",
    an_infinite_slope: "not finite",
    without_words: "as words",
    another_at_each_call: "when asked again",
    of_two_passes: "runs the backbone 2 times",
    that_changes_the_model: "changed the model",
    of_a_place_without_extent: "without an extent",
}


def beyond_the_split(cfg, rows, meta):
    return [(len(rows), "not there")]


def by_name(cfg, rows, meta):
    return [("a.png", "by its name")]


def without_the_words(cfg, rows, meta):
    return [(0, "")]


def twice(cfg, rows, meta):
    return [(1, "wrong"), (1, "wrong")]


def that_sorts_the_rows(cfg, rows, meta):
    rows.reverse()
    return [(0, "wrong")]


MISTAKES: dict[Callable[..., Any], str] = {
    beyond_the_split: "names id 45; the split has the ids 0 to 44",
    by_name: "names 'a.png'; expected the id",
    without_the_words: "no words",
    twice: "image 1 2 times; expected each once",
    that_sorts_the_rows: "changed the rows",
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Run:
    return Case("classification", tmp_path_factory.mktemp("run")).run()


@pytest.fixture
def case(sound, tmp_path, monkeypatch) -> Callable[..., Case]:
    """A case whose task has other fields, without a run being set up anew."""

    def made(**fields: Any) -> Case:
        faulty, run = replace(TASK, **fields), copy(sound)
        run.built = replace(sound.built, resolved=replace(sound.resolved, task=faulty))
        monkeypatch.setattr(plugins, "task", lambda name: faulty)
        monkeypatch.setattr(Case, "run", lambda self: run)
        return Case("classification", tmp_path)

    return made


def test_the_checks_are_among_those_that_every_task_inherits():
    assert {
        explains_a_number_of_the_photo,
        lets_every_option_of_an_explanation_be_left_out,
        names_mistakes_that_are_images_of_the_split,
    } <= set(CHECKS)


@pytest.mark.parametrize("fault", EXPLAINS, ids=lambda fault: fault.__name__)
def test_an_explanation_that_is_none_is_caught(case, fault):
    with pytest.raises(AssertionError, match=EXPLAINS[fault]):
        explains_a_number_of_the_photo(case(explain=fault))


@pytest.mark.parametrize("fault", MISTAKES, ids=lambda fault: fault.__name__)
def test_mistakes_that_are_none_are_caught(case, fault):
    with pytest.raises(AssertionError, match=MISTAKES[fault]):
        names_mistakes_that_are_images_of_the_split(case(mistakes=fault))


class Required(BaseModel):
    label: str = Field(description="a class")


class Bare(BaseModel):
    label: str | None = None


class TheCores(BaseModel):
    stage: str | None = Field(default=None, description="mine")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"explain_options": Required}, "label must be given"),
        ({"explain_options": Bare}, "label without a description"),
        ({"explain_options": TheCores}, "stage, which every task's"),
        ({"explain": None}, "without explain"),
    ],
)
def test_options_that_cannot_be_asked_are_caught(case, fields, said):
    with pytest.raises(AssertionError, match=said):
        lets_every_option_of_an_explanation_be_left_out(case(**fields))
