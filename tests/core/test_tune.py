"""`visiontl tune`: what a range test says, which batch fits, and that nothing is left of the tries."""

from __future__ import annotations

import io
import json
import math
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Drawing

import visiontl
from visiontl import cli, plugins
from visiontl.config.resolve import resolve
from visiontl.engine.example import with_example
from visiontl.errors import DataError
from visiontl.report.console import Console
from visiontl.search import fitting, rates, tuning
from visiontl.search.updates import for_a_moment, losses

CONFIG = """task: {name: classification, data: example, augment: light}
backbone: {name: visiontl/tiny, weights: none}
optim: {schedule: constant, lr: 0.01}
train: {epochs: 2, batch_size: 8, accumulate: 2, log_every: 1}
loader: {workers: 0}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    drawn = Drawing.savefig

    def unless_inline(self, out, **options):
        out.write("<svg></svg>") if isinstance(out, io.StringIO) else drawn(self, out, **options)

    monkeypatch.setattr(Drawing, "savefig", unless_inline)
    monkeypatch.chdir(tmp_path)
    Path("moments").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "moments"))
    Path("c.yaml").write_text(CONFIG)


def left() -> set[str]:
    """Files and folders here, but for the config and the data that the task draws."""
    here = {str(path) for path in Path().rglob("*") if not re.search("example-|torchinductor", str(path))}
    return here - {"c.yaml", "moments", "runs"}


def valley(rate: float) -> float:
    """A loss that falls from 2 to 0.5 around 1e-3, and rises beyond 1e-1."""
    return 0.5 + 1.5 / (1 + rate / 1e-3) + max(0, math.log10(rate) + 1) ** 2


# --------------------------------------------------------------------------------------------------------- range tests


def test_the_suggestion_lies_between_the_steepest_and_a_tenth_of_the_lowest():
    wanted = rates.rates_between(100)
    assert wanted[0] == 1e-6
    assert wanted[-1] == pytest.approx(10)
    assert np.diff(np.log(wanted)) == pytest.approx(np.full(99, math.log(1e7) / 99))
    found = [valley(rate) for rate in wanted]
    test = rates.suggestion(wanted, found)
    assert 3e-4 < test.steepest < 2e-2  # the running mean comes a little late
    assert 0.05 < test.lowest < 0.6
    assert test.lr == pytest.approx(math.sqrt(test.steepest * test.lowest / 10), rel=0.05)
    assert f"{test.lr:g}" in test.why


def test_where_the_loss_never_rises_the_steepest_rate_is_taken():
    """As with few images, which are known by heart before the rate is large."""
    wanted = rates.rates_between(100)
    test = rates.suggestion(wanted, [0.7 / (1 + rate / 1e-3) for rate in wanted])
    assert test.lr == float(f"{test.steepest:.1e}")
    assert 5e-4 < test.lr < 2e-2
    assert "never rose" in test.why


def test_a_loss_that_says_nothing_gives_no_suggestion():
    wanted = rates.rates_between(60)
    noisy = 2 + 0.3 * np.random.default_rng(0).normal(size=60)
    for found in ([2.0] * 60, noisy.tolist()):
        test = rates.suggestion(wanted, found)
        assert test.lr is None
        assert "says nothing of the rate" in test.why
    test = rates.suggestion(wanted, [1.0] * 5 + [math.nan] * 55)
    assert test.lr is None
    assert "not finite after 5 updates" in test.why
    tried = list(rates.until_diverged(wanted, iter([1.0] * 20 + [50.0] * 40)))
    assert 20 < len(tried) < 26


def test_updates_are_those_of_a_run():
    """The losses of a range test at a constant rate are those that training logs, to the last bit."""
    report = visiontl.train("c.yaml", "run.name=r", "train.epochs=1")
    lines = [json.loads(line) for line in Path("runs/r/metrics.jsonl").read_text().splitlines()]
    logged = [line["loss"] for line in lines if line["kind"] == "train"]
    with for_a_moment(with_example(resolve("c.yaml"), Console(stream=io.StringIO())), {"train.epochs": 1}, 100) as run:
        assert list(losses(run, [1.0] * report["steps"])) == pytest.approx(logged, rel=1e-6)
    assert left() == {"runs/r", *map(str, Path("runs/r").rglob("*"))}


@pytest.mark.parametrize("task", ["detection", "segmentation", "face", "style"])
def test_every_task_is_tuned_by_its_own_updates(task):
    values = {"task": {**plugins.task(task).small, "name": task, "data": "example"}, "loader": {"workers": 0}}
    values |= {"backbone": {"name": "visiontl/tiny", "weights": "none"}, "train": {"batch_size": 4, "epochs": 2}}
    resolved = with_example(resolve(values), Console(stream=io.StringIO()))
    with for_a_moment(resolved, {"features.cache": "off"}, 100) as run:
        found = list(losses(run, [1e-3, 1e-3]))
    assert len(found) == 2
    assert all(map(math.isfinite, found))
    assert left() == set()


# ------------------------------------------------------------------------------------------------------------- batches


def test_sizes_divide_an_update():
    assert fitting.sizes(32) == [2, 4, 8, 16, 32]
    assert fitting.sizes(48) == [2, 3, 6, 12, 24, 48]
    assert fitting.sizes(1) == [1]
    assert fitting.sizes(7) == [7]


@pytest.fixture
def machine(monkeypatch):
    """A GPU with room for so many images, or a CPU with so many megabytes at 100 MB an image."""
    tried = []

    def of(images: int | None = None, megabytes: float | None = None):
        def updates(run, factors):
            size = run.resolved.config.train.batch_size
            tried.append((size, run.resolved.config.train.accumulate))
            if images is not None and size > images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            yield from (1.0 for _ in factors)

        @contextmanager
        def moment(resolved, changes, count):
            order = SimpleNamespace(group=lambda step: [[(0,) * changes["train.batch_size"]]])
            device = SimpleNamespace(device=torch.device("cpu"))
            yield SimpleNamespace(
                resolved=resolve(resolved, [changes]), orders=lambda epoch: order, steps_per_epoch=9, accelerator=device
            )

        monkeypatch.setattr(fitting, "for_a_moment", moment)
        monkeypatch.setattr(fitting, "losses", updates)
        monkeypatch.setattr(fitting, "memory_limit", lambda: megabytes)
        monkeypatch.setattr(fitting, "resident_peak", lambda: 500 + 100.0 * tried[-1][0])
        return tried

    return of


@pytest.mark.parametrize(
    ("limits", "sizes", "why"),
    [
        ({"images": 4}, [2, 4, 8], "memory is spent"),
        ({"megabytes": 1000.0}, [2, 4], "would need 1.3 GB; 1.0 may be used"),
        ({"megabytes": 1e5}, [2, 4, 8, 16], "a whole update at once"),
    ],
)
def test_the_largest_that_fits_keeps_the_images_of_an_update(machine, limits, sizes, why, capsys):
    tried = machine(**limits)
    assert cli.main(["tune", "batch", "c.yaml"]) == 0
    assert [size for size, _ in tried] == sizes
    best = (16, 1) if sizes[-1] == 16 else (4, 4)
    out = capsys.readouterr().out
    assert why in out
    assert f"next: visiontl train c.yaml train.batch_size={best[0]} train.accumulate={best[1]}" in out
    assert left() == {"runs/tune-c.html"}


def test_where_nothing_fits_that_is_the_answer(machine, capsys):
    machine(images=0)
    assert cli.main(["tune", "batch", "c.yaml", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["changes"] == {}
    assert "no micro-batch fits: memory is spent" in found["said"][0]


# ----------------------------------------------------------------------------------------------------------------- all


def test_both_are_found_and_written(monkeypatch, capsys):
    monkeypatch.setattr(tuning, "losses", lambda run, wanted: (valley(rate) for rate in wanted))
    assert cli.main(["tune", "c.yaml", "train.accumulate=1", "train.batch_size=4"]) == 0
    out = capsys.readouterr().out
    config = resolve("c-tuned.yaml").config
    assert (config.train.batch_size, config.train.accumulate) == (4, 1)
    assert 1e-3 < config.optim.lr < 0.1
    assert f"optim.lr={config.optim.lr:g}: the loss falls fastest at" in out
    assert "next: visiontl train c-tuned.yaml" in out
    assert left() == {"c-tuned.yaml", "runs/tune-c.html"}
    assert cli.main(["tune", "c.yaml"]) == 2
    assert "c-tuned.yaml is there already" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (DataError("a photo is damaged"), 2)])
def test_a_try_that_fails_leaves_nothing(monkeypatch, capsys, error, code):
    def updates(run, factors):
        yield 1.0
        raise error

    monkeypatch.setattr(tuning, "losses", updates)
    assert cli.main(["tune", "lr", "c.yaml", "--out", "new.yaml"]) == code
    assert left() == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lr"], "name a config: visiontl tune lr CONFIG"),
        (["rate", "c.yaml"], "cannot tune 'rate'"),
        (["lr", "c.yaml", "--steps", "5"], "needs 20 updates or more"),
        (["c.yaml", "train.epochs=0"], "nothing is trained"),
        (["lr", "c.yaml", "run.folder=c.yaml"], "c.yaml is no folder"),  # told before the work, not behind it
        (["lr", "c.yaml", "--out", "no/such/c.yaml"], "there is no folder no/such"),
    ],
)
def test_what_cannot_be_tuned_is_told_in_words(words, said, capsys):
    assert cli.main(["tune", *words]) == 2
    assert said in capsys.readouterr().err
