"""Readable class names, and ImageNet's class ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from visiontl import DataError
from visiontl.kit.classes import match
from visiontl.kit.folders import near, read_lines
from visiontl.kit.names import compared
from visiontl.kit.words import count, did_you_mean, plural, refusal, some, told

WNID = re.compile(r"n\d{8}")  # a WordNet id, the folder names of ImageNet


def are_wnids(ids: Sequence[str]) -> bool:
    return bool(ids) and all(WNID.fullmatch(text) for text in ids)


def read_names(file: str) -> dict[str, str]:
    """Lines `id words` (or a tab between them) -> {id: words}, in the order of the lines."""
    path = Path(file).expanduser()
    if "\0" in file or not path.is_file():
        raise DataError(f"task.data.class_names: {told(path)}: no such file{near(file)}")
    names: dict[str, str] = {}
    problems: list[str] = []
    for number, line in read_lines(path):
        line = line.strip()
        parts = line.split("\t", 1) if "\t" in line else line.split(None, 1)
        if len(parts) != 2:
            problems.append(f"line {number} is {told(line)!r}; expected 'folder readable name'")
        elif parts[0] in names:
            problems.append(f"line {number} names {told(parts[0])} a second time")
        else:
            names[parts[0]] = parts[1].strip()
    if problems:
        raise refusal(path, problems)
    if not names:
        raise DataError(f"{path}: holds no line 'folder readable name'")
    return names


def imagenet() -> dict[str, str]:
    """ImageNet-1k: {wnid: words} in the order of the logits of networks trained on it (sorted wnids)."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    return {wnid: info.label_name_to_description(wnid) for wnid in info.label_names()}


def of_the_head(ids: Sequence[str], where: str) -> tuple[list[str], dict[str, str], list[str]]:
    """Folders or labels that are classes of a network's own head -> (all its classes in the order of its logits, those
    that are there as they are written; their words, if any; notes).

    Known are ImageNet's ids, its names in words, and numbers 0 to K - 1. Nothing else says which answer a name
    belongs to, so DataError asks for the names in order.
    """
    ask = "name the classes of the original head, in its order, in task.data.class_names"
    if are_wnids(ids):
        words = imagenet()
        unknown = match(list(words), ids).surplus
        if unknown:
            raise DataError(f"{where}: {count(len(unknown), 'folder')} of no ImageNet-1k class: {some(unknown)}; {ask}")
        return list(words), words, []
    number = len(ids)
    if sorted(int(text) if _is_number(text) else -1 for text in ids) == list(range(number)):
        found = sorted(ids, key=int)
        note = f"{found[0]} to {found[-1]} are taken for the numbers of the original head's classes"
        return found, {}, [f"{where}: {note}, so it must have {number:,}"]
    if any(map(_is_number, ids)):
        known = sum(map(_is_number, ids))
        raise DataError(
            f"{where}: {known:,} of {count(number, 'class')} {plural(known, 'is')} a number ({some(ids)}), but they "
            f"are not 0 to {number - 1}, so nothing says which of the original head's classes is which: {ask} (lines "
            f"such as '{next(filter(_is_number, ids))} NAME'), or make a folder for each of its classes, empty ones too"
        )
    exact = {name: place for place, name in enumerate(readable(list(imagenet()), imagenet()))}
    table = {**_by_words(), **exact}  # the Cardigan is a dog, a cardigan is none
    places = {table.get(text, table.get(compared(text, loose=True), -1)): text for text in ids}
    unknown = [text for text in ids if text not in table and compared(text, loose=True) not in table]
    if unknown or len(places) < number:
        named = f"{count(len(unknown), 'class')} of no name in ImageNet-1k: {some(unknown)}" if unknown else some(ids)
        hint = did_you_mean(unknown[0], table) if unknown else ""
        raise DataError(f"{where}: {named}{hint}; nothing says which of the original head's classes is which: {ask}")
    names = [places.get(place, name) for name, place in exact.items()]
    return names, {}, [f"{where}: its {count(number, 'class')} {plural(number, 'is')} known by ImageNet's names"]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 9


def _by_words() -> dict[str, int]:
    """The form of each name in words -> number of its ImageNet class; a name that two classes share is left out."""
    words = imagenet()
    found: dict[str, set[int]] = {}
    for place, (wnid, name) in enumerate(zip(words, readable(list(words), words), strict=True)):
        for one in (name, *words[wnid].split(",")):
            found.setdefault(compared(one, loose=True), set()).add(place)
    return {form: next(iter(places)) for form, places in found.items() if len(places) == 1}


def wordnet(wnids: Sequence[str]) -> dict[str, str]:
    """The words of those wnids that ImageNet-21k or -1k knows."""
    from timm.data.imagenet_info import ImageNetInfo

    known = ImageNetInfo("imagenet-22k")
    names = {}
    for wnid in wnids:
        try:
            names[wnid] = known.label_name_to_description(wnid)
        except KeyError:
            continue
    return names


def readable(ids: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """One distinct name per id: the first synonym of its words; all of them where two classes share the
    first; with the id where they still agree (ImageNet has two cranes)."""
    full = {text: words.get(text, text) for text in ids}
    short = {text: full[text].split(",")[0].strip() or text for text in ids}
    repeated = Counter(short.values())
    names = {text: short[text] if repeated[short[text]] == 1 else full[text] for text in ids}
    repeated = Counter(names.values())
    return [names[text] if repeated[names[text]] == 1 else f"{names[text]} ({text})" for text in ids]
