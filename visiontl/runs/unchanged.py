"""Whether the files of a run's splits, and what its task reads beside them (lists, tables, annotations, masks), are
still those that it began with: their sizes and times, and what a sample of them holds, kept beside the lists of their
names."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from visiontl.kit.words import count
from visiontl.report.console import Console
from visiontl.runs import labels, opened
from visiontl.runs.files import read_text, write_text
from visiontl.task import SampleDataset

KEPT = "files.json"
BESIDE = "read with the data"
WITH_SAMPLES = "read with the samples"
RECORDS = {BESIDE: "read.json", WITH_SAMPLES: "labels.json"}  # of what is read beside the pictures
FORMAT = 1
SAMPLE = 200  # files of a split whose content is kept as a hash, and read again when the run goes on
LARGEST = 1 << 26  # bytes of a file that is hashed
ALIKE = 20  # files with another time and the known content, from which on all such files are taken for a copy
NAMED = 3  # names in a sentence


@dataclass
class Kept:
    """A split as it was. Per name of its list: size in bytes and time of the last change in ns, -1 where no file was
    there; hashes: {id: first 32 digits of the SHA-256}."""

    sizes: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass
class Changes:
    """Names in a split. changed: another size or content; anew: written anew at the same size, content not kept;
    copied: how many of another time are taken for copies."""

    changed: list[str] = field(default_factory=list)
    anew: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    copied: int = 0


def keep(folder: Path, splits: Mapping[str, SampleDataset], seed: int) -> None:
    """Write down what the files of the splits are, and those that are read beside them. Opens up to three images of
    each split and makes as many samples, hashes SAMPLE files, and asks the file system for the rest (4 microseconds
    each on a local disk). A full disk is no reason to end."""
    lists = {name: (split, places) for name, split, places in placed(splits)}
    pictures = [place for _, places in lists.values() for place in places]
    beside = {BESIDE: opened.files(pictures, seed)}
    with suppress(OSError, ValueError, RecursionError):  # one that starts over does not open again what it knows
        beside[BESIDE] = sorted({*beside[BESIDE], *_names(contained(folder / "splits" / RECORDS[BESIDE]))})
    known = {os.path.abspath(one) for one in (*pictures, *beside[BESIDE])}
    found = {path for split, places in lists.values() for path in labels.beside(split, places)}
    beside[WITH_SAMPLES] = opened.a_sample([path for path in found if os.path.abspath(path) not in known], seed)
    with suppress(OSError):
        kept = {name: asdict(kept_of(places, seed)) for name, (_, places) in lists.items()}
        _write(folder / "splits" / KEPT, {"splits": kept})
        for kind in [kind for kind, names in beside.items() if names or kind == BESIDE]:
            names = beside[kind]
            _write(folder / "splits" / RECORDS[kind], {"names": names, **asdict(kept_of(names, seed))})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **content}, separators=(",", ":"))
    write_text(path, text + "\n")


def placed(splits: Mapping[str, SampleDataset]) -> Iterator[tuple[str, SampleDataset, list[str]]]:
    """(name, split, path of each of its names) of the splits whose images are files."""
    for name, split in splits.items():
        base = base_of(split)
        if base is not None:
            yield name, split, [os.path.join(base, one) for one in split.names]


def base_of(split: SampleDataset) -> str | None:
    """The folder that the names of a split lie below, "" for whole paths, as up to three of its images say; None
    where they are no files, or do not lie as they are named."""
    bases, last = set[str | None](), len(split) - 1
    for id in dict.fromkeys((0, last // 2, last)) if last >= 0 else ():
        try:
            file = split.image(id).info.get("file")
        except Exception:  # it cannot be read, which is said where it matters
            continue
        bases.add(folder_above(str(file), str(split.names[id])) if file else None)
    return bases.pop() if len(bases) == 1 else None


def folder_above(file: str, name: str) -> str | None:
    """`base` with base/name == file; "" where the name is the whole path; None where there is none."""
    file, name = os.path.normpath(file), os.path.normpath(name)
    if file == name:
        return ""
    return file.removesuffix(os.sep + name) or os.sep if file.endswith(os.sep + name) else None


def kept_of(places: Sequence[str], seed: int) -> Kept:
    kept = Kept()
    for size, time in map(standing, places):
        kept.sizes.append(size)
        kept.times.append(time)
    for id in sorted(random.Random(seed).sample(range(len(places)), min(SAMPLE, len(places)))):
        digest = digest_of(places[id], kept.sizes[id])
        if digest is not None:
            kept.hashes[str(id)] = digest
    return kept


def standing(path: str) -> tuple[int, int]:
    """(bytes, time of the last change in ns); -1 for what is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def digest_of(path: str, size: int) -> str | None:
    """None for a file that is too large, is none, or cannot be read."""
    if not 0 <= size <= LARGEST or not os.path.isfile(path):  # a pipe would be waited for
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return None


# --------------------------------------------------------------------------------------------------------- going on


