"""What the subcommands do: align, compare, enroll, people, remove, identify, add."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import visiontl
from visiontl import Console, DataError
from visiontl.kit.folders import find_images
from visiontl.kit.images import open_image
from visiontl.kit.names import alike_notes
from visiontl.kit.splits import WHOLE
from visiontl.kit.words import count, plural, some, told
from visiontl_face import alignment
from visiontl_face.commands import ThresholdOptions
from visiontl_face.gallery import (
    UNKNOWN,
    Gallery,
    change_gallery,
    digest,
    joined,
    make_gallery,
    read_gallery,
    without,
    write_gallery,
)
from visiontl_face.identification import best_matches
from visiontl_face.listing import folder_listing

ENROLL_AGAIN = "enroll again with this one"


def align(arguments: argparse.Namespace) -> int:
    """Crops below CROPS, by the same relative paths, as PNG. What cannot be aligned is named, and the others go on."""
    root, out, console = Path(arguments.images), Path(arguments.out), Console()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    size = arguments.options.size
    landmarks = alignment.read_landmarks(Path(arguments.landmarks))
    names = alignment.crop_names(list(landmarks))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not empty; crops never overwrite")
    failed: dict[str, str] = {}
    with console.progress(total=len(names), unit="image", what="align") as bar:
        for done, (file, name) in enumerate(names.items(), start=1):
            try:
                crop = alignment.align(open_image(root / file), landmarks[file], size)
            except (DataError, ValueError) as error:
                failed[file] = str(error)
                console.warn(f"{file}: {error}" if isinstance(error, ValueError) else str(error))
            else:
                save_picture(crop, out / name)
            bar.update(done, images=1)
    console.say(f"{count(len(names) - len(failed), 'crop')} of {size} x {size} pixels in {out}")
    if failed:
        console.say(f"{count(len(failed), 'image')} could not be aligned: {some(failed)}")
    return 0 if len(failed) < len(names) else 2


def save_picture(picture: Image.Image, path: Path) -> None:
    """Whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".writing-{path.name}")
    picture.save(unfinished, format="PNG")
    os.replace(unfinished, path)


def compare(arguments: argparse.Namespace) -> int:
    """Prints the similarity of two images, the threshold, and the verdict."""
    predictor = load(arguments.run)
    level, source = threshold(predictor, arguments.options)
    first, second = (answer["embedding"] for answer in predictor.predict([arguments.first, arguments.second]))
    similarity = float(first @ second)
    verdict = "the same person" if similarity >= level else "different people"
    console = Console()
    console.say(f"similarity {similarity:.4f}, threshold {level:.4f} ({source})")
    console.say(f"verdict: {verdict}")
    return 0


def enroll(arguments: argparse.Namespace) -> int:
    """A gallery of the people in a folder, one embedding each; or these people in one that is there."""
    out, console, options = Path(arguments.out), Console(), arguments.options
    if out.exists() and not options.add:
        raise DataError(
            f"{out} exists already and is never overwritten; choose another folder, or add=true to add people to a "
            "gallery"
        )
    old = read_gallery(out) if options.add else None
    people = people_of(arguments.people, console)
    if old is not None:
        if old.model != weights_digest(arguments.run):
            raise DataError(f"{out}: was enrolled with another model than {arguments.run}; {ENROLL_AGAIN}")
        twice = [who for who in people if who in old.identities]
        if twice and options.known == "error":
            raise DataError(
                f"{out}: has {some(map(told, twice))} already; known=replace takes the new images in place of the old"
            )
    for line in alike_notes("identity", [*people, *(old.identities if old else ())], "each is a person of its own"):
        console.warn(line)
    predictor = load(arguments.run)
    gallery = make_gallery(embeddings_of(predictor, people, console, "enroll"), weights_digest(arguments.run))
    said = f"{count(len(gallery.identities), 'identity')} from {count(sum(gallery.images), 'image')}"
    if old is None:
        write_gallery(gallery, out)
        console.say(f"{said} enrolled in {out}")
    else:
        both = joined(old, gallery, replace=options.known == "replace")
        change_gallery(both, out)
        console.say(f"{said} added to {out}, which holds {count(len(both.identities), 'identity')} now")
    return 0


