"""The classifier as one graph: a photo's pixels to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import Export
from visiontl.kit.exporting import cropped
from visiontl_classification.config import ClassificationConfig, PredictOptions
from visiontl_classification.model import Classifier
from visiontl_classification.predictions import LISTED, averaged


class Logits(nn.Module):
    """forward(image): {"logits": (B, K)}. flip: the mean probability of the image and its mirror image, as logits."""

    def __init__(self, model: Classifier, multi: bool, flip: bool):
        super().__init__()
        self.model, self.multi, self.flip = model, multi, flip

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        logits = self.model({"image": image})["logits"]
        if self.flip:
            both = torch.stack([logits, self.model({"image": image.flip(-1)})["logits"]])
            logits = averaged(both, self.multi)
        return {"logits": logits}


def export(cfg: ClassificationConfig, model: Classifier, meta: Mapping[str, Any], options: PredictOptions) -> Export:
    spec = model.backbone.spec
    names = list(meta["classes"])
    listed = options.probabilities if options.probabilities is not None else len(names) <= LISTED
    answer = {
        "kind": "classes",
        "output": "logits",
        "activation": "sigmoid" if cfg.labels == "multi" else "softmax",
        "classes": names,
        "single": cfg.labels == "single",
        "top": options.top_k,
        "threshold": options.threshold,
        "listed": listed,
    }
    return Export(
        module=Logits(model, cfg.labels == "multi", options.flip),
        view=cropped(spec),
        answer=answer,
        size=spec.size,
        multiple=spec.pad_to if spec.sizing == "multiple" else 1,
        varies=spec.sizing != "fixed",
        outputs=lambda run, batch: {"logits": run(batch["image"])["logits"]},
    )