def compare(folder: Path, splits: Mapping[str, SampleDataset], console: Console) -> None:
    """Warn of files that are no longer those that the run began with, and go on with what is there."""
    path = folder / "splits" / KEPT
    if not os.path.lexists(path):
        console.say(f"{folder} keeps no sizes and times of its files: that they are still the same is not checked")
        return
    try:
        before = read(path)
        lists = {name: names_in(folder / "splits" / f"{name}.txt") for name in before}
        for name, kept in before.items():
            if not len(kept.sizes) == len(kept.times) == len(lists[name]):
                raise ValueError(f"{len(kept.sizes)} sizes for {len(lists[name])} names of {name}")
    except (OSError, ValueError, RecursionError) as error:
        console.warn(f"{path} cannot be read ({error}): whether files changed since the run began is not known")
        return
    found = {
        name: changes(lists[name], before[name], split.names, places)
        for name, split, places in placed(splits)
        if name in before
    }
    say({**found, **beside(folder, console)}, console)


def beside(folder: Path, console: Console) -> dict[str, Changes]:
    """Of what was read beside the pictures; nothing where the run is of a version that kept nothing of it."""
    return {kind: found for kind in RECORDS if (found := recorded(folder, kind, console)) is not None}


def recorded(folder: Path, kind: str, console: Console) -> Changes | None:
    """Of one of RECORDS; None where it is not there, or cannot be read, which is said."""
    path = folder / "splits" / RECORDS[kind]
    if not os.path.lexists(path):
        return None
    try:
        content = contained(path)
        names = _names(content)
        kept = kept_from(kind, {key: content.get(key) for key in Kept.__dataclass_fields__})
        if not len(kept.sizes) == len(kept.times) == len(names):
            raise ValueError(f"{len(kept.sizes)} sizes for {len(names)} names")
    except (OSError, ValueError, RecursionError) as error:
        console.warn(f"{path} cannot be read ({error}): whether annotations changed since the run began is not known")
        return None
    found = changes(names, kept, names, names)
    found.new += [name for name, size in zip(names, kept.sizes, strict=True) if size < 0 <= standing(name)[0]]
    return found


def _names(content: Mapping[str, Any]) -> list[str]:
    """Raises ValueError for what `keep` does not write."""
    names = content.get("names")
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ValueError("its names are no list of texts")
    return names


def read(path: Path) -> dict[str, Kept]:
    """{split: what was kept}. Raises ValueError for what `keep` does not write, OSError for what cannot be read."""
    splits = contained(path).get("splits")
    if not isinstance(splits, dict):
        raise ValueError("its splits are no mapping")
    return {str(name): kept_from(name, given) for name, given in splits.items()}


def contained(path: Path) -> dict[str, Any]:
    """A record of ours. Raises ValueError and OSError."""
    if not path.is_file() or path.is_symlink():
        raise ValueError("it is no plain file")
    content = json.loads(read_text(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    return content


def kept_from(name: str, given: Any) -> Kept:
    """Raises ValueError for what is no record of a split."""
    if not isinstance(given, dict) or given.keys() != Kept.__dataclass_fields__.keys():
        raise ValueError(f"splits.{name}: expected sizes, times and hashes")
    for key in ("sizes", "times"):
        if not isinstance(given[key], list) or not all(type(value) is int for value in given[key]):
            raise ValueError(f"splits.{name}.{key}: expected a list of integers")
    hashes = given["hashes"]
    if not isinstance(hashes, dict) or not all(isinstance(one, str) for one in hashes.values()):
        raise ValueError(f"splits.{name}.hashes: expected a mapping from ids to digits")
    if not all(key.isdecimal() and int(key) < len(given["sizes"]) for key in hashes):
        raise ValueError(f"splits.{name}.hashes: expected ids below {len(given['sizes'])}")
    return Kept(**given)


def names_in(path: Path) -> list[str]:
    """The names of a split, one JSON string a line (which U+2028 does not end)."""
    return [str(json.loads(line)) for line in read_text(path).split("\n") if line]


def changes(names: Sequence[str], kept: Kept, now: Sequence[str], places: Sequence[str]) -> Changes:
    """names and kept: of the split when the run began; now and places: its names and their files."""
    found, place, known = Changes(), dict(zip(now, places, strict=True)), set(names)
    found.new = [name for name in now if name not in known]
    touched = list[str]()
    alike = 0
    for id, name in enumerate(names):
        size, time = standing(place[name]) if name in place else (-1, -1)
        digest = kept.hashes.get(str(id))
        if kept.sizes[id] < 0:  # it was not there
            continue
        if size < 0:
            found.gone.append(name)
        elif size != kept.sizes[id] or (digest is not None and digest_of(place[name], size) != digest):
            found.changed.append(name)
        elif time != kept.times[id] and digest is not None:
            alike += 1
        elif time != kept.times[id]:
            touched.append(name)
    if alike >= ALIKE and not found.changed:
        found.copied = alike + len(touched)
    else:
        found.anew = touched
    return found


def say(found: Mapping[str, Changes], console: Console) -> None:
    kinds = {
        "changed": "changed",
        "anew": "written anew at the same size (whether with the same content is not known)",
        "gone": "gone",
        "new": "new",
    }
    lines = []
    for split, one in found.items():
        told = [(getattr(one, kind), words) for kind, words in kinds.items()]
        parts = [f"{len(names):,} {words}: {first(names)}" for names, words in told if names]
        lines += [f"{split}: {'; '.join(parts)}"] if parts else []
        if one.copied:
            files = count(one.copied, "file")
            console.say(f"{split}: {files} with other times, of the same sizes and contents: a copy")
    if lines:
        console.warn(
            f"files are no longer those that the run began with: {'. '.join(lines)}. It goes on with what is there, "
            "and its numbers are no longer those of the files of its beginning"
        )


def first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
