"""What an explanation is of: a class over the region that the model gives it. And the mistakes, the worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from visiontl import DataError, Scalar
from visiontl.kit.classes import place_of
from visiontl_segmentation.config import ExplainOptions, SegmentationConfig
from visiontl_segmentation.masks import IGNORED
from visiontl_segmentation.model import Segmenter
from visiontl_segmentation.scores import iou, mean, scored_classes, summed
from visiontl_segmentation.views import Frame, frame_of, resized_mask, whole

LARGE = 1_000_000  # pixels; a larger photo is shown reduced, as gradients take memory


def explain(
    cfg: SegmentationConfig,
    model: nn.Module,
    batch: Mapping[str, Any],
    meta: Mapping[str, Any],
    options: ExplainOptions,
) -> Scalar:
    """The mean logit of a class over the region where it is the model's answer (Vinogradova et al. 2020, "Towards
    interpretable semantic segmentation via gradient-weighted class activation mapping", has the sum).

    Of a photo with its truth, and no class asked for: the class that is wrongly given to the most of it.
    """
    assert isinstance(model, Segmenter)
    names = list(meta["classes"])
    image, (height, width) = _image(cfg, model, batch)
    small, extent = model.small(image[None].to(next(model.parameters()).device))
    rows = max(1, round(small.shape[2] * height / extent[0]))
    columns = max(1, round(small.shape[3] * width / extent[1]))
    logits = small[0, :, :rows, :columns].float()  # (K, h, w) of the photo, without padding
    answer = logits.detach().argmax(0)  # (h, w)
    if options.label is not None:
        place = place_of(options.label, names, "option label")
    else:
        place = _wrong(batch, answer) if "truth" in batch else None
        place = _largest(answer, meta, len(names)) if place is None else place
    region = answer == place
    share = float(region.float().mean())
    if not share:
        there = [names[k] for k in torch.unique(answer).tolist()]
        raise DataError(f"there is no region {names[place]} in the answer; there are {', '.join(there)}")
    probability = float(logits.detach().softmax(0)[place][region].mean())
    photo = batch["size"][0].tolist()
    shown = (0.0, 0.0, photo[1] * extent[1] / width, photo[0] * extent[0] / height)
    words = f"region {names[place]}, {share:.0%} of the photo, {probability:.2f}"
    return Scalar(logits[place][region].mean(), words, probability, shown, part=True)


def _image(cfg: SegmentationConfig, model: Segmenter, batch: Mapping[str, Any]) -> tuple[Tensor, tuple[int, int]]:
    """The photo as evaluation shows it, (3, H, W) uint8 with padding, and its (h, w) without; one that would be gone
    through in windows, or is large, as a whole, reduced."""
    image: Tensor = batch["image"][0]
    shown = tuple(batch["shown"][0].tolist())
    spec = model.decode.backbone.spec
    fixed = spec.sizing == "fixed" and tuple(image.shape[1:]) != tuple(spec.size)
    if shown[0] * shown[1] <= LARGE and not fixed:
        return image, (shown[0], shown[1])
    photo = batch["photo"][0] if "photo" in batch else _picture(image[:, : shown[0], : shown[1]])
    frame = frame_of(cfg, spec)
    if fixed:
        frame = Frame(spec, "fit", frame.least)
    else:
        shorter = min(shown) * math.sqrt(LARGE / (shown[0] * shown[1]))
        frame = Frame(spec, max(1, int(shorter)), frame.least)
    made = whole(photo, frame)
    return made["image"], made["shown"]


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def _largest(answer: Tensor, meta: Mapping[str, Any], classes: int) -> int:
    """The class with the largest region; the background where nothing else is there."""
    counts = torch.bincount(answer.flatten(), minlength=classes)
    background = meta.get("background")
    if background is not None and int(counts.sum()) > int(counts[background]):
        counts[background] = 0
    return int(counts.argmax())


def _wrong(batch: Mapping[str, Any], answer: Tensor) -> int | None:
    """The class that is wrongly given to the most of the photo; None where all is right."""
    size = int(answer.shape[0]), int(answer.shape[1])
    truth = torch.from_numpy(resized_mask(batch["truth"][0].cpu().numpy(), size)).to(answer.device)
    wrong = answer[(truth != answer) & (truth != IGNORED)]
    return int(torch.bincount(wrong).argmax()) if len(wrong) else None


def mistakes(
    cfg: SegmentationConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> list[tuple[int, str]]:
    """Photos that are not wholly right, from the lowest mean IoU on."""
    names, counted = meta["classes"], scored_classes(cfg, meta)
    each = []
    for i, row in enumerate(rows):
        table = summed([row], "pairs", "pixels", len(names))  # (K, K)
        value = mean(iou(table)[counted])
        if not math.isnan(value) and value < 1:
            wrong = table - np.diag(np.diag(table))
            true, said = divmod(int(wrong.argmax()), len(names))
            much = f"{names[true]} called {names[said]} on {wrong[true, said] / table.sum():.0%}"
            each.append((value, i, f"mIoU {value:.2f}; {much}"))
    return [(i, words) for _, i, words in sorted(each, key=lambda one: one[:2])]
