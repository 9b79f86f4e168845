"""Embeddings of photos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from visiontl import DataError
from visiontl_face.config import FaceConfig, PredictOptions
from visiontl_face.model import FaceNetwork


def predict(
    cfg: FaceConfig,
    model: FaceNetwork,
    batches: Iterable[Mapping[str, Any]],
    meta: Mapping[str, Any],
    options: PredictOptions,
) -> Iterator[dict[str, Any]]:
    """{"embedding": (d,) float32 of length 1} per photo. Raises DataError for an embedding that is not finite."""
    for batch in batches:
        found = answered(model, batch, options.flip)["embedding"].float().cpu().numpy()  # (B, d)
        for number, embedding in zip(batch["id"].tolist(), found, strict=True):
            if not abs(float((embedding**2).sum()) - 1) < 1e-2:
                raise DataError(f"photo {number + 1} gives an embedding that is not finite; are the weights whole?")
            yield {"embedding": embedding}


def mirrored(
    cfg: FaceConfig, model: FaceNetwork, batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Embeddings of the images and their mirror images together, whatever task.flip says."""
    return answered(model, batch, True)


def answered(model: FaceNetwork, batch: Mapping[str, Any], flip: bool | None) -> dict[str, Tensor]:
    """What the model gives with and without the mirror image; None: as it was evaluated."""
    before = model.flip
    model.flip = before if flip is None else flip
    try:
        return model(batch)
    finally:
        model.flip = before
