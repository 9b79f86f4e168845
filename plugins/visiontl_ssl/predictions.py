"""Embeddings of photos, to search and to group by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from visiontl_ssl.config import SslConfig


def predict(
    cfg: SslConfig, model: nn.Module, batches: Iterable[Mapping[str, Any]], meta: Mapping[str, Any], options: None
) -> Iterator[dict[str, Any]]:
    """{"embedding": (E,) float32, the backbone's pooled features} per photo."""
    for batch in batches:
        for embedding in model(batch)["pooled"].float().cpu().numpy():
            yield {"embedding": embedding}
