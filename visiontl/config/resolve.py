"""From a config file and overrides to a validated run. Imports no torch.

A mistake never comes alone: all of them are collected and raised together, each with its line in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from visiontl import plugins
from visiontl.config import older, ready
from visiontl.config.guarded import guarded
from visiontl.config.overrides import apply_override, in_words
from visiontl.config.problems import Keys, Problems, longhand, shown, validate
from visiontl.config.schema import Config
from visiontl.config.yaml_text import Parsed, forbidden, parse_text
from visiontl.errors import ConfigError, PluginError, VisionTLError, closest
from visiontl.task import Task

YAML = (".yaml", ".yml")
INIT = "init"  # the backbone's name where it is that of what `init` names
MADE = ("example", "samples")  # values of task.data that stand for data which the task makes on the spot


@dataclass(frozen=True)
class Resolved:
    """A run whose every key is known and valid.

    config: the core's sections; its `task` holds the name and the complete task section as JSON values.
    cfg: the validated task section, without the name; what the task's functions get.
    source: the file, or "mapping" for a config made in Python.
    made: `task.data` is one of the words MADE: the run asks the task for a data set made on the spot.
    """

    config: Config
    task: Task
    cfg: BaseModel
    source: str
    made: str | None = None


def resolve(
    config: str | Path | Mapping[str, Any] | Config | Resolved, overrides: Sequence[str | Mapping[str, Any]] = ()
) -> Resolved:
    """A config file, mapping, Config or Resolved, with overrides `a.b=c` or {"a.b": c} -> a validated run.

    Raises ConfigError with all mistakes at once.
    """
    if isinstance(config, Resolved) and not overrides:
        return config
    parsed = _parsed(config)
    problems = Problems(parsed.source, ((), Config))
    problems.places.update(parsed.places)
    problems.lines += [f"{place}: {text}" for place, text in parsed.problems]
    values = parsed.values
    for override in in_words(overrides):
        apply_override(values, override, problems, longhand=lambda keys, value: _longhand(values, keys, value))

    if values.get("init") and isinstance(section := values.setdefault("backbone", {}), dict):
        section.setdefault("name", INIT)
    task = _find_task(values, problems)
    if task is not None:
        problems.sections.append((("task",), task.config))
        _apply_defaults(values, task, problems)
    core = validate(Config, values, (), problems)
    cfg = _validate_task(values, task, problems) if task is not None else None
    if core is not None:
        _check_policy(core, task, cfg, problems)
        if task is not None and cfg is not None:
            _check_best(core, task, cfg, problems)
    problems.raise_any()
    assert task is not None
    assert core is not None
    assert cfg is not None
    section = values.get("task")
    data = section.get("data") if isinstance(section, dict) else None
    made = data if isinstance(data, str) and data in MADE else None
    return replace(_resolved(core, task, cfg, parsed.source), made=made)


def task_name(config: str | Path) -> str:
    """The task that a config names, whatever else is in it. Raises ConfigError for a file that cannot be read."""
    section = _read(Path(config)).values.get("task")
    return str(section.get("name")) if isinstance(section, dict) else ""


def with_task_data(resolved: Resolved, data: Any, beside: Mapping[str, Any] | None = None) -> Resolved:
    """The same run on other data: `task.data` replaced, and the keys beside it that belong to it.

    Raises ConfigError for a task without that key.
    """
    if "data" not in type(resolved.cfg).model_fields:
        raise ConfigError(f"task {resolved.task.name!r} has no key `data` that other data could be given to")
    values = {**resolved.cfg.model_dump(), **(beside or {}), "data": data}
    problems = Problems(resolved.source, (("task",), resolved.task.config))
    cfg = validate(resolved.task.config, values, ("task",), problems)
    problems.raise_any()
    assert cfg is not None
    return _resolved(resolved.config, resolved.task, cfg, resolved.source)


def as_begun(resolved: Resolved) -> Resolved:
    """The config without what only a continuation says: where the run's folder is on this machine."""
    return replace(resolved, config=resolved.config.model_copy(update={"resume": None}))


def _parsed(config: str | Path | Mapping[str, Any] | Config | Resolved) -> Parsed:
    if isinstance(config, Resolved):
        return Parsed(config.config.model_dump(), {}, [], config.source)
    if isinstance(config, Config):
        return Parsed(config.model_dump(exclude_unset=True), {}, [], "mapping")
    if isinstance(config, Mapping):
        problems: list[tuple[str, str]] = []
        return Parsed(_copied(config, (), problems), {}, problems, "mapping")
    if not isinstance(config, str | Path):
        raise ConfigError(f"a config is a file's path, a mapping or a Config; got {type(config).__name__}")
    return _read(Path(config))


