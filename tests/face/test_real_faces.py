"""Real faces and pretrained weights: the shipped config reaches what its header says, on people it has never seen."""

from __future__ import annotations

import json
from pathlib import Path

import visiontl
from tests.shared import ROOT, shared


def test_the_frozen_projection_verifies_new_people(tmp_path):
    """24 people teach it, 6 choose the epoch, and 600 given pairs of 10 others judge it, once."""
    data = shared("data/face/orl")
    weights = shared("weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth")
    report = visiontl.train(
        ROOT / "docs/results/configs/face/orl_mobilenetv2_projection.yaml",
        f"task.data.folder={data}",
        f"task.pairs={data / 'test_pairs.csv'}",
        f"backbone.weights={weights}",
        f"run.folder={tmp_path}",
    )
    test, before = report["scores"]["test"], report["scores_at_start"]["test"]
    assert test["pairs"] == {"same": 300, "different": 300, "left out": 0}
    assert test["auc"] >= 0.990
    assert test["accuracy"] >= 0.95
    assert test["auc"] >= before["centered_auc"] - 0.002
    assert 0.96 <= before["pooled_auc"] <= 0.985
    assert 0.985 <= before["centered_auc"] <= 0.995
    travelled = json.loads((Path(report["run"]) / "model/scores.json").read_text())
    assert travelled["threshold_at_far"]["0.01"] == report["scores"]["val"]["threshold_at_far"]["0.01"]
