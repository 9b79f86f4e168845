"""What features belong to, as sha256: the image itself, the weights, the way from a photo to the image."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import pickle
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visiontl.backbone import Backbone

FORMAT = 1  # raised when what is stored means something else
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow")  # what may move a pixel or a feature
OWN = ("backbone.py", "spec.py", "backbones", "kit")  # of this package, likewise


def tensor_bytes(tensor: Tensor) -> memoryview:
    """What a tensor on the CPU holds."""
    plain = tensor.detach().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else memoryview(b"")


def image_key(image: Tensor) -> bytes:
    """32 bytes that tell an image as the backbone is fed it from all others."""
    found = hashlib.sha256(f"{image.dtype} {tuple(image.shape)} ".encode())
    found.update(tensor_bytes(image))
    return found.digest()


def key_of(about: Any) -> str:
    """JSON values -> 32 hex digits, enough for the name of a file."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def backbone_key(backbone: Backbone, precision: str, device: torch.device) -> dict[str, Any]:
    """All that decides what a backbone in eval mode gives for an image, in JSON values.

    The machine's kind counts, since another one rounds otherwise.
    """
    state = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        state.update(tensor_bytes(tensor.cpu()))
    on_gpu = device.type == "cuda"
    return {
        "format": FORMAT,
        "backbone": backbone.name,
        "weights": state.hexdigest(),
        "structure": hashlib.sha256(repr(backbone).encode()).hexdigest(),
        "preprocessing": backbone.spec.to_json(),
        "precision": precision,
        "channels_last": backbone.channels_last,
        "device": torch.cuda.get_device_name(device) if on_gpu else f"{device.type} {_cpu()}",
        "code": sources_key([*_own(), *_file_of(type(backbone))]),
        "versions": versions(),
    }


def reading_key(split: Any, reader: Any, seed: int | None) -> str | None:
    """What decides, beside the content of files, the samples of a split: its own state, the code and the libraries.

    reader: an object of the task, whose package's code counts. seed: None where no sample depends on it. None for a
    split that cannot be told from another one.
    """
    try:
        state = _state_key(split)
    except Exception:  # whatever a stranger's object raises when it is pickled
        return None
    code = sources_key([*_own(), *_package_of(reader)])
    return key_of([FORMAT, state, code, versions(), seed, f"{type(split).__module__}.{type(split).__qualname__}"])


def sources_key(files: Iterable[Path]) -> str:
    """sha256, in hex, of files of code; those that are gone count as empty."""
    found = hashlib.sha256()
    for path in files:
        found.update(f"{path.name} ".encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


@cache
def versions() -> Mapping[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


@cache
def _own() -> tuple[Path, ...]:
    root = Path(__file__).parents[1]
    return tuple(path for name in OWN for path in (sorted((root / name).rglob("*.py")) or [root / name]))


def _file_of(kind: type) -> list[Path]:
    try:
        return [Path(inspect.getfile(kind))]
    except (TypeError, OSError):  # made in a notebook or in C
        return []


def _package_of(thing: Any) -> list[Path]:
    """The files of the package in which a function or class was written."""
    module = sys.modules.get(getattr(thing, "__module__", None) or type(thing).__module__)
    package = sys.modules.get((module.__name__ if module else "").partition(".")[0])
    file = getattr(package, "__file__", None)
    if file is None:
        return []
    return sorted(Path(file).parent.rglob("*.py")) if Path(file).name == "__init__.py" else [Path(file)]


def _cpu() -> str:
    return torch.backends.cpu.get_cpu_capability()


class _Told(pickle.Pickler):
    """Writes tensors and arrays as the hash of what they hold: torch's own way names their place in memory."""

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return "tensor", image_key(obj.cpu())
        if isinstance(obj, np.ndarray) and obj.dtype != object:
            plain = np.ascontiguousarray(obj)
            return "array", plain.dtype.str, plain.shape, hashlib.sha256(plain.tobytes()).digest()
        if isinstance(obj, set | frozenset):  # their order is another one in each process
            return "set", sorted(hashlib.sha256(_pickled(one)).digest() for one in obj)
        return None


def _pickled(value: Any) -> bytes:
    kept = io.BytesIO()
    _Told(kept, protocol=5).dump(value)
    return kept.getvalue()


def _state_key(split: Any) -> str:
    return hashlib.sha256(_pickled(split)).hexdigest()
