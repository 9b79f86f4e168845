"""What parts have beside the steps of a run: where they start from, files that they open, a model of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from visiontl_multi.config import Part
from visiontl_multi.starts import start

import visiontl
from tests.multi.made import arrows, installed, keypoints
from visiontl import cli, plugins
from visiontl.config.guarded import openers
from visiontl.errors import ConfigError, DataError, TrainingError
from visiontl.freezing.probe import watched
from visiontl.testing import Case
from visiontl.testing.steps import batch_of


@pytest.fixture
def case(tmp_path):
    with installed(keypoints()):
        yield Case("multi", tmp_path / "case", arrows(tmp_path / "set"))


def given(monkeypatch, **fields):
    """fields: {part's task: what of it is another}"""
    found = {name: replace(plugins.task(name), **own) for name, own in fields.items()}
    monkeypatch.setattr(Part, "task", property(lambda part: found.get(part.name) or plugins.task(part.name)))


def started(run, count):
    """`start` on as many batches of 4, of which the first three have both labels; the images that they held."""
    found = [list(range(4 * number, 4 * number + 4)) for number in range(count)]
    batches = (batch_of(run, run.data.val, ids) for ids in found)
    with torch.no_grad(), visiontl.seeded(3):
        start(run.resolved.cfg, run.built.model.eval(), batches, run.built.meta)
    return batches


def test_parts_start_from_one_pass_and_as_each_would_alone(case, monkeypatch):
    run = case.run()
    heard: dict[str, list] = {"point": [], "side": []}

    def listening(part, most):
        def begin(cfg, model, batches, meta):
            assert not torch.is_grad_enabled()
            for batch in batches:
                heard[part].append((model(batch), torch.rand(())))
                if len(heard[part]) == most:
                    return

        return begin

    def told(most):
        heard.update(point=[], side=[])
        with watched(run.built.backbone) as calls:
            started(run, 2)
        outputs = {part: [one for one, _ in found] for part, found in heard.items()}
        assert all(len(found) == most[part] for part, found in heard.items())
        return outputs, [float(number) for found in heard.values() for _, number in found], len(calls)

    both = {"keypoints": {"start": listening("point", 2)}, "classification": {"start": listening("side", 1)}}
    given(monkeypatch, **both)
    together, drawn, calls = told({"point": 2, "side": 1})
    again, same, _ = told({"point": 2, "side": 1})
    assert calls == 2  # one a batch, for both
    assert drawn == same
    assert len(set(drawn)) == 3
    for task, part, count in (("keypoints", "point", 2), ("classification", "side", 1)):
        given(monkeypatch, **{task: both[task]})
        alone, _, _ = told({"point": 0, "side": 0, part: count})
        for one, other, repeated in zip(together[part], alone[part], again[part], strict=True):
            assert all(torch.equal(value, other[key]) for key, value in one.items())
            assert all(torch.equal(value, repeated[key]) for key, value in one.items())


@pytest.mark.parametrize("wrong", ["backbone", "features", "error"])
def test_starts_that_disturb_each_other_are_told(case, monkeypatch, wrong):
    run = case.run()

    def plain(cfg, model, batches, meta):
        for batch in batches:
            model(batch)

    def faulty(cfg, model, batches, meta):
        for batch in batches:
            model(batch)
            if wrong == "features":
                run.built.model.seats["side"].given[0][0].mul_(2)
        if wrong == "backbone":
            next(run.built.backbone.parameters()).add_(1)
        if wrong == "error":
            raise DataError("too few images")

    given(monkeypatch, keypoints={"start": plain}, classification={"start": faulty})
    error, words = {
        "backbone": (ConfigError, "point and side start from the training data, and one of them changes the backbone"),
        "features": (TrainingError, "side: its start changes the backbone.s features in place"),
        "error": (DataError, "too few images"),
    }[wrong]
    with pytest.raises(error, match=words):
        started(run, 2)


def test_files_are_opened_as_the_parts_open_them(case, monkeypatch, tmp_path):
    run = case.run()
    file = tmp_path / "a.txt"
    file.write_text("green")

    def named(size):
        return lambda cfg, file: Image.new("RGB", size, file.read_text())

    given(monkeypatch, keypoints={"opens": {".txt": named((4, 3))}}, classification={"opens": {".csv": named((1, 1))}})
    found = openers(run.resolved.task, run.resolved.cfg)
    assert sorted(found) == [".csv", ".txt"]
    assert found[".txt"](run.resolved.cfg, file).getpixel((0, 0)) == (0, 128, 0)
    given(
        monkeypatch,
        keypoints={"opens": {".txt": named((4, 3))}},
        classification={"opens": lambda cfg: {".txt": named((4, 3) if cfg.augment == "none" else (5, 3))}},
    )
    assert found[".txt"](run.resolved.cfg, file).size == (4, 3)
    changed = case.resolved("task.tasks.side.augment=light").cfg
    with pytest.raises(DataError, match=r"a.txt: point and side open .txt files as different pictures \(4 x 3 and 5 x"):
        found[".txt"](changed, file)


def test_a_part_is_taken_out_as_a_model_of_its_own_task(case, tmp_path, capsys):
    run = Path(str(visiontl.train(case.resolved("train.epochs=1", "train.best=side/accuracy"))["run"]))
    photo = Path(case.section["data"]["point"]) / "00.png"
    together = visiontl.load(run)
    capsys.readouterr()
    for part, task in (("side", "classification"), ("point", "keypoints")):
        assert cli.main(["multi", "part", str(run), part, str(tmp_path / part)]) == 0
        assert f"as a model of task {task}" in capsys.readouterr().out
        alone = visiontl.load(tmp_path / part)
        assert alone.built.resolved.task.name == task
        assert dict(alone.predict(photo)) == together.predict(photo)[part]
        own = {key.removeprefix(f"{part}/"): value for key, value in together.scores.items() if key.startswith(part)}
        assert alone.scores == own
        assert own
    assert alone.built.resolved.config.train.best is None
    assert visiontl.load(tmp_path / "side").built.resolved.config.train.best == "accuracy"
    assert cli.main(["multi", "part", str(run), "sid", str(tmp_path / "x")]) == 2
    assert "no part is called 'sid'; did you mean 'side'" in capsys.readouterr().err
    assert cli.main(["multi", "part", str(tmp_path / "side"), "side", str(tmp_path / "x")]) == 2
    assert "is a model of task classification, which has no parts" in capsys.readouterr().err
