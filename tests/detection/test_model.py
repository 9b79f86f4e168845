"""The detectors: against torchvision's own, on every kind of backbone, and what they answer with."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from visiontl_detection.anchors import fitted, k_means, overlap
from visiontl_detection.batches import grouped
from visiontl_detection.config import DetectionConfig, PredictOptions
from visiontl_detection.listing import Annotated
from visiontl_detection.losses import loss
from visiontl_detection.model import in_photo, model
from visiontl_detection.necks import Pyramid
from visiontl_detection.predictions import both_ways, files, predict
from visiontl_detection.regions import RegionPool, roi_align

import visiontl
from tests.shared import ROOT
from visiontl import BackboneError, ConfigError
from visiontl.errors import CheckpointError
from visiontl.kit.finite import require_finite

HEADS = ("faster_rcnn", "retinanet", "fcos")
# one of each kind: convolutional with stride 2 first, without, four strides only, one stride only, no stride 32
BACKBONES = {
    "timm/resnet10t": (64, 96),
    "timm/mobilenetv3_small_050": (64, 96),
    "timm/convnext_atto": (64, 96),
    "timm/vit_tiny_patch16_224": (64, 64),
    "torchvision/squeezenet1_1": (64, 96),
}


def config(**values) -> DetectionConfig:
    return DetectionConfig.model_validate({"data": "nowhere", "fpn_width": 32, "box_width": 32, **values})


def meta(**values) -> dict:
    return {"classes": ["a", "b"], "categories": None, "anchors": None, "size": {"short": [64], "long": 96}, **values}


def batch(seed: int, *sizes: tuple[int, int]) -> dict:
    """One bright box of class 0 or 1 per dark image of (h, w); the photo is twice as high and wide."""
    rng = np.random.default_rng(seed)
    images, boxes, labels = [], [], []
    for h, w in sizes:
        image = torch.from_numpy(rng.integers(0, 40, (3, h, w), dtype=np.uint8))
        x, y, label = int(rng.integers(0, w - 32)), int(rng.integers(0, h - 32)), int(rng.integers(2))
        image[label * 2, y : y + 28, x : x + 28] = 250
        images.append(image)
        boxes.append(torch.tensor([[x, y, x + 28, y + 28]], dtype=torch.float32))
        labels.append(torch.tensor([label]))
    size = torch.tensor([(2 * h, 2 * w) for h, w in sizes])
    return {"image": images, "boxes": boxes, "labels": labels, "size": size, "id": torch.arange(len(sizes))}


def detector(head: str, name: str = "timm/resnet10t", size: tuple[int, int] = (64, 96), **values):
    torch.manual_seed(0)
    backbone = visiontl.load_backbone(name, "none", size)
    return model(config(head=head, **values), backbone, meta())


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_overflows_is_told_from_one_that_finds_nothing(head):
    made, shown = detector(head).eval(), batch(1, (64, 64), (64, 64))
    with torch.no_grad():
        for _ in range(2):  # the second pass knows nothing of the first
            assert math.isfinite(require_finite(made(shown))["peak"])
        last = [one for name, one in made.named_parameters() if "net.backbone" not in name and name.endswith("weight")]
        last[-1].mul_(1e30).mul_(1e30)
        assert not len(made(shown)["detections"][0]["scores"])
        with pytest.raises(CheckpointError, match="no finite numbers"):
            require_finite(made(shown))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", BACKBONES)
def test_each_head_learns_on_each_kind_of_backbone(head, name):
    made = detector(head, name, BACKBONES[name]).train()
    shown = batch(1, (64, 64), (48, 64), (64, 48))
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-4)
    cfg, values = config(head=head), []
    for step in range(20):
        torch.manual_seed(step % 2)
        parts = loss(cfg, made(shown), shown, meta())
        total = sum(float(value) for name, value in parts.items() if name != "loss")
        assert float(parts["loss"].detach()) == pytest.approx(total, rel=1e-5)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        values.append(float(parts["loss"].detach()))
    assert min(values[-2:]) < 0.97 * values[0], values
    found = made.eval()(shown)["detections"]
    assert [set(one) for one in found] == [{"boxes", "scores", "labels"}] * 3
    for one, (height, width) in zip(found, shown["size"].tolist(), strict=True):
        assert (one["boxes"][:, 2] <= width).all()
        assert (one["boxes"][:, 3] <= height).all()
        assert (one["boxes"] >= 0).all()
        assert set(one["labels"].tolist()) <= {0, 1}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("head", HEADS)
def test_answers_and_losses_are_those_of_torchvisions_own_transform(head):
    """The same net behind torchvision's preprocessing, which normalizes, resizes (to the same size) and pads itself."""
    made = detector(head, score_threshold=0.0)
    shown = batch(2, (64, 96), (64, 64))
    backbone = made.net.backbone.backbone
    targets = [
        {"boxes": boxes, "labels": labels + made.first_label}
        for boxes, labels in zip(shown["boxes"], shown["labels"], strict=True)
    ]
    scaled = [image / 255 for image in shown["image"]]
    theirs = GeneralizedRCNNTransform(64, 96, list(backbone.spec.mean), list(backbone.spec.std), 32)
    theirs.torch_choice = lambda sides: sides[0]  # draws, and the sampler of anchors would go on from there
    ours, normalize = made.net.transform, backbone.normalize
    for training in (True, False):
        made.train(training)
        torch.manual_seed(0)
        own = made(shown)
        made.net.transform, backbone.normalize = theirs, lambda image: image
        torch.manual_seed(0)
        other = made.net(scaled, targets if training else None)
        made.net.transform, backbone.normalize = ours, normalize
        if training:
            assert own["losses"].keys() == other.keys()
            for key, value in other.items():
                torch.testing.assert_close(own["losses"][key], value, rtol=1e-9, atol=1e-9)
        else:
            for mine, one in zip(own["detections"], other, strict=True):
                kept = ((one["boxes"][:, 2:] - one["boxes"][:, :2]) >= 0.01).all(1)
                torch.testing.assert_close(mine["boxes"], one["boxes"][kept] * 2, rtol=1e-9, atol=1e-6)
                torch.testing.assert_close(mine["labels"], one["labels"][kept] - made.first_label)


