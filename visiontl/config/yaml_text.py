"""YAML as plain data with line numbers, and back. Imports no torch.

Differs from PyYAML's safe loader where that one surprises: a key that stands twice is an error (it keeps
the last), 1e-3 is a number (it reads text), `yes`, `no`, `on` and `off` are text (it reads booleans), and
so are dates and 12:30. Aliases count towards a limit, so a small file cannot unfold into a large one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from visiontl.errors import ConfigError

MAX_CHARACTERS = 1_000_000
MAX_NODES = 100_000  # after aliases are unfolded
MAX_DEPTH = 50

_INT = re.compile(r"[-+]?[0-9][0-9_]*|[-+]?0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Parsed:
    """A config's values, the place of each key ("file:line"), and (place, what is wrong) for each mistake."""

    values: dict[str, Any]
    places: dict[tuple[str, ...], str]
    problems: list[tuple[str, str]]
    source: str


def parse_text(text: str, source: str) -> Parsed:
    """The text of a config file -> its values and places. Raises ConfigError where it is no YAML mapping."""
    node = _compose(text, source)
    if node is None:
        raise ConfigError(f"{source}: is empty; a config has at least the sections task and backbone")
    reader = _Reader(source)
    values = reader.value(node, (), 0)
    if reader.problems:
        raise ConfigError([f"{place}: {what}" for place, what in reader.problems])
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else f"the value {dump_value(values)}"
        raise ConfigError(f"{source}:{_line(node)}: holds {kind[:80]}; keys were expected, such as `task:`")
    return Parsed(values, reader.places, [], source)


def parse_value(text: str) -> Any:
    """The value of an override: a number, true, false, null, a [list], a {mapping}, "quoted" or bare text.

    Bare text needs no quotes, whatever is in it. Raises ConfigError for a bracket or quote left open.
    """
    text = text.strip()
    if not text:
        raise ConfigError("no value; write null for none, or '\"\"' for empty text")
    node: yaml.Node | None = yaml.ScalarNode("?", text, yaml.Mark("value", 0, 0, 0, None, 0))
    if text[0] in "[{\"'":
        try:
            node = _compose(text, "value")
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("value:1: ")) from None
    assert node is not None  # what begins so is no comment
    reader = _Reader("value")
    value = reader.value(node, (), 0)
    if reader.problems:
        raise ConfigError([what for _, what in reader.problems])
    return value


