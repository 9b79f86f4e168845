"""What one photo's result is worth, and the means over a split. There is no truth: everything is a distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visiontl_style.config import StyleConfig
from visiontl_style.formulas import PERIODS
from visiontl_style.losses import layer_weights
from visiontl_style.model import LEAST_DISTANCE

LEAST_ENERGY = 0.01  # squared levels of 255
PAIRS = ("tv", "ripple", "checkerboard")  # measured on the result and on the photo


def rows(
    cfg: StyleConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Per photo {"style", "plain_style": {layer: distance}, "content", "perceptual", "tv", "plain_tv", "ripple",
    "plain_ripple", "checkerboard", "plain_checkerboard", "energy" and "plain_energy": [of each period],
    "milliseconds", "number": of its style}, and "picture": (3, S, S) uint8 of the first ones."""
    columns = {key: outputs[key].cpu().tolist() for key in ("content", "perceptual")}
    columns |= {key: outputs[key].cpu().tolist() for name in (*PAIRS, "energy") for key in (name, f"plain_{name}")}
    columns["target"] = outputs.get("target", outputs["content"]).cpu().tolist()
    layers = {key: {n: v.cpu().tolist() for n, v in outputs[key].items()} for key in ("style", "plain_style")}
    milliseconds = (1000 * outputs["seconds"]).cpu().tolist()
    made = []
    for i, id in enumerate(batch["id"].tolist()):
        row = {key: values[i] for key, values in columns.items()}
        row |= {key: {name: values[i] for name, values in found.items()} for key, found in layers.items()}
        row |= {"milliseconds": milliseconds[i], "number": id % len(meta["styles"])}
        if id < cfg.preview:
            row["picture"] = (outputs["result"][i] * 255).round().byte().cpu().numpy()
        made.append(row)
    return made


def score(cfg: StyleConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Means over the photos of a split.

    style_distance: squared Gram distance / that of the plain photos, mean over the layers; 1: as far from the style as
        photos are, 0: reached. style_distance_root: the same of unsquared distances.
    content_distance: root of (mean squared difference of features / twice their spatial variance); 1: as far as a
        picture with the same statistics and nothing else in common.
    perceptual_distance: of all judged layers, 0 to 4. total_variation: / that of the plain photos. ripple: the same
        where the photos are flat. checkerboard: in levels of 255, checkerboard_of_photos beside it.
    energy_by_period: {pixels: energy of the brightness at this period / that of the photos}; energy_peak: the largest.
    objective: what training minimizes, on these photos.
    """
    style, plain = by_layer(rows, "style"), by_layer(rows, "plain_style")
    weights = layer_weights(cfg, list(rows[0]["style"]))
    means = {
        key: float(np.mean([row[key] for row in rows]))
        for key in ("content", "target", "perceptual", *PAIRS, *(f"plain_{name}" for name in PAIRS))
    }
    relative = ratio(style.mean(0), plain.mean(0))  # (layers,)
    minimized = np.mean(style / np.maximum(plain, LEAST_DISTANCE), axis=0) if cfg.equalize else style.mean(0)
    objective = (
        cfg.content_weight * means["target"]
        + cfg.style_weight * float(minimized @ list(weights.values()))
        + cfg.tv_weight * means["tv"]
        + cfg.ripple_weight * means["ripple"]
    )
    scores: dict[str, Any] = {
        "objective": objective,
        "style_distance": float(relative.mean()),
        "style_distance_root": float(ratio(np.sqrt(style).mean(0), np.sqrt(plain).mean(0)).mean()),
        "content_distance": (means["content"] / 2) ** 0.5,
        "perceptual_distance": means["perceptual"],
        "total_variation": float(ratio(np.array(means["tv"]), np.array(means["plain_tv"]))),
        "ripple": float(ratio(np.array(means["ripple"]), np.array(means["plain_ripple"]))),
        "checkerboard": means["checkerboard"],
        "checkerboard_of_photos": means["plain_checkerboard"],
        "energy_peak": float(relative_energy(rows).max()),
        "energy_by_period": dict(zip(map(str, PERIODS), relative_energy(rows).tolist(), strict=True)),
        "style_distance_by_layer": dict(zip(weights, relative.tolist(), strict=True)),
    }
    numbers = np.array([row["number"] for row in rows])
    if len(set(numbers.tolist())) > 1:
        scores["style_distance_by_style"] = {
            meta["styles"][n]["name"]: float(ratio(style[numbers == n].mean(0), plain[numbers == n].mean(0)).mean())
            for n in sorted(set(numbers.tolist()))
        }
    return scores


def trivial(
    cfg: StyleConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    """Every photo as it is: no distance to its own content, all of it to the style."""
    kept = dict.fromkeys(("content", "target", "perceptual"), 0.0)
    made = [
        {**row, **kept, "style": row["plain_style"], **{name: row[f"plain_{name}"] for name in (*PAIRS, "energy")}}
        for row in rows
    ]
    return "the photo unchanged", made


def relative_energy(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(periods,): energy of all results at each period / that of the photos; where a photo of one color has none, the
    least that bytes can show counts."""
    made, plain = (np.array([row[key] for row in rows]).mean(0) for key in ("energy", "plain_energy"))
    return made / np.maximum(plain, LEAST_ENERGY)


def by_layer(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """(N, layers)"""
    return np.array([list(row[key].values()) for row in rows])


def ratio(value: np.ndarray, of: np.ndarray) -> np.ndarray:
    """value / of; where the photos are the style themselves there is nothing to divide by."""
    return value / np.maximum(of, 1e-9)
