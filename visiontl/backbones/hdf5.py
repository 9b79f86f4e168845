"""Weights in HDF5 files, as Keras writes them: arrays of each layer, and nothing else.

Two forms: that of Keras 1 and 2 and of `model.save("x.h5")` (attributes `layer_names` and `weight_names`), and that of
Keras 3, `.weights.h5` (layers/KIND_N/vars/0 ...). Nothing in such a file is code; links to other files are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visiontl.errors import WeightsError, first_line

SUFFIX = ".h5"
LARGEST = 4 << 30  # bytes of all arrays
MOST = 100_000  # arrays


def read(path: Path) -> dict[str, Tensor]:
    """{"LAYER/0": its first array, "LAYER/1": ...}: by the names of layers where the file has them, else by their kind
    and place among those of their kind (`conv2d_3`). Raises WeightsError."""
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(f"weights file {path}: h5py is needed ({error}): pip install 'visiontl[keras]'") from None
    try:
        with h5py.File(path, "r") as file:
            inside = plain(h5py, file, "model_weights") if "model_weights" in file else file
            pairs = by_names(h5py, inside) if names_of(inside, "layer_names") is not None else by_kinds(h5py, inside)
            return tensors(pairs, path)
    except WeightsError:
        raise
    except Exception as error:  # of a reader in C, which raises many kinds
        raise WeightsError(f"weights file {path}: cannot be read as HDF5 ({first_line(error)})") from None


def tensors(pairs: Iterator[tuple[str, Any]], path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    size = 0
    for name, array in pairs:
        size += array.nbytes
        if size > LARGEST or len(found) >= MOST:
            raise WeightsError(f"weights file {path}: claims more than {LARGEST:,} bytes or {MOST:,} arrays")
        if array.is_virtual or array.external:
            raise WeightsError(f"weights file {path}: {name} lies in another file, which is not read")
        if array.dtype.kind not in "fiu":
            raise WeightsError(f"weights file {path}: {name} holds {array.dtype}; numbers were expected")
        values = np.asarray(array[()])
        found[name] = torch.from_numpy(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))))
    if not found:
        raise WeightsError(f"weights file {path}: holds no arrays of layers as Keras writes them")
    return found


def plain(h5py: Any, group: Any, name: str) -> Any:
    """What lies in a group under a name, of one part or of several. Raises WeightsError for a link elsewhere."""
    for part in name.strip("/").split("/"):
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"weights file: {name[:80]!r} is a link or not there; only what the file holds is read")
        group = group[part]
    return group


def names_of(group: Any, attribute: str) -> list[str] | None:
    """A list of names, which Keras cuts into several attributes where it is long; None where there is none."""
    attributes = group.attrs
    if attribute in attributes:
        found = list(attributes[attribute])
    elif f"{attribute}0" in attributes:
        parts = sorted(
            (key for key in attributes if re.fullmatch(rf"{attribute}\d+", key)),
            key=lambda key: int(key[len(attribute) :]),
        )
        found = [one for key in parts for one in attributes[key]]
    else:
        return None
    return [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in found]


def by_names(h5py: Any, group: Any) -> Iterator[tuple[str, Any]]:
    for layer in names_of(group, "layer_names") or ():
        own = plain(h5py, group, layer)
        for index, name in enumerate(names_of(own, "weight_names") or ()):
            yield f"{layer}/{index}", plain(h5py, own, name)


def by_kinds(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    layers = plain(h5py, file, "layers")
    for kind in layers:
        own = plain(h5py, layers, kind)
        if "vars" not in own:
            continue
        held = plain(h5py, own, "vars")
        name = held.attrs.get("name", own.attrs.get("name", kind))
        name = name.decode("utf-8") if isinstance(name, bytes) else str(name)
        for index in sorted(held, key=int):
            yield f"{name}/{index}", plain(h5py, held, index)
