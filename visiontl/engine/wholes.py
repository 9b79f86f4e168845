"""What `init` names, where it is no run: a whole model of a library, a file, a folder or a repository of the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from visiontl import plugins
from visiontl.backbones import files
from visiontl.backbones.downloads import HUB, NotCached, cached_file, hub_file, hub_state, network, offline, read_cached
from visiontl.backbones.matching import tensors_in
from visiontl.config.resolve import INIT, Resolved, resolve
from visiontl.engine.model import model_folder
from visiontl.errors import CheckpointError, ConfigError, WeightsError, first_line
from visiontl.kit.words import did_you_mean, some
from visiontl.processes import ranks
from visiontl.report.console import Console
from visiontl.runs import hub, store
from visiontl.task import Task
from visiontl.whole import Source, Whole

CONFIG, CLASSES = "config.json", "classes.txt"  # beside a file of weights
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a folder that another library saved
KEPT = 2  # whole models that are held between the steps of setting a run up


def names_a_run(text: str) -> bool:
    """Whether `init` means a run (or nothing that is there): a path that is no file of weights and no model folder of
    another library, and no name of a whole model."""
    path = Path(text).expanduser()
    if text.startswith(HUB):
        return hub.holds_run(text)
    return not (
        text.partition(":")[0] in _offered()
        or _like_offered(text)
        or (path.suffix.lower() in files.TYPES and not path.is_dir())
        or _foreign(path)
    )


def task_of(text: str) -> Task | None:
    """The task whose whole model a name is, as `torchvision/NAME[:TAG]`; None for what is no such name."""
    return _offered().get(text.partition(":")[0])


def whole_of(task: Task, text: str) -> Whole:
    """What `init` names as a start of a task. Raises ConfigError for a task that has none, WeightsError for a file that
    is none, or a tag that is not on disk and cannot be fetched."""
    if task.whole is None:
        raise ConfigError(
            f"init: {text}: task {task.name} starts from runs alone, or from the weights of a backbone "
            "(backbone.weights)"
        )
    name = text.partition(":")[0]
    if name in _offered() and _offered()[name].name != task.name:
        raise ConfigError(f"init: {name} is a model of the task {_offered()[name].name}, the config is of {task.name}")
    if name not in _offered() and _like_offered(text) and not Path(text).exists():
        near = did_you_mean(name, task.wholes)
        raise ConfigError(f"init: no whole model {name!r} is known{near}; task {task.name} has {some(task.wholes, 20)}")
    file = _weights_file(text)
    stat = file.stat() if file is not None and file.is_file() else None
    return _read(task.name, text, 0 if stat is None else stat.st_mtime_ns)


def forget() -> None:
    """Let go of the tensors that were read."""
    _read.cache_clear()


@lru_cache(maxsize=KEPT)
def _read(task: str, text: str, modified: int) -> Whole:
    step = plugins.task(task).whole
    assert step is not None
    return step(source_of(text))


def source_of(text: str) -> Source:
    name, _, tag = text.partition(":")
    if text.startswith(HUB):
        repository = text.removeprefix(HUB)
        with _fetching(text, ""):
            state = hub_state(repository)
            try:
                config = hub_file(repository, CONFIG)
            except NotCached:
                config = None
        return Source(text, "", "", lambda url: tensors_in(state, text), config=_config(config))
    file = _weights_file(text)
    if name in _offered() and file is None:
        return Source(text, name, tag, lambda url: _cached(text, url))
    assert file is not None
    known = name if name in _offered() else ""

    def read(url: str) -> Mapping[str, Tensor]:
        return tensors_in(files.read_file(file), str(file))

    return Source(text, known, "", read, file, _config(file.parent / CONFIG), _lines(file.parent / CLASSES))


def with_start(resolved: Resolved, console: Console, fetch: bool = True) -> Resolved:
    """The config with what the whole model that `init` names is of: its backbone, and the keys of the task without
    which it is another model; how it was used stands where the config has its default. A run gives its backbone where
    the config names none. Raises ConfigError where the config says otherwise.

    fetch: what is not on disk may be downloaded; else that raises WeightsError.
    """
    text = resolved.config.init
    if text is None or (resolved.config.resume is not None and resolved.config.backbone.name != INIT):
        return resolved
    if names_a_run(text):
        if resolved.config.backbone.name != INIT:
            return resolved
        try:
            theirs = resolve(model_folder(text) / "config.yaml").config.backbone
        except CheckpointError as error:
            raise CheckpointError(f"init: {error}") from None
        return _changed(resolved, {f"backbone.{key}": value for key, value in theirs.model_dump().items()})
    with nullcontext() if fetch else offline():
        whole = ranks.main_first(lambda: whole_of(resolved.task, text))
    changes = _needed(resolved, whole) | _preferred(resolved.cfg, whole.prefers)
    if not changes:
        return resolved
    shown = {key: value for key, value in changes.items() if key != "backbone.weights"}
    console.say(f"init: {whole.name}: " + ", ".join(f"{key}={_told(value)}" for key, value in shown.items()), keep=True)
    return _changed(resolved, changes)


def _changed(resolved: Resolved, changes: Mapping[str, Any]) -> Resolved:
    """With other values; a word of task.data that stands for data made on the spot still does."""
    return replace(resolve(resolved, [{key: value} for key, value in changes.items()]), made=resolved.made)


def _needed(resolved: Resolved, whole: Whole) -> dict[str, Any]:
    """The changes without which the config describes another model. Raises ConfigError for a key that was given."""
    changes: dict[str, Any] = {}
    section = resolved.config.backbone
    for key, wanted in whole.backbone.items():
        now = getattr(section, key)
        if now == wanted:
            continue
        if now != (INIT if key == "name" else type(section).model_fields[key].default):
            raise ConfigError(
                f"init: {whole.name} has backbone.{key}={_told(wanted)}, the config {_told(now)}; leave it out"
            )
        changes[f"backbone.{key}"] = wanted
    for key, wanted in whole.needs.items():
        now, default = _value(resolved.cfg, key), _default(type(resolved.cfg), key)
        if now == wanted:
            continue
        if now != default:
            raise ConfigError(
                f"init: {whole.name} has task.{key}={_told(wanted)}, the config {_told(now)}; leave it out"
            )
        changes[f"task.{key}"] = wanted
    if changes and section.weights == "default":
        changes["backbone.weights"] = "none"  # all of them come from the whole model
    return changes


def _preferred(cfg: BaseModel, prefers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"task.{key}": wanted
        for key, wanted in prefers.items()
        if _value(cfg, key) != wanted and _value(cfg, key) == _default(type(cfg), key)
    }


def _value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = getattr(cfg, part)
    return cfg.model_dump(mode="json") if isinstance(cfg, BaseModel) else cfg


def _default(model: type[BaseModel], key: str) -> Any:
    first, _, rest = key.partition(".")
    value = model.model_fields[first].get_default(call_default_factory=True)
    if rest:
        return _value(value, rest)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _told(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) < 60 else f"{text[:57]}..."


def _offered() -> dict[str, Task]:
    return {name: task for task in plugins.tasks().values() for name in task.wholes}


def _like_offered(text: str) -> bool:
    """Whether a text begins like the name of a whole model, `library/NAME`, and is no path."""
    starts = {name.partition("/")[0] for name in _offered()}
    return text.partition("/")[0] in starts and text.count("/") == 1 and not Path(text).exists()


def _foreign(path: Path) -> bool:
    """Whether a folder is what another library saved: weights and a config.json, and not a model of ours."""
    if not path.is_dir() or (path / store.MANIFEST).exists():
        return False
    return (path / CONFIG).is_file() and any((path / name).is_file() for name in WEIGHTS)


def _weights_file(text: str) -> Path | None:
    """The file that a text names, alone or behind the name of a whole model; None for a tag and for the hub."""
    if text.startswith(HUB):
        return None
    name, _, rest = text.partition(":")
    if name in _offered():
        path = Path(rest).expanduser()
        named = path.suffix.lower() in files.TYPES or "/" in rest or "\\" in rest
        return path if named else None
    path = Path(text).expanduser()
    if path.is_dir():
        return next(path / name for name in WEIGHTS if (path / name).is_file())
    return path


def _cached(text: str, url: str) -> Mapping[str, Tensor]:
    with _fetching(text, url):
        return tensors_in(read_cached(url, hashed=True), text)


def _fetching(text: str, url: str) -> AbstractContextManager[None]:
    """Within the block a failed download says how to come by the file."""
    way = f"download it where there is one, and name its file (init: FILE) or bring the hub's cache of {text} along"
    if url:
        command = f"import torch; torch.hub.load_state_dict_from_url({url!r}, check_hash=True)"
        name = text.partition(":")[0]
        way = (
            f'fetch it where there is one: `python -c "{command}"`, and bring its file here, as {cached_file(url)} or '
            f"named: init={name}:FILE"
        )
    return network(f"init: {text}: what is not on disk", way=way)


def _config(path: Path | None) -> Mapping[str, Any] | None:
    if path is None or not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"init: {path}: is no JSON ({first_line(error)})") from None
    if not isinstance(found, dict):
        raise WeightsError(f"init: {path}: holds a {type(found).__name__}; a mapping was expected")
    return found


def _lines(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise WeightsError(f"init: {path}: cannot be read ({first_line(error)})") from None
