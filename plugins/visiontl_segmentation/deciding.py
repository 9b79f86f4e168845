"""What a data set's masks are made of, decided by all of its training masks together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visiontl import DataError
from visiontl.kit.words import count, some
from visiontl_segmentation.config import DataConfig
from visiontl_segmentation.levels import FAR, NEAR, SOFT, STRAY, Levels, evenly_spread, is_dense, is_pair, levels_of
from visiontl_segmentation.looks import Counted, Look, summed
from visiontl_segmentation.masks import Channel, Kind, colors_in_words, ranges

Table = Mapping[str, tuple[int, int, int]]  # {name: color}

CUTOUT = 1000  # colors of a picture from which on it is a photo, and no mask in colors


@dataclass(frozen=True)
class Decision:
    """kind, channel: as in Meaning. levels: the values of binary masks and of levels, rising; extra: further values of
    the foreground. form: what most files are. notes: what was taken for what, in sentences. why: of colors that nothing
    names, for the error."""

    kind: Kind
    channel: Channel
    levels: tuple[int, ...] = ()
    extra: tuple[int, ...] = ()
    form: str = "gray"
    notes: tuple[str, ...] = ()
    why: str = "masks are color-coded"


def decide(
    cfg: DataConfig, where: str, looks: Mapping[str, Look], names: Sequence[str] | None, table: Table
) -> Decision:
    """looks: of the masks that decide, by file. names: of the classes, where something states them. table: which color
    stands for which class, where something says so. Raises DataError, with the key to set, where the masks do not say
    what they are."""
    seen = {name: one for name, one in looks.items() if one.size is not None}
    if not seen:
        first = next((one.problem for one in looks.values()), "there is none")
        raise DataError(f"{where}: none of {count(len(looks), 'mask')} could be read; the first: {first}")
    lossy = [name for name, one in seen.items() if one.lossy]
    channel, notes, why = channel_of(cfg, where, seen, table)
    form = "alpha" if channel == "alpha" else most_common(one.form for one in seen.values())
    if channel == "color":
        return Decision("color", channel, form="color", notes=notes, why=why + said_lossy(lossy))
    found = in_channel(list(seen.values()), channel)
    if form in ("palette", "color") and channel == "gray":
        form = "gray"
    kind, levels, extra, more = kind_of(cfg, where, found, names, seen if channel == "values" else {}, lossy)
    return Decision(kind, channel, levels, extra, form, (*notes, *more))


def most_common(forms: Iterable[str]) -> str:
    """Of equally many the last by name: which file comes first must not matter."""
    counts = Counter(forms)
    return max(counts, key=lambda form: (counts[form], form))


def channel_of(
    cfg: DataConfig, where: str, seen: Mapping[str, Look], table: Table
) -> tuple[Channel, tuple[str, ...], str]:
    """(what is read of each picture, notes, what to say of colors that nothing names)."""
    if cfg.values == "alpha":
        return "alpha", (), ""
    if cfg.values == "color" or (cfg.values == "auto" and cfg.colors is not None):
        return "color", (), "masks are color-coded"
    see_through = [one for one in seen.values() if one.alpha is not None]
    if cfg.values == "auto" and see_through:
        colors = summed([one.colors() for one in seen.values()])
        words = ""
        if len(colors.values) == 1:
            words = f"the colors of all masks are one, {colors_in_words(colors.values.tolist())}"
        elif not table and any(len(one.found.values) > CUTOUT for one in see_through if one.form == "color"):
            words = "masks hold photos cut out"
        if words:
            return "alpha", (f"{where}: {words}, and their alpha channel differs: alpha is taken as the mask",), ""
    colored = [name for name, one in seen.items() if one.form == "color"]
    if colored and cfg.values == "auto":
        why = "masks are color-coded"
        if len(colored) < len(seen):
            why = f"{len(colored)} of {count(len(seen), 'mask')} hold colors ({some(colored, 3)})"
        if see_through:
            why += " (task.data.values=alpha takes their alpha channel as the mask)"
        return "color", (), why
    return palettes(cfg, where, seen, table)


def palettes(
    cfg: DataConfig, where: str, seen: Mapping[str, Look], table: Table
) -> tuple[Channel, tuple[str, ...], str]:
    """The same where all files hold values: a palette's indices, but its colors where those alone agree."""
    of_palette = {name: one for name, one in seen.items() if one.form == "palette"}
    if not of_palette or cfg.values == "index":
        return "values", (), ""
    first: dict[int, tuple[int, str]] = {}
    differ = ""
    for name, one in of_palette.items():
        for value, code in zip(one.found.values.tolist(), one.palette.tolist(), strict=True):
            before, other = first.setdefault(value, (code, name))
            if before != code and not differ and min(code, before) >= 0:
                said = colors_in_words([before]), colors_in_words([code])
                differ = f"palette index {value} is {said[0]} in {other} and {said[1]} in {name}"
    codes = {code for one in of_palette.values() for code in one.palette.tolist()}
    gray = all(code >= 0 and code % 0x010101 == 0 for code in codes)
    plain = {value for one in seen.values() if one.form != "palette" for value in one.found.values.tolist()}
    order = [(r << 16) | (g << 8) | b for r, g, b in table.values()]
    if not differ and codes <= set(order):
        odd = next((value for value, (code, _) in first.items() if order[value : value + 1] != [code]), None)
        if odd is not None:
            words = f"palette index {odd} is {colors_in_words([first[odd][0]])}, which stands elsewhere in the table"
            return "color", (f"{where}: {words} of colors: colors count, not indices",), words
    if differ and not gray:
        if not table:
            differ += " (task.data.values=index takes the indices as they are)"
        return "color", (f"{where}: {differ}: colors count, not indices",), differ
    if differ or (gray and plain and not set(first) <= plain and {code & 255 for code in codes} <= plain):
        words = differ or "palettes hold the gray values of the other masks"
        return "gray", (f"{where}: {words}: gray values count, not indices",), ""
    return "values", (), ""


