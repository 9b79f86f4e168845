"""Embeddings of photos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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
    flip = model.flip
    for batch in batches:
        model.flip = flip if options.flip is None else options.flip
        try:
            found = model(batch)["embedding"].float().cpu().numpy()  # (B, d)
        finally:
            model.flip = flip
        for number, embedding in zip(batch["id"].tolist(), found, strict=True):
            if not abs(float((embedding**2).sum()) - 1) < 1e-2:
                raise DataError(f"photo {number + 1} gives an embedding that is not finite; are the weights whole?")
            yield {"embedding": embedding}