def people(arguments: argparse.Namespace) -> int:
    """Lists a gallery."""
    gallery = read_gallery(Path(arguments.gallery))
    Console().table(
        f"{arguments.gallery}: {count(len(gallery.identities), 'identity')}, enrolled with the model of weights "
        f"{gallery.model[:12]}",
        ["person", "images"],
        [[told(who), number] for who, number in zip(gallery.identities, gallery.images, strict=True)],
    )
    return 0


def remove(arguments: argparse.Namespace) -> int:
    """A gallery without some of its people."""
    folder = Path(arguments.gallery)
    old = read_gallery(folder)
    left = without(old, arguments.people)
    change_gallery(left, folder)
    gone = [told(who) for who in old.identities if who not in left.identities]
    Console().say(f"{some(gone)} removed from {folder}, which holds {count(len(left.identities), 'identity')} now")
    return 0


def identify(arguments: argparse.Namespace) -> int:
    """For each photo who of the gallery is most similar, or "unknown" below the threshold."""
    console = Console()
    if arguments.out is not None and Path(arguments.out).exists():
        raise DataError(f"{arguments.out} exists already and is never overwritten; choose another --out")
    gallery = read_gallery(Path(arguments.gallery))
    if gallery.model != weights_digest(arguments.run):
        raise DataError(
            f"{arguments.gallery}: was enrolled with another model than {arguments.run}, so its embeddings mean "
            f"something else; {ENROLL_AGAIN}"
        )
    predictor = load(arguments.run)
    cfg: Any = predictor.built.resolved.cfg
    if gallery.embedding.shape[1] != cfg.dimension:
        raise DataError(
            f"{arguments.gallery}: holds embeddings of {gallery.embedding.shape[1]} numbers, {arguments.run} makes "
            f"{cfg.dimension}; {ENROLL_AGAIN}"
        )
    level, source = threshold(predictor, arguments.options)
    files, notes = find_images(arguments.images)
    for note in notes:
        console.say(note)
    answers, failed = [], {}
    with console.progress(total=len(files), unit="image", what="identify") as bar:
        for done, file in enumerate(files, start=1):
            try:
                embedding = predictor.predict(file)["embedding"]
            except DataError as error:
                failed[str(file)] = str(error)
                console.warn(str(error))
            else:
                answers.append({"file": str(file), **answer(embedding, gallery, level, arguments.options.top)})
            bar.update(done, images=1)
    console.table(
        f"threshold {level:.4f} ({source})",
        ["photo", "person", "similarity", "nearest"],
        [[one["file"], one["person"], one["similarity"], one["nearest"][0]["person"]] for one in answers],
    )
    if arguments.out is not None and answers:
        write_lines(Path(arguments.out), answers)
    if failed:
        console.say(f"{count(len(failed), 'image')} could not be read: {some(failed)}")
    return 0 if answers else 2


def answer(embedding: np.ndarray, gallery: Gallery, level: float, top: int) -> dict[str, Any]:
    """{"person": a name or "unknown", "similarity": to the nearest, "nearest": the `top` most similar people}"""
    places, values = best_matches(embedding[None].astype(np.float64), gallery.embedding.astype(np.float64), top)
    nearest = [
        {"person": gallery.identities[place], "similarity": round(float(value), 6)}
        for place, value in zip(places[0].tolist(), values[0].tolist(), strict=True)
    ]
    known = values[0, 0] >= level
    return {
        "person": nearest[0]["person"] if known else UNKNOWN,
        "similarity": nearest[0]["similarity"],
        "nearest": nearest,
    }


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".writing-{path.name}")
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    unfinished.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    os.replace(unfinished, path)


