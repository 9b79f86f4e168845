"""What an explanation is of: the score of a box. And the mistakes, the most confident first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visiontl import DataError, Scalar
from visiontl.kit.classes import place_of
from visiontl.kit.words import count
from visiontl_detection import errors
from visiontl_detection.config import DetectionConfig, ExplainOptions
from visiontl_detection.model import Detector
from visiontl_detection.scores import rows

EDGE = 1e-6  # of a score, from 0 and 1, where its log-odds have no end


def explain(
    cfg: DetectionConfig,
    model: nn.Module,
    batch: Mapping[str, Any],
    meta: Mapping[str, Any],
    options: ExplainOptions,
) -> Scalar:
    """The log-odds of a detection's score: of the one that is asked for, or of the surest; of a photo with its truth
    of the surest wrong one, where there is one."""
    assert isinstance(model, Detector)
    names = list(meta["classes"])
    outputs = model(batch)
    found = outputs["detections"][0]
    order = torch.argsort(found["scores"], descending=True, stable=True).tolist()
    if options.label is not None:
        wanted = place_of(options.label, names, "option label")
        order = [i for i in order if int(found["labels"][i]) == wanted]
    if len(order) < options.box:
        kind = "" if options.label is None else f" of {names[place_of(options.label, names, 'option label')]}"
        there = f"{count(len(order), 'box')}{kind}" if order else f"no box{kind}"
        raise DataError(f"there is {there} with a score of {cfg.score_threshold:g} or more, so no box {options.box}")
    number = options.box
    if "truth" in batch and options.box == 1 and options.label is None:
        number = _surest_error(cfg, rows(cfg, outputs, batch, meta)[0], order) or number
    place = order[number - 1]
    score, label = found["scores"][place], names[int(found["labels"][place])]
    x1, y1, x2, y2 = found["boxes"][place].tolist()
    said = float(score.detach())
    words = f"box {number}: {label} {said:.2f}"
    return Scalar(log_odds(score), words, said, shown(model, batch), part=True, box=(x1, y1, x2, y2))


def log_odds(score: Tensor) -> Tensor:
    """Grad-CAM's score before the softmax; the slope of the softmax itself ends where a box is sure."""
    return score.clamp(EDGE, 1 - EDGE).logit()


def shown(model: Detector, batch: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The canvas that the photo lies on, at the upper left, in pixels of the photo."""
    image: Tensor = batch["image"][0]  # (3, h, w)
    net: Any = model.net
    (canvas, _), (height, width) = net.transform([image]), batch["size"][0].tolist()
    down, across = canvas.tensors.shape[2] / image.shape[1], canvas.tensors.shape[3] / image.shape[2]
    return 0.0, 0.0, width * across, height * down


def _surest_error(cfg: DetectionConfig, row: Mapping[str, Any], order: Sequence[int]) -> int | None:
    """The number of the surest detection that is wrong, None where all are right. order: places by falling score."""
    wrong = np.flatnonzero(errors.match([row], cfg.detections).outcome < len(errors.KINDS))
    return 1 + order.index(int(errors.counted(row, cfg.detections)[wrong[0]])) if len(wrong) else None


def mistakes(cfg: DetectionConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Photos with a wrong detection from the operating point on, the surest first; then those with missed objects
    alone, the most first."""
    names, threshold = meta["classes"], cfg.operating_point
    matches = errors.match(rows, cfg.detections)
    wrong = (matches.score >= threshold) & (matches.outcome < len(errors.KINDS))  # (D,)
    lost = errors.missed(matches, threshold)  # (T,)
    surest: dict[int, int] = {}
    for place in np.flatnonzero(wrong).tolist():  # by falling score in each image
        surest.setdefault(int(matches.image[place]), place)
    missed = np.bincount(matches.true_image[lost], minlength=len(rows))
    found = []
    for i in sorted(surest, key=lambda i: (-float(matches.score[surest[i]]), i)):
        place = surest[i]
        said = f"{names[int(matches.label[place])]} {float(matches.score[place]):.2f}"
        more = f"; {missed[i]} missed" if missed[i] else ""
        found.append((i, f"{errors.KINDS[int(matches.outcome[place])]} error: {said}{more}"))
    for i in np.argsort(-missed, kind="stable").tolist():
        if missed[i] and i not in surest:
            of = [names[int(k)] for k in matches.true_label[lost & (matches.true_image == i)]]
            found.append((i, f"{missed[i]} missed: {', '.join(dict.fromkeys(of))}"))
    return found
