"""model.json: what lies around an exported graph, checked before anything rests on it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from visiontl.errors import CheckpointError, did_you_mean
from visiontl.runtime.views import AREA

NAME, FORMAT, VERSION = "model.json", "visiontl-export", 1
LARGEST = 64 << 20  # bytes; class names, palettes and what the task keeps of its data are far below
SIDE = 1 << 15  # pixels of a side of an input
STEP = 1 << 12  # pixels that the sides of an input are multiples of
NUMBER = 1e18  # well within the single precision in which it is compared
CLASSES = 100_000
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")

Check = Callable[[Any, str], str | None]
"""(value, its place) -> what is wrong with it in words, or None."""


def read(model: Path) -> dict[str, Any]:
    """The description beside a model file. Raises CheckpointError, naming the file and the key."""
    path = model.with_name(NAME)
    try:
        if path.stat().st_size > LARGEST:
            raise CheckpointError(f"{path}: {path.stat().st_size:,} bytes; a description has at most {LARGEST:,}")
        found = json.loads(path.read_bytes().decode("utf-8"), parse_constant=not_finite)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; what `visiontl export` writes belongs together") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no JSON that can be read ({error})") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a description of an exported model; `visiontl export` writes one")
    if found.get("version") != VERSION:
        said = repr(found.get("version"))[:40]
        raise CheckpointError(f"{path}: version {said}; this program reads {VERSION}: export the model again")
    if told := unfit(found):
        raise CheckpointError(f"{path}: {told}")
    return found


def not_finite(text: str) -> float:
    raise ValueError(f"{text} is no number")


def unfit(found: Mapping[str, Any]) -> str | None:
    """What is wrong with a description, in words; None where it can be used."""
    parts = {
        "file": text,
        "input": mapping({"size": size_or_free, "multiple": step, "extent": boolean}),
        "outputs": listing(text, 64),
        "depth": depth,
        **dict.fromkeys(("meta", "section"), optional(mapping({}))),
    }
    if told := mapping(parts)(found, ""):
        return told
    if Path(found["file"]).name != found["file"]:
        return f"file is {found['file']!r:.80}; the name of a file beside it was expected"
    return view(found.get("view"), "view") or answer(found.get("answer"), found["outputs"], "answer")


def view(value: Any, place: str) -> str | None:
    kinds: dict[str, dict[str, Check]] = {
        "crop": {"size": size, "crop": share},
        "stretch": {"size": size},
        "inside": {"size": size},
        "short": {"short": side, "long": optional(side), "pixels": optional(positive)},
        "none": {},
    }
    if told := mapping({"resize": one_of(tuple(kinds))})(value, place):
        return told
    pad = mapping({"multiple": step, "least": both(either(side, zero)), "color": either(color, mirror)})
    checks = {
        **kinds[value["resize"]],
        "interpolation": one_of(INTERPOLATIONS),
        "pad": optional(pad),
        "by": optional(one_of(("pillow",))),
    }
    return mapping(checks)(value, place)


def answer(value: Any, outputs: list[str], place: str) -> str | None:
    """Of one task, or, where `place` is the description's own, of several."""
    if isinstance(value, Mapping) and value.get("kind") == "parts" and place == "answer":
        return named(lambda own, where: answer(own, outputs, where))(value.get("parts"), f"{place}.parts")
    output = one_of(tuple(outputs))
    names = listing(text, CLASSES)
    kinds: dict[str, dict[str, Check]] = {
        "classes": {
            **{"output": output, "classes": names, "activation": one_of(("softmax", "sigmoid"))},
            **{"single": boolean, "top": side, "threshold": number, "listed": boolean},
        },
        "mask": {
            **{"output": output, "classes": names, "mode": one_of(("L", "P", "RGB", "RGBA", "I;16"))},
            **{"values": listing(either(level, listing(level, 4)), 256), "palette": optional(palette)},
            **{"reported": listing(level, 256)},
        },
        "vector": {"output": output, "key": key},
        "picture": {"output": output, "key": key, "also": optional(mapping({}))},
        "boxes": {
            **dict.fromkeys(("boxes", "scores", "labels"), output),
            **{"classes": names, "threshold": number, "kept": optional(number), "most": side},
            "reported": listing(side_or_zero, CLASSES),
        },
        "values": {"keys": named(mapping({"output": output, "times": optional(one_of(("width_height",)))}))},
    }
    if told := mapping({"kind": one_of(tuple(kinds))})(value, place):
        return told + (did_you_mean(str(value.get("kind")), kinds) if isinstance(value, Mapping) else "")
    if told := mapping(kinds[value["kind"]])(value, place):
        return told
    if value["kind"] == "mask":
        return unfit_mask(value, place)
    if value["kind"] == "boxes" and any(one >= len(value["classes"]) for one in value["reported"]):
        return f"{place}.reported: numbers of {len(value['classes'])} classes, from 0, were expected"
    return None


