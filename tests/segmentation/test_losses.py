"""Losses against other libraries on single images, and what must hold for any: means, ignored pixels, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from visiontl_segmentation.config import LOSSES, SegmentationConfig
from visiontl_segmentation.losses import class_weights, loss

CLASSES, IGNORED = 4, 255
META = {"counts": [100, 50, 10, 0]}


def config(**parts) -> SegmentationConfig:
    return SegmentationConfig.model_validate({"data": ".", "loss": parts})


def value(logits: Tensor, mask: Tensor, **parts) -> Tensor:
    return loss(config(**parts), {"logits": logits}, {"mask": mask}, META)["loss"]


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor]:
    """Three images: with some ignored pixels, without class 3, and with nothing but ignored pixels."""
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, CLASSES, 9, 11, generator=draw)
    mask = torch.randint(0, CLASSES, (3, 9, 11), generator=draw, dtype=torch.uint8)
    mask[0, :3] = IGNORED
    mask[1][mask[1] == 3] = 0
    mask[2] = IGNORED
    return logits, mask


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_of_each_image(drawn, weights, smoothing):
    logits, mask = drawn
    ours = value(logits, mask, cross_entropy=1, class_weights=weights, label_smoothing=smoothing)
    weight = None if weights is None else torch.tensor(weights)
    each = [
        functional.cross_entropy(a[None], b[None].long(), weight, ignore_index=IGNORED, label_smoothing=smoothing)
        for a, b in zip(logits[:2], mask[:2], strict=True)
    ]
    assert torch.allclose(ours, (each[0] + each[1]) / 3)


@pytest.mark.parametrize(
    ("part", "module", "keys"),
    [
        ("dice", "DiceLoss", {}),
        ("jaccard", "JaccardLoss", {}),
        ("tversky", "TverskyLoss", {"alpha": 0.3, "beta": 0.7}),
    ],
)
def test_overlaps_are_smps_of_each_image(drawn, part, module, keys):
    """Where an image holds all classes and ignores nothing, as the library's average over all classes has it."""
    from segmentation_models_pytorch import losses

    logits, mask = drawn[0], torch.randint(0, CLASSES, (3, 9, 11), dtype=torch.uint8)
    theirs = getattr(losses, module)("multiclass", **keys)
    each = torch.stack([theirs(a[None], b[None].long()) for a, b in zip(logits, mask, strict=True)])
    assert torch.allclose(value(logits, mask, **{part: 1}), each.mean(), atol=1e-5)


def test_dice_by_hand():
    """Two pixels of class 0, two of class 1, sure and right but for one: TP 1, FP 0, FN 1, and TP 2, FP 1, FN 0."""
    guess = torch.tensor([[0, 1], [1, 1]])
    logits = 60.0 * functional.one_hot(guess, 2).permute(2, 0, 1)[None].float()
    mask = torch.tensor([[[0, 0], [1, 1]]], dtype=torch.uint8)
    expected = 1 - (2 / 3 + 4 / 5) / 2
    assert float(value(logits, mask, dice=1)) == pytest.approx(expected, abs=1e-5)
    assert float(value(logits, mask, jaccard=1)) == pytest.approx(1 - (1 / 2 + 2 / 3) / 2, abs=1e-5)
    mask[0, 0, 1] = IGNORED  # the mistake does not count
    assert float(value(logits, mask, dice=1)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_is_smps(drawn, gamma):
    from segmentation_models_pytorch.losses import FocalLoss

    logits, mask = drawn
    own = value(logits[:1], mask[:1], focal=1, focal_gamma=gamma)
    if gamma == 0:
        assert torch.allclose(own, value(logits[:1], mask[:1], cross_entropy=1), atol=1e-6)
    probability = logits[0].softmax(0)
    keep = mask[0] != IGNORED
    p = probability.gather(0, mask[0].long().clamp(max=3)[None])[0][keep]
    assert torch.allclose(own, (-((1 - p) ** gamma) * p.log()).mean(), atol=1e-5)
    assert FocalLoss  # theirs sums one-against-all sigmoids, another loss of the same name


def test_lovasz_is_smps(drawn):
    from segmentation_models_pytorch.losses import LovaszLoss

    logits, mask = drawn
    theirs = LovaszLoss("multiclass", per_image=True, ignore_index=IGNORED)
    assert torch.allclose(value(logits[:2], mask[:2], lovasz=1), theirs(logits[:2], mask[:2].long()), atol=1e-5)


@pytest.mark.parametrize("part", LOSSES)
def test_a_loss_is_a_mean_over_images(drawn, part):
    logits, mask = drawn
    whole = value(logits, mask, **{part: 1})
    parts = value(logits[:1], mask[:1], **{part: 1}) + 2 * value(logits[1:], mask[1:], **{part: 1})
    assert torch.allclose(whole, parts / 3, atol=1e-6)


@pytest.mark.parametrize("part", LOSSES)
def test_ignored_pixels_say_nothing_and_give_no_gradient(drawn, part):
    logits, mask = drawn
    leaf = logits.clone().requires_grad_()
    value(leaf, mask, **{part: 1}).backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    ignored = (mask == IGNORED)[:, None].expand_as(leaf)
    assert not leaf.grad[ignored].any()
    assert leaf.grad[~ignored].any()
    other = torch.where(ignored, torch.randn_like(logits), logits)
    assert torch.allclose(value(other, mask, **{part: 1}), value(logits, mask, **{part: 1}), atol=1e-6)


@pytest.mark.parametrize("part", LOSSES)
def test_an_image_of_nothing_but_ignored_pixels_costs_nothing(drawn, part):
    logits, mask = drawn
    leaf = logits[2:].clone().requires_grad_()
    alone = value(leaf, mask[2:], **{part: 1})
    alone.backward()
    assert float(alone) == 0
    assert leaf.grad is not None
    assert not leaf.grad.any()


@pytest.mark.parametrize("part", LOSSES)
def test_a_right_and_sure_answer_costs_next_to_nothing(part):
    mask = torch.randint(0, CLASSES, (2, 8, 8), dtype=torch.uint8)
    logits = 50.0 * functional.one_hot(mask.long(), CLASSES).permute(0, 3, 1, 2).float()
    assert float(value(logits, mask, **{part: 1})) == pytest.approx(0, abs=1e-4)
    assert float(value(-logits, mask, **{part: 1})) > 0.3


def test_sums_are_weighted_and_told_apart(drawn):
    logits, mask = drawn
    found = loss(config(cross_entropy=1, dice=0.5), {"logits": logits}, {"mask": mask}, META)
    assert torch.allclose(found["loss"], found["cross_entropy"] + 0.5 * found["dice"])


def test_balanced_weights_by_hand():
    weights = class_weights(config(cross_entropy=1, class_weights="balanced").loss, META["counts"], torch.zeros(1))
    assert weights is not None
    assert weights.tolist() == [0.5, 1.0, 5.0, 10.0]  # the median of 100, 50, 10 is 50; at most 10
    assert math.isfinite(float(weights.sum()))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "no part has a weight above 0"),
        ({"dice": 1, "class_weights": "balanced"}, "class_weights count in"),
        ({"cross_entropy": 1, "class_weights": [0.0, 0.0]}, "one must be above 0"),
        ({"tversky": 1, "tversky_alpha": 0, "tversky_beta": 0}, "both 0"),
        ({"cross_entropy": -1}, "greater than or equal to 0"),
    ],
)
def test_losses_that_make_no_sense_are_refused(parts, words):
    with pytest.raises(ValueError, match=words):
        config(**parts)
