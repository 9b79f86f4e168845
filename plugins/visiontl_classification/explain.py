"""What an explanation is of: the logit of a class. And the mistakes, the most confident first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from visiontl import Scalar
from visiontl.kit.classes import place_of
from visiontl_classification.config import ClassificationConfig, ExplainOptions
from visiontl_classification.scores import THRESHOLD, label_matrix


def explain(
    cfg: ClassificationConfig,
    model: nn.Module,
    batch: Mapping[str, Any],
    meta: Mapping[str, Any],
    options: ExplainOptions,
) -> Scalar:
    """The logit of the class that is asked for, or of the most probable one: Grad-CAM's y^c, before the softmax."""
    names = list(meta["classes"])
    logits = model(batch)["logits"][0]  # (K,)
    place = int(logits.argmax()) if options.label is None else place_of(options.label, names, "option label")
    probability = logits.detach().float()
    probability = probability.sigmoid() if cfg.labels == "multi" else probability.softmax(0)
    score = float(probability[place])
    return Scalar(logits[place], f"{'label' if cfg.labels == 'multi' else 'class'} {names[place]}, {score:.2f}", score)


def mistakes(
    cfg: ClassificationConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> list[tuple[int, str]]:
    """The more certain of a wrong class (multi-label: of one label's being there, or not), the earlier."""
    names = meta["classes"]
    if cfg.labels == "single":
        wrong = [(row["probability"][0], i) for i, row in enumerate(rows) if row["top"][0] != row["true"]]
        return [
            (i, f"is {names[rows[i]['true']]}, called {names[rows[i]['top'][0]]} ({probability:.2f})")
            for probability, i in sorted(wrong, key=lambda one: (-one[0], one[1]))
        ]
    true, probability = label_matrix(rows, len(names))
    off = np.where((probability >= THRESHOLD) != true, np.abs(probability - true), 0.0)  # (N, K)
    order = np.argsort(-off.max(1, initial=0.0), kind="stable")
    found = []
    for i in order[off.max(1, initial=0.0)[order] > 0].tolist():
        k = int(off[i].argmax())
        words = f"is {names[k]}, not named" if true[i, k] else f"is not {names[k]}, called so"
        found.append((i, f"{words} ({probability[i, k]:.2f})"))
    return found
