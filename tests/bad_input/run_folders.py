"""Run folders that were cut, edited, moved, or written by another version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Damage:
    """do: what happens to a folder of visiontl (model/ or a checkpoint). words: what the error says."""

    name: str
    do: Callable[[Path], Any]
    words: tuple[str, ...]


def cut(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def emptied(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(b"")


def removed(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def put(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def folder_for(name: str) -> Callable[[Path], Any]:
    def do(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return do


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def do(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        change(content)
        (folder / MANIFEST).write_text(json.dumps(content))

    return do


def edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """A file changed and its sum put right, as somebody who means it would do."""

    def do(folder: Path) -> None:
        content = change((folder / name).read_bytes())
        (folder / name).write_bytes(content)
        sums = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest(lambda whole: whole["files"].update({name: sums}))(folder)

    return do


def outside(name: str) -> Callable[[Path], Any]:
    return manifest(lambda whole: whole["files"].update({name: {"sha256": "0" * 64, "bytes": 0}}))


COMMON = [
    Damage("no manifest", removed(MANIFEST), (MANIFEST,)),
    Damage("an empty manifest", emptied(MANIFEST), (MANIFEST, "cannot be read")),
    Damage("a manifest cut short", cut(MANIFEST), (MANIFEST, "cannot be read")),
    Damage("a manifest that is a list", put(MANIFEST, b"[]"), (MANIFEST, "cannot be read")),
    Damage("a manifest of null", put(MANIFEST, b"null"), (MANIFEST, "cannot be read")),
    Damage("a binary manifest", put(MANIFEST, b"\xff\xfe\0"), (MANIFEST, "cannot be read")),
    Damage("a manifest nested without end", put(MANIFEST, b"[" * 100_000), (MANIFEST, "cannot be read")),
    Damage("a manifest with NaN", put(MANIFEST, b'{"format": NaN, "files": {}}'), ("format nan",)),
    Damage("a folder for the manifest", folder_for(MANIFEST), (MANIFEST,)),
    Damage("a newer format", manifest(lambda whole: whole.update(format=99)), ("format 99", "reads format 1")),
    Damage("a format in words", manifest(lambda whole: whole.update(format="one")), ("format one",)),
    Damage("a manifest of no files", manifest(lambda whole: whole.update(files={})), ("manifest",)),
    Damage("a file above", outside("../../../secret.txt"), ("../../../secret.txt",)),
    Damage("an absolute file", outside("/etc/passwd"), ("/etc/passwd",)),
    Damage("a file with a NUL", outside("a\0b"), ("",)),
    Damage("weights cut short", cut("model.safetensors"), ("model.safetensors has", "bytes instead of")),
    Damage("weights gone", removed("model.safetensors"), ("model.safetensors is missing",)),
    Damage("a folder for the weights", folder_for("model.safetensors"), ("model.safetensors",)),
    Damage("rubbish for weights", edited("model.safetensors", lambda b: b"rubbish" * 9), ("model.safetensors",)),
]

MODELS = [
    *COMMON,
    Damage("the config gone", removed("config.yaml"), ("config.yaml is missing",)),
    Damage("the config edited by hand", put("config.yaml", b"task: {name: x}\n"), ("config.yaml",)),
    Damage("a config of rubbish", edited("config.yaml", lambda b: b"- a\n"), ("config.yaml:1: holds a list",)),
    Damage("an unknown key", edited("config.yaml", lambda b: b + b"\nfuture: 1\n"), ("future: unknown key",)),
    Damage(
        "an object in the config",
        edited("config.yaml", lambda b: b + b"\nx: !!python/name:os.system\n"),
        ("not allowed",),
    ),
    Damage(
        "another backbone",
        edited("config.yaml", lambda b: b.replace(b"visiontl/tiny", b"timm/resnet18")),
        ("weights do not fit",),
    ),
    Damage(
        "a task that is not there",
        edited("config.yaml", lambda b: b.replace(b"classification", b"sorting")),
        ("no task 'sorting'",),
    ),
    Damage("meta cut", edited("meta.json", lambda b: b[:-5]), ("meta.json",)),
    Damage("meta that is a list", edited("meta.json", lambda b: b"[]"), ("meta.json",)),
    Damage("meta without classes", edited("meta.json", lambda b: b"{}"), ("meta.json",)),
    Damage("preprocessing cut", edited("preprocessing.json", lambda b: b[:-5]), ("preprocessing.json",)),
    Damage("preprocessing of nothing", edited("preprocessing.json", lambda b: b"{}"), ("preprocessing.json",)),
    Damage(
        "preprocessing of rubbish",
        edited("preprocessing.json", lambda b: b.replace(b"32", b'"x"')),
        ("preprocessing.json",),
    ),
]

CHECKPOINTS = [
    *COMMON,
    Damage("the state gone", removed("state.json"), ("state.json is missing",)),
    Damage("the state cut", edited("state.json", lambda b: b[:-5]), ("state.json",)),
    Damage(
        "a state of another version", edited("state.json", lambda b: b'{"visiontl": "9.0", "step": 1}'), ("state.json",)
    ),
    Damage("a state that is a list", edited("state.json", lambda b: b"[]"), ("state.json",)),
    Damage("optimizer gone", removed("optimizer.safetensors"), ("optimizer.safetensors is missing",)),
    Damage(
        "rubbish for the optimizer", edited("optimizer.safetensors", lambda b: b"x" * 99), ("optimizer.safetensors",)
    ),
]
