"""What an explanation is of: the similarity with another photo. And the mistakes, pair by pair, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from visiontl import ConfigError, Scalar
from visiontl.kit.images import open_image, to_rgb
from visiontl.kit.words import told
from visiontl_face import verification
from visiontl_face.config import ExplainOptions, FaceConfig
from visiontl_face.model import FaceNetwork
from visiontl_face.scores import pairs_of, similarities, stacked
from visiontl_face.views import sample


def explain(
    cfg: FaceConfig, model: nn.Module, batch: Mapping[str, Any], meta: Mapping[str, Any], options: ExplainOptions
) -> Scalar:
    """The cosine of the photo's embedding and the other's. The mirror image is left aside where that is differentiated,
    so that each place of the map is one of the photo."""
    assert isinstance(model, FaceNetwork)
    if options.other is None:
        raise ConfigError(
            "a face alone has no similarity to explain, and an embedding's length is always 1: name a second photo, "
            "as in `visiontl explain RUN a.jpg b.jpg`, or option other=FILE"
        )
    photo, name = _other(options.other)
    image = sample(cfg, model.backbone.spec, meta)(photo)["image"].to(batch["image"].device)
    with torch.no_grad():
        both = model({"image": torch.cat([batch["image"], image[None]])})["embedding"]  # (2, d)
    score = float(both[0] @ both[1])
    with _unmirrored(model):
        embedding: Tensor = model({"image": batch["image"]})["embedding"][0]  # (d,)
    return Scalar(embedding @ both[1], f"similarity with {name}, {score:.2f}", score)


def _other(given: Any) -> tuple[Image.Image, str]:
    if isinstance(given, Image.Image):
        return to_rgb(given), "the other photo"
    if not isinstance(given, str | Path):
        raise ConfigError(f"option other: a photo's file was expected; got {told(repr(given))}")
    return open_image(given), told(Path(given).name)


@contextmanager
def _unmirrored(model: FaceNetwork) -> Iterator[None]:
    flip, model.flip = model.flip, False
    try:
        yield
    finally:
        model.flip = flip


def mistakes(cfg: FaceConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Both members of each pair that the best threshold of all pairs judges wrongly, one after the other, from the pair
    that is farthest on the wrong side on."""
    judged = pairs_of(cfg, rows)
    if not judged.both_kinds:
        return []
    similarity = similarities(stacked(rows, "embedding"), judged)  # (P,)
    threshold = verification.best_threshold(similarity, judged.same)
    wrong = np.flatnonzero((similarity >= threshold) != judged.same)
    order = wrong[np.argsort(-np.abs(similarity[wrong] - threshold), kind="stable")]
    found = []
    for p in order.tolist():
        said = "one person, called two" if judged.same[p] else "two people, called one"
        members = int(judged.first[p]), int(judged.second[p])
        for member, other in (members, members[::-1]):
            found.append((member, f"{said} with {told(rows[other]['name'])} ({similarity[p]:.2f})"))
    return found
