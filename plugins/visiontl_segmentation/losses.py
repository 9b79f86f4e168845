"""Losses of a batch of masks: each a mean per image over its pixels that count, then over images.

So the loss of two halves of a batch is the loss of the whole, and accumulation and processes change nothing. An image
with nothing but ignored pixels has loss 0 and gives gradients of 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from visiontl_segmentation.config import LossConfig, SegmentationConfig
from visiontl_segmentation.masks import IGNORED

SMOOTH = 1e-6  # keeps a ratio of sums finite; sums are in pixels, so it is far below one pixel
HEAVIEST = 10.0  # times the median class, of balanced weights: a class of a hundred pixels would drown the others


def loss(
    cfg: SegmentationConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """outputs["logits"] (B, K, H, W), batch["mask"] (B, H, W) -> {"loss": weighted sum, and each part as it is}."""
    section = cfg.loss
    logits, mask = outputs["logits"].float(), batch["mask"]
    valid = mask != IGNORED  # (B, H, W)
    weights = class_weights(section, meta["counts"], logits)
    parts: dict[str, Tensor] = {}
    chosen = section.parts()
    wanted = chosen.keys()
    target = mask.long()
    if "cross_entropy" in wanted:
        parts["cross_entropy"] = cross_entropy(logits, target, valid, weights, section.label_smoothing)
    if "focal" in wanted:
        parts["focal"] = focal(logits, target, valid, weights, section.focal_gamma)
    overlaps = {
        "dice": (0.5, 0.5),
        "jaccard": (1.0, 1.0),
        "tversky": (section.tversky_alpha, section.tversky_beta),
    }
    if wanted & overlaps.keys():
        counts = soft_counts(logits, target, valid)
        for name in overlaps.keys() & wanted:
            parts[name] = overlap_loss(*counts, *overlaps[name])
    if "lovasz" in wanted:
        parts["lovasz"] = lovasz(logits, target, valid)
    total = sum((parts[name] * weight for name, weight in chosen.items()), start=logits.new_zeros(()))
    said = {name: parts[name].detach() for name in chosen} if len(chosen) > 1 else {}
    return {"loss": total, **said}


def class_weights(section: LossConfig, counts: Sequence[int], like: Tensor) -> Tensor | None:
    """(K,) or None. balanced: median share / own share, at most 10 (Eigen and Fergus 2015, section 6.3.1, whose share
    is of the images that hold the class; here of all); a class without a pixel weighs as much as the heaviest."""
    if section.class_weights is None:
        return None
    if isinstance(section.class_weights, list):
        return like.new_tensor(section.class_weights)
    pixels = torch.tensor([float(one) for one in counts], device=like.device)
    median = pixels[pixels > 0].median()
    return (median / pixels.clamp(min=1)).clamp(max=HEAVIEST)


def per_image(values: Tensor, weights: Tensor) -> Tensor:
    """values, weights: (B, H, W) -> the weighted mean of each image, 0 where nothing has weight; their mean, ()."""
    amount = weights.sum((1, 2))  # (B,)
    return ((values * weights).sum((1, 2)) / torch.where(amount > 0, amount, 1)).mean()


def cross_entropy(logits: Tensor, target: Tensor, valid: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """As torch's cross_entropy of each image alone: with class weights the mean is weighted by them."""
    values = functional.cross_entropy(
        logits, target, weights, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none"
    )  # (B, H, W), already times the pixel's weight
    amount = weight_of(target, valid, weights).sum((1, 2))  # (B,)
    return (values.sum((1, 2)) / torch.where(amount > 0, amount, 1)).mean()


def weight_of(target: Tensor, valid: Tensor, weights: Tensor | None) -> Tensor:
    """(B, H, W): that of the pixel's class, 0 where it is ignored."""
    if weights is None:
        return valid.float()
    return weights[target.masked_fill(~valid, 0)] * valid


def focal(logits: Tensor, target: Tensor, valid: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p of the true class (Lin et al. 2017, equation 4, for more than two classes)."""
    nll = functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")  # (B, H, W)
    missed = -torch.expm1(-nll)  # 1 - p
    return per_image(missed**gamma * nll, weight_of(target, valid, weights))


def soft_counts(logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(true positives, false positives, false negatives) per image and class, (B, K), in pixels, of probabilities."""
    batch, classes = logits.shape[:2]
    shares = logits.softmax(1) * valid[:, None]  # (B, K, H, W)
    predicted = shares.sum((2, 3))
    index = target.masked_fill(~valid, 0)[:, None]  # (B, 1, H, W)
    own = shares.gather(1, index).flatten(1)  # (B, H * W): probability of the true class, 0 where ignored
    place = index.flatten(1)
    hit = logits.new_zeros(batch, classes).scatter_add(1, place, own)
    true = logits.new_zeros(batch, classes).scatter_add(1, place, valid.flatten(1).to(logits.dtype))
    return hit, predicted - hit, true - hit


def overlap_loss(hit: Tensor, false: Tensor, missed: Tensor, alpha: float, beta: float) -> Tensor:
    """1 - TP / (TP + alpha FP + beta FN), the mean over the classes that an image holds, then over images.

    alpha = beta = 1/2 is Dice (Milletari et al. 2016, but without squares), 1 the soft Jaccard index (Rahman and Wang
    2016), others Tversky's (Salehi et al. 2017, equation 2).
    """
    present = (hit + missed) > 0.5  # (B, K): at least one true pixel
    values = 1 - (hit + SMOOTH) / (hit + alpha * false + beta * missed + SMOOTH)
    number = present.sum(1)  # (B,)
    return ((values * present).sum(1) / number.clamp(min=1)).mean()


def lovasz(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Lovász-softmax over the classes that an image holds (Berman et al. 2018, section 3.2; per image)."""
    shares = logits.softmax(1)  # (B, K, H, W)
    images = [lovasz_of_image(share.flatten(1)[:, keep.flatten()], one.flatten()[keep.flatten()])
              for share, one, keep in zip(shares, target, valid, strict=True)]  # fmt: skip
    return torch.stack(images).mean()


def lovasz_of_image(shares: Tensor, target: Tensor) -> Tensor:
    """shares: (K, N) probabilities; target: (N,) -> ()."""
    if not len(target):
        return shares.sum()  # 0, with gradients of 0
    present = target.unique()
    foreground = (target == present[:, None]).to(shares.dtype)  # (C, N)
    errors, order = (foreground - shares[present]).abs().sort(1, descending=True)
    sorted_truth = foreground.gather(1, order)
    true = sorted_truth.sum(1, keepdim=True)
    intersection = true - sorted_truth.cumsum(1)
    union = true + (1 - sorted_truth).cumsum(1)
    jaccard = 1 - intersection / union  # (C, N): algorithm 1 of the paper
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], 1)
    return (errors * steps).sum(1).mean()


def teach(
    cfg: SegmentationConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The logits of each pixel (B, K, H, W), and which pixels have a label (B, H, W)."""
    return {"logits": outputs["logits"], "valid": batch["mask"] != IGNORED}