def add(arguments: argparse.Namespace) -> int:
    """A new model folder whose head also knows the people in a folder: their class weights are the mean embedding of
    their images (Qi et al. 2018); nothing else changes."""
    import torch

    from visiontl_face.start import class_weights

    out, console = Path(arguments.out), Console()
    if out.exists():
        raise DataError(f"{out} exists already and is never overwritten; choose another folder")
    people = people_of(arguments.people, console)
    predictor = load(arguments.run)
    built: Any = predictor.built
    head, known = built.model.head, list(built.meta["identities"])
    if head is None:
        raise DataError(f"{arguments.run}: was trained on triplets and has no class weights; `enroll` needs none")
    twice = sorted(set(known) & people.keys())
    if twice:
        raise DataError(f"{arguments.people}: {some(twice)} {plural(len(twice), 'is')} in the model already")
    fresh = sorted(people)
    found = embeddings_of(predictor, people, console, "add")
    embedding = torch.from_numpy(np.stack([one for who in fresh for one in found[who]]))  # (N, d)
    labels = torch.tensor([label for label, who in enumerate(fresh) for _ in found[who]])
    with visiontl.seeded(0):
        made = class_weights(embedding, labels, len(fresh), head.weight.shape[1])  # (new, K, d)
    weight = torch.cat([head.weight.detach().cpu(), made])
    identities = known + fresh
    order = sorted(range(len(identities)), key=identities.__getitem__)  # as a data set that holds all of them has them
    head.weight = torch.nn.Parameter(weight[order])
    meta = {**built.meta, "identities": [identities[i] for i in order]}
    place = visiontl.save_model(out, replace(built, meta=meta))
    console.say(f"{count(len(fresh), 'identity')} added to {len(known)}: {place}")
    console.say(f"to train on from it, with data that holds all of them: init={place}")
    return 0


def load(run: str) -> visiontl.Predictor:
    """A trained model of this task. Raises DataError for one of another task."""
    predictor = visiontl.load(run)
    name = predictor.built.resolved.task.name
    if name != "face":
        raise DataError(f"{run}: is a model of task {name}, not of face")
    return predictor


def weights_digest(run: str) -> str:
    weights = [folder / "model.safetensors" for folder in (Path(run) / "model", Path(run))]
    found = next((file for file in weights if file.is_file()), None)
    if found is None:
        raise DataError(f"{run}: holds no exported model (model/model.safetensors)")
    return digest(found)


def people_of(folder: str, console: Console) -> dict[str, list[str]]:
    """identity -> its image files; says what was passed over. Raises DataError for a folder without people."""
    listing = folder_listing(folder, ask="")
    for note in listing.notes:
        console.say(note)
    if WHOLE not in listing.parts:
        raise DataError(f"{folder}: holds {' and '.join(listing.parts)}; name one of these folders")
    people: dict[str, list[str]] = {}
    for item in listing.parts[WHOLE]:
        people.setdefault(item.identity, []).append(str(listing.root / item.name))
    return people


def embeddings_of(
    predictor: visiontl.Predictor, people: Mapping[str, Sequence[str]], console: Console, what: str
) -> dict[str, list[np.ndarray]]:
    """The embeddings of each person's images. One that cannot be read is named; a person without any is an error."""
    found: dict[str, list[np.ndarray]] = {}
    done, total = 0, sum(map(len, people.values()))
    failed: list[str] = []
    with console.progress(total=total, unit="image", what=what) as bar:
        for who, files in people.items():
            for file in files:
                try:
                    found.setdefault(who, []).append(predictor.predict(file)["embedding"])
                except DataError as error:
                    failed.append(file)
                    console.warn(str(error))
                done += 1
                bar.update(done, images=1)
    if failed:
        console.say(f"{count(len(failed), 'image')} could not be read: {some(failed)}")
    empty = [who for who in people if not found.get(who)]
    if empty:
        raise DataError(f"none of the images of {some(empty)} could be read")
    return found


def threshold(predictor: visiontl.Predictor, options: ThresholdOptions) -> tuple[float, str]:
    """(cosine, where it comes from). Raises DataError where the validation run measured none for the FAR."""
    if options.threshold is not None:
        return options.threshold, "given"
    named = predictor.scores.get("threshold_at_far") or {}
    measured = {float(far): value for far, value in named.items() if isinstance(value, int | float)}
    if not measured:
        raise DataError(
            "the model has no threshold: its run had no val split, or one with too few pairs; give threshold=COSINE"
        )
    if options.far is not None and options.far not in measured:
        listed = ", ".join(f"{far:g}" for far in sorted(measured))
        raise DataError(f"far={options.far:g}: the validation run had pairs enough for {listed}; choose one of these")
    cfg: Any = predictor.built.resolved.cfg
    wanted = cfg.far if options.far is None else options.far
    far = min((one for one in measured if one >= wanted - 1e-12), default=max(measured))
    pairs = predictor.scores.get("pairs", {}).get("different", "?")
    return measured[far], f"FAR {far:g} on {pairs} pairs of different people in validation"
