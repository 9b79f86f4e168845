"""What `method.keep_old` is worth on photos: a model of seven classes learns three more, with and without it, from data
that hold a few photos of each class that it knew.


    python tools/keep_old.py ../shared/data/classification/cifar10_jpg ../shared/weights/mobilenet_v2_imagenet/*.pth

Writes docs/results/keep_old.jsonl, a line a run; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import visiontl

TARGET = Path(__file__).resolve().parents[1] / "docs" / "results" / "keep_old.jsonl"
NEW = ("horse", "ship", "truck")
PHOTOS, LEFT, JUDGED = 60, 10, 50  # of a class: to train on, of a class known before, in val
WAYS = {
    "without": [],
    "keep_old, weight 1": ["method.keep_old=distill"],
    "keep_old, weight 10": ["method.keep_old.weight=10"],
}


def fill(place: Path, source: Path, counts: dict[str, int]) -> str:
    """A folder of links: so many training photos of each class."""
    for name, photos in counts.items():
        for split, most in (("train", photos), ("val", JUDGED)):
            (place / split / name).mkdir(parents=True)
            for photo in sorted((source / split / name).iterdir())[:most]:
                (place / split / name / photo.name).symlink_to(photo.resolve())
    return str(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/keep_old"))
    given = parser.parse_args()
    shutil.rmtree(given.runs, ignore_errors=True)
    names = sorted(one.name for one in (given.photos / "train").iterdir())
    before = fill(given.runs / "before", given.photos, {name: PHOTOS for name in names if name not in NEW})
    after = fill(given.runs / "after", given.photos, {name: PHOTOS if name in NEW else LEFT for name in names})
    done = [json.loads(line) for line in TARGET.read_text().splitlines()] if TARGET.exists() else []

    def trained(data: str, seed: int, *overrides: str) -> Any:
        config = {
            "task": {"name": "classification", "data": data, "augment": "light"},
            "backbone": {"name": "torchvision/mobilenet_v2", "weights": str(given.weights), "image_size": 64},
            "optim": {"lr": 1e-3, "backbone_scale": 0.1},
            "train": {"epochs": 4, "batch_size": 32, "seed": seed, "evaluate_every": "4 epochs"},
            "freeze": {"norm_stats": "fixed"},
            "loader": {"workers": 0},
            "run": {"folder": str(given.runs / "runs")},
        }
        return visiontl.train(config, *overrides)

    for seed in range(3):
        first = trained(before, seed)
        for way, overrides in WAYS.items():
            if not any(one["way"] == way and one["seed"] == seed for one in done):
                found = trained(after, seed, f"init={first['run']}", *overrides)
                scores = {key: round(found["scores"]["val"][key], 4) for key in ("old_classes", "new_classes")}
                start = round(first["scores"]["val"]["accuracy"], 4)
                line = {"way": way, "seed": seed, "before": start, **scores, "seconds": found["seconds"]}
                done.append({**line, "date": date.today().isoformat()})
                TARGET.write_text("".join(json.dumps(one) + "\n" for one in done), encoding="utf-8")


if __name__ == "__main__":
    main()
