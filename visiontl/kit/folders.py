"""What lies below the folder of a data set. One set of rules for every task:

    names    any that the file system can hold, whatever is in it; `words.told` makes one fit to be printed
    links    read wherever they lead, for they are the owner's own doing; in a search in depth, one back to what is
             read anyway is passed over
    paths    that a table or an annotation states stay inside the folder as they are written; an absolute one may lead
             into it. Their files are found under another Unicode form of the name too
    hidden   what begins with a dot is passed over
    pictures are known by their suffix (`images.suffixes`: what can be decoded here)

What a search passes over is counted and named. Imports no torch.
"""

from __future__ import annotations

import glob
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from visiontl.errors import DataError
from visiontl.kit.images import is_image, why_no_image
from visiontl.kit.words import count, did_you_mean, some, told

LONGEST = 4096  # characters of a path, Linux's limit
MOST = 1 << 26  # bytes of a text that lists names
HIDDEN, NO_PICTURE = "hidden", "no picture"
LEADS_UP, TWICE = "a link to a folder above", "a link to a folder that is read"

Kind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True)
class Passed:
    """A name, relative to the base, that a search did not take, and why: a noun."""

    name: str
    why: str


@dataclass(frozen=True)
class Found:
    """pictures: names relative to the base, in plain sorted order. passed: what else was met. linked: folders that were
    read through a link."""

    pictures: Sequence[str]
    passed: Sequence[Passed]
    linked: Sequence[str] = ()


@dataclass(frozen=True)
class Folders:
    """A folder and what is below it. Each folder is listed once, when it is asked for, instead of one look per file.

    Names are relative to the base, with forward slashes; "" is the base itself.
    """

    base: str
    listed: dict[str, dict[str, Kind]] = field(default_factory=dict[str, dict[str, Kind]], repr=False)
    forms: dict[str, dict[str, list[str]]] = field(default_factory=dict[str, dict[str, list[str]]], repr=False)
    inside: dict[str, str | None] = field(default_factory=dict[str, "str | None"], repr=False)  # of absolute folders

    def path(self, name: str) -> Path:
        return Path(self.base, name)

    def entries(self, folder: str = "") -> Mapping[str, Kind]:
        """name -> kind, sorted; empty where there is no such folder."""
        if folder not in self.listed:
            found: dict[str, Kind] = {}
            if os.path.isdir(self.path(folder)):
                try:
                    with os.scandir(self.path(folder)) as entries:
                        found = {entry.name: _kind(entry) for entry in sorted(entries, key=lambda entry: entry.name)}
                except PermissionError:
                    raise DataError(f"{self.path(folder)}: may not be read (no permission)") from None
            self.listed[folder] = found
        return self.listed[folder]

    def found(self, name: str) -> str | None:
        """The regular file that a table or an annotation names: the name as the file system has it, which may be in
        another Unicode form (NFC, NFD); None where there is no such file, or are several."""
        kind = self._kind_of(name)
        if kind is None and not name.isascii():
            place = ""
            for part in name.split("/"):
                same = [part] if part in self.entries(place) else self._in_form(place, part)
                if len(same) != 1:
                    return None
                place = join(place, same[0])
            name, kind = place, self._kind_of(place)
        return name if kind == "file" or (kind == "link" and os.path.isfile(self.path(name))) else None

    def has(self, name: str) -> bool:
        """Whether there is a regular file of exactly this name."""
        return self.found(name) == name

    def within(self, path: Any) -> str:
        """A path as a table or an annotation states it, absolute or from the base -> a name. Raises ValueError, saying
        why, for one that no file can have, or that lies outside of the base."""
        if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
            return relative(path)
        plain = os.path.normpath(path)
        for base in (os.path.abspath(self.base), os.path.realpath(self.base)):
            if _within(plain, base):
                return relative(os.path.relpath(plain, base))
        folder, last = os.path.split(plain)
        if folder not in self.inside:  # where the base is reached by another link than ours
            self.inside[folder] = self._from_base(folder)
        below = self.inside[folder]
        if below is None:
            raise ValueError(
                f"{told(path)} lies outside of the data set's folder {self.base}; paths must stay inside it"
            )
        return relative(os.path.join(below, last))

    def _from_base(self, folder: str) -> str | None:
        if len(folder) > LONGEST:
            return None
        real = os.path.realpath(self.base)
        above = (str(one) for one in (Path(folder), *Path(folder).parents))
        return next((os.path.relpath(folder, one) for one in above if os.path.realpath(one) == real), None)

    def _kind_of(self, name: str) -> Kind | None:
        folder, _, last = name.rpartition("/")
        return self.entries(folder).get(last)

    def _in_form(self, folder: str, last: str) -> list[str]:
        """Names in a folder that differ from this one in their Unicode form alone."""
        if folder not in self.forms:
            forms: dict[str, list[str]] = {}
            for name in self.entries(folder):
                forms.setdefault(unicodedata.normalize("NFC", name), []).append(name)
            self.forms[folder] = forms
        return self.forms[folder].get(unicodedata.normalize("NFC", last), [])

    def is_folder(self, name: str) -> bool:
        return os.path.isdir(self.path(name))

    def files(self, folder: str, *suffixes: str) -> list[str]:
        """Names within the folder of what is no folder and ends so, hidden ones left out."""
        return [
            name
            for name, kind in self.entries(folder).items()
            if kind != "folder" and name.lower().endswith(suffixes or "") and not name.startswith(".")
        ]

    def folders(self, folder: str = "") -> list[str]:
        """Names within the folder of its folders, hidden ones left out."""
        return [
            name
            for name, kind in self.entries(folder).items()
            if not name.startswith(".") and self._holds_more(join(folder, name), kind)
        ]

    def read(self, name: str, most: int = MOST) -> bytes:
        """A regular file of at most so many bytes. Raises DataError."""
        return read_bytes(self.path(name), most)

    def read_text(self, name: str, most: int = MOST) -> str:
        """The same as UTF-8 text, a byte order mark left out."""
        return read_text(self.path(name), most)

    def pictures(self, folder: str = "", suffixes: Collection[str] = ()) -> Found:
        """All pictures below a folder, searched in depth; what has a picture's name and is no regular file too:
        opening it says so. suffixes: of what counts in place of pictures.

        Real folders are read first, so what is read in two ways has the name without a link.
        """
        found: list[str] = []
        passed: list[Passed] = []
        seen: set[str] = set()
        roots = [os.path.realpath(self.path(folder))]
        places = [folder]
        links: list[str] = []
        linked: list[str] = []
        while places or links:
            place = places.pop() if places else links.pop()
            real = os.path.realpath(self.path(place))
            if place != folder and os.path.islink(self.path(place)):
                above = any(_within(root, real) for root in roots)
                why = TWICE if real in seen else LEADS_UP if above else ""
                if why:
                    passed.append(Passed(f"{place}/", why))
                    continue
                roots.append(real)
                linked.append(f"{place}/")
            seen.add(real)
            for last, kind in self.entries(place).items():
                name = join(place, last)
                below = self._holds_more(name, kind)
                if last.startswith("."):
                    passed.append(Passed(f"{name}/" if below else name, HIDDEN))
                elif below:
                    (links if kind == "link" else places).append(name)
                elif not is_image(Path(last), suffixes):
                    passed.append(Passed(name, why_no_image(Path(last))))
                else:
                    found.append(name)
            links.sort(reverse=True)
        return Found(sorted(found), sorted(passed, key=lambda one: one.name), sorted(linked))

    def _holds_more(self, name: str, kind: Kind) -> bool:
        return kind == "folder" or (kind == "link" and self.is_folder(name))


