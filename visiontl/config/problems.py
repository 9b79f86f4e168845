"""Mistakes of a config in words: all of them, each with its place and with what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from visiontl.config.meant import MEANT, Keys, elsewhere, keys_called, models_in
from visiontl.config.schema import Config
from visiontl.config.yaml_text import dump_value
from visiontl.errors import ConfigError, VisionTLError, closest, did_you_mean

HINTED = 100  # unknown keys that get a hint; the message shows ten, and looking for names takes milliseconds each
ASSIGNED = ("override ", "option ")  # how the place of what stood on the command line begins


def field_at(model: type[BaseModel], key: Keys) -> FieldInfo:
    """The field of a key that `all_keys` gave."""
    info = model.model_fields[key[0]]
    if len(key) == 1:
        return info
    inner = next(one for one in models_in(info.annotation) if key[1] in one.model_fields)
    return field_at(inner, key[1:])


def longhand(model: type[BaseModel], key: Keys, value: Any) -> Any:
    """The mapping that a field's value is short for, as its validators make it; the value itself where they make
    none, and where there is no such field."""
    try:
        info = field_at(model, key)
    except (KeyError, IndexError, StopIteration):
        return value
    made = value
    for one in info.metadata:
        if isinstance(one, BeforeValidator):
            try:
                made = cast(Callable[[Any], Any], one.func)(made)
            except (ValueError, TypeError, AssertionError):  # told with the other mistakes, when all is validated
                return value
    return dict(made) if isinstance(made, dict) else value


_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping of keys",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
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


class Problems:
    """Mistakes and the places of keys, gathered on the way. sections: where keys may stand: (place, model)."""

    def __init__(self, source: str, *sections: tuple[Keys, type[BaseModel]]):
        self.source = source
        self.sections = list(sections)
        self.lines: list[str] = []
        self.places: dict[Keys, str] = {}

    def add(self, path: Keys, text: str) -> None:
        line = f"{self.place(path)}: {'.'.join(path)}: {text}" if path else f"{self.place(path)}: {text}"
        if line not in self.lines:
            self.lines.append(line)

    def place(self, path: Keys) -> str:
        """`path` need not exist: a single override inside it, or else the nearest known key above it, is to blame."""
        inside = {place for known, place in self.places.items() if known[: len(path)] == path != known}
        overridden = [place for place in inside if place.startswith(ASSIGNED)]
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


def validate(model: type[BaseModel], values: Mapping[str, Any], prefix: Keys, problems: Problems) -> Any:
    """values -> an instance, or None with every mistake added to `problems`."""
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        _explain(error, model, values, prefix, problems)
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
    error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], prefix: Keys, problems: Problems
) -> None:
    """pydantic's errors, of which a union gives one per member -> one line per key."""
    found: dict[Keys, list[Any]] = {}
    for one in error.errors(include_url=False):
        found.setdefault(_key_path(one, values), []).append(one)
    above = {path[:length] for path in found for length in range(len(path))}
    unknown = 0
    for path, errors in found.items():
        if path in above:  # a union: what went wrong within one of its members says more
            continue
        if model is Config and path == ("task",):  # said by `resolve`
            continue
        kinds = {one["type"] for one in errors}
        if "extra_forbidden" in kinds:
            unknown += 1
            hinted = unknown <= HINTED
            text = _unknown_key(path, model, prefix, problems, errors[0]["input"]) if hinted else "unknown key"
        elif any(one["type"] == "missing" and isinstance(one["loc"][-1], str) for one in errors):
            text = f"is missing; it has no default: give {'.'.join((*prefix, *path))}=VALUE"
        else:
            text = _expectation(errors)
            if model is Config and path and path[0] in MEANT and kinds == {"model_type"}:  # a value for a section
                text += f"; did you mean {MEANT[path[0]]}={shown(errors[0]['input'])}?"
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


def _unknown_key(path: Keys, model: type[BaseModel], prefix: Keys, problems: Problems, value: Any) -> str:
    name, siblings = path[-1], _fields_at(model, path[:-1])
    own = set(_known_keys(tuple(problems.sections)))
    if ("task",) in dict(problems.sections):
        own |= {"task.name", "task.data"}
    here = ".".join((*prefix, *path))
    near = closest(name, siblings)
    if told := elsewhere(name):
        return f"unknown key; {told}"
    if MEANT.get(name) in own and not (near and (len(path) > 1 or isinstance(value, Mapping))):
        return f"unknown key; did you mean {MEANT[name]!r}?"
    if near:
        return f"unknown key{did_you_mean(name, siblings)}"
    inner = list(value) if isinstance(value, Mapping) and len(path) == 1 else []  # report.trackers: of another section
    called = [
        key for one in (name, *(f"{name}.{at}" for at in inner)) for key in keys_called(one, sorted(own)) if key != here
    ]
    if called:
        return f"unknown key; did you mean {' or '.join(repr(key) for key in called[:3])}?"
    return f"unknown key{did_you_mean(name, siblings) or '; known here: ' + ', '.join(sorted(siblings))}"


@cache
def _known_keys(sections: tuple[tuple[Keys, type[BaseModel]], ...]) -> frozenset[str]:
    return frozenset(".".join(key) for place, section in sections for key in all_keys(section, place))


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> set[str]:
    """The keys that a mapping at this place may have."""
    models = [model]
    for part in path:
        inner = [
            found
            for one in models
            if part in one.model_fields
            for found in models_in(one.model_fields[part].annotation)
        ]
        models = inner or (models if part.isdecimal() else [])
    return {name for one in models for name in one.model_fields}


def all_keys(model: type[BaseModel], prefix: Keys = (), depth: int = 0) -> Iterator[Keys]:
    """The place of every key that a section may hold, its inner sections included."""
    for name, info in model.model_fields.items():
        inner = list(models_in(info.annotation)) if depth < 6 else []
        if not inner:
            yield (*prefix, name)
        for one in inner:
            yield from all_keys(one, (*prefix, name), depth + 1)


def _expectation(errors: Sequence[Any]) -> str:
    """One key's errors -> what was given and what was expected."""
    # an item of a list of fixed length
    missing = next((error for error in errors if error["type"] == "missing"), None)
    if missing is not None:
        return f"has {missing['loc'][-1]} items; at least {missing['loc'][-1] + 1} were expected"
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
        value = shown(given)
        return text if value in text or isinstance(given, dict) else f"{text} (got {value})"
    text = f"got {shown(given)}; expected {' or '.join(expected)}"
    if reasons:
        text += f" ({'; '.join(dict.fromkeys(reasons))})"
    if isinstance(given, str) and closest(given, options):
        text += did_you_mean(given, options)
    elif "text" in expected and isinstance(given, int | float):
        text += "; put it in quotes"
    elif expected == ["a list"] and isinstance(given, str | int | float):
        text += f", such as [{shown(given)}]"
    return text


def shown(value: Any) -> str:
    """A value as it would stand in the file, cut to a legible length."""
    try:
        text = dump_value(to_jsonable_python(value, fallback=repr))
    except Exception:  # whatever a caller put into a mapping
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
