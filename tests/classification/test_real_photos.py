"""The shipped configs on real photos with real weights reach what their headers say; random weights do not."""

from __future__ import annotations

import pytest
import torch

import visiontl
from tests.shared import ROOT, shared

CONFIGS = ROOT / "docs/results/configs/classification"


def accuracy(config: str, weights: str | None, folder) -> float:
    """Validation accuracy after the last epoch, which nothing chose."""
    data = shared("data/classification/hymenoptera")
    source = "none" if weights is None else str(shared(weights))
    overrides = [
        f"task.data={data}",
        f"backbone.weights={source}",
        f"run.folder={folder}",
        "train.evaluate_every=1000 epochs",
    ]
    return visiontl.train(CONFIGS / config, *overrides)["scores"]["val"]["accuracy"]


@pytest.mark.parametrize(
    ("config", "weights", "target"),
    [
        ("hymenoptera_mobilenetv2_probe.yaml", "weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth", 0.93),
        ("hymenoptera_squeezenet_probe.yaml", "weights/squeezenet1_1_imagenet/squeezenet1_1.pth", 0.90),
    ],
)
def test_probe_reaches_its_score_and_random_weights_do_not(config, weights, target, tmp_path):
    pretrained = accuracy(config, weights, tmp_path)
    assert pretrained >= target
    assert accuracy(config, None, tmp_path) <= pretrained - 0.20


def test_fine_tuning_moves_the_backbone_and_keeps_the_probes_score(tmp_path):
    data = shared("data/classification/hymenoptera")
    weights = shared("weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth")
    report = visiontl.train(
        CONFIGS / "hymenoptera_mobilenetv2_gradual.yaml",
        f"task.data={data}",
        f"backbone.weights={weights}",
        f"run.folder={tmp_path}",
        "backbone.image_size=128",
        "train.epochs=2",
        "freeze.policy={schedule: {0: all, 1: features.14-18}}",
    )
    assert report["scores"]["val"]["accuracy"] >= 0.85
    trained = visiontl.load(report["run"]).built.backbone.state_dict()
    before = visiontl.load_backbone("torchvision/mobilenet_v2", str(weights)).state_dict()
    moved = {name.split(".")[2] for name in before if "body" in name and not torch.equal(before[name], trained[name])}
    assert moved <= {str(i) for i in range(14, 19)}
    assert "18" in moved or report["best"]["epoch"] <= 1
