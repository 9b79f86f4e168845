"""Readable class names, and ImageNet's class ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from visiontl import DataError
from visiontl.kit.folders import near, read_lines
from visiontl.kit.words import refusal, told

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
