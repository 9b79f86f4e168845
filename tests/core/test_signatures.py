"""A function with another signature than the core calls it with is refused before it is called, in words."""

from __future__ import annotations

import functools
import pickle
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.core import typed_steps
from visiontl import Command, Data, Section, Task, hookimpl, lazy, plugins
from visiontl.engine.prepare import set_up
from visiontl.errors import PluginError
from visiontl.freezing.policies import FACTORIES
from visiontl.signatures import arguments_of, misfit
from visiontl.task import STEPS
from visiontl.testing import Case

HERE = Path(__file__).name
LOSS = ("cfg", "outputs", "batch", "meta")


class Config(Section):
    data: str = ""


def anything(*_: Any) -> None:
    return None


def make(**changes: Any) -> Task:
    required = ("data", "sample", "collate", "model", "loss", "rows", "score", "predict")
    values = {"name": "keypoints", "config": Config, "best": ("oks", "max"), **dict.fromkeys(required, anything)}
    return Task(**{**values, **changes})


# fmt: off
def loss(cfg, outputs, batch, meta): return {"loss": 0.0}
def with_more(cfg, outputs, batch, meta, weight=1.0, *, smooth=0.1): return {}
def other_names(c, o, b, m): return {}
def weighted(weight, cfg, outputs, batch, meta): return {}
def two(outputs, batch): return {}
def five(cfg, outputs, batch, meta, weight): return {}
def by_keyword(cfg, outputs, batch, meta, *, weight): return {}
def swapped(cfg, batch, outputs, meta): return {}


@functools.wraps(two)
def wrapped(cfg, outputs, batch, meta): return two(outputs, batch)


class Loss:
    def __init__(self, cfg, outputs, batch, meta): pass
    def __call__(self, outputs): return {}
    def method(self, cfg, outputs, batch, meta): return {}
    @staticmethod
    def fixed(cfg, outputs, batch, meta): return {}
# fmt: on

MADE = Loss(None, None, None, None)

FIT = {
    "as it is written": loss,
    "more arguments with defaults": with_more,
    "other names": other_names,
    "any arguments": anything,
    "a class": Loss,
    "a method": MADE.method,
    "a static method": Loss.fixed,
    "a partial": functools.partial(weighted, 0.5),
    "a wrapper with a signature of its own": wrapped,
    "a lambda": lambda *rest: {},
    "written in C": dict,
}

# what is given -> what is said of it
MISFIT = {
    "too few": (two, f"two(outputs, batch) at core/{HERE}:LINE; expected"),
    "too many": (five, f"five(cfg, outputs, batch, meta, weight) at core/{HERE}:LINE; expected"),
    "by keyword alone": (by_keyword, f"by_keyword(cfg, outputs, batch, meta, *, weight) at core/{HERE}:LINE; expected"),
    "another order": (swapped, f"swapped(cfg, batch, outputs, meta) at core/{HERE}:LINE, in another order; expected"),
    "a partial": (functools.partial(two, 1), f"partial(batch) at core/{HERE}:LINE; expected"),
    "an object": (MADE, f"Loss(outputs) at core/{HERE}:LINE; expected"),
    "a method of the class": (Loss.method, f"method(self, cfg, outputs, batch, meta) at core/{HERE}:LINE; expected"),
    "a lambda": (lambda x: x, f"lambda(x) at core/{HERE}:LINE; expected"),
    "written in C": (len, "len(obj, /); expected"),
    "None": (None, "None; expected"),
    "a number": (3, "3 (int); expected"),
    "its result": ({"loss": 0.0}, "{'loss': 0.0} (dict); expected"),
}


@pytest.mark.parametrize("case", FIT)
def test_a_function_that_can_be_called_fits(case):
    assert misfit("loss", FIT[case], LOSS) is None
    assert make(loss=FIT[case]).loss is FIT[case]


@pytest.mark.parametrize("case", MISFIT)
def test_a_function_that_cannot_be_called_is_refused_when_the_task_is_made(case):
    function, found = MISFIT[case]
    with pytest.raises(PluginError) as raised:
        make(loss=function)
    said = re.sub(r"(\.py):\d+", r"\1:LINE", str(raised.value))
    assert said == f"task 'keypoints': loss is {found} loss(cfg, outputs, batch, meta)"
    with pytest.raises(PluginError, match="task 'keypoints': loss is "):
        replace(make(), loss=function)


def test_the_line_is_that_of_the_function():
    line = two.__code__.co_firstlineno
    assert Path(__file__).read_text(encoding="utf-8").splitlines()[line - 1].startswith("def two(")
    assert f"{HERE}:{line};" in (misfit("loss", two, LOSS) or "")


def test_all_steps_are_checked_and_all_misfits_told_at_once():
    assert set(STEPS) == {one.name for one in fields(Task) if "Step" in str(one.type)} - {"samples", "opens"}  # several
    with pytest.raises(PluginError) as raised:
        make(**{step: lambda: None for step in STEPS})
    for step, protocol in STEPS.items():
        assert f"expected {step}({', '.join(arguments_of(protocol))})" in str(raised.value)
        assert protocol.__doc__
    assert arguments_of(STEPS["predict"]) == ("cfg", "model", "batches", "meta", "options")


def test_a_task_of_another_contract_is_left_to_its_refusal():
    assert make(contract=0, loss=two).contract == 0


MODULE = """
import {what}
def loss(outputs, batch): pass
def good(cfg, outputs, batch, meta): return {{"loss": cfg}}
number = 3
"""

