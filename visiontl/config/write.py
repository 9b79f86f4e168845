"""A run's config as others read it: YAML with comments, plain values, one hash, JSON Schema."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from visiontl import plugins
from visiontl.config.resolve import Resolved
from visiontl.config.schema import Config
from visiontl.config.yaml_text import dump_value, parse_text

COMMENT_COLUMN = 34  # where the comments of `to_yaml` begin  # where the comments of `to_yaml` begin
WIDTH = 110  # columns of a printed config  # columns of a printed config


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


def config_hash(resolved: Resolved, written: Path | None = None) -> str:
    """sha256, in hex, of what decides a run's numbers: all but `run`, `loader` and `resume`.

    written: the complete config as an older version wrote it; only the keys that it has count then, so that a run which
    began before a key was there has the hash that it began with. Raises ConfigError where it cannot be read.
    """
    plain = {key: value for key, value in to_plain(resolved).items() if key not in ("run", "loader", "resume")}
    if written is not None:
        plain = _among(plain, parse_text(written.read_text(encoding="utf-8"), str(written)).values)
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _among(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose keys are known, in mappings within mappings too."""
    there = {str(key): value for key, value in known.items()}  # JSON's keys are texts
    return {
        key: _among(value, there[key]) if isinstance(value, Mapping) and isinstance(there[key], Mapping) else value
        for key, value in values.items()
        if key in there
    }


def to_yaml(resolved: Resolved, comments: bool = True, width: int = WIDTH) -> str:
    """The complete config as a file that `resolve` reads back; beside each key its description, above it where that is
    too wide. width: columns of a line."""
    lines: list[str] = []
    width = width if comments else 0
    for name, info in type(resolved.config).model_fields.items():
        value = getattr(resolved.config, name)
        if name == "task":
            about = first_sentence(resolved.task.config.__doc__)
            lines += ["task:", *_yaml_line("  ", "name", resolved.task.name, about, width)]
            lines += _yaml_lines(resolved.cfg, 1, width)
        elif isinstance(value, BaseModel):
            lines += ["", f"{name}:", *_yaml_lines(value, 1, width)]
        else:
            lines += ["", *_yaml_line("", name, value, info.description, width)]
    return "\n".join(lines) + "\n"


def json_schema(task_name: str | None = None) -> dict[str, Any]:
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


def _yaml_lines(model: BaseModel, level: int, width: int) -> list[str]:
    """width: of a line; 0: without comments."""
    indent, lines = "  " * level, []
    for name, info in type(model).model_fields.items():
        value, about = getattr(model, name), info.description or ""
        if isinstance(value, BaseModel) and type(value).model_fields:
            lines += [*_comment(indent, about, width), f"{indent}{name}:", *_yaml_lines(value, level + 1, width)]
        else:
            lines += _yaml_line(indent, name, _plain(value), about, width)
    return lines


def _yaml_line(indent: str, name: str, value: Any, about: str | None, width: int) -> list[str]:
    """`key: value` with its comment beside it, or above it where it is too long for that."""
    line = f"{indent}{dump_value(name)}: {dump_value(value)}"
    if not about or not width:
        return [line]
    if len(line) > COMMENT_COLUMN - 2 or width < 2 * COMMENT_COLUMN:
        return [*_comment(indent, about, width), line]
    first, *rest = textwrap.wrap(" ".join(about.split()), width - COMMENT_COLUMN - 2, break_long_words=False)
    margin = " " * COMMENT_COLUMN
    return [f"{line.ljust(COMMENT_COLUMN)}# {first}", *(f"{margin}# {more}" for more in rest)]


def _comment(indent: str, about: str, width: int) -> list[str]:
    room = width - len(indent) - 2
    lines = textwrap.wrap(" ".join(about.split()), room, break_long_words=False) if width else []
    return [f"{indent}# {line}" for line in lines]


def _plain(value: Any) -> Any:
    """A field's value -> mappings, lists and scalars; whole numbers stay keys, which JSON cannot say."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {k if isinstance(k, int) else str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return to_jsonable_python(value)
