"""Samples without their image as tensors and JSON, a column for each value: to disk and back without a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

IMAGE = "image"
PLAIN = (bool, int, float, str, type(None))
Leaf = tuple[str, Any]  # (kind, value)


class Unstorable(Exception):
    """A value that only a pickle could keep, in words."""


@dataclass
class Samples(Sequence[dict[str, Any]]):
    """`rows` samples, each made when it is asked for. shapes: {shape of nested containers, as JSON: [rows]}."""

    rows: int
    shape_of: Tensor  # (count,) which of `shapes` a row has
    place_of: Tensor  # (count,) which of that shape's rows it is
    shapes: list[Any]
    columns: list[list[Column]] = field(repr=False)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(self.rows))]
        shape, place = int(self.shape_of[row]), int(self.place_of[row])
        values = iter([column.at(place) for column in self.columns[shape]])
        return _build(self.shapes[shape], values)


@dataclass(frozen=True)
class Column:
    """One value of all rows of a shape. kind: json, or tensor, array or scalar (NumPy's) of one data type.

    content: JSON values, or the values side by side; sizes: (n, dims + 1) for those of several sizes: where each
    begins, and its shape.
    """

    kind: str
    content: Any
    sizes: Tensor | None = None
    numpy: str = ""

    def at(self, place: int) -> Any:
        if self.kind == "json":
            return self.content[place]
        if self.sizes is None:
            value = self.content[place]
        else:
            begin, *shape = self.sizes[place].tolist()
            value = self.content[begin : begin + int(np.prod(shape, dtype=np.int64))].reshape(shape)
        if self.kind == "tensor":
            return value.clone()
        array = value.numpy().view(self.numpy)
        return array.copy() if self.kind == "array" else array.reshape(())[()]


def encode(samples: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], str]:
    """(tensors, JSON text) of samples whose images are told by their shape and type alone. Raises Unstorable."""
    known: dict[str, int] = {}
    leaves: list[list[list[Leaf]]] = []  # by shape, row, place
    shape_of, place_of = [], []
    for sample in samples:
        found: list[Leaf] = []
        shape = json.dumps(_shape(dict(sample), found, ""))
        number = known.setdefault(shape, len(known))
        if number == len(leaves):
            leaves.append([])
        shape_of.append(number)
        place_of.append(len(leaves[number]))
        leaves[number].append(found)
    tensors = {"shape_of": torch.tensor(shape_of), "place_of": torch.tensor(place_of)}
    columns = []
    for number, rows in enumerate(leaves):
        columns.append(
            [_column(list(column), f"{number}.{i}", tensors) for i, column in enumerate(zip(*rows, strict=True))]
        )
    return tensors, json.dumps([[json.loads(shape) for shape in known], columns])


def decode(tensors: Mapping[str, Tensor], text: str) -> Samples:
    shapes, columns = json.loads(text)
    made = [[_read(about, f"{n}.{i}", tensors) for i, about in enumerate(one)] for n, one in enumerate(columns)]
    return Samples(len(tensors["shape_of"]), tensors["shape_of"], tensors["place_of"], shapes, made)


class Blank(Tensor):
    """Zeros of an image's shape and type that take no memory, nor do they when a batch is stacked of them."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.stack and len(args) == 1 and not kwargs and all(type(one) is cls for one in args[0]):
            with torch._C.DisableTorchFunctionSubclass():
                shapes = {one.shape for one in args[0]}
                if len(shapes) == 1:
                    return torch.zeros((), dtype=args[0][0].dtype).expand(len(args[0]), *shapes.pop())
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **(kwargs or {}))
        return found


def blank(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.zeros((), dtype=dtype).expand(*shape).as_subclass(Blank)


def _shape(value: Any, leaves: list[Leaf], path: str) -> Any:
    """Nested containers as JSON; their values go to `leaves`, in order."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise Unstorable(f"{path or 'a sample'} has keys that are no texts")
        return {"d": [[key, _shape(one, leaves, f"{path}.{key}" if path else key)] for key, one in value.items()]}
    if type(value) in (list, tuple):
        kind = "t" if type(value) is tuple else "l"
        return {kind: [_shape(one, leaves, f"{path}[{i}]") for i, one in enumerate(value)]}
    if path == IMAGE and isinstance(value, Tensor):
        return {"image": [str(value.dtype).removeprefix("torch."), list(value.shape)]}
    if type(value) in PLAIN:
        leaves.append(("json", value))
    elif type(value) is Tensor and value.layout == torch.strided and not value.requires_grad:
        leaves.append(("tensor", value.detach().cpu()))
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        leaves.append(("scalar" if isinstance(value, np.generic) else "array", value))
    else:
        raise Unstorable(f"{path} is a {type(value).__name__}")
    return None


def _build(shape: Any, values: Any) -> Any:
    if shape is None:
        return next(values)
    ((kind, parts),) = shape.items()
    if kind == "d":
        return {key: _build(one, values) for key, one in parts}
    if kind == "image":
        return blank(parts[1], getattr(torch, parts[0]))
    made = [_build(one, values) for one in parts]
    return tuple(made) if kind == "t" else made


def _column(leaves: list[Leaf], name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What JSON says of a column; its tensors are added to the others."""
    kinds = {_kind(*leaf) for leaf in leaves}
    if len(kinds) > 1:
        raise Unstorable(f"values of several types stand in one place ({', '.join(sorted(map(str, kinds)))})")
    ((kind, detail),) = kinds
    values = [value for _, value in leaves]
    if kind == "json":
        return {"kind": kind, "values": values}
    plain = [value if kind == "tensor" else torch.from_numpy(_plain(np.asarray(value))) for value in values]
    about = {"kind": kind, "numpy": "" if kind == "tensor" else detail}
    if len({tuple(one.shape) for one in plain}) == 1:
        tensors[name] = torch.stack(plain)
        return about
    if len({one.ndim for one in plain}) > 1:
        raise Unstorable("tensors of several dimensions stand in one place")
    ends = np.cumsum([0, *(one.numel() for one in plain)]).tolist()
    tensors[name] = torch.cat([one.reshape(-1) for one in plain])
    tensors[f"{name}.sizes"] = torch.tensor([[end, *one.shape] for end, one in zip(ends, plain, strict=False)])
    return about


def _kind(kind: str, value: Any) -> tuple[str, str]:
    return kind, "" if kind == "json" else value.dtype.str if kind != "tensor" else str(value.dtype)


def _plain(array: np.ndarray) -> np.ndarray:
    """Bits that torch knows a type for: whole numbers of the same width, in the same order of bytes."""
    same = np.ascontiguousarray(array).reshape(array.shape)
    return same.view(f"u{same.dtype.itemsize}" if same.dtype.itemsize == 1 else f"i{same.dtype.itemsize}")


def _read(about: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor]) -> Column:
    if about["kind"] == "json":
        return Column("json", about["values"])
    return Column(about["kind"], tensors[name], tensors.get(f"{name}.sizes"), about["numpy"])
