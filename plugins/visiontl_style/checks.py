"""What `visiontl doctor` should say of photos and style pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontl import Data, Finding, Seen, Table
from visiontl.kit.words import count
from visiontl_style.config import StyleConfig
from visiontl_style.pictures import as_picture

FEW = 100  # photos below which a network learns these rather than photos


def check(cfg: StyleConfig, data: Data, meta: Mapping[str, Any], seen: Seen) -> list[Finding | Table]:
    """Sizes of photos and styles, and what follows from them."""
    styles = [(style["name"], *as_picture(style["png"]).size) for style in meta["styles"]]
    items: list[Finding | Table] = [
        Table("style pictures", ["name", "width", "height"], styles, "as they are learned from, in pixels")
    ]
    for split, sizes in seen.sizes.items():
        names = data.splits()[split].names
        least = cfg.crop if split == "train" else cfg.size
        small = [names[i] for i, size in enumerate(sizes) if size is not None and min(size) < least]
        if small:
            share = len(small) / max(1, sum(size is not None for size in sizes))
            what = f"{split}: {count(len(small), 'photo')} with a side below {least} pixels"
            advice = "they are enlarged, and blurred photos are learned from: lower task.crop and task.size"
            items.append(Finding("warning" if share > 0.5 else "note", what, advice, small))
    readable = sum(size is not None for size in seen.sizes.get("train", ()))
    if "train" in seen.sizes and readable < FEW:
        what = f"train: {count(readable, 'photo')}"
        items.append(Finding("note", what, "with so few a network learns these photos; hundreds make it general"))
    return items
