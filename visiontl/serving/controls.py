"""Controls of a page, one for each option of a task, read from the schema of its options; and what was set there as the
options that predict takes. Imports no torch."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from visiontl.config.overrides import option_values
from visiontl.config.yaml_text import dump_value, parse_value
from visiontl.errors import ConfigError, clean

UPLOAD = "upload"  # the key under which an option holds a picture that was sent, in base64
DEFAULT, YES, NO = "(default)", "yes", "no"
REST = ""  # the name of the control for options that no schema names


@dataclass(frozen=True)
class Control:
    """name: of the option, with dots where it lies in a mapping. kind: switch, maybe (a switch that may be left as it
    is), number, whole, choice, several, picture, words (a value as the command line has it) or rest (several options in
    words). default: what stands there at first, JSON. low, high: of numbers. choices: what there is to choose from."""

    name: str
    kind: str
    default: Any = None
    about: str = ""
    low: float | None = None
    high: float | None = None
    choices: Sequence[str] = ()

    @property
    def label(self) -> str:
        return "other options" if self.kind == "rest" else self.name.rpartition(".")[2].replace("_", " ")

    @property
    def choosable(self) -> list[str]:
        """What stands in its list, where it has one."""
        named = [YES, NO] if self.kind == "maybe" else list(self.choices)
        return [DEFAULT, *named] if self.kind in ("maybe", "choice") and self.default is None else named

    @property
    def start(self) -> Any:
        """What stands there at first, as a page has it."""
        if self.kind == "several":
            return list(self.default or [])
        if self.kind in ("maybe", "choice"):
            return {None: DEFAULT, True: YES, False: NO}.get(self.default, self.default)
        return "" if self.default is None and self.kind in ("words", "rest") else self.default

    @property
    def group(self) -> str:
        """The mapping that the option lies in; empty for none."""
        return self.name.rpartition(".")[0]


def controls_of(options: type[BaseModel] | None, meta: Mapping[str, Any]) -> list[Control]:
    """meta: what the model knows of its data.

    What a field's `json_schema_extra` says: {"choices": KEY}: names to choose from stand there in meta; {"file": True}:
    it may also be a picture's file; {"control": False}: it has no control; of a field that is a mapping of others
    {"meta": "a.b"}: where in meta theirs stands."""
    if options is None:
        return []
    schema = options.model_json_schema()
    found = list(of_object(schema, schema.get("$defs", {}), meta, ""))
    if options.model_config.get("extra") == "allow" and not any("." in one.name for one in found):
        found.append(Control(REST, "rest", "", "name=value, as on the command line"))
    return found


def of_object(
    schema: Mapping[str, Any], known: Mapping[str, Any], meta: Mapping[str, Any], above: str
) -> Iterator[Control]:
    for name, one in schema.get("properties", {}).items():
        inner = known.get(str(one.get("$ref", "")).rpartition("/")[2])
        if inner is not None and inner.get("type") == "object":
            yield from of_object(inner, known, within(meta, one.get("meta", "")), f"{above}{name}.")
        elif one.get("control", True):
            yield of_field(f"{above}{name}", one, known, meta)
            if one.get("file"):
                yield Control(f"{above}{name}", "picture", None, "a picture of your own in its place")


def within(meta: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """What stands at a.b; nothing where there is no such mapping."""
    for part in filter(None, place.split(".")):
        inner = meta.get(part)
        meta = cast(Mapping[str, Any], inner) if isinstance(inner, Mapping) else {}
    return meta


def of_field(name: str, field: Mapping[str, Any], known: Mapping[str, Any], meta: Mapping[str, Any]) -> Control:
    kinds = [known.get(str(one.get("$ref", "")).rpartition("/")[2], one) for one in field.get("anyOf", [field])]
    optional = any(one.get("type") == "null" for one in kinds)
    kinds = [one for one in kinds if one.get("type") != "null"]
    default, about = field.get("default"), field.get("description", "")
    only = kinds[0] if len(kinds) == 1 else {}
    if names := names_in(meta.get(field.get("choices", ""))):
        several = any(one.get("type") == "array" for one in kinds)
        return Control(name, "several" if several else "choice", default, about, choices=names)
    if only.get("type") == "boolean":
        return Control(name, "maybe" if optional else "switch", default, about)
    if "enum" in only or "const" in only:
        return Control(name, "choice", default, about, choices=tuple(map(str, only.get("enum", [only.get("const")]))))
    if only.get("type") in ("integer", "number") and default is not None:  # a field of numbers is never empty
        low, high = only.get("minimum", only.get("exclusiveMinimum")), only.get("maximum", only.get("exclusiveMaximum"))
        return Control(name, "whole" if only["type"] == "integer" else "number", default, about, low, high)
    return Control(name, "words", "" if default is None else dump_value(to_jsonable_python(default)), about)


def names_in(value: Any) -> tuple[str, ...]:
    """Names that a model's meta lists: texts, or mappings with a `name`."""
    given = cast(Sequence[Any], value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    named = [cast(Mapping[str, Any], one).get("name") if isinstance(one, Mapping) else one for one in given]
    return tuple(one for one in named if isinstance(one, str))


def values_of(controls: Sequence[Control], given: Sequence[Any]) -> dict[str, Any]:
    """What was set -> options, those alone that are not as they were at first. given: of each control; of a picture its
    bytes. Raises ConfigError for words that cannot be read."""
    found: dict[str, Any] = {}
    for control, value in zip(controls, given, strict=True):
        if value is None or value in (control.start, "", []):
            continue
        if control.kind == "rest":
            for name, one in option_values(words_of(str(value)), control.label).items():
                put(found, name, one)
            continue
        put(found, control.name, value_of(control, value))
    return found


def value_of(control: Control, value: Any) -> Any:
    if control.kind == "picture":
        return {UPLOAD: base64.b64encode(value).decode("ascii")}
    if control.kind == "words":
        try:
            return parse_value(str(value))
        except ConfigError as error:
            raise ConfigError([f"option {control.name}: {line}" for line in error.problems]) from None
    if control.kind == "maybe":
        return {YES: True, NO: False}.get(value, value)
    if control.kind == "whole" and isinstance(value, float) and value.is_integer():
        return int(value)  # a page has numbers of one kind
    return value


def words_of(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"other options: {error}; name=value was expected, such as threshold=0.3") from None


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """a.b = value in nested mappings."""
    *above, last = name.split(".")
    for part in above:
        inner = values.get(part)
        if not isinstance(inner, dict):
            inner = values[part] = {}
        values = cast(dict[str, Any], inner)
    values[last] = value


def require_no_files(values: Mapping[str, Any], named: Mapping[str, Sequence[str]], above: str = "") -> None:
    """named: {option: what it may name}, of those options that may also be a file. Raises ConfigError where one names
    anything else: whoever asks over the network opens no file of the server."""
    for name, value in values.items():
        place = f"{above}{name}"
        if place in named:
            for text in texts_in(value):
                if text not in named[place]:
                    known = ", ".join(named[place]) or "none"
                    raise ConfigError(
                        f"option {place}: {clean(text)[:60]!r} is none that the model has ({known}), and files of the "
                        "server are not opened"
                    )
        elif isinstance(value, Mapping):
            require_no_files(cast(Mapping[str, Any], value), named, f"{place}.")


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        inner = cast(Mapping[str, Any], value)
        if inner.keys() != {UPLOAD}:
            yield from inner.keys()
    elif isinstance(value, Sequence):
        for one in cast(Sequence[Any], value):
            yield from texts_in(one)


def named_files(options: type[BaseModel] | None, meta: Mapping[str, Any]) -> dict[str, list[str]]:
    """{option: the names that the model has for it}, of the options that may also be a file."""
    if options is None:
        return {}
    fields: dict[str, Any] = options.model_json_schema().get("properties", {})
    return {name: list(names_in(meta.get(one.get("choices", "")))) for name, one in fields.items() if one.get("file")}
