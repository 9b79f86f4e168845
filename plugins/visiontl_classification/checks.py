"""What `visiontl doctor` should say of labels: rare, absent and contradictory ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visiontl import Data, Finding, Seen, Table
from visiontl.kit.names import ALIKE, alike_findings
from visiontl.kit.words import count
from visiontl_classification.config import ClassificationConfig

UNEQUAL = 5.0  # images of the largest class / of the smallest, from which imbalance is told


def check(cfg: ClassificationConfig, data: Data, meta: Mapping[str, Any], seen: Seen) -> list[Finding | Table]:
    """Images per class and split (unreadable ones not counted), and what follows from them."""
    names: Sequence[str] = meta["classes"]
    counts = {}
    for split, photos in data.splits().items():
        readable = np.array([size is not None for size in seen.sizes[split]], dtype=bool)
        counts[split] = _per_class(photos.targets[readable], len(names))  # type: ignore[attr-defined]
    order = np.argsort(-next(iter(counts.values())), kind="stable").tolist()
    items: list[Finding | Table] = [
        Table(
            "images per class",
            ["class", *counts],
            [[names[i], *(int(tally[i]) for tally in counts.values())] for i in order],
        )
    ]
    for split, tally in counts.items():
        items += _absent(cfg, split, [names[i] for i in np.flatnonzero(tally == 0).tolist()])
    if "train" in counts:
        items += _rare(cfg, names, counts["train"])
    if cfg.labels == "single":
        items += _floor(names, {split: tally for split, tally in counts.items() if split != "train" and tally.any()})
    items += alike_findings("class", meta["ids"], ALIKE, loose=True)
    return items + _contradictions(data, names, seen)


def _per_class(targets: np.ndarray, classes: int) -> np.ndarray:
    """(N,) indices or (N, K) 0/1 -> (K,) images."""
    return targets.sum(0, dtype=np.int64) if targets.ndim == 2 else np.bincount(targets, minlength=classes)


def _absent(cfg: ClassificationConfig, split: str, missing: Sequence[str]) -> list[Finding]:
    if not missing:
        return []
    what = f"{split}: no image of {count(len(missing), 'class')}"
    if split != "train":
        return [Finding("warning", what, f"{split} says nothing about how well they are recognized", missing)]
    if cfg.head.kind == "original":
        return [Finding("note", what, "the original head keeps what it knew of them", missing)]
    return [Finding("error", what, "they cannot be learned, and the run stops", missing)]


def _rare(cfg: ClassificationConfig, names: Sequence[str], tally: np.ndarray) -> list[Finding]:
    findings = []
    single = [names[i] for i in np.flatnonzero(tally == 1).tolist()]
    if single:
        what = f"train: one image only of {count(len(single), 'class')}"
        findings.append(Finding("warning", what, "such a class is hardly learned; add images or take it out", single))
    present = np.flatnonzero(tally)
    if len(present) < 2:
        return findings
    most, least = int(tally.argmax()), int(present[tally[present].argmin()])
    ratio = tally[most] / tally[least]
    if ratio < UNEQUAL:
        return findings
    what = (
        f"train: {names[most]!r} has {count(int(tally[most]), 'image')}, {names[least]!r} has {int(tally[least]):,}: "
        f"{ratio:.3g} times as many"
    )
    if cfg.class_weights != "none" or cfg.sampler == "balanced":
        return [*findings, Finding("note", what, "task.class_weights or task.sampler makes up for it in the loss")]
    advice = "accuracy may be high with the rare ones wrong: look at macro_f1"
    balance = "task.class_weights=balanced or task.sampler=balanced" if cfg.labels == "single" else ""
    balance = balance or "task.class_weights=balanced"
    return [*findings, Finding("warning", what, f"{advice}, or set {balance}")]


def _floor(names: Sequence[str], counts: Mapping[str, np.ndarray]) -> list[Finding]:
    """What a model must beat."""
    parts = []
    for split, tally in counts.items():
        largest = int(tally.argmax())
        tied = int((tally == tally[largest]).sum()) > 1
        answer = "one of the largest classes" if tied else f"{names[largest]!r}"
        parts.append(f"{answer} is right for {tally[largest] / tally.sum():.1%} of {split}")
    return (
        [Finding("note", f"always answering {' and '.join(parts)}", "what an accuracy has to be read against")]
        if parts
        else []
    )


def _contradictions(data: Data, names: Sequence[str], seen: Seen) -> list[Finding]:
    """The same picture with different labels."""
    splits: Any = data.splits()  # of visiontl_classification.data.Photos
    found = []
    for group in seen.duplicates:
        targets = [splits[split].targets[id] for split, id in group]
        if any(not np.array_equal(target, targets[0]) for target in targets):
            found.append(
                ", ".join(
                    f"{splits[split].names[id]} ({_labels(target, names)})"
                    for (split, id), target in zip(group, targets, strict=True)
                )
            )
    if not found:
        return []
    what = f"{count(len(found), 'picture')} with different labels on equal pixels"
    return [Finding("warning", what, "the model cannot be right about all of them", found)]


def _labels(target: np.ndarray, names: Sequence[str]) -> str:
    chosen = np.flatnonzero(target).tolist() if np.ndim(target) else [int(target)]
    return " and ".join(names[i] for i in chosen) or "no label"
