"""`a.b=c` on the command line: overrides of a config, and options of a command."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from visiontl.config.problems import Keys, Problems, shown, validate
from visiontl.config.yaml_text import dump_value, parse_value
from visiontl.errors import ConfigError

EXAMPLES = {"override": "train.epochs=5", "option": "threshold=0.5"}


def in_words(overrides: Sequence[str | Mapping[str, Any]] | Mapping[str, Any]) -> list[str]:
    """`a.b=c` words, and from Python mappings {"a.b": c} -> words alone, in the same order. A value that is a mapping
    replaces what stood there, as `a.b={...}` does."""
    words: list[str] = []
    for one in [overrides] if isinstance(overrides, str | Mapping) else overrides:
        words += [f"{key}={_as_word(value)}" for key, value in one.items()] if isinstance(one, Mapping) else [one]
    return words


def _as_word(value: Any) -> str:
    """A value as `parse_value` reads it back; plain text as it is."""
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(plain, str):
        try:
            if plain == plain.strip() and parse_value(plain) == plain:
                return plain
        except ConfigError:
            pass
        return json.dumps(plain)
    return dump_value(to_jsonable_python(plain))


def apply_override(
    values: dict[str, Any],
    override: str,
    problems: Problems,
    word: str = "override",
    longhand: Callable[[Keys, Any], Any] = lambda keys, value: value,
) -> None:
    """Put the value of `a.b=c` into `values`, or what is wrong with it into `problems`.

    word: what it is called. longhand: (a key's place, its value) -> the mapping that the value is short for, where it
    is short for one: `task.data=photos task.data.format=voc`.
    """
    key, equals, text = str(override).partition("=")  # from Python it may be anything
    parts = tuple(part.strip() for part in key.split("."))
    if not equals or not all(parts) or any(re.search(r"[\s\[\]{}'\"]", part) for part in parts):
        problems.lines.append(f"{word} {override!r}: a.b=value was expected, such as {EXAMPLES[word]}")
        return
    try:
        value = parse_value(text)
    except ConfigError as error:
        problems.lines += [f"{word} {override!r}: {line}" for line in error.problems]
        return
    here = values
    for i, part in enumerate(parts[:-1]):
        inner = here.get(part)
        if inner is None:
            inner = here[part] = {}
        if not isinstance(inner, dict):
            inner = here[part] = longhand(parts[: i + 1], inner)
        if not isinstance(inner, dict):
            problems.lines.append(
                f"{word} {override!r}: {'.'.join(parts[: i + 1])} is {shown(inner)}, which has no keys; "
                f"replace it as a whole: {'.'.join(parts[: i + 1])}={{{'.'.join(parts[i + 1 :])}: {text}}}"
            )
            return
        here = inner
    replaced = [place for place in problems.places if place[: len(parts)] == parts]
    lost = [problems.places[place] for place in replaced if place != parts and problems.places[place].startswith(word)]
    if lost:
        problems.lines.append(
            f"{lost[0]} is lost: {word} {override!r} behind it replaces {key} as a whole; put it first"
        )
    here[parts[-1]] = value
    for known in replaced:
        del problems.places[known]
    problems.places[parts] = f"{word} {override!r}"


def option_values(assigned: Sequence[str], where: str) -> dict[str, Any]:
    """`name=value` words -> {name: value}. Raises ConfigError with all that cannot be read."""
    values: dict[str, Any] = {}
    problems = Problems(where)
    for word in assigned:
        apply_override(values, word, problems, "option")
    problems.raise_any()
    return values


def parse_options(model: type[BaseModel], values: Mapping[str, Any], where: str) -> BaseModel:
    """Options by name -> the model that holds them. Raises ConfigError with all mistakes."""
    problems = Problems(where, ((), model))
    problems.places |= {(name,): f"option {name}={shown(value)}" for name, value in values.items()}
    made = validate(model, values, (), problems)
    problems.raise_any()
    return made


def option_lines(model: type[BaseModel]) -> list[str]:
    """`name=default  meaning` of each option, for help texts."""
    lines = []
    for name, info in model.model_fields.items():
        if info.is_required():
            lines.append(f"  {name}=...  {info.description or ''} (required)")
            continue
        default = to_jsonable_python(info.get_default(call_default_factory=True))
        lines.append(f"  {name}={dump_value(default)}  {info.description or ''}".rstrip())
    return lines
