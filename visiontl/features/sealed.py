"""Files of tensors that are either whole or not there: safetensors with a checksum over all of it, written aside and
renamed. Never a pickle; read by mapping the file into memory."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from visiontl.features.keys import tensor_bytes

SUFFIX = ".safetensors"
WRITING = ".writing-"


class Damaged(Exception):
    """A file that is not as it was written, in words."""


def write(path: Path, tensors: Mapping[str, Tensor], text: str = "") -> None:
    """Raises OSError where the disk refuses; what stood there before stays then. text: kept beside the tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    aside = path.with_name(f"{WRITING}{uuid.uuid4().hex}-{path.name}")  # two processes may write the same file
    try:
        try:
            content = save(plain, {"text": text, "sha256": _sum(plain, text)})
        except SafetensorError as error:  # such as names that it does not take
            raise OSError(str(error)) from error
        aside.write_bytes(content)  # save_file would hide it from other users
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """(tensors that lie in the file itself until they are touched, text). Raises Damaged."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise Damaged(f"{path}: is no plain file")
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise Damaged(f"{path}: cannot be read ({error})") from None
    text = about.get("text", "")
    if about.get("sha256") != _sum(tensors, text):
        raise Damaged(f"{path}: does not match its checksum")
    return tensors, text


class Lock:
    """A lock of that name, which the system takes back from a process that dies. Where the file system knows none,
    or takes no file, everybody has it: the same is then computed twice."""

    def __init__(self, path: Path):
        self.path = path
        self.descriptor: int | None = None

    def take(self) -> bool:
        """Hold it; False where another process does."""
        try:
            import fcntl
        except ImportError:  # Windows
            return True
        try:
            if self.descriptor is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def leave(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _sum(tensors: Mapping[str, Tensor], text: str) -> str:
    """sha256, in hex, over names, types, shapes and bytes."""
    about = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in sorted(tensors)]
    found = hashlib.sha256(json.dumps([about, text]).encode())
    for name in sorted(tensors):
        found.update(tensor_bytes(tensors[name]))
    return found.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
