"""What `method.keep_old` is worth on boxes: a detector of red and white blood cells learns platelets, with and without
it, from photos in which only those are marked, but for a few.

    python tools/keep_old_boxes.py ../shared/data/detection/bccd ../shared/weights/mobilenet_v2_imagenet/*.pth

Writes docs/results/keep_old_boxes.jsonl, a line a run.
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import visiontl

TARGET = Path(__file__).resolve().parents[1] / "docs" / "results" / "keep_old_boxes.jsonl"
NEW = "Platelets"
PHOTOS, MARKED, JUDGED = 60, 4, 30  # to train on; those of them in which old classes are still marked; in val
WAYS = {"without": [], "keep_old, weight 1": ["method.keep_old=distill"]}


def written(place: Path, source: Path, known: bool) -> dict[str, Any]:
    """Photos and annotations: known: of the classes before alone; else all of the first MARKED photos, and new ones."""
    place.mkdir(parents=True)
    (place / "images").symlink_to((source / "JPEGImages").resolve())
    for split, most in (("train", PHOTOS), ("val", JUDGED)):
        found = json.loads((source / "annotations_coco" / f"{split}.json").read_text(encoding="utf-8"))
        new = {one["id"] for one in found["categories"] if one["name"] == NEW}
        images = [one["id"] for one in found["images"]][:most]
        marked = images[:MARKED] if split == "train" else images

        def stays(one: dict[str, Any], images: Any = images, marked: Any = marked, new: Any = new) -> bool:
            is_new = one["category_id"] in new
            return one["image_id"] in images and (not is_new if known else is_new or one["image_id"] in marked)

        found["images"] = found["images"][:most]
        found["annotations"] = [one for one in found["annotations"] if stays(one)]
        if known:
            found["categories"] = [one for one in found["categories"] if one["id"] not in new]
        (place / f"{split}.json").write_text(json.dumps(found), encoding="utf-8")
    return {"folder": str(place), "format": "coco", "train": "train.json", "val": "val.json", "images": "images"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/keep_old_boxes"))
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    shutil.rmtree(given.runs, ignore_errors=True)
    before = written(given.runs / "before", given.photos, known=True)
    after = written(given.runs / "after", given.photos, known=False)

    def trained(data: dict[str, Any], seed: int, epochs: int, *overrides: str) -> Any:
        config = {
            "task": {"name": "detection", "data": data, "size": {"short": 160, "long": 224}, "fpn_width": 64,
                     "box_width": 128, "augment": "light"},
            "backbone": {"name": "torchvision/mobilenet_v2", "weights": str(given.weights)},
            "optim": {"lr": 2e-3, "backbone_scale": 0.2},
            "train": {"epochs": epochs, "batch_size": 4, "seed": seed, "evaluate_every": f"{epochs} epochs"},
            "loader": {"workers": 0},
            "run": {"folder": str(given.runs / "runs")},
        }  # fmt: skip
        return visiontl.train(config, *overrides)

    lines: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        first = trained(before, seed, 8)
        for way, overrides in WAYS.items():
            found = trained(after, seed, 4, f"init={first['run']}", "optim.lr=1e-3", *overrides)
            scores = {key: round(found["scores"]["val"][key], 4) for key in ("old_classes", "new_classes")}
            start = round(first["scores"]["val"]["mAP"], 4)
            lines.append({"way": way, "seed": seed, "before": start, **scores, "seconds": found["seconds"]})
            text = "".join(json.dumps({**one, "date": date.today().isoformat()}) + "\n" for one in lines)
            TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