@pytest.mark.usefixtures("double")
def test_pooled_regions_are_those_of_torchvision():
    """Values and gradients, with regions that reach over every border, have no size, or lie outside."""
    torch.manual_seed(0)
    features = torch.randn(2, 5, 13, 17)
    corners = torch.rand(60, 2) * torch.tensor([90.0, 70.0]) - 15
    rois = torch.cat([torch.arange(60)[:, None] % 2, corners, corners + torch.rand(60, 2) * 60], 1)
    rois[0, 1:], rois[1, 1:] = torch.tensor([5.0, 5, 5, 5]), torch.tensor([500.0, 400, 600, 700])
    own, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    mine, other = roi_align(own, rois, 7, 0.25), torchvision.ops.roi_align(theirs, rois, 7, 0.25, 2)
    torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn_like(other)
    mine.backward(cotangent)
    other.backward(cotangent)
    torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-9, atol=1e-9)
    maps = {str(i): torch.randn(2, 4, 64 // 2**i, 96 // 2**i) for i in range(4)}
    sides = torch.tensor([[3.0, 4, 20, 30], [0, 0, 250, 380], [100, 60, 180, 120]])
    shapes = [(256, 384)] * 2
    pooled = RegionPool([4, 8, 16, 32], 7)(maps, [sides, sides[:1]], shapes)
    expected = torchvision.ops.MultiScaleRoIAlign(list("0123"), 7, 2)(maps, [sides, sides[:1]], shapes)
    torch.testing.assert_close(pooled, expected, rtol=1e-9, atol=1e-9)
    flat = RegionPool([4, 8, 16, 32], 7)(maps, [sides, sides[:1]], [(150, 384)] * 2)  # padded by more than its half
    torch.testing.assert_close(flat, expected, rtol=1e-9, atol=1e-9)
    assert RegionPool([4], 7)(maps, [torch.zeros(0, 4)] * 2, shapes).shape == (0, 4, 7, 7)


@pytest.mark.parametrize("head", HEADS)
def test_images_without_boxes_are_learned_from(head):
    made = detector(head).train()
    shown = batch(3, (64, 64), (64, 64))
    shown["boxes"], shown["labels"] = [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2
    parts = loss(config(head=head), made(shown), shown, meta())
    assert torch.isfinite(parts["loss"])
    parts["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("head", HEADS)
def test_boxes_are_decoded_in_fp32_under_autocast(head):
    made = detector(head, score_threshold=0.0).eval()
    shown = batch(4, (64, 96), (64, 64))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = made(shown)["detections"]
    assert all(one["boxes"].dtype == one["scores"].dtype == torch.float32 for one in found)
    fractions = torch.cat([one["boxes"].flatten() for one in found]).remainder(1)
    assert len(fractions.unique()) > 40  # bf16 has no fractions from 256 on, and eighths at 16


@pytest.mark.parametrize("finest", [4, 8])
@pytest.mark.parametrize("name", BACKBONES)
def test_a_pyramid_has_five_levels_of_rising_stride(name, finest):
    height, width = BACKBONES[name]
    pyramid = Pyramid(visiontl.load_backbone(name, "none", (height, width)), 32, finest).eval()
    assert pyramid.strides == [finest * 2**i for i in range(5)]
    with torch.no_grad():
        maps = pyramid(torch.rand(2, 3, height, width)).values()
    for stride, one in zip(pyramid.strides, maps, strict=True):
        assert one.shape[:2] == (2, 32)
        across = max(abs(one.shape[2] - height / stride), abs(one.shape[3] - width / stride))
        assert across <= 1, (stride, one.shape)  # some families round down on the way


@pytest.mark.parametrize("head", HEADS)
def test_thresholds_of_the_config_hold_for_what_is_found(head):
    shown = batch(5, (64, 96), (64, 64))

    def found(**values) -> list[dict]:
        made = detector(head, **values).eval()
        for name, parameter in made.net.named_parameters():
            if "cls_logits.weight" in name or "cls_score.weight" in name:
                parameter.data *= 30  # so that random weights give scores of all sizes
        with torch.no_grad():
            return made(shown)["detections"]

    everything = found(score_threshold=0.0, detections=300, nms=1.0)
    boxes = torch.cat([one["boxes"] for one in everything])
    assert (boxes[:, 2:] > boxes[:, :2]).all()  # whatever was clipped
    scores = torch.cat([one["scores"] for one in everything])
    middle = float(scores.median())
    assert float(scores.min()) < middle < float(scores.max())
    above = torch.cat([one["scores"] for one in found(score_threshold=middle, detections=300, nms=1.0)])
    assert len(above)
    assert float(above.min()) >= middle
    few = [len(one["scores"]) for one in found(score_threshold=0.0, detections=7)]
    assert 0 < min(few) <= max(few) <= 7
    for one in found(score_threshold=0.0, detections=300, nms=0.2):
        for label in range(2):
            boxes = one["boxes"][one["labels"] == label]
            overlaps = torchvision.ops.box_iou(boxes, boxes).fill_diagonal_(0)
            assert not len(boxes) or float(overlaps.max()) <= 0.201


def test_boxes_go_back_to_the_photo_by_hand():
    """Shown at 50 x 100 (h, w), the photo is 200 x 300; the last box was clipped to nothing."""
    found = {
        "boxes": torch.tensor([[10.0, 10, 20, 30], [90, 40, 110, 60], [100, 0, 100, 20]]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.tensor([1, 2, 1]),
    }
    back = in_photo(found, (50, 100), [200, 300], 1)
    assert back["boxes"].tolist() == [[30, 40, 60, 120], [270, 160, 300, 200]]
    assert back["labels"].tolist() == [0, 1]
    assert back["scores"].tolist() == pytest.approx([0.9, 0.8])


def test_anchors_of_torchvisions_recipes():
    """8 strides for two stages, 4 strides in three octave steps for RetinaNet, the stride for FCOS."""
    sizes = {head: detector(head).net for head in HEADS}
    assert sizes["faster_rcnn"].rpn.anchor_generator.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert [round(level[1]) for level in sizes["retinanet"].anchor_generator.sizes] == [40, 81, 161, 323, 645]
    assert sizes["fcos"].anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))


def test_anchors_are_fitted_to_the_data():
    """Two kinds of boxes, thin and square: shapes near both are found, sorted by area, and predicted from."""
    rng = np.random.default_rng(0)
    thin = np.stack([rng.normal(8, 0.5, 400), rng.normal(40, 2, 400)], 1)
    square = np.stack([rng.normal(60, 3, 400), rng.normal(60, 3, 400)], 1)
    shapes = np.concatenate([thin, square])
    centers = k_means(shapes, 2)
    assert sorted(centers.round(-1).tolist()) == [[10, 40], [60, 60]]
    by_hand = min(8, 6) * min(40, 10) / (8 * 40 + 60 - 6 * 10)
    assert overlap(np.array([[8, 40]]), np.array([[6, 10]]))[0, 0] == pytest.approx(by_hand)
    boxes = np.concatenate([np.zeros((800, 2)), shapes], 1)
    image = Annotated("x.png", (64, 96), boxes, np.zeros(800), np.zeros(800, bool), shapes.prod(1))
    cfg = config(anchors={"kind": "fitted", "per_level": 2})
    levels, lines = fitted(cfg, visiontl.ImageSpec(), meta()["size"], [image])
    assert [len(level) for level in levels] == [2] * 5
    areas = [w * h for level in levels for w, h in level]
    assert areas == sorted(areas)
    assert "mean IoU of a box with its nearest: 0.9" in lines[0]
    made = model(cfg, visiontl.load_backbone("timm/resnet10t", "none"), meta(anchors=levels))
    cells = made.net.rpn.anchor_generator.cell_anchors
    assert (cells[0][:, 2:] * 2).tolist() == pytest.approx(np.array(levels[0]))
    assert loss(cfg, made.train()(batch(0, (64, 64))), {}, {})["loss"].isfinite()


def test_what_cannot_work_is_refused_in_words():
    gray = visiontl.load_backbone("visiontl/tiny", "none")
    gray.in_channels = 1
    with pytest.raises(BackboneError, match="reads RGB photos"):
        model(config(), gray, meta())
    with pytest.raises(ValueError, match="fcos predicts from points and has no anchors"):
        config(head="fcos", anchors="fitted")
    with pytest.raises(ValueError, match="'lihgt' is no preset; presets are none, light"):
        config(augment="lihgt")
    with pytest.raises(ValueError, match="long 300 is below short 320"):
        config(size={"short": 320, "long": 300})


def test_batches_hold_images_of_one_orientation():
    sizes = {"train": np.array([(4, 3) if i % 3 else (3, 4) for i in range(40)]), "val": np.zeros((5, 2))}
    epochs = [grouped(sizes, "train", 0, epoch, 4) for epoch in range(3)]
    assert {len(found) for found in epochs} == {10}
    assert epochs[0] != epochs[1]
    assert epochs[0] == grouped(sizes, "train", 0, 0, 4)
    mixed = [one for one in epochs[0] if len({bool(id % 3) for id in one}) == 2]
    assert len(mixed) <= 1
    assert sorted(id for one in epochs[0] for id in one) == list(range(40))
    assert grouped(sizes, "val", 0, 0, 4) == [[0, 1, 2, 3], [4]]


class Fixed(torch.nn.Module):
    """Finds the same two boxes in every image; mirrored images have what lies mirrored."""

    def forward(self, shown):
        turned = bool(shown["image"][0][0, 0, 0] == 0)
        boxes = [[10.0, 5, 30, 25], [50, 5, 60, 25]]
        if turned:
            boxes = [[100 - x2, y1, 100 - x1, y2] for x1, y1, x2, y2 in boxes[:1]]
        scores = torch.tensor([0.9, 0.6][: len(boxes)]) + 0.05 * turned
        return {
            "detections": [
                {"boxes": torch.tensor(boxes), "scores": scores, "labels": torch.tensor([1, 0])[: len(boxes)]}
            ]
        }


def shown_once():
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    image[:, :, 0] = 255
    return {"image": [image], "size": torch.tensor([[50, 100]])}


def test_predict_names_counts_and_filters():
    cfg = config()
    (one,) = predict(cfg, Fixed(), [shown_once()], meta(), None)
    assert one["objects"][0] == {"label": "b", "score": pytest.approx(0.9), "box": [10, 5, 30, 25]}
    assert one["count"] == {"a": 1, "b": 1}
    options = PredictOptions(threshold=0.7)
    assert [o["label"] for o in next(predict(cfg, Fixed(), [shown_once()], meta(), options))["objects"]] == ["b"]
    options = PredictOptions(classes=["a"])
    assert [o["label"] for o in next(predict(cfg, Fixed(), [shown_once()], meta(), options))["objects"]] == ["a"]
    with pytest.raises(ConfigError, match="knows no 'bb'"):
        next(predict(cfg, Fixed(), [shown_once()], meta(), PredictOptions(classes=["bb"])))
    with pytest.raises(ConfigError, match="below task"):
        next(predict(cfg, Fixed(), [shown_once()], meta(), PredictOptions(threshold=0.01)))


def test_the_mirrored_view_is_turned_back_and_merged():
    (one,) = predict(config(), Fixed(), [shown_once()], meta(), PredictOptions(flip=True))
    assert [o["box"] for o in one["objects"]] == [[10, 5, 30, 25], [50, 5, 60, 25]]
    assert one["objects"][0]["score"] == pytest.approx(0.95)
    assert both_ways(config(), [], []) == []


def test_cocos_result_file_numbers_images_as_coco_does():
    prediction = {"size": [50, 100], "objects": [{"label": "b", "score": 0.5, "box": [1, 2, 4, 8]}]}
    made = files(config(), [("x/000000000139.jpg", prediction), ("x/285.jpg", prediction)], meta(categories=[7, 9]))
    results = json.loads(made["coco_results.json"])
    assert results[0] == {"image_id": 139, "category_id": 9, "bbox": [1, 2, 3, 6], "score": 0.5}
    assert [one["image_id"] for one in results] == [139, 285]
    made = files(config(), [("a.jpg", prediction), ("2.jpg", prediction)], meta())
    assert [one["image_id"] for one in json.loads(made["coco_results.json"])] == [1, 2]
    assert json.loads(made["coco_images.json"])["images"][1]["file_name"] == "2.jpg"


def test_two_processes_train_every_head(tmp_path):
    """One start: every head on four kinds of backbone; gradients agree and the loss falls on both ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(ROOT / "tests/detection/two_ranks.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=300, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("loss falls") == 12
