"""Known people: one embedding each, in a folder of safetensors and JSON. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from visiontl import DataError
from visiontl.kit.words import count

EMBEDDINGS, ABOUT = "embeddings.safetensors", "gallery.json"
FORMAT = 1


@dataclass(frozen=True)
class Gallery:
    """embedding: (G, d), rows of length 1, in the order of identities. images: how many each was made of. model: the
    SHA-256 of the weights that made them, whose embeddings alone can be compared with them."""

    embedding: np.ndarray
    identities: Sequence[str]
    images: Sequence[int]
    model: str


def make_gallery(embeddings: Mapping[str, Sequence[np.ndarray]], model: str) -> Gallery:
    """The normalized mean embedding of each person. Raises DataError where a person's embeddings cancel out."""
    identities = sorted(embeddings)
    means = np.stack([np.mean(embeddings[who], axis=0) for who in identities]).astype(np.float32)  # (G, d)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not (lengths > 1e-6).all():
        who = identities[int(np.argmin(lengths))]
        raise DataError(f"{who}: the embeddings of its images cancel out or are not finite; are they of one person?")
    return Gallery(means / lengths, identities, [len(embeddings[who]) for who in identities], model)


def write_gallery(gallery: Gallery, folder: Path) -> None:
    """A new folder that appears at once. Raises DataError for one that exists."""
    if folder.exists():
        raise DataError(f"{folder} exists already and is never overwritten; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        save_file({"embedding": np.ascontiguousarray(gallery.embedding)}, unfinished / EMBEDDINGS)
        about = {
            "format": FORMAT,
            "model": gallery.model,
            "identities": list(gallery.identities),
            "images": list(gallery.images),
        }
        (unfinished / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
        unfinished.chmod(0o755)  # mkdtemp gives 700
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_gallery(folder: Path) -> Gallery:
    """Raises DataError for a folder that is no gallery, is damaged, or holds embeddings that are not finite."""
    for name in (EMBEDDINGS, ABOUT):
        if not (folder / name).is_file():
            raise DataError(f"{folder}: is no gallery (it has no {name}); `visiontl face enroll` makes one")
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        version, identities = about["format"], [str(who) for who in about["identities"]]
        images, model = [int(number) for number in about["images"]], str(about["model"])
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder / ABOUT}: is not what enroll writes ({type(error).__name__}: {error})") from None
    if version != FORMAT:
        raise DataError(f"{folder / ABOUT}: written in format {version}; this version reads format {FORMAT}")
    try:
        embedding = load_file(folder / EMBEDDINGS)["embedding"]
    except (SafetensorError, KeyError, OSError) as error:
        raise DataError(f"{folder / EMBEDDINGS}: cannot be read ({error}); enroll again") from None
    if embedding.ndim != 2 or len(embedding) != len(identities) or len(images) != len(identities) or not identities:
        shape = list(embedding.shape)
        raise DataError(f"{folder}: {count(len(identities), 'identity')}, embeddings of shape {shape}; enroll again")
    lengths = np.linalg.norm(embedding.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))
    if len(wrong):
        raise DataError(f"{folder}: the embedding of {identities[int(wrong[0])]} is not finite or not of length 1")
    return Gallery(embedding, identities, images, model)


def digest(weights: Path) -> str:
    """SHA-256 of a weights file."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
