"""What a self-supervised start is worth: a tenth of the labels of a classification set, from random weights, from the
run of task ssl on 2,000 of its photos without labels, and from ImageNet weights.

    python tools/ssl_start.py ../shared/data/classification/cifar10_jpg ../shared/weights/mobilenet_v2_imagenet/*.pth

Writes docs/results/ssl_start.jsonl, a line a run.
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import visiontl

TARGET = Path(__file__).resolve().parents[1] / "docs" / "results" / "ssl_start.jsonl"
LABELED, JUDGED, UNLABELED = 50, 60, 200  # photos of a class: with a label (a tenth), in val, and without a label
SIZE, EPOCHS = 32, {"ssl": 10, "probe": 20, "whole": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/ssl_start"))
    given = parser.parse_args()
    shutil.rmtree(given.runs, ignore_errors=True)
    few = given.runs / "few"
    for split, most in (("train", LABELED), ("val", JUDGED)):
        for folder in sorted((given.photos / split).iterdir()):
            (few / split / folder.name).mkdir(parents=True)
            for photo in sorted(folder.iterdir())[:most]:
                (few / split / folder.name / photo.name).symlink_to(photo.resolve())
    pool = given.runs / "unlabeled"
    pool.mkdir()
    for folder in sorted((given.photos / "train").iterdir()):
        for photo in sorted(folder.iterdir())[:UNLABELED]:
            (pool / f"{folder.name}-{photo.name}").symlink_to(photo.resolve())
    common: dict[str, Any] = {"loader": {"workers": 0}, "run": {"folder": str(given.runs / "runs")}}
    backbone = {"name": "torchvision/mobilenet_v2", "weights": "none", "image_size": SIZE}
    start = visiontl.train(
        {
            **common,
            "task": {"name": "ssl", "data": str(pool), "width": 512, "hidden": 128, "blur": False},
            "backbone": backbone,
            "optim": {"name": "sgd", "lr": 0.03, "weight_decay": 5e-4, "backbone_scale": 1.0},
            "train": {"epochs": EPOCHS["ssl"], "batch_size": 128, "evaluate_every": "5 epochs"},
        }
    )
    lines: list[dict[str, Any]] = [
        {"start": "the ssl run itself", **start["scores"]["val"], "seconds": start["seconds"]}
    ]
    starts = {
        "random": {"backbone": backbone},
        "ssl": {"backbone": backbone, "init": start["run"]},
        "ImageNet": {"backbone": {**backbone, "weights": str(given.weights)}},
    }
    for name, changes in starts.items():
        for way in ("probe", "whole"):
            for seed in range(3 if way == "probe" else 2):
                found = visiontl.train(
                    {
                        **common,
                        **changes,
                        "task": {"name": "classification", "data": str(few)},
                        "freeze": {"policy": "all" if way == "probe" else "none"},
                        "features": {"views": 4} if way == "probe" else {},
                        "optim": {"lr": 3e-3, "backbone_scale": 0.3},
                        "train": {"epochs": EPOCHS[way], "batch_size": 32, "seed": seed, "evaluate_every": "4 epochs"},
                    }
                )
                score = round(found["scores"]["val"]["accuracy"], 4)
                lines.append({"start": name, "way": way, "seed": seed, "accuracy": score, "seconds": found["seconds"]})
                text = "".join(json.dumps({**one, "date": date.today().isoformat()}) + "\n" for one in lines)
                TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
