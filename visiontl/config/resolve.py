"""From a config file and overrides to a validated run. Imports no torch.

A mistake never comes alone: all of them are collected and raised together, each with its line in the file.
"""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from visiontl import plugins
from visiontl.config.schema import Config
from visiontl.config.yaml_text import Parsed, dump_value, parse_text, parse_value
from visiontl.errors import ConfigError, VisionTLError, closest, did_you_mean
from visiontl.task import Task

COMMENT_COLUMN = 34  # where the comments of `to_yaml` begin
WIDTH = 110  # columns of a printed config

Keys = tuple[str, ...]
"""A key's place: ("optim", "lr")."""


@dataclass(frozen=True)
class Resolved:
    """A run whose every key is known and valid.

    config: the core's sections; its `task` holds the name and the complete task section as JSON values.
    cfg: the validated task section, without the name; what the task's functions get.
    source: the file, or "mapping" for a config made in Python.
    example: `task.data` is the word example: the run asks the task for a small data set made on the spot.
    """

    config: Config
    task: Task
    cfg: BaseModel
    source: str
    example: bool = False


class _Problems:
    """Mistakes and the places of keys, gathered on the way."""

    def __init__(self, source: str):
        self.source = source
        self.lines: list[str] = []
        self.places: dict[Keys, str] = {}

    def add(self, path: Keys, text: str) -> None:
        line = f"{self.place(path)}: {'.'.join(path)}: {text}" if path else f"{self.place(path)}: {text}"
        if line not in self.lines:
            self.lines.append(line)

    def place(self, path: Keys) -> str:
        """`path` need not exist: a single override inside it, or else the nearest known key above it, is to blame."""
        inside = {place for known, place in self.places.items() if known[: len(path)] == path != known}
        overridden = [place for place in inside if place.startswith("override")]
        if path and len(overridden) == 1:
            return overridden[0]
        above = (self.places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.places)
        return next(above, self.source)

    def raise_any(self) -> None:
        """The file's mistakes in the order of its lines, after those of the overrides."""
        if self.lines:
            numbered = re.compile(re.escape(self.source) + r":(\d+): ")
            found = [numbered.match(line) for line in self.lines]
            order = sorted(range(len(found)), key=lambda i: int(match[1]) if (match := found[i]) else -1)
            raise ConfigError([self.lines[i] for i in order], self.source if len(order) > 1 else None)


def resolve(config: str | Path | Mapping[str, Any] | Config | Resolved, overrides: Sequence[str] = ()) -> Resolved:
    """A config file, mapping, Config or Resolved, with overrides `a.b=c` -> a validated run.

    Raises ConfigError with all mistakes at once.
    """
    if isinstance(config, Resolved) and not overrides:
        return config
    parsed = _parsed(config)
    problems = _Problems(parsed.source)
    problems.places.update(parsed.places)
    problems.lines += [f"{place}: {text}" for place, text in parsed.problems]
    values = parsed.values
    for override in overrides:
        _apply_override(values, override, problems)

    task = _find_task(values, problems)
    if task is not None:
        _apply_defaults(values, task, problems)
    core = _validate(Config, values, (), problems, task)
    cfg = _validate_task(values, task, problems) if task is not None else None
    if core is not None:
        _check_policy(core, task, cfg, problems)
    problems.raise_any()
    assert task is not None
    assert core is not None
    assert cfg is not None
    section = values.get("task")
    example = isinstance(section, dict) and section.get("data") == "example"
    return replace(_resolved(core, task, cfg, parsed.source), example=example)


def with_task_data(resolved: Resolved, data: Any) -> Resolved:
    """The same run on other data: `task.data` replaced. Raises ConfigError for a task without that key."""
    if "data" not in type(resolved.cfg).model_fields:
        raise ConfigError(f"task {resolved.task.name!r} has no key `data` that other data could be given to")
    values = {**resolved.cfg.model_dump(), "data": data}
    problems = _Problems(resolved.source)
    cfg = _validate(resolved.task.config, values, ("task",), problems, None)
    problems.raise_any()
    assert cfg is not None
    return _resolved(resolved.config, resolved.task, cfg, resolved.source)


