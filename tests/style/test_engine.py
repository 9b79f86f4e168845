"""Style transfer through the engine: AdaIN holds the contract too, recipes are rehearsed, real photos are painted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from visiontl_style.config import refuse
from visiontl_style.example import waves
from visiontl_style.judge import painted
from visiontl_style.pictures import to_pil

import visiontl
from tests.shared import ROOT, shared
from tests.style.made import config, photo
from visiontl import ConfigError
from visiontl.engine.predict import predict_files
from visiontl.testing import Case, checks

MEASURED = ROOT / "docs/results/configs/style"
ADAIN = {"way": "adain", "jitter": 4}


@pytest.mark.parametrize(
    "check",
    [
        checks.describes_itself,
        checks.gives_the_same_sample_for_the_same_seed,
        checks.sees_photos_alike_in_prediction_and_validation,
        checks.trains_what_the_policy_says,
        checks.resumes_with_the_same_bits,
        checks.scores_a_saved_run_as_in_training,
        checks.says_what_it_found_in_its_data,
    ],
    ids=lambda check: check.__name__,
)
def test_adain_holds_the_contract(check, tmp_path):
    check(Case("style", tmp_path, ADAIN))


def test_the_policy_is_all_unasked_and_others_are_refused_with_the_reason(tmp_path):
    assert Case("style", tmp_path).resolved().config.freeze.policy == "all"
    assert refuse(config(), "all") is None
    assert "the judge" in str(refuse(config(), "gradual"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A minute of training in a second, with a preview after each of two evaluations."""
    folder = tmp_path_factory.mktemp("run")
    return visiontl.train(Case("style", folder).resolved("train.evaluate_every=1 epoch", "task.preview=2"))


def test_the_report_shows_how_the_pictures_grew_and_a_curve_for_each_layer(run):
    folder = Path(run["run"])
    previews = sorted((folder / "previews").glob("*.jpg"))
    assert len(previews) == 4, "two photos, twice"
    panels = Image.open(previews[0])
    assert panels.width > 2.2 * panels.height, "photo, style and result beside each other"
    assert panels.width >= 3 * 160, "no stamps"
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert all(f"style.map{i}" in header for i in range(4))
    page = (folder / "report.html").read_text()
    for words in ("How it grew", "Style distance by layer", "Milliseconds per picture", "Style distance by style"):
        assert words in page
    assert set(run["scores"]["val"]["style_distance_by_style"]) == {"dots", "waves"}
    assert not any("milli" in name for name in run["scores"]["val"]), "a time is no function of config and data"


def test_predict_writes_each_result_as_a_picture(run, tmp_path):
    photo(50, 34).save(tmp_path / "a.png")
    photo(20, 60).convert("L").save(tmp_path / "b.png")
    said = predict_files(run["run"], [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out", {"style": "dots"})
    assert said["predicted"] == 2
    assert Image.open(tmp_path / "out/stylized/a.png").size == (50, 34)
    assert Image.open(tmp_path / "out/stylized/b.png").size == (20, 60)
    assert Image.open(tmp_path / "out/pictures/a.jpg").size == (100, 34)


def test_the_judge_has_a_run_paint_in_the_style_that_the_picture_names(run, tmp_path):
    photos = [torch.rand(1, 3, 48, 48)]
    expected = visiontl.load(run["run"]).predict(to_pil(photos[0][0]), style="waves")["stylized"]
    found = painted(Path(run["run"]), photos, str(tmp_path / "waves.png"))[0]
    assert np.array_equal((found[0] * 255).round().byte().permute(1, 2, 0).numpy(), np.asarray(expected))
    with pytest.raises(ConfigError, match=r"paints dots, waves, .*did you mean 'waves'"):
        painted(Path(run["run"]), photos, "wavse.png")


def test_it_is_evaluated_on_other_photos_with_its_own_styles(run, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        photo(70, 60, seed).save(tmp_path / f"photos/{seed}.png")
    found = visiontl.evaluate(run["run"], str(tmp_path / "photos"))
    assert found["data"] == {"test": 3}
    assert 0 < found["scores"]["test"]["style_distance"] < 10


@pytest.mark.parametrize("name", ["photos_vgg16_feedforward", "coco_vgg19_adain"])
def test_the_recipes_run_with_random_weights(name, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for seed in range(12):
        photo(80, 72, seed).save(tmp_path / f"photos/{seed}.png")
    waves().save(tmp_path / "style.png")
    report = visiontl.train(
        f"style/{name}",
        f"task.data.photos={tmp_path / 'photos'}",
        f"task.data.styles={tmp_path / 'style.png'}",
        "task.data.val_fraction=0.2",
        "backbone.weights=none",
        "task.size=64",
        "task.crop=64",
        "task.style_size=64",
        "train.batch_size=2",
        "loader.workers=0",
        dry_run=True,
    )
    assert report["steps"] == 1
    assert report["backbone"]["parameters"] < 8_000_000, "cut behind the last used layer"
    assert "dry run: training, evaluation, saving, loading and prediction all work" in capsys.readouterr().out


def test_sixty_steps_on_real_photos_bring_the_style_nearer_and_keep_the_photo(tmp_path):
    """The shipped config but for its size: what the header states takes a quarter of an hour."""
    paintings, photos = shared("data/style/vangogh_mit"), shared("data/segmentation/camvid/images/train")
    report = visiontl.train(
        MEASURED / "starrynight_squeezenet_feedforward.yaml",
        f"task.data.photos={photos}",
        f"task.data.val={paintings / 'content'}",
        f"task.data.styles={paintings / 'style/Starry_Night.jpg'}",
        f"backbone.weights={shared('weights/squeezenet1_1_imagenet/squeezenet1_1.pth')}",
        f"run.folder={tmp_path}",
        "task.width=8",
        "task.blocks=2",
        "task.crop=96",
        "task.size=128",
        "train.epochs=1",
        "train.evaluate_every=1 epoch",
        "train.checkpoint_every=1 epoch",
    )
    scores = report["scores"]["val"]
    assert scores["style_distance"] < 0.4, "squared, of the plain photos"
    assert scores["content_distance"] < 0.95
    found = visiontl.load(report["run"]).predict(str(paintings / "content/farm.jpg"))
    pixels = np.asarray(found["stylized"], dtype=np.float64)
    assert pixels.shape[:2] == tuple(found["size"]) == (165, 250)
    assert pixels.std((0, 1)).min() > 10, "no flat picture"
