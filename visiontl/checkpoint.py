"""Folders of tensors and JSON that are either whole or not there: temporary folder, fsync, manifest with
sha256, rename, fsync of the parent; read back before an older one goes. No pickle anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from visiontl.errors import CheckpointError

FORMAT = 1  # raised when an older reader could not read what is written
MANIFEST = "manifest.json"

Content = Mapping[str, Tensor] | str  # a file's content: tensors (safetensors) or text


def write_folder(folder: Path, files: Mapping[str, Content]) -> None:
    """Write the files as one folder that appears at once, in place of one of the same name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".writing-{folder.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        sums = {}
        for name, content in files.items():
            path = temporary / name
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            else:
                _save_tensors(content, path)
            _sync(path)
            sums[name] = {"sha256": _sha256(path), "bytes": path.stat().st_size}
        manifest = temporary / MANIFEST
        manifest.write_text(json.dumps({"format": FORMAT, "files": sums}, indent=1), encoding="utf-8")
        _sync(manifest)
        _sync(temporary)
        _replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    reason = damage(folder)
    if reason:
        raise CheckpointError(f"{folder}: reads back damaged just after it was written ({reason}); check the disk")


def copy_folder(source: Path, folder: Path) -> None:
    """The same folder under another name, by hard links where the disk allows: costs no space."""
    temporary = folder.parent / f".writing-{folder.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source, temporary, copy_function=_link)
        _sync(temporary)
        _replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def damage(folder: Path) -> str | None:
    """Why the folder cannot be trusted, or None when every file is as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format"], manifest["files"]
        if version != FORMAT:
            return f"written in format {version}; this version reads format {FORMAT}"
        for name, expected in files.items():
            path = folder / name
            if Path(name).name != name or not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != expected["bytes"]:
                return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
            if _sha256(path) != expected["sha256"]:
                return f"{name} does not match its sha256"
    except FileNotFoundError:
        return f"no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    return None


def require(folder: Path) -> None:
    """Raise CheckpointError unless the folder is whole."""
    reason = damage(folder)
    if reason:
        raise CheckpointError(f"{folder}: {reason}; it is no complete folder of visiontl")


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / name)


def read_json(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def step_folders(folder: Path) -> list[Path]:
    """Checkpoints of a run, newest first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def newest_whole(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that verifies; says which newer ones did not, and why."""
    for path in step_folders(folder):
        reason = damage(path)
        if reason is None:
            return path
        tell(f"checkpoint {path.name} is damaged and was passed over: {reason}")
    return None


def prune(folder: Path, keep: int = 2, known: Path | None = None) -> None:
    """Remove all older than the newest `keep` whole checkpoints. known: one that was just read back."""
    whole = 0
    for path in step_folders(folder):
        if whole >= keep:
            shutil.rmtree(path, ignore_errors=True)
        elif path == known or damage(path) is None:
            whole += 1


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file({key: _plain(tensor) for key, tensor in tensors.items()}, path)
    except SafetensorError as error:  # its word for a full disk
        raise OSError(str(error)) from error


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", memory_format=torch.contiguous_format).contiguous()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _replace(temporary: Path, folder: Path) -> None:
    """A folder cannot be renamed onto a full one: the old one steps aside for the moment between."""
    old = folder.parent / f".old-{folder.name}"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