def unfit_mask(value: Mapping[str, Any], place: str) -> str | None:
    """A value of each class, as many numbers as the mode has channels."""
    wide = {"RGB": 3, "RGBA": 4}.get(value["mode"])
    most = 65535 if value["mode"] == "I;16" else 255
    if len(value["values"]) != len(value["classes"]):
        return f"{place}.values: {len(value['values'])} for {len(value['classes'])} classes"
    for one in value["values"]:
        numbers = one if isinstance(one, list) else [one]
        if (wide is None) == isinstance(one, list) or len(numbers) != (wide or 1) or max(numbers) > most:
            return f"{place}.values: {shortly(one)} is no pixel of mode {value['mode']}"
    if any(one >= len(value["classes"]) for one in value["reported"]):
        return f"{place}.reported: numbers of {len(value['classes'])} classes, from 0, were expected"
    return None


def shortly(value: Any) -> str:
    return repr(value)[:80]


def expected(what: str, fits: Callable[[Any], bool]) -> Check:
    return lambda value, place: None if fits(value) else f"{place}: {what} was expected; got {shortly(value)}"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -NUMBER <= value <= NUMBER


def is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


text = expected("a text", lambda value: isinstance(value, str) and len(value) <= 10_000)
number = expected(f"a number within {NUMBER:g} of 0", is_number)
positive = expected("a number above 0", lambda value: is_number(value) and value > 0)
share = expected("a number above 0, at most 1", lambda value: is_number(value) and 0 < value <= 1)
boolean = expected("true or false", lambda value: isinstance(value, bool))
side = expected(f"a whole number from 1 to {SIDE}", lambda value: is_whole(value, 1, SIDE))
step = expected(f"a whole number from 1 to {STEP}", lambda value: is_whole(value, 1, STEP))
zero = expected("0", lambda value: value == 0 and is_whole(value, 0, 0))
level = expected("a whole number from 0 to 65535", lambda value: is_whole(value, 0, 65535))
side_or_zero = expected(f"a whole number from 0 to {CLASSES}", lambda value: is_whole(value, 0, CLASSES))
color = expected(
    "a color [r, g, b] of 0 to 255",
    lambda value: isinstance(value, list) and len(value) == 3 and all(is_number(v) and 0 <= v <= 255 for v in value),
)


mirror = expected("mirror", lambda value: value == "mirror")
key = expected(
    "a name that can be printed", lambda value: isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()
)
palette = expected(
    "a list of up to 256 colors, r, g, b of 0 to 255 one behind the other",
    lambda value: (
        isinstance(value, list)
        and len(value) <= 768
        and len(value) % 3 == 0
        and all(is_whole(v, 0, 255) for v in value)
    ),
)
depth = expected(
    "auto, range, a number of bits from 8 to 16, or [low, high] with low below high",
    lambda value: (
        value in ("auto", "range", *map(str, range(8, 17)))  # digits as texts: so an export writes them
        or is_whole(value, 8, 16)
        or (isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[0] < value[1])
    ),
)


def one_of(choices: tuple[str, ...]) -> Check:
    return expected(f"one of {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices)


def optional(check: Check) -> Check:
    return lambda value, place: None if value is None else check(value, place)


def either(*checks: Check) -> Check:
    """What one of the checks lets pass; else what the first says."""
    return lambda value, place: (
        None if any(check(value, place) is None for check in checks) else checks[0](value, place)
    )


def both(check: Check) -> Check:
    """A list of two."""

    def found(value: Any, place: str) -> str | None:
        if not isinstance(value, list) or len(value) != 2:
            return f"{place}: a list of two was expected; got {shortly(value)}"
        return check(value[0], f"{place}[0]") or check(value[1], f"{place}[1]")

    return found


def size(value: Any, place: str) -> str | None:
    """[height, width]"""
    if told := both(side)(value, place):
        return told
    return None if value[0] * value[1] <= AREA else f"{place}: at most {AREA:,} pixels were expected; got {value}"


def size_or_free(value: Any, place: str) -> str | None:
    """The same, where sides may be null."""
    return both(optional(side))(value, place) if not isinstance(value, list) or None in value else size(value, place)


def listing(check: Check, most: int) -> Check:
    def found(value: Any, place: str) -> str | None:
        if not isinstance(value, list) or not 0 < len(value) <= most:
            return f"{place}: a list of 1 to {most} values was expected; got {shortly(value)}"
        return next((told for i, one in enumerate(value) if (told := check(one, f"{place}[{i}]"))), None)

    return found


def mapping(checks: Mapping[str, Check]) -> Check:
    """A mapping in which these keys are right; others may be there."""

    def found(value: Any, place: str) -> str | None:
        if not isinstance(value, Mapping):
            return f"{place or 'it'}: a mapping was expected; got {shortly(value)}"
        dot = f"{place}." if place else ""
        return next((told for key, check in checks.items() if (told := check(value.get(key), f"{dot}{key}"))), None)

    return found


def named(check: Check) -> Check:
    """A mapping of names to what the check lets pass."""

    def found(value: Any, place: str) -> str | None:
        if not isinstance(value, Mapping) or not 0 < len(value) <= 64:
            return f"{place}: a mapping of 1 to 64 names was expected; got {shortly(value)}"
        return next((told for key, one in value.items() if (told := check(one, f"{place}.{key}"))), None)

    return found


def require_plain(path: Path) -> None:
    """Raise CheckpointError for what is no regular file that can be read."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such file")
    if not path.is_file():  # a pipe would be waited for without end
        raise CheckpointError(f"{path}: no regular file; the model.onnx that `visiontl export` wrote was expected")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path}: may not be read (no permission)")
