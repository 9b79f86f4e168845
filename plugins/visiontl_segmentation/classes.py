"""Which classes a data set has, what its masks' values stand for, and in which colors they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visiontl import DataError
from visiontl.kit.classes import match
from visiontl.kit.drawing import distinct_colors
from visiontl.kit.folders import read_lines
from visiontl.kit.tables import read_rows
from visiontl.kit.words import count, did_you_mean, refusal, some, told
from visiontl_segmentation.config import DataConfig
from visiontl_segmentation.deciding import Decision, takes_255
from visiontl_segmentation.masks import IGNORED, MOST_CLASSES, Meaning, meaning_of_colors, meaning_of_values, ranges

Color = tuple[int, int, int]
NAMES = "classes.txt"
TABLES = ("class_dict.csv", "labelmap.txt")  # name,r,g,b and CVAT's name:r,g,b:parts:actions
BACKGROUND = "background"
COLORS = 64  # told apart; further classes begin again
FIRST = (60, 120, 220)  # a blue to begin with
LEVELS = 10  # of each channel, to choose colors from


@dataclass(frozen=True)
class Naming:
    """names: what the masks' values or their colors, or COCO's categories, are called, in that order. stated: whether
    the data or the config says so; else they are numbers. values: of masks of values, one per name. colors: {name:
    color} where known."""

    names: Sequence[str]
    stated: bool
    values: Sequence[int] = ()
    colors: Mapping[str, Color] = field(default_factory=dict)


@dataclass(frozen=True)
class Classes:
    """What is learned. names: in index order. ignored: names that are not learned. background: index or None.
    colors: one per class. values: {value of an index or binary mask: class index}."""

    names: Sequence[str]
    ignored: Sequence[str]
    background: int | None
    colors: Sequence[Color]
    values: Mapping[int, int]

    def to_meta(self) -> dict[str, Any]:
        return {
            "classes": list(self.names),
            "ignored": list(self.ignored),
            "background": self.background,
            "colors": [list(color) for color in self.colors],
            "values": sorted([value, index] for value, index in self.values.items()),
        }


@dataclass(frozen=True)
class Stated:
    """names: of the classes, None where nothing states them. colors: {name: color}, empty where no table says it."""

    names: Sequence[str] | None
    colors: Mapping[str, Color]


def stated_of(cfg: DataConfig, base: str, annotated: Sequence[str] | None, meta: Mapping[str, Any] | None) -> Stated:
    """Names from the config, the annotations, files beside the data, in this order; colors likewise, and last those
    that a model (meta) was trained on."""
    table = color_table(base)
    trained = {} if meta is None else (meta.get("masks") or {}).get("colors", {})
    colors = cfg.colors or table or {name: (int(r), int(g), int(b)) for name, (r, g, b) in trained.items()}
    return Stated(cfg.classes or annotated or name_file(base) or list(table) or None, colors)


def naming_of(cfg: DataConfig, base: str, decision: Decision | None, found: Sequence[int], stated: Stated) -> Naming:
    """What the classes are called; by the values found where nothing states names.

    decision: of mask files; None for COCO. Raises DataError where color masks come without a table.
    """
    names = stated.names
    colors = {**color_table(base), **stated.colors}
    if decision is None:
        return Naming(list(names or ()), True, (), colors)
    if decision.kind == "color":
        return Naming(color_names(cfg, base, stated.colors, decision.why), True, (), colors)
    levels = decision.levels
    if names is None and decision.kind == "binary":
        return Naming([cfg.background or BACKGROUND, "foreground"], False, levels, colors)
    if names is None:
        values = levels or range(max(found, default=0) + 1)
        return Naming([f"class {value}" for value in values], False, values, colors)
    if levels and len(names) != len(levels):
        what = "two classes" if len(levels) == 2 else count(len(levels), "class")
        held = " and ".join(map(str, levels)) if len(levels) == 2 else some(levels, 12)
        raise DataError(f"{base}: masks of {held} have {what}, and {len(names)} are named: {some(names)}")
    return Naming(list(names), True, levels or range(len(names)), colors)


def color_names(cfg: DataConfig, base: str, known: Mapping[str, Color], why: str) -> Sequence[str]:
    """Names in the order of the classes. Raises DataError where there is no table, or names are not those in it."""
    if not known:
        raise DataError(
            f"{base}: {why}, and nothing says what the colors mean; give task.data.colors, as "
            f"{{road: [128, 64, 128]}}, or a {TABLES[0]} with name,r,g,b"
        )
    names = cfg.classes or list(known)
    found_names = match(list(known), names)
    if found_names.surplus or found_names.missing:
        odd = sorted([*found_names.surplus, *found_names.missing])
        raise DataError(f"{base}: task.data.classes and the table of colors differ in {some(odd)}{found_names.hint()}")
    return names


def classes_of(
    cfg: DataConfig, where: str, decision: Decision | None, naming: Naming
) -> tuple[Classes, Meaning | None, np.ndarray]:
    """The classes to learn, what values mean, and (names + 2,) uint8 for COCO: index per name, of what is left, crowds.

    Raises DataError for ignored or background names that are not there, and for too many classes or none.
    """
    names = list(naming.names)
    kind = None if decision is None else decision.kind
    by_value = dict(zip(names, naming.values, strict=False))
    if kind is None:
        rest = cfg.background or BACKGROUND
        names = names if rest in names else [rest, *names]
        by_value = {}
    ignored = [one for one in cfg.ignore_index if isinstance(one, str)]
    for one in ignored:
        if one not in names:
            raise DataError(f"{where}: task.data.ignore_index: there is no class {told(one)}{did_you_mean(one, names)}")
    numbers = [one for one in cfg.ignore_index if isinstance(one, int) and not isinstance(one, bool)]
    for number in numbers:
        if not 0 <= number <= 255:
            raise DataError(f"{where}: task.data.ignore_index: {number} is no value of a mask; expected 0 to 255")
    by_number = {name: value for name, value in by_value.items() if value in numbers} if kind == "index" else {}
    if cfg.background is not None and cfg.background not in names:
        near = did_you_mean(cfg.background, names)
        raise DataError(f"{where}: task.data.background: there is no class {told(cfg.background)}{near}")
    if cfg.background is not None and cfg.background_policy == "ignore":
        ignored.append(cfg.background)
    ignored = list(dict.fromkeys([*ignored, *by_number]))
    kept = [name for name in names if name not in ignored]
    if not kept:
        raise DataError(f"{where}: all classes are ignored, so nothing is left to learn")
    if len(kept) > MOST_CLASSES:
        raise DataError(f"{where}: {len(kept)} classes; masks of 8 bits hold {MOST_CLASSES} beside the ignored value")
    index = {name: kept.index(name) if name in kept else IGNORED for name in names}
    background = next((one for one in (cfg.background, BACKGROUND) if one in kept), None)
    values: dict[int, int] = {}
    meaning = None
    if kind == "color":
        meaning = meaning_of_colors({naming.colors[name]: index[name] for name in names})
    elif decision is not None:
        values = {value: index[name] for name, value in by_value.items()}
        meaning = meaning_of_values(decision.kind, values := with_others(values, decision, cfg), decision.channel)
    labels = np.array(
        [*(index[name] for name in naming.names), index.get(cfg.background or BACKGROUND, IGNORED), IGNORED]
    )
    drawn = drawing_colors(kept, naming.colors)
    place = None if background is None else kept.index(background)
    if decision is not None and decision.levels == (0, 255):
        values = {1: values[255], **values}  # as such models always said
    classes = Classes(kept, [n for n in names if n in ignored], place, drawn, values)
    return classes, meaning, labels.astype(np.uint8)


def with_others(values: Mapping[int, int], decision: Decision, cfg: DataConfig) -> dict[int, int]:
    """The same with further values of the foreground, and those that the config ignores; 255 is not ignored where it
    was found to be a value that was drawn."""
    known = dict(values)
    if decision.extra:
        known |= dict.fromkeys(decision.extra, known[decision.levels[-1]])
    numbers = [one for one in cfg.ignore_index if isinstance(one, int) and not isinstance(one, bool)]
    spared = {255} if decision.levels and takes_255(decision.levels) else set[int]()
    return known | {number: IGNORED for number in numbers if number not in known and number not in spared}


def in_the_models_classes(
    cfg: DataConfig,
    where: str,
    decision: Decision | None,
    naming: Naming,
    meta: Mapping[str, Any],
    notes: list[str],
) -> tuple[Meaning | None, np.ndarray]:
    """What values of another data set mean to a trained model: classes are matched by name.

    Where the data does not name its classes, the values of the training masks hold, which is noted. A name that the
    model does not know has no meaning: masks with it are refused as they are read.
    """
    known = {name: index for index, name in enumerate(meta["classes"])}
    ignored = {*meta["ignored"], *(one for one in cfg.ignore_index if isinstance(one, str))}
    if decision is not None and decision.kind != "color" and not naming.stated and meta["values"]:
        notes.append(f"{where}: its classes are not named; values mean what they meant in training")
        values = as_in_training(where, decision, meta)
        return meaning_of_values(decision.kind, values, decision.channel), np.zeros(0, dtype=np.uint8)
    found = match(meta["classes"], [name for name in naming.names if name in known or name not in ignored])
    if found.surplus:
        if decision is None or len(found.surplus) == len(set(naming.names)):
            raise DataError(f"{where}: {found.unknown()}")
        notes.append(f"{where}: {found.unknown()}; a mask with one of them is an error")
    place = {name: known.get(name, IGNORED) for name in naming.names if name not in found.surplus}
    rest = known.get(cfg.background or BACKGROUND, IGNORED)
    labels = np.array([*(place.get(name, IGNORED) for name in naming.names), rest, IGNORED], dtype=np.uint8)
    if decision is None:
        return None, labels
    if decision.kind == "color":
        return meaning_of_colors({naming.colors[name]: one for name, one in place.items()}), labels
    values = {value: place[name] for value, name in zip(naming.values, naming.names, strict=True) if name in place}
    return meaning_of_values(decision.kind, with_others(values, decision, cfg), decision.channel), labels


def as_in_training(where: str, decision: Decision, meta: Mapping[str, Any]) -> dict[int, int]:
    """{value: class index or IGNORED} of masks whose classes nothing names. Raises DataError for other values."""
    values = {int(value): int(index) for value, index in meta["values"]}
    levels = decision.levels
    if not levels:
        return values
    known = {value: index for value, index in values.items() if value in levels}
    if len(known) < len(levels) or IGNORED in known.values():
        if len(levels) != 2 or len(meta["classes"]) != 2:
            raise DataError(
                f"{where}: masks hold {some(levels)}, and the model was trained on {ranges(values)}; a classes.txt "
                "with its names says which is which"
            )
        known = dict(zip(levels, (0, 1), strict=True))
    ignored = {value: index for value, index in values.items() if index == IGNORED and value not in known}
    return known | dict.fromkeys(decision.extra, known[levels[-1]]) | ignored


def name_file(base: str) -> list[str] | None:
    """The lines of classes.txt. Raises DataError for names that are given twice."""
    path = Path(base, NAMES)
    if not path.exists():
        return None
    names = [line.strip() for _, line in read_lines(path)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise DataError(f"{path}: {'no names' if not names else f'{some(twice)} given twice'}; one class a line")
    return names


def color_table(base: str) -> dict[str, Color]:
    """{name: color} of class_dict.csv or CVAT's labelmap.txt; empty where there is neither."""
    for name in TABLES:
        path = Path(base, name)
        if path.exists():
            return read_colors(path)
    return {}


