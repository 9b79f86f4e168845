"""The network as one graph: a photo's pixels to its embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from visiontl import Export
from visiontl.kit.exporting import cropped
from visiontl_face.config import FaceConfig, PredictOptions
from visiontl_face.model import FaceNetwork
from visiontl_face.scores import BASELINES


class Embedding(nn.Module):
    """forward(image): {"embedding": (B, d) of length 1}. flip: as of the image and its mirror image together."""

    def __init__(self, model: FaceNetwork, flip: bool):
        super().__init__()
        self.model, self.flip = model, flip

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        found = self.model.views(image)["embedding"]
        if self.flip:
            found = found + self.model.views(image.flip(3))["embedding"]
        return {"embedding": nn.functional.normalize(found, dim=1)}


def export(cfg: FaceConfig, model: FaceNetwork, meta: Mapping[str, Any], options: PredictOptions) -> Export:
    spec = model.backbone.spec
    return Export(
        module=Embedding(model, model.flip if options.flip is None else options.flip),
        view=cropped(spec),
        answer={"kind": "vector", "output": "embedding", "key": "embedding"},
        size=spec.size,
        multiple=spec.pad_to if spec.sizing == "multiple" else 1,
        varies=spec.sizing != "fixed",
        outputs=outputs,
        notes=["two photos show one person where the product of their embeddings reaches a threshold of `val`"],
    )


def outputs(run: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The untrained baselines are no part of the graph; the embedding stands in their place."""
    found = run(batch["image"])["embedding"]
    return dict.fromkeys(("embedding", *BASELINES), found)
