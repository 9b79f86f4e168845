"""The self-supervised start: its loss and scores by hand, its views, and its run as the start of another task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from visiontl_ssl.config import SslConfig
from visiontl_ssl.losses import each, spread
from visiontl_ssl.scores import score, trivial
from visiontl_ssl.views import random_view

from visiontl import ConfigError, DataError, ImageSpec, TrainingError
from visiontl.engine.train import fit
from visiontl.errors import VisionTLError
from visiontl.runs import store
from visiontl.testing.case import Case, state

CFG = SslConfig.model_validate({"data": "photos"})


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_loss_and_the_spread_equal_their_formulas():
    z, p = np.random.default_rng(0).normal(size=(2, 6, 2, 5))
    a, b = unit(z), unit(p)
    wanted = [-(b[i, 0] @ a[i, 1] + b[i, 1] @ a[i, 0]) / 2 for i in range(6)]
    np.testing.assert_allclose(each(torch.tensor(z), torch.tensor(p)), wanted, rtol=1e-12)
    of_first = np.mean([unit(z[:, 0])[:, j].std() for j in range(5)]) * np.sqrt(5)
    assert float(spread(torch.tensor(z[:, 0]))) == pytest.approx(of_first, rel=1e-12)
    assert float(spread(torch.tensor(z[:1, 0]).expand(4, -1))) == pytest.approx(0, abs=1e-12)
    many = np.random.default_rng(1).normal(size=(4000, 64))  # everywhere: 1, as the paper says
    assert float(spread(torch.tensor(many))) == pytest.approx(1, abs=0.02)


def test_photos_that_find_themselves_are_counted_and_a_collapse_finds_none():
    first = np.eye(4, dtype=np.float16)
    second = first.copy()
    second[3] = first[0]  # this view is nearer to another photo
    rows = [{"loss": 0.0, "views": np.stack([first[i], second[i]])} for i in range(4)]
    assert score(CFG, rows, {})["retrieved"] == 0.75
    said, answers = trivial(CFG, rows, {})
    worst = score(CFG, answers, {})
    assert said == "one embedding for all photos"
    assert (worst["retrieved"], worst["spread"], worst["loss"]) == (0, 0, -1)  # the least loss, and nothing learned


def test_views_are_a_function_of_the_seed():
    spec = ImageSpec((32, 48), (0.5,) * 3, (0.5,) * 3)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    views = [random_view(photo, CFG, spec, seed) for seed in (*range(8), *range(8))]
    assert all(view.shape == (3, 32, 48) and view.dtype == torch.uint8 for view in views)
    assert all(torch.equal(a, b) for a, b in zip(views[:8], views[8:], strict=True))
    assert len({view.numpy().tobytes() for view in views}) == 8
    gray = [bool((view[0] == view[1]).all() and (view[0] == view[2]).all()) for view in views]
    assert not all(gray)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Case("ssl", tmp_path_factory.mktemp("ssl"), {"color": 1.0, "blur": True}).run("train.epochs=1")
    fit(run)
    return run


def test_its_run_is_a_start_for_other_tasks(run, tmp_path):
    """The whole backbone, to the bit; its projector is no head of theirs."""
    given = store.read_tensors(run.folder / "model", "model.safetensors")
    own = {name: tensor for name, tensor in given.items() if name.startswith("backbone.")}
    for task in ("classification", "segmentation", "detection", "face"):
        other = Case(task, tmp_path / task).run(f"init={run.folder}")
        body = {name: one for name, one in other.built.backbone.state_dict().items() if "mean" != name != "std"}
        found = [name for name, one in body.items() if f"backbone.{name}" in own]
        assert len(found) == len(body)
        assert all(torch.equal(body[name].nan_to_num(), own[f"backbone.{name}"].nan_to_num()) for name in found)
        assert any("the run is of the task ssl" in note for note in other.console.notes)
    assert any(name.startswith("projector.") for name in state(run))


def test_what_cannot_be_is_refused(run, tmp_path):
    with pytest.raises(VisionTLError, match="the backbone is what is to be trained here"):
        Case("ssl", tmp_path).run("freeze.policy=all")
    batch = {"image": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}
    with pytest.raises(TrainingError, match="one photo in a batch"):
        run.built.model.train()(batch)
    (tmp_path / "few").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "few/a.png")
    with pytest.raises(DataError, match="1 photo; 4 are needed"):
        Case("ssl", tmp_path, {"data": str(tmp_path / "few")}).run()
    for name in ("train/ant/a.png", "train/bee/b.png", "test/ant/c.png", "test/bee/d.png"):
        (tmp_path / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "parts" / name)
    found = Case("ssl", tmp_path, {"data": str(tmp_path / "parts")}).run()
    assert any("holds folders named test, train" in note for note in found.console.notes)
    with pytest.raises(ConfigError, match="retrieved"):
        Case("ssl", tmp_path).run("train.best=loss")
