"""Models of the hub that `visiontl push` wrote, as folders on this machine: hf-hub:owner/name[@revision]."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from visiontl.backbones.downloads import HUB, NotCached, hub_file, network
from visiontl.errors import CheckpointError
from visiontl.runs import store

NAME = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}")
REVISION = re.compile(r"\w[\w./-]{0,99}")
MARK = "visiontl.json"  # what a repository with a model of visiontl has
INSTEAD = "name a run folder on this machine"
SHORT = 12  # signs of a commit, as a folder is called


def is_name(run: str | os.PathLike[str]) -> bool:
    return str(run).startswith(HUB)


def repository_of(text: str) -> str:
    """hf-hub:owner/name[@revision] -> owner/name[@revision]. Raises CheckpointError."""
    repository = text.removeprefix(HUB)
    name, at, revision = repository.partition("@")
    if not NAME.fullmatch(name) or ".." in repository or (at and not REVISION.fullmatch(revision)):
        raise CheckpointError(f"{text!r:.120}: {HUB}owner/name was expected, or {HUB}owner/name@REVISION")
    return repository


def holds_run(text: str) -> bool:
    """Whether a repository holds a model that `visiontl push` wrote; no where the hub cannot be asked and nothing is
    known of it. Raises CheckpointError, WeightsError."""
    repository = repository_of(text)
    try:
        return hub_file(repository, MARK) is not None
    except NotCached:
        return False
    except Exception:  # what is wrong with the repository is told by those who read it
        return False


def fetched(run: str | os.PathLike[str]) -> Path:
    """The folder of a run or model; that of hf-hub:owner/name is downloaded where it is not on this machine yet, and is
    then as complete as any other. Raises CheckpointError for a repository that holds none, WeightsError for what cannot
    be downloaded."""
    return _fetched(str(run)) if is_name(run) else Path(run)


@lru_cache(maxsize=32)
def _fetched(text: str) -> Path:
    repository = repository_of(text)
    with network(text, way=INSTEAD):
        manifest = hub_file(repository, store.MANIFEST)
        if manifest is None or hub_file(repository, MARK) is None:
            raise CheckpointError(
                f"{text}: holds no model that `visiontl push` wrote ({store.MANIFEST}, {MARK}); weights of other "
                "libraries go into backbone.weights or init"
            )
        commit = manifest.parent.name  # of one commit, whatever is pushed meanwhile
        name = repository.partition("@")[0]
        folder = home() / name.replace("/", "--") / commit[:SHORT] / "model"
        if store.damage(folder) is None:
            return folder
        files = {store.MANIFEST: manifest}
        for one in listed(manifest, text):
            path = hub_file(f"{name}@{commit}", one)
            if path is None:
                raise CheckpointError(f"{text}: lacks {one}, which its {store.MANIFEST} lists")
            files[one] = path
    put(files, folder)
    reason = store.damage(folder)
    if reason is not None:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointError(f"{text}: {reason}; it is no complete model, push it again")
    return folder


def listed(manifest: Path, text: str) -> list[str]:
    """The files of a model: of those that visiontl reads alone, so that no name leads elsewhere."""
    try:
        files: Any = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        names = [str(name) for name in files]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{text}: its {store.MANIFEST} cannot be read ({type(error).__name__})") from None
    odd = [name for name in names if name not in store.OWN]
    if odd or "model.safetensors" not in names:
        said = f"lists {odd[0]!r:.80}" if odd else "lists no model.safetensors"
        raise CheckpointError(f"{text}: its {store.MANIFEST} {said}; it is no model of visiontl")
    return names


def put(files: dict[str, Path], folder: Path) -> None:
    """The files as one folder, which appears at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".fetching-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        for name, path in files.items():
            source = path.resolve()  # the hub's cache holds links
            try:
                os.link(source, temporary / name)
            except OSError:
                shutil.copyfile(source, temporary / name)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another process was quicker
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def home() -> Path:
    """Where models of the hub lie, beside its own cache."""
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "visiontl"


def folder_for(run: str | os.PathLike[str]) -> Path | None:
    """Where what is made with a model of the hub goes: runs/OWNER--NAME; None for a run of this machine."""
    if is_name(run):
        return Path("runs") / repository_of(str(run)).partition("@")[0].replace("/", "--")
    whole = Path(os.path.abspath(run))
    if home() not in whole.parents:
        return None
    return Path("runs") / whole.relative_to(home()).parts[0]
