"""Files of weights, read without running code from them."""

from __future__ import annotations

import pickle
import re
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from visiontl.backbones import bounds, hdf5
from visiontl.backbones.pickles import Unreadable
from visiontl.errors import WeightsError, did_you_mean, first_line

# What scripts of training leave in checkpoints: beginnings of names, and what they are
HARMLESS = {
    "numpy.core.multiarray.scalar": "a NumPy scalar",
    "numpy._core.multiarray.scalar": "a NumPy scalar",
    "numpy": "a NumPy array or type",
    "pathlib": "a path",
}
TYPES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", hdf5.SUFFIX)


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
    if not path.is_file():  # a pipe would be waited for
        raise WeightsError(f"weights file {path}: is a pipe or a device; a plain file was expected")
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"weights file {path}: cannot be read as safetensors ({first_line(error)})") from None
    if path.suffix.lower() == hdf5.SUFFIX:
        return hdf5.read(path)
    return _read_pickle(path)


def _read_pickle(path: Path) -> Mapping[str, Any]:
    import argparse

    try:
        with path.open("rb") as file:
            head, tar = file.read(2), bounds.is_tar(file)
    except OSError as error:
        raise WeightsError(f"weights file {path}: cannot be read ({error.strerror or error})") from None
    if tar:
        raise WeightsError(
            f"weights file {path}: a tar archive; unpack it, or load and save it again with the torch that wrote it "
            "(before 0.2)"
        )
    if not head.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of protocol 2 and later
        raise WeightsError(f"weights file {path}: damaged, or no file of weights (it begins with {head!r})")
    try:
        bounds.check(path)
    except bounds.Inflated as error:
        raise WeightsError(f"weights file {path}: claims more than it holds, and was not read: {error}") from None
    except (Unreadable, OSError) as error:
        raise WeightsError(f"weights file {path}: damaged, or no file of weights ({first_line(error)})") from None
    try:
        # plain values; DINO and MAE save their options
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
        bounds.check_views(found)
    except bounds.Inflated as error:
        raise WeightsError(f"weights file {path}: claims more than it holds: {error}") from None
    except pickle.UnpicklingError as error:
        raise WeightsError(f"weights file {path}: {_refusal(error, path)}") from None
    except Exception as error:  # torch's reader raises whatever damaged bytes lead it to
        if "TorchScript" in str(error):
            raise WeightsError(
                f"weights file {path}: a TorchScript program, which holds code; save its state_dict() instead, or try "
                f"{_way_out(path)}"
            ) from None
        kind = "" if isinstance(error, RuntimeError | OSError) else f"{type(error).__name__}: "
        raise WeightsError(f"weights file {path}: damaged, or no file of weights ({kind}{first_line(error)})") from None
    if not isinstance(found, Mapping):
        raise WeightsError(
            f"weights file {path}: holds a {type(found).__name__}; expected a state dict (names -> tensors)"
        )
    return found


def _refusal(error: Exception, path: Path) -> str:
    """Why torch's reader of tensors and plain values stopped, in words."""
    text = str(error)
    named = re.search(r"(?:GLOBAL|global:?|class:?)\s+([\w.]+\.[\w.]+)", text)
    if not named and "Unsupported" not in text:
        return f"damaged, or no file of weights ({first_line(error)})"
    what = named[1] if named else "objects"
    harmless = next((words for start, words in HARMLESS.items() if what.startswith(start)), None)
    if harmless:
        return (
            f"holds {harmless} ({what}) beside its tensors, which is not read here: only tensors and plain values are. "
            f"{_way_out(path)} takes the tensors out of it without running anything; or save model.state_dict() alone"
        )
    return (
        f"refused, because loading it would run code from the file (it {'asks for' if named else 'holds'} {what}). "
        f"Only tensors and plain values are read; save model.state_dict() alone, best as .safetensors. "
        f"{_way_out(path)} takes tensors out of such a file without running anything, or says why it cannot"
    )


def _way_out(path: Path) -> str:
    return f"`visiontl import-weights {shlex.quote(str(path))} {shlex.quote(f'{path.stem}.safetensors')}`"
