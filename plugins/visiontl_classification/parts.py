"""Which rows of a classifier are of which class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from visiontl import ClassRows, Parts
from visiontl_classification.config import ClassificationConfig


def parts(cfg: ClassificationConfig, model: Any, meta: Mapping[str, Any]) -> Parts:
    names = list(meta["classes"])
    last = [name for name, part in model.head.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    if not last or cfg.head.kind != "linear":
        return Parts()
    return Parts((), {f"head.{last[-1]}.{kind}": ClassRows(names) for kind in ("weight", "bias")})
