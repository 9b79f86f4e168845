"""Known people: one embedding each, in a folder of safetensors and JSON. Imports no torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from visiontl import DataError
from visiontl.kit.names import compared
from visiontl.kit.words import count, did_you_mean, plural, some, told

EMBEDDINGS, ABOUT = "embeddings.safetensors", "gallery.json"
CALLED = re.compile(r"embeddings(-[0-9]{1,9})?\.safetensors")  # no path out of the folder
FORMAT = 1
UNKNOWN = "unknown"  # what identify calls a stranger


@dataclass(frozen=True)
class Gallery:
    """embedding: (G, d), rows of length 1, in the order of identities. images: how many each was made of. model: the
    SHA-256 of the weights that made them, whose embeddings alone can be compared with them."""

    embedding: np.ndarray
    identities: Sequence[str]
    images: Sequence[int]
    model: str


def make_gallery(embeddings: Mapping[str, Sequence[np.ndarray]], model: str) -> Gallery:
    """The normalized mean embedding of each person. Raises DataError where a person's embeddings cancel out, and for
    one that is called as strangers are."""
    identities = sorted(embeddings)
    taken = [who for who in identities if compared(who) == UNKNOWN]
    if taken:
        raise DataError(f"{told(taken[0])}: is what identify calls a stranger; give that person another name")
    means = np.stack([np.mean(embeddings[who], axis=0) for who in identities]).astype(np.float32)  # (G, d)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not (lengths > 1e-6).all():
        who = identities[int(np.argmin(lengths))]
        raise DataError(f"{who}: the embeddings of its images cancel out or are not finite; are they of one person?")
    return Gallery(means / lengths, identities, [len(embeddings[who]) for who in identities], model)


def joined(gallery: Gallery, more: Gallery, replace: bool) -> Gallery:
    """The people of both. replace: who is in both is taken from `more`; else that is a DataError, which names them."""
    known = dict(zip(gallery.identities, range(len(gallery.identities)), strict=True))
    twice = [who for who in more.identities if who in known]
    if twice and not replace:
        raise DataError(
            f"{some(map(told, twice))} {plural(len(twice), 'is')} in the gallery already; known=replace takes the new "
            "images in place of the old ones"
        )
    if gallery.embedding.shape[1] != more.embedding.shape[1]:
        widths = f"{gallery.embedding.shape[1]} and {more.embedding.shape[1]}"
        raise DataError(f"embeddings of {widths} numbers cannot be in one gallery; enroll everybody again")
    rows = {who: (gallery.embedding[i], gallery.images[i]) for who, i in known.items()}
    rows |= {who: (more.embedding[i], more.images[i]) for i, who in enumerate(more.identities)}
    return _of_rows(rows, gallery.model)


def without(gallery: Gallery, people: Sequence[str]) -> Gallery:
    """Without these people, by their names or by the only one that looks alike. Raises DataError for one who is not
    there, and where nobody would be left."""
    gone: set[str] = set()
    forms: dict[str, list[str]] = {}
    for who in gallery.identities:
        forms.setdefault(compared(who), []).append(who)
    for person in people:
        alike = forms.get(compared(person), [])
        found = [who for who in alike if who == person] or alike
        if len(found) > 1:
            raise DataError(
                f"{told(person)}: the gallery has {some(map(told, found))}; name one of them as it is written"
            )
        if not found:
            near = did_you_mean(person, gallery.identities)
            raise DataError(f"{told(person)}: is not in the gallery of {_people(gallery)}{near}")
        gone.add(found[0])
    rows = {
        who: (gallery.embedding[i], gallery.images[i]) for i, who in enumerate(gallery.identities) if who not in gone
    }
    if not rows:
        raise DataError("nobody would be left in the gallery; delete its folder instead")
    return _of_rows(rows, gallery.model)


def _people(gallery: Gallery) -> str:
    return count(len(gallery.identities), "identity")


def _of_rows(rows: Mapping[str, tuple[np.ndarray, int]], model: str) -> Gallery:
    identities = sorted(rows)
    embedding = np.stack([rows[who][0] for who in identities])
    return Gallery(embedding, identities, [rows[who][1] for who in identities], model)


def write_gallery(gallery: Gallery, folder: Path) -> None:
    """A new folder that appears at once. Raises DataError for one that exists."""
    if folder.exists():
        raise DataError(f"{folder} exists already and is never overwritten; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        save_file({"embedding": np.ascontiguousarray(gallery.embedding)}, unfinished / EMBEDDINGS)
        (unfinished / ABOUT).write_text(_about(gallery, EMBEDDINGS), encoding="utf-8")
        unfinished.chmod(0o755)  # mkdtemp gives 700
        os.rename(unfinished, folder)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder}: cannot be written ({error}); make room, then enroll again") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def change_gallery(gallery: Gallery, folder: Path) -> None:
    """A gallery that is there already, with other people: as it was, or as it is to be, whenever this is interrupted.

    The embeddings get a name of their own, and the file that states it is exchanged at once; then the old ones go.
    """
    _read_about(folder)  # refuses what is no gallery
    old = [name for name in os.listdir(folder) if CALLED.fullmatch(name)]
    taken = [int(name[11:-12] or 0) for name in old]
    new = f"embeddings-{max(taken, default=0) + 1}.safetensors"
    unfinished = folder / f".writing-{ABOUT}"
    try:
        save_file({"embedding": np.ascontiguousarray(gallery.embedding)}, folder / new)
        unfinished.write_text(_about(gallery, new), encoding="utf-8")
        os.replace(unfinished, folder / ABOUT)
    except (OSError, SafetensorError) as error:
        for path in (unfinished, folder / new):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"{folder}: cannot be changed ({why})") from None
    for name in old:  # and what a change that was cut off had left: who was removed is gone from the disk too
        (folder / name).unlink(missing_ok=True)


def _about(gallery: Gallery, embeddings: str) -> str:
    content = {
        "format": FORMAT,
        "model": gallery.model,
        "identities": list(gallery.identities),
        "images": list(gallery.images),
        "embeddings": embeddings,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a folder's name that is no UTF-8
        return json.dumps(content, indent=1)
    return text


def read_gallery(folder: Path) -> Gallery:
    """Raises DataError for a folder that is no gallery, is damaged, or holds embeddings that are not finite."""
    about = _read_about(folder)
    file, identities, images = folder / about["embeddings"], about["identities"], about["images"]
    if not file.is_file():
        raise DataError(f"{folder}: is no gallery (it has no {file.name}); `visiontl face enroll` makes one")
    try:
        embedding = load_file(file)["embedding"]
        if embedding.dtype.kind != "f":
            raise ValueError(f"numbers of type {embedding.dtype}")
        embedding = embedding.astype(np.float32)
    except Exception as error:  # readers of damaged files and of unusual numbers raise many kinds
        said = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | AttributeError | TypeError) else error
        raise DataError(f"{file}: cannot be read ({said}); enroll again") from None
    if embedding.ndim != 2 or len(embedding) != len(identities) or len(images) != len(identities) or not identities:
        shape = list(embedding.shape)
        raise DataError(f"{folder}: {count(len(identities), 'identity')}, embeddings of shape {shape}; enroll again")
    lengths = np.linalg.norm(embedding.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))
    if len(wrong):
        who = told(identities[int(wrong[0])])
        raise DataError(f"{folder}: the embedding of {who} is not finite or not of length 1")
    return Gallery(embedding, identities, images, about["model"])


def _read_about(folder: Path) -> dict[str, Any]:
    """{"identities", "images", "model", "embeddings": the name of a file in the folder}, checked."""
    path = folder / ABOUT
    if not path.is_file():
        raise DataError(f"{folder}: is no gallery (it has no {ABOUT}); `visiontl face enroll` makes one")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        version, identities, images = about["format"], about["identities"], about["images"]
        model, embeddings = about["model"], about.get("embeddings", EMBEDDINGS)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        said = "nested too deep" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: is not what enroll writes ({said})") from None
    if not isinstance(identities, list) or not isinstance(images, list):
        raise DataError(f"{path}: is not what enroll writes (identities and images are no lists)")
    if version != FORMAT:
        raise DataError(f"{path}: written in format {told(version)}; this version reads format {FORMAT}")
    named = isinstance(embeddings, str) and CALLED.fullmatch(embeddings) is not None
    wrong = [
        *(f"identities holds {told(who)}" for who in identities if not _is_name(who)),
        *(f"images holds {told(n)}" for n in images if not isinstance(n, int) or isinstance(n, bool) or n < 1),
        *([] if isinstance(model, str) else [f"model is {told(model)}"]),
        *([] if named else [f"embeddings is {told(embeddings)}"]),
    ]
    if not wrong and len(set(identities)) < len(identities):
        wrong = ["identities holds a name twice"]
    if wrong:
        raise DataError(f"{path}: is not what enroll writes ({some(wrong)}); enroll again")
    return {"identities": identities, "images": images, "model": model, "embeddings": embeddings}


def _is_name(who: Any) -> bool:
    """Whether it is text that can be written."""
    if not isinstance(who, str) or not who:
        return False
    try:
        who.encode("utf-8", "surrogateescape")  # as names of files hold what is no UTF-8
    except UnicodeEncodeError:
        return False
    return True


def digest(weights: Path) -> str:
    """SHA-256 of a weights file."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