def dump_value(value: Any) -> str:
    """A plain value in one line, as `parse_text` reads it back."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=2**31, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").removesuffix("\n")


def _compose(text: str, source: str) -> yaml.Node | None:
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{source}: {len(text):,} characters; a config has at most {MAX_CHARACTERS:,}")
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        lines = text.splitlines()
        begun = lines[mark.line] if mark and mark.line < len(lines) else ""
        if "\t" in begun[: len(begun) - len(begun.lstrip())]:
            what = "a tab indents this line; use spaces"
        elif isinstance(error, ComposerError) and "undefined alias" in str(error.problem):
            what = f"{error.problem}; a value that begins with * needs quotes"
        elif "single document" in str(error.context):
            what = "a second document begins (---); a config is one document"
        else:
            what = f"not valid YAML: {', '.join(str(p) for p in (error.context, error.problem) if p)}"
        raise ConfigError(f"{source}{line}: {what}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{source}:{line}: the character {chr(error.character)!r} is not allowed") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested more than {MAX_DEPTH} levels deep") from None
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as error:  # \U00110000 in quotes is a ValueError of chr
        raise ConfigError(f"{source}: not valid YAML: {error}") from None


def forbidden(text: str) -> str | None:
    """What no file could say, in words: NUL and halves of surrogate pairs."""
    bad = next((c for c in text if c == "\0" or 0xD800 <= ord(c) <= 0xDFFF), None)
    return None if bad is None else f"the character {bad!r} is not allowed"


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


class _Reader:
    """Nodes -> values, counting them, so that neither depth nor aliases can run away."""

    def __init__(self, source: str):
        self.source = source
        self.count = 0
        self.places: dict[tuple[str, ...], str] = {}
        self.problems: list[tuple[str, str]] = []

    def problem(self, node: yaml.Node, path: tuple[str, ...], what: str) -> None:
        self.problems.append((f"{self.source}:{_line(node)}", f"{'.'.join(path)}: {what}" if path else what))

    def value(self, node: yaml.Node, path: tuple[str, ...], depth: int) -> Any:
        self.count += 1
        if self.count > MAX_NODES:
            if self.count == MAX_NODES + 1:
                self.problem(node, path[:3], f"more than {MAX_NODES:,} values once its aliases are unfolded")
            return None
        if depth > MAX_DEPTH:
            self.problem(node, path[:3], f"nested more than {MAX_DEPTH} levels deep, or an alias within itself")
            self.count = MAX_NODES + 1  # nothing below here is worth reading
            return None
        if isinstance(node, yaml.MappingNode) and node.tag in ("?", _TAG + "map"):
            return self.mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag in ("?", _TAG + "seq"):
            return [self.value(item, (*path, str(i)), depth + 1) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        self.problem(node, path, f"the tag {_tag(node)} is not allowed; a config holds plain values only")
        return None

    def mapping(self, node: yaml.MappingNode, path: tuple[str, ...], depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        lines: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(key_node, path, "a list or mapping cannot be a key")
                continue
            if key_node.style is None and key_node.value == "<<":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            key = self.scalar(key_node, path)
            if isinstance(key, bool) or not isinstance(key, str | int):
                self.problem(key_node, path, f"the key {key_node.value!r} must be text or a whole number; quote it")
                continue
            place = (*path, str(key))
            if str(key) in lines:
                self.problem(key_node, place, f"stands twice; the first is in line {lines[str(key)]}")
                continue
            lines[str(key)] = _line(key_node)
            self.places[place] = f"{self.source}:{_line(key_node)}"
            made[key] = self.value(value_node, place, depth + 1)
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                self.problem(other, path, "<<: takes an alias of a mapping")
                continue
            for key, value in (self.value(other, path, depth + 1) or {}).items():
                made.setdefault(key, value)
        return made

    def scalar(self, node: yaml.ScalarNode, path: tuple[str, ...]) -> Any:
        text = node.value
        bad = forbidden(text)
        if bad:
            self.problem(node, path, bad)
            return None
        if node.tag == _TAG + "str":
            return text
        if node.tag != "?" and not node.tag.startswith(_TAG):
            self.problem(node, path, f"the tag {_tag(node)} is not allowed; a config holds plain values only")
            return None
        try:
            return _plain_scalar(text, node.tag)
        except ValueError as error:
            self.problem(node, path, str(error))
            return None


def _tag(node: yaml.Node) -> str:
    return str(node.tag).replace(_TAG, "!!")


def _plain_scalar(text: str, tag: str) -> Any:
    """Text without quotes -> null, boolean, number or text (YAML 1.2's core rules). Raises ValueError."""
    kind = tag.removeprefix(_TAG) if tag != "?" else None
    if kind in (None, "null") and text in _NULL:
        return None
    if kind in (None, "bool") and text in _BOOLS:
        return _BOOLS[text]
    if kind in (None, "int") and _INT.fullmatch(text):
        if len(text) > 1000:
            raise ValueError(f"a number of {len(text)} digits")
        return int(text.replace("_", ""), 16 if "x" in text else 10)
    if kind in (None, "float") and _FLOAT.fullmatch(text):
        number = float(re.sub(r"\.(inf|nan)", r"\1", text.lower().replace("_", "")))
        if not math.isfinite(number):
            raise ValueError(f"{text} is not a finite number")
        return number
    if kind is None:
        return text
    if kind in ("null", "bool", "int", "float"):
        raise ValueError(f"{text!r} is no {kind}")
    raise ValueError(f"the tag !!{kind} is not allowed; a config holds plain values only")


class _Loader(yaml.SafeLoader):
    """Plain scalars keep the tag "?": what they mean is decided by `_plain_scalar`.

    What is nested too deeply is refused where the depth is reached, and brackets before they are looked through for a
    key: the time that PyYAML takes for them grows with the square of the depth.
    """

    depth = 0

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        if self.flow_level > MAX_DEPTH:
            raise RecursionError
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth > MAX_DEPTH + 1:
            raise RecursionError
        self.depth += 1
        made = super().compose_node(parent, index)
        self.depth -= 1
        return made

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return "?" if implicit[0] else _TAG + "str"
        return "?"


class _Dumper(yaml.SafeDumper):
    """Quotes all that this module or a YAML 1.1 reader would take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver(_TAG + "int", re.compile(f"(?:{_INT.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver(_TAG + "float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+.0123456789"))
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        _TAG + "str", text, style='"' if any(not c.isprintable() for c in text) else None
    ),
)
