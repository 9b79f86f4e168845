"""Files of weights, read without running code from them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from visiontl.errors import WeightsError, did_you_mean, first_line

TYPES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


def read_file(path: Path) -> Mapping[str, Any]:
    """A .safetensors or pickled checkpoint, on the CPU. A pickle may hold tensors and plain values only; one
    that would run code is refused unread. Raises WeightsError naming the file."""
    if not path.exists():
        folder = path.parent
        names = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        where = "" if folder.is_dir() else f" (there is no folder {folder})"
        raise WeightsError(f"weights file {path}: no such file{where}{did_you_mean(path.name, names)}")
    if path.is_dir():
        raise WeightsError(f"weights file {path}: is a folder; name the file in it")
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"weights file {path}: cannot be read as safetensors ({first_line(error)})") from None
    return _read_pickle(path)


def _read_pickle(path: Path) -> Mapping[str, Any]:
    import argparse

    with path.open("rb") as file:
        head = file.read(2)
    if not head.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of protocol 2 and later
        raise WeightsError(f"weights file {path}: damaged, or no file of weights (it begins with {head!r})")
    try:
        # plain values; DINO and MAE save their options
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        named = re.search(r"(?:GLOBAL|global:?|class:?)\s+([\w.]+\.[\w.]+)", text)
        if named or "Unsupported" in text:
            what = f"it asks for {named[1]}" if named else "it holds objects"
            raise WeightsError(
                f"weights file {path}: refused, because loading it would run code from the file ({what}). Only "
                "tensors and plain values are read; save model.state_dict() alone, best as .safetensors"
            ) from None
        raise WeightsError(f"weights file {path}: damaged, or no file of weights ({first_line(error)})") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        if "TorchScript" in str(error):
            raise WeightsError(
                f"weights file {path}: a TorchScript program, which holds code; save its state_dict() instead"
            ) from None
        raise WeightsError(f"weights file {path}: damaged, or no file of weights ({first_line(error)})") from None
    if not isinstance(found, Mapping):
        raise WeightsError(
            f"weights file {path}: holds a {type(found).__name__}; expected a state dict (names -> tensors)"
        )
    return found
