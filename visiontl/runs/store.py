"""Folders of tensors and JSON that are either whole or not there: temporary folder, fsync, manifest with
sha256, rename, fsync of the parent; read back before an older one goes. No pickle anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from visiontl.backbones.matching import not_finite
from visiontl.errors import CheckpointError
from visiontl.runs.files import read_text

FORMAT = 1  # raised when an older reader could not read what is written
MANIFEST = "manifest.json"
OWN = {
    *("model.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json", "config.yaml", "meta.json"),
    *("preprocessing.json", "visiontl.json", "scores.json"),
}  # names of files that are read, and so must be listed
HEADERS = 1 << 20  # bytes; safetensors headers and the manifest stay far below

Content = Mapping[str, Tensor] | str  # a file's content: tensors (safetensors) or text


def write_folder(folder: Path, files: Mapping[str, Content]) -> None:
    """Write the files as one folder that appears at once, in place of one of the same name.

    Raises CheckpointError when the disk has no room for it or gives back other bytes, OSError when writing fails;
    the old one stays then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    require_space(folder.parent, size(files))
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
        reason = damage(temporary)
        if reason:
            raise CheckpointError(f"{folder}: reads back damaged just after it was written ({reason}); check the disk")
        _replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def size(files: Mapping[str, Content]) -> int:
    """Bytes that the files will take, with room for headers and the manifest."""
    tensors = [tensor for content in files.values() if not isinstance(content, str) for tensor in content.values()]
    text = sum(len(content) * 4 for content in files.values() if isinstance(content, str))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + text + HEADERS


def require_space(folder: Path, needed: int) -> None:
    """Raise CheckpointError unless the disk under the folder has that many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(f"{folder}: {needed / 1e6:.1f} MB are needed, the disk has {free / 1e6:.1f} MB free")


def recover(parent: Path) -> None:
    """Put right what a kill inside `write_folder` left: a folder that had stepped aside comes back where its
    successor never arrived, and what was half written goes."""
    for old in parent.glob(".old-*"):
        folder = parent / old.name.removeprefix(".old-")
        if not folder.exists():
            old.rename(folder)
    for left in [*parent.glob(".old-*"), *parent.glob(".writing-*")]:
        _remove(left)


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
    if not (folder / MANIFEST).is_file():  # a pipe of that name would be waited for
        return f"no {MANIFEST}"
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
        if not files:
            return f"{MANIFEST} lists no files"
        # what else lies there (a model's card, its license) is nobody's business; it is never read
        unlisted = sorted({path.name for path in folder.iterdir()} & OWN - files.keys())
        if unlisted:
            return f"{MANIFEST} does not list {unlisted[0]}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    return None


def require(folder: Path) -> None:
    """Raise CheckpointError unless the folder is whole."""
    reason = damage(folder)
    if reason:
        raise CheckpointError(f"{folder}: {reason}; it is no complete folder of visiontl")


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Raises CheckpointError naming a file that cannot be read."""
    try:
        return load_file(folder / name)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{folder / name}: cannot be read ({error})") from None


def require_finite(path: Path, tensors: Mapping[str, Tensor], parameters: Container[str]) -> None:
    """Raise CheckpointError for weights of which `not_finite` names some: every answer of such a model is NaN."""
    broken = not_finite(tensors, parameters)
    if broken:
        raise CheckpointError(
            f"{path}: {len(broken)} of its {len(tensors)} tensors hold values that are no finite numbers, or are too "
            f"large to compute with, such as {', '.join(broken[:3])}; its training diverged or the file was changed: "
            "nothing can be computed with it. Train again with a smaller optim.lr"
        )


def put_into(model: nn.Module, state: Mapping[str, Tensor], path: Path | None) -> None:
    """A whole state into its model. Raises CheckpointError for one that does not fit."""
    own = model.state_dict()
    odd = [name for name, value in state.items() if name in own and value.is_complex() != own[name].is_complex()]
    if odd:
        raise CheckpointError(f"{path or 'the model'}: complex numbers in the place of real ones: {', '.join(odd[:3])}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        said = " ".join(line.strip() for line in str(error).splitlines()[1:3])[:300]
        raise CheckpointError(
            f"{path or 'the model'}: its weights do not fit the model that its config builds; another version of the "
            f"task or of the backbone's library? {said}"
        ) from error


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Raises CheckpointError naming a file that cannot be read, or holds something else than keys."""
    try:
        found = json.loads(read_text(folder / name))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / name}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / name}: holds a {type(found).__name__}; a mapping was expected")
    return found


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
            _remove(path)
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
    _remove(old)
    if os.path.lexists(folder):  # be it a link to nothing
        folder.rename(old)
    temporary.rename(folder)
    _sync(folder.parent)
    _remove(old)


def _remove(path: Path) -> None:
    """A folder, or what stands in its place; nothing when it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
