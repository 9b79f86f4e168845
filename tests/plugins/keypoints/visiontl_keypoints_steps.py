"""The steps of the task."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

import visiontl
from visiontl.kit.example import once
from visiontl.kit.images import open_image, to_tensor
from visiontl.kit.splits import hold_out


class Arrows:
    """Photos with their two points. Ids are positions in the order of the names."""

    def __init__(self, folder, names, points, spec, train):
        self.folder, self.names, self.points, self.spec, self.train = Path(folder), names, points, spec, train

    def __len__(self):
        return len(self.names)

    def image(self, id):
        return open_image(self.folder / self.names[id])

    def __getitem__(self, key):
        id, seed = key
        made = prepared(self.image(id), self.spec)
        height, width = made["size"]
        points = torch.tensor(self.points[self.names[id]]) / torch.tensor([width, height])  # (2, 2), shares
        if self.train and seed % 2:  # mirrored
            made["image"], points = made["image"].flip(2), torch.stack([1 - points[:, 0], points[:, 1]], 1)
        return {**made, "points": points.float()}


def prepared(image, spec):
    height, width = spec.size
    return {"image": to_tensor(image.resize((width, height))), "size": (image.height, image.width)}


def data(cfg, spec, meta=None):
    folder = Path(cfg.data)
    points = json.loads((folder / "points.json").read_text())
    parts = {"test": sorted(points)} if meta else hold_out(points, str, {"val": 0.25, "test": 0.2}, seed=0)
    splits = {name: Arrows(folder, names, points, spec, name == "train") for name, names in parts.items()}
    return visiontl.Data(**splits, meta=meta or {"points": ["tail", "head"]})


def sample(cfg, spec, meta):
    return lambda image: prepared(image, spec)


def collate(cfg, samples, generator, meta):
    batch = {"image": torch.stack([one["image"] for one in samples])}  # (B, 3, H, W)
    batch["size"] = torch.tensor([one["size"] for one in samples])  # (B, 2)
    if "points" in samples[0]:
        batch["points"] = torch.stack([one["points"] for one in samples])  # (B, 2, 2)
    return batch


class Keypoints(nn.Module):
    """A heat map for each point; its answer is the heat's center of mass."""

    def __init__(self, cfg, backbone, meta):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(cfg.dropout), nn.Conv2d(backbone.channels[1], len(meta["points"]), 1))

    def forward(self, batch):
        return {"points": self.points(self.backbone(batch["image"], maps=[1]).maps[0])}

    def points(self, features):
        heat = self.head(features)  # (B, 2, h, w)
        share = heat.flatten(2).softmax(2).unflatten(2, heat.shape[2:])  # (B, 2, h, w)
        across, down = ((torch.arange(n, device=heat.device) + 0.5) / n for n in (heat.shape[3], heat.shape[2]))
        return torch.stack([(share.sum(2) * across).sum(2), (share.sum(3) * down).sum(2)], 2)  # (B, 2, 2), shares


def in_pixels(points, size):
    return points * size.flip(1)[:, None]  # (B, 2, 2) times (B, 1, 2) of width and height


def loss(cfg, outputs, batch, meta):
    return {"loss": (outputs["points"] - batch["points"]).square().mean()}


def rows(cfg, outputs, batch, meta):
    found, true = (in_pixels(one["points"], batch["size"]) for one in (outputs, batch))
    return [{"found": a.tolist(), "true": b.tolist()} for a, b in zip(found, true, strict=True)]


def score(cfg, rows, meta):
    apart = [np.hypot(*(np.array(row["found"]) - np.array(row["true"])).T) for row in rows]  # (2,) pixels
    return {"error": float(np.mean(apart)), "within_5": float(np.mean(np.array(apart) < 5))}


def predict(cfg, model, batches, meta, options):
    for batch in batches:
        for found in in_pixels(model(batch)["points"], batch["size"]).tolist():
            yield {"points": found}


class Shares(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model({"image": image})  # {"points": (B, 2, 2)}


def export(cfg, model, meta, options):
    size = model.backbone.spec.size
    return visiontl.Export(
        module=Shares(model),
        view={"resize": "stretch", "size": list(size), "interpolation": "bicubic", "by": "pillow"},
        answer={"kind": "values", "keys": {"points": {"output": "points", "times": "width_height"}}},
        size=size,
        outputs=lambda run, batch: run(batch["image"]),
    )


def example(folder):
    return str(once(Path(folder) / "arrows", make))


def make(place):
    random, points = np.random.default_rng(0), {}
    for number in range(40):
        width, height = (80, 56) if number % 2 else (56, 72)
        tail, head = (random.uniform(0.1, 0.9, 2) * (width, height) for _ in range(2))
        photo = Image.new("RGB", (width, height), tuple(random.integers(150, 256, 3).tolist()))
        pen = ImageDraw.Draw(photo)
        pen.line([*tail, *head], fill=(20, 20, 60), width=3)
        pen.ellipse([*(head - 4), *(head + 4)], fill=(200, 20, 20))
        photo.save(place / f"{number:02}.png")
        points[f"{number:02}.png"] = [tail.tolist(), head.tolist()]
    (place / "points.json").write_text(json.dumps(points))
