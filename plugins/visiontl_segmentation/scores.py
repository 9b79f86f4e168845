"""Counts of pixels per image, made on the device, and the scores of a split computed from them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visiontl_segmentation import compiled
from visiontl_segmentation.cells import points
from visiontl_segmentation.config import SegmentationConfig
from visiontl_segmentation.masks import IGNORED
from visiontl_segmentation.pixels import decided

SIDE = 192  # pixels, longer side of the small masks that ride in rows for the report's pictures

RUNS = 0.1  # of the pixels: where more of them begin a run, each is counted


def rows(
    cfg: SegmentationConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Per image: "pairs" and "pixels", (n,) int64: true class * K + predicted class, where it occurs, and on how many
    pixels of the photo's own size; "shown_pairs" and "shown_pixels", the same at the size the network saw, None where
    that is the same; "ignored", pixels left out; "guess" and "truth", small masks of the same size for pictures;
    "miou", mean IoU of this image alone, NaN where all of it is ignored."""
    classes, counted = len(meta["classes"]), scored_classes(cfg, meta)
    found = []
    for place, truth in enumerate(batch["truth"]):
        logits = outputs["logits"][place]
        size, shown = (tuple(batch[key][place].tolist()) for key in ("size", "shown"))
        extent = tuple(outputs["extent"][place].tolist())
        known = points(logits)
        guess = decided(logits, extent, shown, size, known)
        row: dict[str, Any] = dict(zip(("pairs", "pixels"), confusion(guess, truth, classes), strict=True))
        row["shown_pairs"] = row["shown_pixels"] = None
        if shown != size:
            small = decided(logits, extent, shown, shown, known)
            own = batch["mask"][place][: shown[0], : shown[1]]
            row["shown_pairs"], row["shown_pixels"] = confusion(small, own, classes)
        row["ignored"] = truth.numel() - int(row["pixels"].sum())
        row["guess"], row["truth"] = packed(guess), packed(truth)
        row["miou"] = mean(iou(summed([row], "pairs", "pixels", classes))[counted])
        found.append(row)
    return found


def confusion(guess: Tensor, truth: Tensor, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) uint8 each -> (true * K + guessed, pixels), both (n,), of the pairs that occur on pixels that count."""
    if truth.device.type == "cpu":
        counts = counts_of_pairs(guess.numpy(), truth.numpy(), classes)
    elif classes <= 15:  # K * K pairs and the ignored ones fit into 8 bits: no selection is needed
        codes = torch.where(truth == IGNORED, IGNORED, truth * classes + guess)
        counts = torch.bincount(codes.flatten(), minlength=256)[: classes**2].cpu().numpy()
    else:
        valid = truth != IGNORED
        counts = torch.bincount(truth[valid].int() * classes + guess[valid], minlength=classes**2).cpu().numpy()
    pairs = np.flatnonzero(counts)
    return pairs, counts[pairs]


def counts_of_pairs(guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(H, W) uint8 each -> (K * K,) int64; without numba by the ends of runs, which masks have few of."""
    fast = compiled.loops()
    if fast is not None:
        counts = np.zeros(classes**2, dtype=np.int64)
        fast.count(guess.ravel(), truth.ravel(), classes, IGNORED, counts)
        return counts
    kind = np.uint8 if classes <= 15 else np.uint16  # K * K pairs and the ignored ones fit
    codes = truth.astype(kind) * kind(classes) + guess
    codes[truth == IGNORED] = np.iinfo(kind).max
    codes = codes.ravel()
    ends = codes[1:] != codes[:-1]
    if np.count_nonzero(ends) > RUNS * len(codes):
        return np.bincount(codes, minlength=classes**2)[: classes**2]
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.flatnonzero(ends) + 1])
    found = np.bincount(codes[starts], np.diff(starts, append=len(codes)), classes**2)  # float64, exact to 2^53
    return found[: classes**2].astype(np.int64)