def read_colors(path: Path) -> dict[str, Color]:
    """Raises DataError with all lines that give no color, or one that is given already."""
    if path.suffix == ".csv":
        rows = read_rows(path)
        if rows and not all(cell.isdecimal() for cell in rows[0][1][1:4]):
            del rows[0]  # a heading
    else:
        parts = [(number, line.split(":")) for number, line in read_lines(path)]
        rows = [(number, [part[0], *(part[1].split(",") if len(part) > 1 else ())]) for number, part in parts]
    found: dict[str, Color] = {}
    problems: list[str] = []
    for number, row in rows:
        name, *levels = [cell.strip() for cell in row[:4]]
        if name.startswith("#"):
            continue
        if not name or len(levels) != 3 or not all(one.isdecimal() and int(one) <= 255 for one in levels):
            problems.append(f"line {number}: {told(', '.join(row))}: expected a name and three numbers 0 to 255")
            continue
        color = (int(levels[0]), int(levels[1]), int(levels[2]))
        if name in found or color in found.values():
            problems.append(f"line {number}: {told(name)} {list(color)}: name or color is given twice")
        found[name] = color
    if problems:
        raise refusal(path, problems)
    if not found:
        raise DataError(f"{path}: holds no colors; expected name,r,g,b lines")
    return found


def drawing_colors(names: Sequence[str], known: Mapping[str, Color]) -> list[Color]:
    """One color per class: the known ones, and for others such as differ from all before them."""
    distinct = distinct_colors(COLORS, FIRST, LEVELS)
    spare = iter([one for one in distinct if one not in set(known.values())] * (1 + len(names) // COLORS))
    return [(0, 0, 0) if name == BACKGROUND and name not in known else known.get(name) or next(spare) for name in names]