def _read(path: Path) -> Parsed:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; {_in_folder(path)}")
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise ConfigError(f"{path}: is no regular file; save the config to one")
        if path.suffix not in YAML and (run := _run_around(path)) is not None:
            raise ConfigError(f"{path}: is a file of the run {run}, not a config; name the run's folder")
        raw = path.read_bytes()
    except FileNotFoundError:
        known = ready.runs()
        if str(path) not in known:
            raise ConfigError(f"{path}: no such file{_first(path) or _near_file(path, known)}") from None
        return parse_text(known[str(path)].read_text(encoding="utf-8"), f"{ready.PREFIX}{path}.yaml")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text (byte {raw[error.start]:#04x})") from None
    parsed = parse_text(text, str(path))
    return older.in_words_of_today(parsed) if older.of_a_run(path) else parsed


def _run_around(path: Path) -> Path | None:
    """The run folder that a file lies in, not deeper than a checkpoint's files do."""
    return next(
        (one for one in list(path.parents)[:3] if (one / "config.yaml").is_file() and _holds_weights(one)), None
    )


def _holds_weights(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("model", "checkpoints"))


def _in_folder(path: Path) -> str:
    """What to do with a folder that was named in place of a config: a run, data, or one that holds configs."""
    inside = sorted(p.name for p in path.iterdir() if p.suffix in YAML)
    if "config.yaml" in inside and _holds_weights(path):
        return (
            f"it is a run, made of the config {path / 'config.yaml'}: with resume={path} behind it the run goes on; "
            f"init={path} behind another config starts from its weights"
        )
    if inside:
        return f"name a config file; it holds {', '.join(inside[:8])}"
    return f"name a config file, and data behind it: task.data={path}"


def _first(path: Path) -> str:
    """What to write where `resume=RUN` stands in the place of the config."""
    key, _, run = str(path).partition("=")
    return f"; the run's own config comes before it: {run}/config.yaml resume={run}" if key == "resume" and run else ""


def _near_file(path: Path, known: Iterable[str]) -> str:
    """What a mistyped path, or name of a ready config, may have meant."""
    folder = path.parent
    if str(path) in ready.configs():
        return f"; it is a file for `accelerate launch --config_file`: `visiontl configs cp {path}` copies it"
    if len(same := [name for name in known if name.endswith(f"/{path}")]) > 1:
        return f"; ready configs of that name are {', '.join(same)}"
    if of_task := [name for name in known if name.startswith(f"{path}/")]:
        return f"; ready configs of that task are {', '.join(of_task)}"
    names = [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml", ".json")] if folder.is_dir() else []
    near = [str(folder / name) for name in closest(path.name, names, 1) or closest(path.name + ".yaml", names, 1)]
    plain = str(path).removeprefix("configs/").removesuffix(".yaml")
    leaves = closest(plain, {name.rpartition("/")[2] for name in known}, 1)
    alike = [name for name in known if name.rpartition("/")[2] in leaves]
    ready_ones = [plain] if plain in known else closest(plain, known, 1) if "/" in plain else alike
    if near or ready_ones:
        meant = [*map(repr, near), *(f"{name!r}, which is a ready config" for name in ready_ones)]
        return f"; did you mean {' or '.join(meant)}?"
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    within = f" in {str(folder)!r}" if str(folder) != "." else ""
    missing = "" if path.parent.is_dir() else f"; the folder {str(path.parent)!r} does not exist{within}"
    return f"{missing}; `visiontl configs` lists the ready ones"


def _copied(value: Any, path: Keys, problems: list[tuple[str, str]], depth: int = 0) -> Any:
    """A caller's mapping -> our own plain copy, so that overrides do not reach the caller's."""
    if depth > 50:
        problems.append(("mapping", f"{'.'.join(path[:3])}...: nested more than 50 levels deep, or within itself"))
        return None
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, Mapping):
        made = {}
        for key, item in value.items():
            if isinstance(key, bool) or not isinstance(key, str | int):
                problems.append(("mapping", f"{'.'.join((*path, str(key)))}: a key must be text or a whole number"))
            else:
                made[key] = _copied(item, (*path, str(key)), problems, depth + 1)
        return made
    if isinstance(value, list | tuple):
        return [_copied(item, (*path, str(i)), problems, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) and (bad := forbidden(value)):
        problems.append(("mapping", f"{'.'.join(path)}: {bad}"))
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        problems.append(("mapping", f"{'.'.join(path)}: {value} is not a finite number"))
    return value


def _find_task(values: dict[str, Any], problems: Problems) -> Task | None:
    section = values.get("task")
    if section is None or not isinstance(section, dict):
        names = ", ".join(sorted(plugins.tasks())) or "none is installed"
        given = "is missing" if section is None else f"got {shown(section)}"
        problems.add(("task",), f"{given}; expected a mapping with a name ({names}) and the task's own keys")
        return None
    name = section.get("name")
    if not isinstance(name, str):
        names = ", ".join(sorted(plugins.tasks())) or "none is installed"
        given = "is missing" if name is None else f"got {shown(name)}"
        problems.add(("task", "name"), f"{given}; expected a task's name: {names}")
        return None
    try:
        return guarded(plugins.task(name))
    except ConfigError as error:
        for line in error.problems:
            problems.add(("task", "name"), line)
    except VisionTLError as error:
        problems.add(("task", "name"), str(error))
    return None


def _longhand(values: Mapping[str, Any], keys: Keys, value: Any) -> Any:
    """The mapping that a key's value is short for by its section's own validators, or the value itself."""
    if keys[0] != "task":
        return longhand(Config, keys, value)
    section = values["task"]
    name = section.get("name") if isinstance(section, dict) else None
    task = plugins.tasks().get(name) if isinstance(name, str) else None
    if task is None or len(keys) == 1 or value in MADE:  # no folder of that name, but a set made on the spot
        return value
    return longhand(task.config, keys[1:], value)


def _apply_defaults(values: dict[str, Any], task: Task, problems: Problems) -> None:
    """The task's preferences, below what the file and the overrides say."""
    for key, value in task.defaults.items():
        parts = tuple(key.split("."))
        if parts[0] == "task":
            problems.lines.append(f"task {task.name!r}: its default {key!r} is no core key; give the field a default")
            continue
        here: Any = values
        for part in parts[:-1]:
            if not isinstance(here, dict):
                break
            here = here.setdefault(part, {})
        if isinstance(here, dict) and parts[-1] not in here:
            here[parts[-1]] = value
            problems.places[parts] = f"default of task {task.name!r}"


def _validate_task(values: dict[str, Any], task: Task, problems: Problems) -> BaseModel | None:
    section = {key: value for key, value in values["task"].items() if key != "name"}
    return validate(task.config, section, ("task",), problems)


def _check_policy(core: Config, task: Task | None, cfg: BaseModel | None, problems: Problems) -> None:
    value = core.freeze.policy
    try:
        plugins.policy(value)
    except (VisionTLError, ValueError, TypeError) as error:
        problems.add(("freeze", "policy"), str(error).removeprefix("freeze.policy: "))
        return
    except Exception as error:  # a plugin's factory that was not written for this value
        problems.add(("freeze", "policy"), f"{shown(value)} cannot be made: {type(error).__name__}: {error}")
        return
    if task is not None and cfg is not None and task.refuse is not None:
        name = next(iter(value)) if isinstance(value, Mapping) else value.partition(":")[0].strip()
        reason = task.refuse(cfg, name)
        if reason:
            problems.add(("freeze", "policy"), f"{name} makes no sense for task {task.name}: {reason}")


def ranked(task: Task, cfg: BaseModel) -> dict[str, str]:
    """{score: "max" or "min"}: what may pick the best weights under this config, the task's default first. Raises
    PluginError for an answer of a task's `ranked` that is none."""
    if task.ranked is None:
        return dict([task.best])
    found = task.ranked(cfg)
    if not isinstance(found, Mapping) or not found or set(found.values()) - {"max", "min"}:
        raise PluginError(f"task {task.name!r}: ranked gave {shown(found)}; expected {{score: 'max' or 'min'}}")
    return dict(found)


def _check_best(core: Config, task: Task, cfg: BaseModel, problems: Problems) -> None:
    wanted = core.train.best
    if wanted is None or wanted in (known := ranked(task, cfg)):
        return
    near = closest(wanted, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    problems.add(
        ("train", "best"),
        f"{wanted!r} is no score of task {task.name} that can pick the best weights here{hint}; "
        f"they are {', '.join(known)}",
    )


def _resolved(core: Config, task: Task, cfg: BaseModel, source: str) -> Resolved:
    section = {"name": task.name, **cfg.model_dump(mode="json")}
    return Resolved(core.model_copy(update={"task": section}), task, cfg, source)
