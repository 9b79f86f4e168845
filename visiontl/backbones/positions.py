"""Tables of positions that depend on the image size, interpolated to another grid."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAMES = re.compile(r"pos_emb|position|rel_pos|attention_bias|patch_pos|pixel_pos")  # in the names of such tables
BIASES = "attention_biases"  # (heads, h * w): one value per distance of rows and of columns
PREFIX_TOKENS = (0, 1, 2, 5)  # none, class token, with a distillation token, with four registers

Grid = tuple[int, int]


def grids_of(body: nn.Module, size: Grid, strides: Sequence[int]) -> set[Grid]:
    """(h, w) of the grids that a body of images of `size` works on: as its modules state them, and by its strides."""
    found = {(-(-size[0] // s), -(-size[1] // s)) for s in strides} | {(size[0] // s, size[1] // s) for s in strides}
    for module in body.modules():
        for name in ("grid_size", "window_size", "resolution"):
            stated = getattr(module, name, None)
            if isinstance(stated, tuple | list) and len(stated) == 2 and all(isinstance(side, int) for side in stated):
                found.add((stated[0], stated[1]))
        whole, patch = getattr(module, "img_size", None), getattr(module, "patch_size", None)
        if isinstance(whole, tuple) and isinstance(patch, tuple) and len(whole) == len(patch) == 2:
            found.add((whole[0] // max(patch[0], 1), whole[1] // max(patch[1], 1)))
    return found


def resized(key: str, weight: Tensor, own: Tensor, grids: set[Grid]) -> Tensor | None:
    """A table of positions interpolated (bicubic, antialiased) to another grid; tokens before it are kept.

    (1, N, C) with up to five tokens before the grid, (1, H, W, C), (1, C, H, W) or, named attention_biases, (heads,
    H * W). A grid of the file must be square where only its count of places is known. None where no reading fits.
    grids: of the body, to know a rectangle of as many places.
    """
    if weight.dim() != own.dim() or not weight.is_floating_point():
        return None
    if key.rpartition(".")[2] == BIASES and own.dim() == 2 and weight.shape[0] == own.shape[0]:
        side, target = square(weight.shape[1]), target_grid(own.shape[1], grids)
        if side is None or target is None:
            return None
        return interpolated(weight.view(1, -1, side, side), target).flatten(2)[0]
    if weight.shape[0] != own.shape[0] or own.shape[0] != 1:
        return None
    if own.dim() == 4:
        last = weight.shape[-1] == own.shape[-1] and (own.shape[1], own.shape[2]) in grids
        if last or (weight.shape[-1] == own.shape[-1] and weight.shape[1] != own.shape[1]):
            image = interpolated(weight.permute(0, 3, 1, 2), (own.shape[1], own.shape[2]))
            return image.permute(0, 2, 3, 1)
        if weight.shape[1] == own.shape[1]:
            return interpolated(weight, (own.shape[2], own.shape[3]))
        return None
    if own.dim() == 3 and weight.shape[-1] == own.shape[-1]:
        return resized_tokens(weight, own, grids)
    return None


def resized_tokens(weight: Tensor, own: Tensor, grids: set[Grid]) -> Tensor | None:
    """(1, prefix + N, C) -> (1, prefix + h * w, C)."""
    readings = []
    for prefix in PREFIX_TOKENS:
        side, target = square(weight.shape[1] - prefix), target_grid(own.shape[1] - prefix, grids)
        if side and target:
            readings.append((target not in grids, prefix, side, target))
    if not readings:
        return None
    _, prefix, side, target = min(readings)
    image = weight[:, prefix:].unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, C, side, side)
    grid = interpolated(image, target).permute(0, 2, 3, 1)  # (1, h, w, C)
    return torch.cat([weight[:, :prefix], grid.flatten(1, 2)], 1)


def interpolated(image: Tensor, target: Grid) -> Tensor:
    """(1, C, H, W) -> (1, C, *target), as its own type; computed in float32."""
    return F.interpolate(image.float(), size=target, mode="bicubic", antialias=True).to(image.dtype)


def square(count: int) -> int | None:
    """The side of a square of `count` places; None where there is none."""
    side = math.isqrt(max(count, 0))
    return side if side and side * side == count else None


def target_grid(count: int, grids: set[Grid]) -> Grid | None:
    """The one grid of `count` places among the body's, else a square; None where two would do or none does."""
    known = [grid for grid in grids if grid[0] * grid[1] == count]
    if len(known) == 1:
        return known[0]
    side = square(count)
    if known:  # two: a square among them is no proof
        return None
    return (side, side) if side else None


def said_of(before: Mapping[str, Tensor], after: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """A note of the tables that fit now and did not before; none where there are none."""
    changed = [
        (k, tuple(before[k].shape), tuple(after[k].shape))
        for k, v in own.items()
        if k in before and k in after and before[k].shape != v.shape and after[k].shape == v.shape
    ]
    if not changed:
        return []
    name, old, new = changed[0]
    more = f", and {len(changed) - 1} more tables" if len(changed) > 1 else ""
    return [f"{name} resized from {old} to {new}{more}"]