def in_channel(looks: Sequence[Look], channel: Channel) -> Counted:
    """What all masks hold together, in the part of them that is read."""
    if channel == "alpha":
        whole = Counted(np.array([255]), np.array([0]), np.array([0]))
        return summed([one.alpha if one.alpha is not None else whole for one in looks])
    if channel == "gray":
        gray = [one.colors() for one in looks]
        return summed([Counted(one.values & 255, one.pixels, one.solid) for one in gray])
    return summed([one.found for one in looks if one.form != "color"])


Found = tuple[Kind, tuple[int, ...], tuple[int, ...], list[str]]


def kind_of(
    cfg: DataConfig,
    where: str,
    found: Counted,
    names: Sequence[str] | None,
    seen: Mapping[str, Look],
    lossy: Sequence[str],
) -> Found:
    """(kind, levels, further values of the foreground, notes) of values."""
    numbers = {one for one in cfg.ignore_index if isinstance(one, int) and one != 255}
    keep = ~np.isin(found.values, list(numbers))
    found = Counted(found.values[keep], found.pixels[keep], found.solid[keep])
    levels = levels_of(found, bool(lossy) and faithful(seen, lossy, found))
    if cfg.values == "index":
        return "index", (), (), []
    if cfg.values == "binary":
        return explicit_pair(where, found, levels, lossy)
    if len(found.values) < 2 and names is None:
        held = f"hold one value only, {ranges(found.values.tolist())}" if len(found.values) else "hold ignored values"
        raise DataError(
            f"{where}: all training masks {held}: one class is nothing to learn from; masks of classes, or "
            "task.data.values and task.data.ignore_index, say which pixels are what"
        )
    if cfg.values == "levels" and len(levels.drawn) > 1:
        return "levels", *said(where, found, levels, "classes", lossy)
    number = None if names is None else len(names)
    has_255 = 255 in cfg.ignore_index and 255 in found.values
    rest = found.values[found.values != 255] if has_255 else found.values
    if mixed(cfg, seen):
        raise DataError(
            f"{where}: some masks hold 0 and 1, others 0 and 255, and none all three: task.data.values=binary takes 1 "
            "and 255 as foreground, task.data.values=index takes 255 as task.data.ignore_index says"
        )
    fits = number is not None and len(rest) > 0 and int(rest.max()) < number
    pair = is_pair(found, levels)
    plain = 255 in levels.drawn and levels.rest <= STRAY  # an error where more are named, and not index masks of one
    if pair and (number in (None, 2) or plain) and not (fits and 255 not in levels.drawn):
        return "binary", *said(where, found, levels, "background and foreground", lossy)
    if fits:
        return "index", (), (), []
    if number is not None:
        spread = max(levels.drawn, default=0) >= FAR and min(np.diff(levels.drawn), default=0) >= 8
        if len(levels.drawn) == number and spread and levels.far <= SOFT:
            return "levels", *said(where, found, levels, some(names or ()), lossy)
        return "index", (), (), lossy_notes(where, lossy)
    return unnamed(where, found, rest, levels, lossy)


