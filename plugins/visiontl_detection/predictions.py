"""Answers for new photos: boxes in their own pixels, and COCO's result file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from visiontl import ConfigError
from visiontl.kit.words import did_you_mean
from visiontl_detection.config import DetectionConfig, PredictOptions


def predict(
    cfg: DetectionConfig,
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    meta: Mapping[str, Any],
    options: PredictOptions | None = None,
) -> Iterator[dict[str, Any]]:
    """One dict per image: {"count": {class: number}, "objects": [{"label", "score", "box": [x1, y1, x2, y2]}], "size":
    [H, W]}, by falling score, in the photo's pixels. Raises ConfigError for a class that the model does not know."""
    options = options or PredictOptions.model_validate({})
    names = list(meta["classes"])
    wanted = range(len(names)) if options.classes is None else [known(name, names) for name in options.classes]
    most = min(options.most or cfg.detections, cfg.detections)
    if options.threshold < cfg.score_threshold:
        raise ConfigError(
            f"option threshold: {options.threshold:g} is below task.score_threshold {cfg.score_threshold:g}, under "
            "which the model keeps nothing; give at least that"
        )
    chosen = torch.tensor(list(wanted))
    for batch in batches:
        found = model(batch)["detections"]
        if options.flip:
            found = both_ways(cfg, found, mirrored(model, batch))
        for one, size in zip(found, batch["size"].tolist(), strict=True):
            keep = (one["scores"] >= options.threshold) & torch.isin(one["labels"], chosen.to(one["labels"].device))
            boxes, scores, labels = (one[key][keep][:most].tolist() for key in ("boxes", "scores", "labels"))
            objects = [
                {"label": names[label], "score": score, "box": [round(side, 2) for side in box]}
                for box, score, label in zip(boxes, scores, labels, strict=True)
            ]
            counted = [names[label] for label in labels]
            yield {
                "count": {name: counted.count(name) for name in names if name in counted},
                "objects": objects,
                "size": size,
            }


def known(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise ConfigError(f"option classes: the model knows no {name!r}{did_you_mean(name, names)}")
    return names.index(name)


def mirrored(model: nn.Module, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """What the model finds in the mirrored images, turned back."""
    found = model({**batch, "image": [image.flip(-1) for image in batch["image"]]})["detections"]
    back = []
    for one, (_, width) in zip(found, batch["size"].tolist(), strict=True):
        x1, y1, x2, y2 = one["boxes"].unbind(1)
        back.append({**one, "boxes": torch.stack([width - x2, y1, width - x1, y2], dim=1)})
    return back


def with_mirror(
    cfg: DetectionConfig, model: nn.Module, batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """What the model finds in the images and in their mirror images, as its outputs in evaluation."""
    outputs = model(batch)
    return {**outputs, "detections": both_ways(cfg, outputs["detections"], mirrored(model, batch))}


def both_ways(
    cfg: DetectionConfig, first: Sequence[Mapping[str, Tensor]], second: Sequence[Mapping[str, Tensor]]
) -> list[dict[str, Tensor]]:
    """The detections of two views of the same images; of boxes of a class that overlap the best stays."""
    merged = []
    for one, other in zip(first, second, strict=True):
        both = {key: torch.cat([one[key], other[key]]) for key in ("boxes", "scores", "labels")}
        kept = batched_nms(both["boxes"].float(), both["scores"], both["labels"], cfg.nms)[: cfg.detections]
        merged.append({key: value[kept] for key, value in both.items()})
    return merged


def files(
    cfg: DetectionConfig, records: Sequence[tuple[str, Mapping[str, Any]]], meta: Mapping[str, Any]
) -> dict[str, str]:
    """COCO's result file, and the images it speaks of. image_id is the file's number where all names are different
    numbers, as COCO's are, else the place in the order of prediction, from 1 on."""
    stems = [Path(file).stem for file, _ in records]
    numbers = [int(stem) if stem.isascii() and stem.isdecimal() else None for stem in stems]
    numbered = None not in numbers and len(set(numbers)) == len(numbers)
    ids = numbers if numbered else list(range(1, len(records) + 1))
    categories = meta.get("categories") or list(range(1, len(meta["classes"]) + 1))
    category = dict(zip(meta["classes"], categories, strict=True))
    results, images = [], []
    for id, (file, prediction) in zip(ids, records, strict=True):
        height, width = prediction["size"]
        images.append({"id": id, "file_name": file, "height": height, "width": width})
        for one in prediction["objects"]:
            x1, y1, x2, y2 = one["box"]
            box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            results.append(
                {"image_id": id, "category_id": category[one["label"]], "bbox": box, "score": round(one["score"], 6)}
            )
    named = [{"id": id, "name": name} for name, id in category.items()]
    return {
        "coco_results.json": json.dumps(results),
        "coco_images.json": json.dumps({"images": images, "categories": named}, ensure_ascii=False),
    }
