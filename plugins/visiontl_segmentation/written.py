"""Masks as the data set writes them: its own values, palette or colors, and back to class indices."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from visiontl.kit.cells import marked
from visiontl.kit.strips import strips
from visiontl_segmentation.deciding import Decision, in_channel
from visiontl_segmentation.levels import NEAR, levels_of
from visiontl_segmentation.looks import Look
from visiontl_segmentation.masks import IGNORED, UNKNOWN, color_codes

if TYPE_CHECKING:
    from visiontl_segmentation.classes import Classes, Naming
    from visiontl_segmentation.listing import Listing

MOST_HELD = 256  # values that a model is told of its training masks
WIDEST = 65535  # of a value in a picture


def written_as(
    classes: Classes, naming: Naming, decision: Decision | None, looks: Sequence[Look], listing: Listing
) -> dict[str, Any]:
    """{"form": gray, wide (16 bits), rgb (gray in three channels), palette, color or alpha; "values": of each class, a
    number or [r, g, b]; "palette": [value, r, g, b] of what the training masks' palettes hold; "kind", "channel",
    "levels", "extra": as decided}. looks: of the training masks."""
    if decision is None:
        values = category_values(classes, naming, listing)
        return {"form": "palette" if max(values) < 256 else "wide", "values": values, "palette": []}
    form: str = decision.form
    if decision.kind == "color":
        values: list[Any] = [list(naming.colors[name]) for name in classes.names]
    else:
        of_name = dict(zip(naming.names, naming.values, strict=True))
        values = [of_name[name] for name in classes.names]
        if form == "wide" or max(values) > 255:
            form = "wide"
    made = {"form": form, "values": values, "palette": palette_of(looks) if form == "palette" else []}
    made |= {
        "kind": decision.kind,
        "channel": decision.channel,
        "levels": list(decision.levels),
        "extra": list(decision.extra),
        "names": list(naming.names),
        "held": held_values(decision, looks),
    }
    if decision.kind == "color":
        made["colors"] = {name: list(naming.colors[name]) for name in naming.names}
    if form == "alpha":
        colors = {code for look in looks for code in look.colors().values.tolist()}
        code = colors.pop() if len(colors) == 1 else 0xFFFFFF
        made["color"] = [code >> 16, code >> 8 & 255, code & 255]
    return made


def category_values(classes: Classes, naming: Naming, listing: Listing) -> list[int]:
    """COCO's category ids, and 0 for the background; class indices where that cannot be written."""
    ids = dict(zip(naming.names, listing.ids or (), strict=False))
    values = [ids.get(name, 0) for name in classes.names]
    if len(set(values)) < len(values) or not all(0 <= value <= WIDEST for value in values):
        return list(range(len(classes.names)))
    return values


def palette_of(looks: Sequence[Look]) -> list[list[int]]:
    found: dict[int, int] = {}
    for look in looks:
        if look.form == "palette":
            for value, code in zip(look.found.values.tolist(), look.palette.tolist(), strict=True):
                found.setdefault(value, code)
    return [[value, code >> 16, code >> 8 & 255, code & 255] for value, code in sorted(found.items()) if code >= 0]


def mask_image(mask: np.ndarray, meta: Mapping[str, Any]) -> Image.Image:
    """(H, W) uint8 class indices -> a picture as the training masks are."""
    how = manner(meta)
    form = how["form"]
    values = np.array(how["values"]).astype(np.uint16 if form == "wide" else np.uint8)[mask]  # (H, W) or (H, W, 3)
    if form in ("color", "wide"):
        return Image.fromarray(values)
    if form == "rgb":
        return Image.fromarray(np.stack([values] * 3, -1))
    if form == "alpha":
        color = np.broadcast_to(np.array(how["color"], dtype=np.uint8), (*mask.shape, 3))
        return Image.fromarray(np.concatenate([color, values[..., None]], -1))
    image = Image.fromarray(values)
    if form != "palette":
        return image
    palette = np.zeros((256, 3), dtype=np.uint8)
    for color, value in zip(meta["colors"], how["values"], strict=True):
        palette[value] = color
    for value, *color in how["palette"]:
        palette[value] = color
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(palette.ravel().tolist())
    return image


def manner(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """How masks are written: class indices where the model is older than its data set's own values."""
    return meta.get("masks") or {"form": "palette", "values": list(range(len(meta["classes"]))), "palette": []}


def class_indices(image: Image.Image, meta: Mapping[str, Any]) -> np.ndarray:
    """What `mask_image` made -> (H, W) uint8 class indices."""
    how = manner(meta)
    color = how["form"] == "color"
    known = color_codes(np.array(how["values"], dtype=np.uint8)) if color else np.array(how["values"])
    order = np.argsort(known)
    known, made = known[order], np.empty((image.height, image.width), dtype=np.uint8)
    for top, part in strips(image, share=2):
        pixels = np.asarray(part)
        codes = color_codes(pixels) if color else pixels if pixels.ndim == 2 else pixels[..., -1]
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        made[top : top + part.height] = np.where(known[place] == codes, order[place], UNKNOWN)
    return made


def table_of_values(meta: Mapping[str, Any]) -> str:
    """CSV: class, the value that stands for it in a mask (color masks have none but the color), and a color."""
    how = manner(meta)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["class", "value", "r", "g", "b"])
    if how["form"] == "color":
        rows.writerows([marked(name), "", *color] for name, color in zip(meta["classes"], how["values"], strict=True))
        return text.getvalue()
    colors = dict(zip(how["values"], meta["colors"], strict=True)) | {value: color for value, *color in how["palette"]}
    rows.writerows(
        [marked(name), value, *colors[value]] for name, value in zip(meta["classes"], how["values"], strict=True)
    )
    return text.getvalue()


def held_values(decision: Decision, looks: Sequence[Look]) -> list[int]:
    """The values that the training masks hold."""
    if decision.channel == "color":
        return []
    return in_channel(looks, decision.channel).values[:MOST_HELD].tolist()


def trained_decision(meta: Mapping[str, Any], looks: Mapping[str, Look]) -> Decision | None:
    """What the training masks were taken for, where other masks hold nothing else; None where they do, or where the
    model does not say."""
    how = manner(meta)
    if how.get("kind") in (None, "color"):
        return None
    seen = [look for look in looks.values() if look.size is not None]
    if how["channel"] == "alpha":
        red, green, blue = how["color"]
        colors = {code for look in seen for code in look.colors().values.tolist()}
        if colors - {red << 16 | green << 8 | blue}:
            return None
    elif any(look.form == "color" for look in seen):
        return None
    levels: tuple[int, ...] = tuple(how["levels"])
    found = in_channel(seen, how["channel"])
    extra: tuple[int, ...] = tuple(how["extra"])
    # stray values that training masks held say nothing of areas that somebody drew
    known = {*levels, *extra} if levels else {*how["held"], *(v for v, index in meta["values"] if index != IGNORED)}
    drawn = levels_of(found, any(look.lossy for look in seen)).drawn if levels else found.values.tolist()
    slack = NEAR if levels and any(look.lossy for look in seen) else 0
    if any(min((abs(value - one) for one in known), default=1 << 16) > slack for value in drawn):
        return None
    return Decision(how["kind"], how["channel"], levels, extra, form=how["form"])
