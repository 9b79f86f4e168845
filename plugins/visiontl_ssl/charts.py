"""What the report shows of a split: whether photos are told apart, and what is near to what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Pictures, Table
from visiontl_ssl.config import SslConfig
from visiontl_ssl.scores import COLLAPSED, score

SHOWN = 6  # photos, each with its nearest other


def report(
    cfg: SslConfig,
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    image: Callable[[int], Image.Image],
) -> list[Any]:
    scores = score(cfg, rows, meta)
    verdict = "photos are told apart"
    if scores["spread"] < COLLAPSED:
        verdict = "collapsed: nearly one embedding for all photos; a larger batch, a smaller optim.lr"
    table = Table(
        "Are photos told apart?",
        ["measure", "value", "if collapsed"],
        [
            ["spread", f"{scores['spread']:.3f}", "0"],
            ["retrieved", f"{scores['retrieved']:.3f}", "0"],
            ["loss", f"{scores['loss']:.3f}", "-1, the least there is"],
        ],
        verdict,
    )
    first = np.stack([row["views"][0] for row in rows]).astype(np.float32)
    items: list[tuple[str, Any]] = []
    for id in range(min(SHOWN, len(rows))):
        similar = first @ first[id]
        similar[id] = -np.inf
        near = int(similar.argmax())
        items += [("photo", image(id)), (f"nearest, cosine {similar[near]:.2f}", image(near))]
    return [table, Pictures("Photos and their nearest", items)]
