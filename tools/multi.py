"""Several tasks on one backbone against each of them alone at the same budget, on real photos, and the table of it.

    python tools/multi.py DATA --out docs/results              all that is not measured yet
    python tools/multi.py DATA --out docs/results --seeds 2    more seeds

DATA holds segmentation/camvid. Its photos get scene tags, made from their masks: a class is a tag of a photo where it
covers at least so much of it (TAGS). Parts alone and together see the same pictures in the same batches for the same
number of updates.
Each run is a process; its line in multi.jsonl stays, so a campaign that was cut off goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image

TAGS = {"Car": 0.05, "Pedestrian": 0.005, "Bicyclist": 0.005, "Fence": 0.01, "SignSymbol": 0.01, "Tree": 0.1}
SIZE = [96, 128]
EPOCHS = 8
SCORES = {"mask": "miou", "label": "mAP"}
TRAINING = {
    "backbone": {
        "name": "tf_efficientnet_lite0",
        "weights": "package",
        "image_size": SIZE,
        "preprocessing": {"crop": 1.0},
    },
    "optim": {"lr": 0.002, "backbone_scale": 0.25, "warmup": "20 steps"},
    "train": {
        "epochs": EPOCHS,
        "batch_size": 8,
        "evaluate_every": f"{EPOCHS} epochs",
        "checkpoint_every": "100 epochs",
    },
    "loader": {"workers": 0},
}
FROZEN = {"freeze": {"policy": "all"}}


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


def runs(camvid: Path, table: Path) -> dict[str, dict[str, Any]]:
    """{name: task section and what differs from TRAINING}"""
    both = parts(camvid, table)
    several = {"name": "multi", "tasks": both, "views": {"label": "mask"}}
    made: dict[str, dict[str, Any]] = {name: {"task": section} for name, section in both.items()}
    made["both, fixed"] = {"task": several}
    made["both, uncertainty"] = {"task": {**several, "weighting": "uncertainty"}}
    made["both, balance"] = {"task": {**several, "weighting": "balance"}}
    frozen = {f"{name}, frozen": {**made[name], **FROZEN} for name in ("mask", "label")}
    return {**made, **frozen, "both, frozen": {**made["both, fixed"], **FROZEN}}


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


def measured(name: str, section: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """One run in a process of its own: val and test scores of the last weights, processor seconds, memory."""
    with tempfile.TemporaryDirectory() as folder:
        config = {key: dict(value) if isinstance(value, dict) else value for key, value in TRAINING.items()}
        config |= section
        config["train"] = {**TRAINING["train"], "seed": seed}
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
    }


def plain(scores: Mapping[str, Any]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in scores.items() if isinstance(value, float)}


def page(lines: Sequence[Mapping[str, Any]]) -> str:
    """The table: means over seeds, and the spread where there are several."""
    rows = []
    for name in dict.fromkeys(str(line["run"]) for line in lines):
        own = [line for line in lines if line["run"] == name]
        cells = [name, str(len(own))]
        for split in ("val", "test"):
            for part, score in SCORES.items():
                values = [line["scores"][split].get(f"{part}/{score}") for line in own]
                if not name.startswith("both"):
                    values = [line["scores"][split].get(score) for line in own] if name.startswith(part) else []
                cells.append(told([value for value in values if value is not None]))
        cells += [f"{mean(line['processor_seconds'] for line in own):.0f}", f"{max(line['peak_mib'] for line in own)}"]
        rows.append(cells)
    head = ["run", "seeds", "val mIoU", "val mAP", "test mIoU", "test mAP", "processor s", "peak MiB"]
    table = [head, ["---"] * len(head), *rows]
    return "\n".join(
        [
            "# Several tasks at once against each alone",
            "",
            f"`python tools/multi.py DATA --out docs/results`, {date.today()}, {processor()}, shared with other work.",
            f"CamVid (140 training, 50 validation, 50 test frames) at {SIZE[1]} x {SIZE[0]}: 11 classes of pixels, and "
            f"{len(TAGS)} scene tags made from the masks. EfficientNet-Lite0 with its ImageNet weights, {EPOCHS} "
            "epochs in batches of 8, the same for all; scores are of the last weights, which nothing chose. "
            "Processor seconds and memory are of the whole process, start and evaluation included.",
            "",
            *(f"| {' | '.join(row)} |" for row in table),
            "",
        ]
    )


def told(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with segmentation/camvid")
    parser.add_argument("--out", type=Path, required=True, help="folder of multi.jsonl and multi.md")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], help="runs by name")
    given = parser.parse_args()
    camvid, kept = given.data.absolute() / "segmentation/camvid", given.out / "multi.jsonl"
    lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        table = scene_tags(camvid, Path(folder) / "scenes.csv")
        for seed in range(given.seeds):
            for name, section in runs(camvid, table).items():
                done = any((line["run"], line["seed"]) == (name, seed) for line in lines)
                if done or (given.only and name not in given.only):
                    continue
                lines.append(measured(name, section, seed))
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                print(lines[-1], flush=True)
                (given.out / "multi.md").write_text(page(lines), encoding="utf-8")
    (given.out / "multi.md").write_text(page(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