def _kind(entry: os.DirEntry[str]) -> Kind:
    if entry.is_symlink():
        return "link"
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else "other"


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def opened(folder: str, key: str = "task.data.folder", instead: str = "give the data set's folder") -> Folders:
    """The folder that a config's key names. Raises DataError where it is none; instead: what to do where it is a
    file."""
    root = Path(folder).expanduser()
    if "\0" in folder or not root.exists():
        raise DataError(f"{key}: {told(root)}: no such folder{near(folder)}")
    if not root.is_dir():
        raise DataError(f"{key}: {root}: is a file; {instead}")
    return Folders(str(root))


def near(path: str | Path) -> str:
    """What a path that is not there may have meant, as the end of a sentence."""
    if "\0" in str(path):
        return ""
    path = Path(path).expanduser()
    if not path.parent.is_dir():
        return f" (nor is there {told(path.parent)})"
    with os.scandir(path.parent) as entries:
        return did_you_mean(path.name, [entry.name for entry in entries])


def join(folder: str, name: str) -> str:
    """A name in a folder, relative to the base as the folder is; "" is the base itself."""
    return f"{folder}/{name}" if folder else name


def relative(name: Any) -> str:
    """A path as a file states it -> the same without detours, "" for the folder itself. Raises ValueError, saying why,
    for one that is no text, that no file can have, or that leaves its folder."""
    if not isinstance(name, str):
        raise ValueError(f"{told(name)} is no file name; expected text")
    if not name.strip() or "\0" in name or len(name) > LONGEST:
        raise ValueError(f"no file can have the name {told(ascii(name))}")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise ValueError(f"no file can have the name {told(ascii(name))}") from None
    plain = os.path.normpath(name).replace(os.sep, "/")
    if os.path.isabs(name) or plain == ".." or plain.startswith("../"):
        raise ValueError(f"{told(name)} leaves the data set's folder; paths must stay inside it")
    return "" if plain == "." else plain


def named(folders: Folders, key: str, value: str) -> str:
    """The file that a config's key names. Raises DataError where it is not there."""
    try:
        name = folders.within(value)
    except ValueError as error:
        raise DataError(f"{key}: {error}") from None
    real = folders.found(name)
    if real is None:
        parent = str(PurePosixPath(name).parent).removeprefix(".")
        others = [join(parent, one) for one in folders.files(parent, PurePosixPath(name).suffix)]
        raise DataError(f"{key}: {folders.path(name)}: no such file{did_you_mean(name, others)}")
    return real


