"""Tensors of checkpoints as bytes: what their pickles say of them, checked against what lies there. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visiontl.backbones.pickles import Made, Named, Stored, Unreadable

# the class of a storage, and the type of its values: (name in safetensors, bytes)
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
}
BYTES = {"bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "float16": 2, "bfloat16": 2}
BYTES |= {"float32": 4, "float64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1, "uint16": 2, "uint32": 4, "uint64": 8}
NUMPY = {"f2": "float16", "f4": "float32", "f8": "float64", "b1": "bool"}
NUMPY |= {f"{kind}{size}": f"{'u' * (kind == 'u')}int{8 * size}" for kind in "iu" for size in (1, 2, 4, 8)}
CODES = {"bool": "BOOL", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
CODES = {kind: CODES.get(kind, kind.replace("uint", "U").replace("int", "I").replace("float", "F")) for kind in BYTES}
MOST_DIMENSIONS = 16
ROOM = 1 << 28  # bytes that a tensor may have, however few the file holds of it

Storages = Callable[[str], bytes | memoryview]  # key -> its bytes


@dataclass(frozen=True)
class Array:
    """shape and values (row by row, little endian) of a tensor. kind: the type's name."""

    kind: str
    shape: tuple[int, ...]
    data: bytes


def tensor(node: Made, storages: Storages) -> Array | None:
    """The tensor that a call would have made; None for a call that makes none. Raises Unreadable for one that the file
    does not hold."""
    name = node.name.rpartition(".")[2]
    arguments = node.args if isinstance(node.args, tuple) else ()
    if name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
        if len(arguments) < 4:
            raise Unreadable(f"its pickle is damaged (a tensor of {len(arguments)} of the 4 things that make one)")
        kind = kind_of(arguments[6]) if name.endswith("v3") and len(arguments) > 6 else None
        return strided(arguments[0], arguments[1:4], kind, storages)
    if name in ("_rebuild_parameter", "_rebuild_parameter_with_state") and arguments:
        return tensor(arguments[0], storages) if isinstance(arguments[0], Made) else None
    if name == "_rebuild_from_type_v2" and len(arguments) >= 3 and isinstance(arguments[2], tuple):
        return tensor(Made(arguments[0], arguments[2]), storages)
    if name == "Parameter" and arguments and isinstance(arguments[0], Made):
        return tensor(arguments[0], storages)
    if name == "_reconstruct" and isinstance(node.state, tuple) and len(node.state) == 5:
        _, shape, dtype, fortran, values = node.state
        return array(values, dtype, shape, bool(fortran))
    if name == "_frombuffer" and len(arguments) == 4:
        values, dtype, shape, order = arguments
        return array(values, dtype, shape, order == "F")
    return None


def strided(storage: Any, layout: Sequence[Any], kind: str | None, storages: Storages) -> Array:
    """layout: (offset, shape, strides), counted in values of the storage."""
    if not isinstance(storage, Stored) or not isinstance(storage.id, tuple) or len(storage.id) < 5:
        raise Unreadable("a tensor names no storage")
    _, of, key, _, count = storage.id[:5]
    kind = kind or STORAGES.get(getattr(of, "name", "").rpartition(".")[2])
    offset, shape, strides = layout
    numbers = [offset, count, *whole_numbers(shape), *whole_numbers(strides)]
    if kind not in BYTES:
        raise Unreadable(f"a tensor holds values of a type that is not known here ({getattr(of, 'name', of)})")
    if not isinstance(key, str | int) or any(not isinstance(n, int) or n < 0 for n in numbers):
        raise Unreadable("a tensor's shape or place is no whole numbers")
    if len(shape) != len(strides) or len(shape) > MOST_DIMENSIONS:
        raise Unreadable(f"a tensor of {len(shape)} dimensions has {len(strides)} strides")
    size = BYTES[kind]
    if not math.prod(shape):
        return Array(kind, tuple(shape), b"")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    content = storages(str(key))
    if math.prod(shape) * size > max(ROOM, 16 * len(content)):
        raise Unreadable(f"a tensor of shape {tuple(shape)} repeats a storage of {len(content):,} bytes")
    if (last + 1) * size > len(content):
        raise Unreadable(f"a tensor reaches beyond its storage {key} ({(last + 1) * size:,} of {len(content):,} bytes)")
    whole = np.frombuffer(content, np.dtype(f"V{size}"), len(content) // size)
    view = np.lib.stride_tricks.as_strided(whole[offset:], tuple(shape), [step * size for step in strides])
    return Array(kind, tuple(shape), view.tobytes())


def array(values: Any, dtype: Any, shape: Any, fortran: bool) -> Array | None:
    """A NumPy array out of what its pickle states; None for one that holds objects."""
    code, big = numpy_type(dtype)
    kind, content, shape = NUMPY.get(code), as_bytes(values), whole_numbers(shape)
    if kind is None or content is None:
        return None
    if any(n < 0 for n in shape) or len(shape) > MOST_DIMENSIONS or math.prod(shape) * BYTES[kind] != len(content):
        raise Unreadable(f"an array of shape {tuple(shape)} has {len(content):,} bytes")
    found = np.frombuffer(content, np.dtype(f"{'>' if big else '<'}{code}")).reshape(
        shape, order="F" if fortran else "C"
    )
    return Array(kind, tuple(shape), found.astype(found.dtype.newbyteorder("<")).tobytes())


def numpy_type(node: Any) -> tuple[str, bool]:
    """('f4', whether it is big endian) of what a dtype was pickled as; ('', False) where it is none."""
    if not isinstance(node, Made) or not isinstance(node.args, tuple) or not node.args:
        return "", False
    code = node.args[0]
    state = node.state if isinstance(node.state, tuple) and len(node.state) > 1 else (3, "<")
    return (code, state[1] == ">") if isinstance(code, str) else ("", False)


def as_bytes(node: Any) -> bytes | None:
    """Bytes, whatever protocol they were pickled with."""
    if isinstance(node, bytes | bytearray):
        return bytes(node)
    if isinstance(node, Made) and node.name == "_codecs.encode" and isinstance(node.args, tuple) and node.args:
        node = node.args[0]
    if isinstance(node, Made) and node.name.endswith(".bytearray") and isinstance(node.args, tuple) and node.args:
        return as_bytes(node.args[0])
    if isinstance(node, str):
        try:
            return node.encode("latin-1")
        except UnicodeEncodeError:
            return None
    return None


def kind_of(node: Any) -> str | None:
    return node.name.removeprefix("torch.") if isinstance(node, Named) else None


def whole_numbers(values: Any) -> list[int]:
    found = list(values) if isinstance(values, tuple | list) else []
    if not isinstance(values, tuple | list) or any(not isinstance(n, int) for n in found):
        raise Unreadable("a tensor's shape or place is no whole numbers")
    return found
