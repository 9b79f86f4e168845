"""Answers for new photos, as values and as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from visiontl.kit.drawing import enlarged, put_lines
from visiontl_classification.config import ClassificationConfig, PredictOptions

LISTED = 100  # classes up to which every probability is given unasked
SMALLEST = 160  # pixels; a picture with a shorter side is enlarged before words are put on it


def predict(
    cfg: ClassificationConfig,
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    meta: Mapping[str, Any],
    options: PredictOptions | None = None,
) -> Iterator[dict[str, Any]]:
    """One dict per image.

    single: {"label", "probability", "top": [{"label", "probability"}, ...]}; multi: {"labels": those from
    the threshold on, "top"}; and "probabilities": {class: p} as options.probabilities says.
    """
    options = options or PredictOptions.model_validate({})
    names = meta["classes"]
    listed = options.probabilities if options.probabilities is not None else len(names) <= LISTED
    for batch in batches:
        probability = _probability(cfg, model, batch)  # (B, K)
        if options.flip:
            mirrored = {**batch, "image": batch["image"].flip(-1)}
            probability = (probability + _probability(cfg, model, mirrored)) / 2
        order = probability.argsort(dim=1, descending=True, stable=True)[:, : options.top_k]
        for values, best in zip(probability.tolist(), order.tolist(), strict=True):
            top = [{"label": names[i], "probability": values[i]} for i in best]
            answer: dict[str, Any] = {}
            if cfg.labels == "single":
                answer.update(top[0])
            else:
                answer["labels"] = [name for name, p in zip(names, values, strict=True) if p >= options.threshold]
            answer["top"] = top
            if listed:
                answer["probabilities"] = dict(zip(names, values, strict=True))
            yield answer


def mirrored(
    cfg: ClassificationConfig, model: nn.Module, batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """{"logits": (B, K)} of the mean probability of the images and their mirror images."""
    views = [batch["image"], batch["image"].flip(-1)]
    logits = [model({**batch, "image": view})["logits"].float() for view in views]
    return {"logits": averaged(torch.stack(logits), cfg.labels == "multi")}


def averaged(logits: Tensor, multi: bool) -> Tensor:
    """(views, B, K) -> (B, K): logits of the mean probability."""
    p = (logits.sigmoid() if multi else logits.softmax(-1)).mean(0).clamp(1e-12, 1 - 1e-7)
    return p.logit() if multi else p.log()


def _probability(cfg: ClassificationConfig, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    logits = model(batch)["logits"].float()
    return (logits.sigmoid() if cfg.labels == "multi" else logits.softmax(1)).cpu()


def draw(image: Image.Image, prediction: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """A copy of the picture with the answer in a dark box at its top; small pictures are enlarged first."""
    picture, _ = enlarged(image, SMALLEST)
    return put_lines(picture, _lines(prediction))


def _lines(prediction: Mapping[str, Any]) -> list[str]:
    if "labels" not in prediction:
        return [f"{prediction['label']}  {prediction['probability']:.1%}"]
    known = {entry["label"]: entry["probability"] for entry in prediction["top"]}
    known.update(prediction.get("probabilities", {}))
    named = [f"{label}  {known[label]:.1%}" if label in known else label for label in prediction["labels"]]
    if not named:
        return ["no label"]
    return named if len(named) <= 5 else [*named[:4], f"and {len(named) - 4} more"]