def read_bytes(path: Path, most: int = MOST) -> bytes:
    """A regular file of at most so many bytes. Raises DataError."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
            raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}; expected a file")
        if status.st_size > most:
            raise DataError(f"{path}: {status.st_size:,} bytes; such a file has at most {most:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except PermissionError:
        raise DataError(f"{path}: may not be read (no permission)") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_text(path: Path, most: int = MOST) -> str:
    """The same as UTF-8 text, a byte order mark left out."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start:,}"
        raise DataError(f"{path}: not UTF-8 text ({reason}); save it as UTF-8") from None


def read_lines(path: Path, most: int = MOST) -> list[tuple[int, str]]:
    """(number from 1, line) of a UTF-8 text; blank lines are left out, blanks at the ends stay, for names have them.

    A line ends at a newline alone: names may hold the other characters at which `str.splitlines` ends one.
    """
    lines = (line.removesuffix("\r") for line in read_text(path, most).split("\n"))
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def by_stem(names: Iterable[str], folder: str = "", suffix: str = "") -> dict[str, list[str]]:
    """{path below the folder without extension and suffix: the names that have it}, to find what belongs together.

    The keys are in NFC, whatever the names are in. Names whose stem does not end in the suffix are left out.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.stem.endswith(suffix):
            stem = path.stem[: len(path.stem) - len(suffix)]
            key = unicodedata.normalize("NFC", str(path.parent.relative_to(folder or ".") / stem))
            found.setdefault(key, []).append(name)
    return found


def other_forms(where: Any, names: Sequence[str]) -> list[str]:
    """A note on names that `Folders.found` found in another Unicode form, or none."""
    number = len(names)
    what = f"{count(number, 'file')} named in another Unicode form (NFC, NFD) than the file system has"
    return [f"{where}: {what}, and found: {some(names)}"] if names else []


def passed_over(where: Any, passed: Iterable[Passed]) -> list[str]:
    """One note on all that searches did not take, or none."""
    said = _said(passed)
    return [f"{where}: {said}"] if said else []


def _said(passed: Iterable[Passed]) -> str:
    reasons: dict[str, list[str]] = {}
    for one in passed:
        reasons.setdefault(one.why, []).append(one.name)
    number = sum(map(len, reasons.values()))
    told_of = "; ".join(f"{why}: {some(names)}{_suffixes(why, names)}" for why, names in reasons.items())
    return f"{count(number, 'name')} passed over: {told_of}" if reasons else ""


def _suffixes(why: str, names: Sequence[str], most: int = 5) -> str:
    """How many files of each suffix, in brackets, where not all are named anyway."""
    if why != NO_PICTURE or len(names) <= most:
        return ""
    found = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in names).most_common()
    more = [f"{sum(number for _, number in found[most:]):,} others"] if len(found) > most else []
    return f" ({', '.join([*(f'{number:,} {told(suffix)}' for suffix, number in found[:most]), *more])})"


def find_images(
    patterns: Sequence[str | Path], key: str = "", suffixes: Collection[str] = ()
) -> tuple[dict[Path, str], list[str]]:
    """Files, folders (searched in depth) and globs -> {picture: its name within what was named}, sorted within each;
    and notes on what was passed over. key: of the config, for errors. suffixes: of what counts in place of pictures,
    such as (".wav",). Raises DataError."""
    what = "pictures" if not suffixes else f"files with the suffix {' or '.join(sorted(suffixes))}"
    found: dict[Path, str] = {}
    notes: list[str] = []
    head = f"{key}: " if key else ""
    for pattern in map(str, patterns):
        path = Path(pattern).expanduser()
        if "\0" not in pattern and path.is_dir():
            folders = Folders(str(path))
            inside = folders.pictures(suffixes=suffixes)
            if not inside.pictures:
                said = _said(inside.passed)
                raise DataError(f"{head}{path}: holds no {what}{f' ({said})' if said else ''}")
            notes += passed_over(path, inside.passed)
            if inside.linked:
                notes.append(f"{path}: {count(len(inside.linked), 'linked folder')} read: {some(inside.linked)}")
            chosen = {folders.path(name): name for name in inside.pictures}
        elif "\0" not in pattern and (path.exists() or path.is_symlink()):
            chosen = {path: path.name}
        elif any(sign in pattern for sign in "*?["):
            matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
            chosen = {name: name.name for name in matches if is_image(name, suffixes)}
            others = [Passed(str(one), why_no_image(one) if one.is_file() else "a folder") for one in matches]
            others = [one for one in others if Path(one.name) not in chosen]
            if not chosen:
                raise DataError(f"{head}{pattern}: matches no {what}")
            notes += passed_over(pattern, others)
        else:
            raise DataError(f"{head}{told(path)}: no such file or folder{near(pattern)}")
        for picture, name in chosen.items():
            found.setdefault(picture, name)
    return found, notes