def unnamed(where: str, found: Counted, rest: np.ndarray, levels: Levels, lossy: Sequence[str]) -> Found:
    """The same where nothing names the classes: their numbers have to look like such."""
    has_255 = len(rest) < len(found.values)
    if not lossy and (len(rest) > 1 or not has_255) and is_dense(rest, levels.drawn):
        share = int(found.pixels[found.values == 255].sum()) / int(found.pixels.sum())
        note = f"{where}: 255 is ignored, on {in_percent(share)} of the training pixels (task.data.ignore_index)"
        return "index", (), (), [note] if has_255 else []
    apart = len(levels.drawn) > 1 and min(np.diff(levels.drawn)) >= FAR / 2 and levels.far <= SOFT
    if apart and len(levels.drawn) == 2:
        return "binary", *said(where, found, levels, "background and foreground", lossy)
    if apart and (not has_255 or evenly_spread(levels.drawn)):
        return "levels", *said(where, found, levels, "classes", lossy)
    raise DataError(
        f"{where}: masks hold {ranges_in_short(found.values)}, which are no numbers of classes{said_lossy(lossy)}; say "
        "what they are: task.data.values=binary for a background and a foreground, task.data.values=levels for a class "
        "for each value that areas have, task.data.values=index for class numbers, or task.data.colors with a color "
        "(gray: [v, v, v]) for each name; task.data.ignore_index leaves values out"
    )


def faithful(seen: Mapping[str, Look], lossy: Sequence[str], found: Counted) -> bool:
    """Whether the files without loss, if any, hold nothing but the values that the lossy ones were made from."""
    others = {value for name, one in seen.items() if name not in set(lossy) for value in one.found.values.tolist()}
    return others <= {*levels_of(found, True).drawn, 255}


def explicit_pair(where: str, found: Counted, levels: Levels, lossy: Sequence[str]) -> Found:
    """Binary because the config says so: 0 and 255 or 1, or the two values that are most of what is there."""
    values = set(found.values.tolist())
    if values <= {0, 1, 255}:
        return "binary", (0, 255 if 255 in values or values == {0} else 1), ((1,) if {1, 255} <= values else ()), []
    drawn = levels.drawn
    if len(drawn) > 2:  # the outer ones, and what lies between is the nearer one
        drawn = (drawn[0], drawn[-1])
    if len(drawn) < 2:
        drawn = (int(found.values[0]), int(found.values[-1]))
    share = 1 - int(found.pixels[np.isin(found.values, drawn)].sum()) / max(1, int(found.pixels.sum()))
    return "binary", *said(where, found, Levels(drawn, share, share), "background and foreground", lossy)


def mixed(cfg: DataConfig, seen: Mapping[str, Look]) -> bool:
    """Whether some files say 1 where others say 255."""
    sets = {tuple(one.found.values.tolist()) for one in seen.values() if one.form != "color"}
    return 255 in cfg.ignore_index and {(0, 1), (0, 255)} <= sets <= {(0,), (1,), (255,), (0, 1), (0, 255)}


def said(
    where: str, found: Counted, levels: Levels, names: str, lossy: Sequence[str]
) -> tuple[tuple[int, ...], tuple[int, ...], list[str]]:
    """(levels, (), what is taken for what)."""
    words = " and ".join(map(str, levels.drawn)) if len(levels.drawn) == 2 else ", ".join(map(str, levels.drawn))
    strange = ~np.isin(found.values, levels.drawn) & ((found.values != 255) | takes_255(levels.drawn))
    if not strange.any():
        return levels.drawn, (), [f"{where}: masks hold {words} only: taken as {names}"]
    pixels = int(found.pixels[strange].sum())
    note = (
        f"{where}: masks hold {words}, taken as {names}, and {ranges_in_short(found.values[strange])} on "
        f"{count(pixels, 'pixel')} ({in_percent(levels.rest)}), which count as the nearest of them{said_lossy(lossy)}"
    )
    return levels.drawn, (), [note]


def takes_255(levels: Sequence[int]) -> bool:
    """Whether 255 is one of the values that were drawn, or next to one, and so not that of ignored pixels."""
    return any(one > 255 or 255 - one <= NEAR for one in levels)


def in_percent(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0001 or not share else "less than 0.01%"


def ranges_in_short(values: np.ndarray) -> str:
    """'3, 7 to 9', or how many lie between which where that is long."""
    words = ranges(values.tolist())
    return words if len(words) < 60 else f"{len(values)} values from {values.min()} to {values.max()}"


def said_lossy(lossy: Sequence[str]) -> str:
    if not lossy:
        return ""
    return f" ({count(len(lossy), 'mask')} compressed with loss, such as JPEG: {some(lossy, 2)}; save masks as PNG)"


def lossy_notes(where: str, lossy: Sequence[str]) -> list[str]:
    return [f"{where}:{said_lossy(lossy)}"] if lossy else []
