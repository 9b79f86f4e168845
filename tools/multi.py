"""Several tasks on one backbone against each of them alone at the same budget, on real photos, and the tables of it.

    python tools/multi.py DATA --out docs/results                          all that is not measured yet
    python tools/multi.py DATA --out docs/results --sets camvid --seeds 2  more seeds of one set

DATA holds segmentation/camvid and detection/bccd. Camvid's photos get scene tags, made from their masks: a class is a
tag of a photo where it covers at least so much of it (TAGS). Bccd's get the number of their red cells in three classes
(COUNTS), counted in the boxes. Parts alone and together see the same pictures in the same batches for the same number
of updates.
Each run is a process; its line in multi.jsonl stays, so a campaign that was cut off goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image

from visiontl.runs.environment import cpu_name

TAGS = {"Car": 0.05, "Pedestrian": 0.005, "Bicyclist": 0.005, "Fence": 0.01, "SignSymbol": 0.01, "Tree": 0.1}
COUNTS = {"up to 9": 9, "10 to 13": 13, "14 or more": 10**6}  # class -> the most red cells that it has
SIZE = [96, 128]
TRAINING: dict[str, Any] = {
    "backbone": {
        "name": "tf_efficientnet_lite0",
        "weights": "package",
        "image_size": SIZE,
        "preprocessing": {"crop": 1.0},
    },
    "optim": {"lr": 0.002, "backbone_scale": 0.25, "warmup": "20 steps"},
    "train": {"epochs": 8, "batch_size": 8, "evaluate_every": "8 epochs", "checkpoint_every": "100 epochs"},
    "loader": {"workers": 0},
}
FROZEN = {"freeze": {"policy": "all"}}


@dataclass(frozen=True)
class PhotoSet:
    """Photos with two kinds of labels.

    parts: (its folder, the table that `labels` wrote) -> {part: its task section}, the one whose pictures both are
    shown first. training: what differs from TRAINING, by section. scores: {part: (the score that is told, as it is
    called)}. weightings: of the runs together.
    """

    folder: str
    said: str
    labels: Callable[[Path, Path], Path]
    parts: Callable[[Path, Path], dict[str, dict[str, Any]]]
    scores: Mapping[str, tuple[str, str]]
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    weightings: Sequence[str] = ("fixed", "uncertainty", "balance")


def parts(camvid: Path, table: Path) -> dict[str, dict[str, Any]]:
    """Both show the whole photo at SIZE, without augmentation."""
    return {
        "mask": {
            "name": "segmentation",
            "data": {"folder": str(camvid), "ignore_index": "Void"},
            "decoder": {"name": "fpn", "width": 64},
            "loss": {"cross_entropy": 1, "dice": 1},
            "augment": "none",
        },
        "label": {
            "name": "classification",
            "data": {"csv": str(table), "root": str(camvid), "columns": list(TAGS)},
            "labels": "multi",
            "augment": "none",
        },
    }


def boxes_and_counts(bccd: Path, table: Path) -> dict[str, dict[str, Any]]:
    """Both show the whole photo at 160 x 120, without augmentation."""
    return {
        "boxes": {
            "name": "detection",
            "data": {"folder": str(bccd), "format": "voc"},
            "head": "faster_rcnn",
            "fpn_width": 64,
            "box_width": 256,
            "regions": 64,
            "size": {"short": 120},
            "augment": "none",
        },
        "count": {
            "name": "classification",
            "data": {"csv": str(table), "root": str(bccd / "JPEGImages")},
            "augment": "none",
        },
    }


def scene_tags(camvid: Path, table: Path) -> Path:
    """path, split and a column of 0 and 1 for each of TAGS."""
    names = (camvid / "classes.txt").read_text(encoding="utf-8").split()
    with table.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "split", *TAGS])
        for photo in sorted((camvid / "images").rglob("*.jpg")):
            split = photo.parent.name
            mask = np.asarray(Image.open(camvid / "masks" / split / f"{photo.stem}.png"))
            share = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
            found = [int(share[names.index(tag)] >= least) for tag, least in TAGS.items()]
            lines.writerow([str(photo.relative_to(camvid)), split, *found])
    return table


def cell_counts(bccd: Path, table: Path) -> Path:
    """path, split and one of COUNTS, by the boxes of red cells."""
    with table.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "split", "label"])
        for split in ("train", "val", "test"):
            boxes = json.loads((bccd / f"annotations_coco/{split}.json").read_text(encoding="utf-8"))
            (red,) = (one["id"] for one in boxes["categories"] if one["name"] == "RBC")
            number = Counter(one["image_id"] for one in boxes["annotations"] if one["category_id"] == red)
            for photo in boxes["images"]:
                found = next(name for name, most in COUNTS.items() if number[photo["id"]] <= most)
                lines.writerow([photo["file_name"], split, found])
    return table


SETS = {
    "camvid": PhotoSet(
        folder="segmentation/camvid",
        said="CamVid (140 training, 50 validation, 50 test frames) at 128 x 96: 11 classes of pixels, and "
        f"{len(TAGS)} scene tags made from the masks. EfficientNet-Lite0 with its ImageNet weights, 8 epochs in "
        "batches of 8.",
        labels=scene_tags,
        parts=parts,
        scores={"mask": ("miou", "mIoU"), "label": ("mAP", "mAP")},
    ),
    "bccd": PhotoSet(
        folder="detection/bccd",
        said="BCCD (205 training, 87 validation, 72 test photos of blood) at 160 x 120: boxes of three kinds of cells "
        f"by Faster R-CNN, and the number of red cells as one of three classes ({', '.join(COUNTS)}; saying always the "
        "second is right in 0.414 of val and 0.431 of test). EfficientNet-Lite0 with its ImageNet weights, which learn "
        "as fast as the heads, 10 epochs in batches of 8. A detector lays its pictures into a canvas by itself, so the "
        "parts share weights and not the pass; `balance`, which works on a pass that two parts read, is refused.",
        labels=cell_counts,
        parts=boxes_and_counts,
        scores={"boxes": ("mAP", "box mAP"), "count": ("accuracy", "count accuracy")},
        training={
            "backbone": {"image_size": [120, 160]},
            "optim": {"backbone_scale": 1.0, "clip_norm": 5.0},
            "train": {"epochs": 10, "evaluate_every": "10 epochs"},
            "freeze": {"norm_stats": "train"},
        },
        weightings=("fixed", "uncertainty"),
    ),
}


def runs(photos: PhotoSet, folder: Path, table: Path) -> dict[str, dict[str, Any]]:
    """{name: task section and what differs from the set's training}"""
    both = photos.parts(folder, table)
    first, other = both
    several = {"name": "multi", "tasks": both, "views": {other: first}}
    made: dict[str, dict[str, Any]] = {name: {"task": section} for name, section in both.items()}
    for one in photos.weightings:
        made[f"both, {one}"] = {"task": several if one == "fixed" else {**several, "weighting": one}}
    frozen = {f"{name}, frozen": {**made[name], **FROZEN} for name in both}
    return {**made, **frozen, "both, frozen": {**made["both, fixed"], **FROZEN}}


def measured(name: str, section: Mapping[str, Any], photos: PhotoSet, seed: int) -> dict[str, Any]:
    """One run in a process of its own: val and test scores of the last weights, processor seconds, memory."""
    with tempfile.TemporaryDirectory() as folder:
        config = {key: {**value, **photos.training.get(key, {})} for key, value in TRAINING.items()}
        config["freeze"] = {**photos.training.get("freeze", {}), **section.get("freeze", {})}
        config["task"] = section["task"]
        config["train"] = {**config["train"], "seed": seed}
        config["run"] = {"folder": folder, "name": "run"}
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        began = time.perf_counter()
        words = [sys.executable, "-m", "visiontl", "train", str(file)]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as child:
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{name}, seed {seed}: the run ended with {child.returncode}")
        report = json.loads((Path(folder) / "run/report.json").read_text(encoding="utf-8"))
    return {
        "run": name,
        "seed": seed,
        "scores": {split: plain(one) for split, one in report["scores"].items()},
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "wall_seconds": round(time.perf_counter() - began, 1),
        "peak_mib": round(used.ru_maxrss / 1024),
        "processor": cpu_name(),
        "date": date.today().isoformat(),
    }


def plain(scores: Mapping[str, Any]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in scores.items() if isinstance(value, float)}


def page(lines: Sequence[Mapping[str, Any]]) -> str:
    """The tables: means over seeds, and the spread where there are several."""
    text = [
        "# Several tasks at once against each alone",
        "",
        "`python tools/multi.py DATA --out docs/results --seeds 2`, 2 cores shared with other work; one thread a run. "
        "Alone and together the pictures, the batches and the number of updates are the same; "
        "scores are of the last weights, which nothing chose: the mean over seeds, with the least and the most. "
        "Processor seconds and memory are of the whole process, start and evaluation included; in brackets what share "
        "of the sum of both parts alone that is.",
    ]
    for name, photos in SETS.items():
        own = [line for line in lines if line["set"] == name]
        if own:
            text += ["", f"{photos.said} {machines(own)}", ""]
            text += [f"| {' | '.join(row)} |" for row in table_of(own, photos)]
    return "\n".join([*text, ""])


def machines(lines: Sequence[Mapping[str, Any]]) -> str:
    """On what the runs were measured, and when; which, where it was not one machine."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        found.setdefault((line["processor"], line["date"]), []).append(line["run"])
    told = [
        f"{processor}, {day}" + (f" ({' / '.join(dict.fromkeys(names))})" if len(found) > 1 else "")
        for (processor, day), names in found.items()
    ]
    return f"Measured on {'; '.join(told)}."


def table_of(lines: Sequence[Mapping[str, Any]], photos: PhotoSet) -> list[list[str]]:
    frozen = [f"{name}, frozen" for name in (*photos.scores, "both")]
    order = [*photos.scores, *(f"both, {one}" for one in photos.weightings), *frozen]
    by_run = {name: own for name in order if (own := [line for line in lines if line["run"] == name])}
    called = [f"{split} {shown}" for split in ("val", "test") for _, shown in photos.scores.values()]
    head = ["run", "seeds", *called, "processor s", "peak MiB"]
    rows = []
    for name, own in by_run.items():
        cells = [name, str(len(own))]
        for split in ("val", "test"):
            for part, (score, _) in photos.scores.items():
                key = f"{part}/{score}" if name.startswith("both") else score if name.startswith(part) else ""
                cells.append(told([line["scores"][split][key] for line in own if key in line["scores"][split]]))
        alone = [by_run.get(part + (", frozen" if name.endswith("frozen") else ""), []) for part in photos.scores]
        summed = alone if name.startswith("both") and all(alone) else []
        for number in ("processor_seconds", "peak_mib"):
            value, whole = average(own, number), sum(average(one, number) for one in summed)
            cells.append(f"{value:.0f}" + (f" ({value / whole:.0%})" if summed else ""))
        rows.append(cells)
    return [head, ["---"] * len(head), *rows]


def average(lines: Sequence[Mapping[str, Any]], number: str) -> float:
    return mean(line[number] for line in lines)


def told(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with segmentation/camvid and detection/bccd")
    parser.add_argument("--out", type=Path, required=True, help="folder of multi.jsonl and multi.md")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--only", nargs="+", default=[], help="runs by name")
    given = parser.parse_args()
    kept = given.out / "multi.jsonl"
    lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    done = {(line["set"], line["run"], line["seed"]) for line in lines}
    with tempfile.TemporaryDirectory() as work:
        for name in given.sets:
            photos, folder = SETS[name], given.data.absolute() / SETS[name].folder
            configs = runs(photos, folder, photos.labels(folder, Path(work) / f"{name}.csv"))
            for seed, run in [(seed, run) for seed in range(given.seeds) for run in configs]:
                if (name, run, seed) in done or (given.only and run not in given.only):
                    continue
                lines.append({"set": name, **measured(run, configs[run], photos, seed)})
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                print(lines[-1], flush=True)
    (given.out / "multi.md").write_text(page(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
