"""Street scenes with masks and tags: both learned from one pass of an embedded, pretrained backbone."""

from __future__ import annotations

import visiontl
from tests.shared import shared
from tools.multi import SIZE, parts, scene_tags


def test_masks_and_tags_are_learned_together_from_pretrained_weights(tmp_path):
    camvid = shared("data/segmentation/camvid")
    both = parts(camvid, scene_tags(camvid, tmp_path / "scenes.csv"))
    report = visiontl.train(
        {
            "task": {"name": "multi", "tasks": both, "views": {"label": "mask"}},
            "backbone": {"name": "tf_efficientnet_lite0", "weights": "package", "image_size": SIZE},
            "freeze": {"policy": "all"},
            "optim": {"lr": 0.005},
            "train": {"epochs": 12, "batch_size": 8, "evaluate_every": "12 epochs", "checkpoint_every": "100 epochs"},
            "loader": {"workers": 0},
            "run": {"folder": str(tmp_path)},
        }
    )
    assert any("features of the frozen backbone are cached" in note for note in report["notes"])
    scores = report["scores"]["val"]
    assert scores["mask/miou"] >= 0.30
    assert scores["label/mAP"] >= 0.60