def to_plain(resolved: Resolved) -> dict[str, Any]:
    """The complete config as JSON values; `resolve` turns it into the same run again."""
    return json.loads(json.dumps(resolved.config.model_dump(mode="json")))


def flat_config(resolved: Resolved) -> dict[str, Any]:
    """The complete config as {"optim.lr": 0.001}; what is no plain value becomes text."""
    return _flatten(to_plain(resolved), "")


def _flatten(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat


def config_hash(resolved: Resolved) -> str:
    """sha256, in hex, of what decides a run's numbers: all but `run`, `loader` and `resume`."""
    plain = {key: value for key, value in to_plain(resolved).items() if key not in ("run", "loader", "resume")}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def as_begun(resolved: Resolved) -> Resolved:
    """The config without what only a continuation says: where the run's folder is on this machine."""
    return replace(resolved, config=resolved.config.model_copy(update={"resume": None}))


def to_yaml(resolved: Resolved, comments: bool = True) -> str:
    """The complete config as a file that `resolve` reads back; beside each key its description."""
    lines: list[str] = []
    for name, info in type(resolved.config).model_fields.items():
        value = getattr(resolved.config, name)
        if name == "task":
            about = first_sentence(resolved.task.config.__doc__) if comments else ""
            lines += ["task:", *_yaml_line("  ", "name", resolved.task.name, about)]
            lines += _yaml_lines(resolved.cfg, 1, comments)
        elif isinstance(value, BaseModel):
            lines += ["", f"{name}:", *_yaml_lines(value, 1, comments)]
        else:
            lines += ["", *_yaml_line("", name, value, info.description if comments else "")]
    return "\n".join(lines) + "\n"


def schema(task_name: str | None = None) -> dict[str, Any]:
    """JSON Schema of a whole config; with a task's name, of its section too."""
    whole = Config.model_json_schema()
    if task_name is None:
        return whole
    task = plugins.task(task_name)
    own = task.config.model_json_schema(ref_template=f"#/$defs/{task.name}.{{model}}")
    for name, definition in own.pop("$defs", {}).items():
        whole.setdefault("$defs", {})[f"{task.name}.{name}"] = definition
    own["properties"] = {
        "name": {"const": task.name, "description": "the task", "type": "string"},
        **own.get("properties", {}),
    }
    own["required"] = ["name", *own.get("required", [])]
    whole["properties"]["task"] = own
    return whole


def first_sentence(text: str | None) -> str:
    """What a docstring says first, in one line and without the full stop."""
    return re.split(r"\.(?:\s+(?=[A-Z{])|$)", " ".join((text or "").split()))[0]


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
            inside = sorted(p.name for p in path.iterdir() if p.suffix in (".yaml", ".yml"))
            named = f"; it holds {', '.join(inside[:8])}" if inside else ""
            raise ConfigError(f"{path}: is a folder; name a config file{named}")
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise ConfigError(f"{path}: is no regular file; save the config to one")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_near_file(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text (byte {raw[error.start]:#04x})") from None
    return parse_text(text, str(path))


def _near_file(path: Path) -> str:
    """What a mistyped path may have meant."""
    folder = path.parent
    if folder.is_dir():
        names = [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml", ".json")]
        near = closest(path.name, names, 1) or closest(path.name + ".yaml", names, 1)
        return f"; did you mean {str(folder / near[0])!r}?" if near else ""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return f"; the folder {str(path.parent)!r} does not exist" + (f" in {str(folder)!r}" if str(folder) != "." else "")


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
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        problems.append(("mapping", f"{'.'.join(path)}: {value} is not a finite number"))
    return value


def _apply_override(values: dict[str, Any], override: str, problems: _Problems) -> None:
    key, equals, text = override.partition("=")
    parts = tuple(part.strip() for part in key.split("."))
    if not equals or not all(parts) or any(re.search(r"[\s\[\]{}'\"]", part) for part in parts):
        problems.lines.append(f"override {override!r}: a.b=value was expected, such as train.epochs=5")
        return
    try:
        value = parse_value(text)
    except ConfigError as error:
        problems.lines += [f"override {override!r}: {line}" for line in error.problems]
        return
    here = values
    for i, part in enumerate(parts[:-1]):
        inner = here.get(part)
        if inner is None:
            inner = here[part] = {}
        if not isinstance(inner, dict):
            problems.lines.append(
                f"override {override!r}: {'.'.join(parts[: i + 1])} is {_shown(inner)}, which has no keys; "
                f"replace it as a whole: {'.'.join(parts[: i + 1])}={{{'.'.join(parts[i + 1 :])}: {text}}}"
            )
            return
        here = inner
    here[parts[-1]] = value
    for known in [place for place in problems.places if place[: len(parts)] == parts]:
        del problems.places[known]
    problems.places[parts] = f"override {override!r}"


def _find_task(values: dict[str, Any], problems: _Problems) -> Task | None:
    section = values.get("task")
    if section is None or not isinstance(section, dict):
        names = ", ".join(sorted(plugins.tasks())) or "none is installed"
        given = "is missing" if section is None else f"got {_shown(section)}"
        problems.add(("task",), f"{given}; expected a mapping with a name ({names}) and the task's own keys")
        return None
    name = section.get("name")
    if not isinstance(name, str):
        names = ", ".join(sorted(plugins.tasks())) or "none is installed"
        given = "is missing" if name is None else f"got {_shown(name)}"
        problems.add(("task", "name"), f"{given}; expected a task's name: {names}")
        return None
    try:
        return plugins.task(name)
    except ConfigError as error:
        for line in error.problems:
            problems.add(("task", "name"), line)
    except VisionTLError as error:
        problems.add(("task", "name"), str(error))
    return None


def _apply_defaults(values: dict[str, Any], task: Task, problems: _Problems) -> None:
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


def _validate_task(values: dict[str, Any], task: Task, problems: _Problems) -> BaseModel | None:
    section = {key: value for key, value in values["task"].items() if key != "name"}
    return _validate(task.config, section, ("task",), problems, task)


def _check_policy(core: Config, task: Task | None, cfg: BaseModel | None, problems: _Problems) -> None:
    value = core.freeze.policy
    try:
        plugins.policy(value)
    except (VisionTLError, ValueError, TypeError) as error:
        problems.add(("freeze", "policy"), str(error).removeprefix("freeze.policy: "))
        return
    except Exception as error:  # a plugin's factory that was not written for this value
        problems.add(("freeze", "policy"), f"{_shown(value)} cannot be made: {type(error).__name__}: {error}")
        return
    if task is not None and cfg is not None and task.refuse is not None:
        name = next(iter(value)) if isinstance(value, Mapping) else value.partition(":")[0].strip()
        reason = task.refuse(cfg, name)
        if reason:
            problems.add(("freeze", "policy"), f"{name} makes no sense for task {task.name}: {reason}")


def _validate(
    model: type[BaseModel], values: Mapping[str, Any], prefix: Keys, problems: _Problems, task: Task | None
) -> Any:
    """values -> an instance, or None with every mistake added to `problems`."""
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        _explain(error, model, values, prefix, problems, task)
        return None
    except VisionTLError as error:  # raised by a plugin's validator
        problems.add(prefix, str(error))
        return None
    except Exception as error:  # a plugin's validator that was not written for this value
        problems.add(prefix, f"{type(error).__name__} while checking: {error}")
        return None
    for path in _booleans_as_numbers(values, made):
        problems.add((*prefix, *path), "got true or false; expected a number")
    return made


def _booleans_as_numbers(given: Any, made: Any) -> Iterator[Keys]:
    """Where pydantic read true as 1: a number was meant, or another key."""
    if isinstance(made, BaseModel) and isinstance(given, Mapping):
        for name in type(made).model_fields:
            if name in given:
                for path in _booleans_as_numbers(given[name], getattr(made, name)):
                    yield (name, *path)
    elif isinstance(given, bool) and isinstance(made, int | float) and not isinstance(made, bool):
        yield ()


def _explain(
    error: ValidationError,
    model: type[BaseModel],
    values: Mapping[str, Any],
    prefix: Keys,
    problems: _Problems,
    task: Task | None,
) -> None:
    """pydantic's errors, of which a union gives one per member -> one line per key."""
    found: dict[Keys, list[Any]] = {}
    for one in error.errors(include_url=False):
        found.setdefault(_key_path(one, values), []).append(one)
    for path, errors in found.items():
        deeper = [other for other in found if len(other) > len(path) and other[: len(path)] == path]
        if deeper:  # a union: what went wrong within one of its members says more
            continue
        if not prefix and path == ("task",):  # said by `_find_task`
            continue
        unknown = next((e for e in errors if e["type"] == "extra_forbidden"), None)
        text = _unknown_key(path, model, prefix, task) if unknown else _expectation(errors)
        problems.add((*prefix, *path), text)


def _key_path(error: Any, values: Any) -> Keys:
    """pydantic's location without the names of union members -> the keys as they stand in the file."""
    path: list[str] = []
    here = values
    for i, part in enumerate(error["loc"]):
        last = i == len(error["loc"]) - 1
        if (isinstance(here, Mapping) and part in here) or (
            isinstance(here, list | tuple) and isinstance(part, int) and part < len(here)
        ):
            here = here[part]
        elif not (last and error["type"] == "missing" and isinstance(part, str)):
            continue
        path.append(str(part))
    return tuple(path)


def _unknown_key(path: Keys, model: type[BaseModel], prefix: Keys, task: Task | None) -> str:
    siblings = _fields_at(model, path[:-1])
    own = {".".join(key) for key in all_keys(Config, ())}
    if task is not None:
        own |= {".".join(key) for key in all_keys(task.config, ("task",))} | {"task.name"}
    here = ".".join((*prefix, *path))
    elsewhere = sorted(key for key in own if key.rpartition(".")[2] == path[-1] and key != here)
    near = closest(path[-1], siblings)
    if near:
        return f"unknown key{did_you_mean(path[-1], siblings)}"
    if elsewhere:
        return f"unknown key; did you mean {' or '.join(repr(key) for key in elsewhere[:3])}?"
    return f"unknown key{did_you_mean(path[-1], siblings) or '; known here: ' + ', '.join(sorted(siblings))}"


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from _models(inner)


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> set[str]:
    """The keys that a mapping at this place may have."""
    models = [model]
    for part in path:
        inner = [
            found for one in models if part in one.model_fields for found in _models(one.model_fields[part].annotation)
        ]
        models = inner or (models if part.isdigit() else [])
    return {name for one in models for name in one.model_fields}


def all_keys(model: type[BaseModel], prefix: Keys = (), depth: int = 0) -> Iterator[Keys]:
    """The place of every key that a section may hold, its inner sections included."""
    for name, info in model.model_fields.items():
        inner = list(_models(info.annotation)) if depth < 6 else []
        if not inner:
            yield (*prefix, name)
        for one in inner:
            yield from all_keys(one, (*prefix, name), depth + 1)


_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping of keys",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "mapping_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "none_required": "null",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
    "invalid_key": "a key that is text",
}
_BOUNDS = {
    "greater_than": ("a number above {gt}"),
    "greater_than_equal": ("a number of at least {ge}"),
    "less_than": ("a number below {lt}"),
    "less_than_equal": ("a number of at most {le}"),
    "multiple_of": ("a multiple of {multiple_of}"),
    "too_short": ("at least {min_length} items"),
    "too_long": ("at most {max_length} items"),
    "string_too_short": ("text of at least {min_length} characters"),
    "string_too_long": ("text of at most {max_length} characters"),
    "string_pattern_mismatch": ("text that matches {pattern}"),
    "literal_error": ("{expected}"),
    "enum": ("{expected}"),
}


def _expectation(errors: Sequence[Any]) -> str:
    """One key's errors -> what was given and what was expected."""
    missing = next((error for error in errors if error["type"] == "missing"), None)
    if missing is not None:
        if isinstance(missing["loc"][-1], int):  # an item of a list of fixed length
            return f"has {missing['loc'][-1]} items; at least {missing['loc'][-1] + 1} were expected"
        return "is missing; it has no default"
    given, expected, reasons, options = errors[0]["input"], [], [], []
    for error in errors:
        kind, context = error["type"], error.get("ctx", {})
        if kind in _EXPECTED:
            text = _EXPECTED[kind]
        elif kind in _BOUNDS:
            text = _BOUNDS[kind].format(**{k: f"{v:g}" if isinstance(v, float) else v for k, v in context.items()})
            if kind in ("literal_error", "enum"):
                options += re.findall(r"'([^']*)'", text)
        else:
            reason = str(context["error"]) if isinstance(context.get("error"), Exception) else error["msg"]
            reasons.append(reason[0].lower() + reason[1:] if reason[:2].istitle() else reason)
            continue
        if text not in expected:
            expected.append(text)
    if reasons and not expected:
        text = "; ".join(dict.fromkeys(reasons))
        shown = _shown(given)
        return text if shown in text or isinstance(given, dict) else f"{text} (got {shown})"
    text = f"got {_shown(given)}; expected {' or '.join(expected)}"
    if reasons:
        text += f" ({'; '.join(dict.fromkeys(reasons))})"
    if isinstance(given, str) and closest(given, options):
        text += did_you_mean(given, options)
    elif "text" in expected and isinstance(given, int | float):
        text += "; put it in quotes"
    return text


def _shown(value: Any) -> str:
    """A value as it would stand in the file, cut to a legible length."""
    try:
        text = dump_value(to_jsonable_python(value, fallback=repr))
    except Exception:  # whatever a caller put into a mapping
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _resolved(core: Config, task: Task, cfg: BaseModel, source: str) -> Resolved:
    section = {"name": task.name, **cfg.model_dump(mode="json")}
    return Resolved(core.model_copy(update={"task": section}), task, cfg, source)


def _yaml_lines(model: BaseModel, level: int, comments: bool) -> list[str]:
    indent, lines = "  " * level, []
    for name, info in type(model).model_fields.items():
        value, about = getattr(model, name), (info.description or "") if comments else ""
        if isinstance(value, BaseModel) and type(value).model_fields:
            lines += [*_comment(indent, about), f"{indent}{name}:", *_yaml_lines(value, level + 1, comments)]
        else:
            lines += _yaml_line(indent, name, _plain(value), about)
    return lines


def _yaml_line(indent: str, name: str, value: Any, about: str | None) -> list[str]:
    """`key: value` with its comment beside it, or above it where it is too long for that."""
    line = f"{indent}{dump_value(name)}: {dump_value(value)}"
    if not about:
        return [line]
    if len(line) > COMMENT_COLUMN - 2:
        return [*_comment(indent, about), line]
    first, *rest = textwrap.wrap(" ".join(about.split()), WIDTH - COMMENT_COLUMN - 2, break_long_words=False)
    margin = " " * COMMENT_COLUMN
    return [f"{line.ljust(COMMENT_COLUMN)}# {first}", *(f"{margin}# {more}" for more in rest)]


def _comment(indent: str, about: str) -> list[str]:
    width = WIDTH - len(indent) - 2
    return [f"{indent}# {line}" for line in textwrap.wrap(" ".join(about.split()), width, break_long_words=False)]


def _plain(value: Any) -> Any:
    """A field's value -> mappings, lists and scalars; whole numbers stay keys, which JSON cannot say."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {k if isinstance(k, int) else str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return to_jsonable_python(value)