PLACES = {
    "keypoint_steps:loss": "task 'keypoints': loss is loss(outputs, batch) at {folder}/keypoint_steps.py:3; expected "
    "loss(cfg, outputs, batch, meta)",
    "keypoint_steps:los": "task 'keypoints': loss is lazy(place='keypoint_steps:los'): keypoint_steps has no 'los'; "
    "did you mean 'loss'?",
    "keypoint_steps:number": "task 'keypoints': loss is 3 (int); expected loss(cfg, outputs, batch, meta)",
    "keypoint_step:loss": "task 'keypoints': loss is lazy(place='keypoint_step:loss'): there is no module "
    "'keypoint_step'",
    "keypoint_package.steps:loss": "task 'keypoints': loss is lazy(place='keypoint_package.steps:loss'): there is no "
    "module 'keypoint_package'",
    "keypoint_lacking:good": "task 'keypoints': loss is lazy(place='keypoint_lacking:good'): importing "
    "keypoint_lacking failed: No module named 'albumentation_s'; install what it needs",
}


@pytest.fixture
def steps(tmp_path, monkeypatch):
    (tmp_path / "keypoint_steps.py").write_text(MODULE.format(what="json"))
    (tmp_path / "keypoint_lacking.py").write_text(MODULE.format(what="albumentation_s"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path.name
    for name in ("keypoint_steps", "keypoint_lacking"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("place", PLACES)
def test_a_lazy_step_is_checked_at_its_first_call(place, steps):
    task = make(loss=lazy(place))  # nothing is imported yet
    assert not {"keypoint_steps", "keypoint_lacking"} & set(sys.modules)
    for _ in range(2):
        with pytest.raises(PluginError) as raised:
            task.loss(None, None, {}, {})
        assert str(raised.value) == PLACES[place].format(folder=steps)


def test_a_lazy_step_that_fits_is_called_and_survives_pickling(steps):
    task = make(loss=lazy("keypoint_steps:good"))
    assert pickle.loads(pickle.dumps(task.loss))(5, None, {}, {}) == {"loss": 5}
    assert repr(task.loss) == "lazy(place='keypoint_steps:good')"


@pytest.mark.parametrize("place", ["keypoint_steps", "keypoint_steps:", ":loss", "keypoint_steps:a b", ""])
def test_a_lazy_place_is_written_with_a_colon(place):
    with pytest.raises(PluginError, match=r"lazy\(.*\): a place is written 'package.module:function'"):
        lazy(place)


def test_functions_beside_the_steps_are_checked_too():
    with pytest.raises(PluginError, match=r"Data: batches is two\(outputs, batch\).*expected batches\(split, seed, ep"):
        Data(batches=two)  # pyright: ignore[reportArgumentType]
    with pytest.raises(PluginError, match=r"arguments is two.*;\s+run is loss.*expected run\(given\)"):
        Command("count", "counts", two, loss)  # pyright: ignore[reportArgumentType]
    for factory in FACTORIES.values():
        assert misfit("factory", factory, ("argument",)) is None


@dataclass
class Offers:
    tasks: list[Task]

    @hookimpl
    def visiontl_tasks(self):
        return self.tasks

    @hookimpl
    def visiontl_freeze_policies(self):
        return {"short": lambda: None, "blind": lambda argument: lambda epoch: {}, "sound": lambda argument: anything}


def test_the_plugin_is_named_where_it_is_known(steps, monkeypatch):
    monkeypatch.setenv("VISIONTL_PLUGINS", "")
    plugins.reset()
    try:
        plugins.register(Offers([make(loss=lazy("keypoint_steps:loss")), make(name="limbs")]), "bodies")
        with pytest.raises(PluginError, match="plugin 'bodies': task 'keypoints': loss is loss"):
            plugins.check_steps(plugins.task("keypoints"))
        plugins.check_steps(plugins.task("limbs"))
        with pytest.raises(PluginError, match=r"'bodies' .*: freeze policy short is lambda\(\) at .* short\(arg"):
            plugins.policy("short")
        assert any("freeze policy short" in line for line in plugins.warnings())
        with pytest.raises(PluginError, match=r"'bodies': its factory gave no freeze policy: blind is lambda\(epoch\)"):
            plugins.policy("blind")
        assert plugins.policy("sound") is anything
    finally:
        plugins.reset()


def test_a_lazy_step_is_refused_before_data_are_read(steps, tmp_path):
    resolved = Case("brightness", tmp_path).resolved()
    task = replace(resolved.task, data=lambda *_: pytest.fail("data were read"), loss=lazy("keypoint_steps:loss"))
    with pytest.raises(PluginError, match="plugin 'brightness': task 'brightness': loss is loss"):
        set_up(replace(resolved, task=task))


def test_every_step_of_the_installed_tasks_fits():
    for typed in typed_steps.TASKS:  # what pyright looks at is what the plugins offer
        task = plugins.task(typed.name)
        plugins.check_steps(task)
        for step in STEPS:
            offered = getattr(task, step)
            assert (offered.resolve() if isinstance(offered, lazy) else offered) is getattr(typed, step), step


@pytest.mark.parametrize("best", ["accuracy", ("accuracy", "maximum"), ("accuracy",), ["accuracy", "up"]])
def test_a_best_score_without_its_direction_is_refused(best):
    said = f"task 'keypoints': best is {best!r}; expected (score, 'max') or (score, 'min')"
    with pytest.raises(PluginError, match=f"^{re.escape(said)}$"):
        make(best=best)
    assert make(best=("loss", "min")).best == ("loss", "min")