def packed(mask: Tensor) -> tuple[tuple[int, int], bytes]:
    """(H, W) uint8 -> ((h, w), compressed), at most SIDE pixels long, every n-th pixel."""
    step = -(-max(mask.shape) // SIDE)
    small = mask[step // 2 :: step, step // 2 :: step].contiguous().cpu().numpy()
    return small.shape, zlib.compress(small.tobytes(), 1)


def unpacked(small: tuple[tuple[int, int], bytes]) -> np.ndarray:
    """What `packed` made -> (h, w) uint8."""
    return np.frombuffer(zlib.decompress(small[1]), dtype=np.uint8).reshape(small[0])


def score(cfg: SegmentationConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a split, 0..1, from pixels that are not ignored, at the photos' own sizes.

    miou: mean IoU over classes, of all pixels of the split together; miou_per_image: of each image alone, then the
    mean; dice, accuracy_per_class (recall): means over classes; accuracy: right pixels / pixels; per_class: {class:
    IoU}; confusion: {true class: {guessed class: pixels}}; miou_as_shown: miou at the size that the network saw, where
    any photo was resized. A class that neither truth nor prediction holds is left out of a mean; one that is predicted
    and never true counts as 0. Under background_policy unscored the background is left out of all means.
    What has nothing to be measured on is left out; miou is always there, NaN where all pixels are ignored.
    """
    names = list(meta["classes"])
    counted = scored_classes(cfg, meta)
    table = summed(rows, "pairs", "pixels", len(names))  # (K, K)
    scores: dict[str, Any] = {"miou": mean(iou(table)[counted])}
    each = np.array([mean(iou(summed([row], "pairs", "pixels", len(names)))[counted]) for row in rows])
    total = int(table.sum())
    if total:
        true = table.sum(1)
        scores["miou_per_image"] = mean(each)
        scores["dice"] = mean(dice(table)[counted])
        scores["accuracy"] = float(np.trace(table) / total)
        scores["accuracy_per_class"] = mean(divided(np.diag(table), true)[counted])
    if any(row["shown_pairs"] is not None for row in rows):
        shown = sum(
            summed(
                [row],
                *(("pairs", "pixels") if row["shown_pairs"] is None else ("shown_pairs", "shown_pixels")),
                len(names),
            )
            for row in rows
        )
        scores["miou_as_shown"] = mean(iou(np.asarray(shown))[counted])
    of_class = iou(table)
    scores["per_class"] = {name: float(of_class[k]) for k, name in enumerate(names) if not np.isnan(of_class[k])}
    scores["confusion"] = {
        names[k]: {names[j]: int(table[k, j]) for j in np.flatnonzero(table[k]).tolist()}
        for k in np.flatnonzero(table.sum(1)).tolist()
    }
    scores["counts"] = {"images": len(rows), "pixels": total, "ignored": int(sum(row["ignored"] for row in rows))}
    return scores


def trivial(
    cfg: SegmentationConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    """The class with the most pixels, of those that count in means, on every pixel."""
    names, counted = meta["classes"], scored_classes(cfg, meta)
    pixels = summed(rows, "pairs", "pixels", len(names)).sum(1)  # (K,)
    answer = int(counted[np.argmax(pixels[counted])])
    made = []
    for row in rows:
        new = dict(row)
        for pairs, counts in (("pairs", "pixels"), ("shown_pairs", "shown_pixels")):
            if row[pairs] is not None:
                true, place = np.unique(row[pairs] // len(names), return_inverse=True)
                new[pairs] = true * len(names) + answer
                new[counts] = np.bincount(place, weights=row[counts], minlength=len(true)).astype(np.int64)
        made.append(new)
    return f"the class with the most pixels ({names[answer]}) everywhere", made


def scored_classes(cfg: SegmentationConfig, meta: Mapping[str, Any]) -> np.ndarray:
    """(n,) indices of the classes that count in means."""
    classes = np.arange(len(meta["classes"]))
    if cfg.data.background_policy == "unscored" and meta["background"] is not None:
        classes = classes[classes != meta["background"]]
    return classes


def summed(rows: Sequence[Mapping[str, Any]], pairs: str, pixels: str, classes: int) -> np.ndarray:
    """(K, K) pixels: true class by predicted class."""
    table = np.zeros(classes * classes, dtype=np.int64)
    for row in rows:
        table[row[pairs]] += row[pixels]
    return table.reshape(classes, classes)


def iou(table: np.ndarray) -> np.ndarray:
    """(K,): TP / (TP + FP + FN), NaN where there is neither truth nor prediction."""
    hit = np.diag(table)
    return divided(hit, table.sum(0) + table.sum(1) - hit)


def dice(table: np.ndarray) -> np.ndarray:
    """(K,): 2 TP / (2 TP + FP + FN), NaN likewise."""
    return divided(2 * np.diag(table), table.sum(0) + table.sum(1))


def divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def mean(values: np.ndarray) -> float:
    """Without the NaNs; NaN where nothing else is there."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
