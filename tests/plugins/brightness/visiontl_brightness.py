"""A third party's task in one file: predict the mean brightness of a picture, 0 (black) to 1 (white)."""

from __future__ import annotations

from pathlib import Path

import visiontl
from visiontl.kit.example import once
from visiontl.kit.folders import find_images
from visiontl.kit.images import fit_image, open_image, to_tensor
from visiontl.kit.splits import hold_out


class BrightnessConfig(visiontl.Section):
    data: str
    dropout: float = 0.1


class Options(visiontl.Section):
    percent: bool = False


class Pictures:
    """The pictures of a folder, in the order of their names. Ids are positions in that order."""

    def __init__(self, files: list[Path], spec, train: bool):
        self.files, self.spec, self.train = files, spec, train
        self.names = [file.name for file in files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        id, seed = key
        made = sample(None, self.spec, None)(self.image(id))
        if self.train and seed % 2:
            made["image"] = made["image"].flip(2)  # (3, H, W), mirrored
        return made

    def image(self, id: int):
        return open_image(self.files[id])


def data(cfg, spec, meta=None) -> visiontl.Data:
    found, notes = find_images([cfg.data], "task.data")
    if meta is not None:
        return visiontl.Data(test=Pictures(list(found), spec, False), meta=meta, notes=notes)
    parts = hold_out(found, found.__getitem__, {"val": 0.25, "test": 0.25}, seed=0)
    splits = {split: Pictures(files, spec, split == "train") for split, files in parts.items()}
    return visiontl.Data(**splits, meta={"unit": "share of white"}, notes=notes)


def sample(cfg, spec, meta):
    def prepare(image) -> dict:
        pixels = to_tensor(fit_image(image, spec))  # (3, H, W) uint8
        return {"image": pixels, "truth": float(pixels.float().mean()) / 255, "size": (image.height, image.width)}

    return prepare


def collate(cfg, samples, generator, meta) -> dict:
    import torch

    truth = torch.tensor([sample["truth"] for sample in samples])  # (B,)
    return {"image": torch.stack([sample["image"] for sample in samples]), "truth": truth}


def model(cfg, backbone, meta):
    from torch import nn

    class Brightness(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = backbone
            self.head = nn.Sequential(nn.Dropout(cfg.dropout), nn.Linear(backbone.embed_dim, 1))

        def forward(self, batch):
            pooled = self.backbone(batch["image"], pooled=True).pooled  # (B, embed_dim)
            return {"brightness": self.head(pooled).squeeze(1).sigmoid()}  # (B,)

    return Brightness()


def loss(cfg, outputs, batch, meta) -> dict:
    error = outputs["brightness"] - batch["truth"]  # (B,)
    return {"loss": error.square().mean(), "mae": error.abs().mean()}


def rows(cfg, outputs, batch, meta) -> list:
    return list(zip(outputs["brightness"].tolist(), batch["truth"].tolist(), strict=True))


def score(cfg, rows, meta) -> dict:
    return {"mae": sum(abs(guess - truth) for guess, truth in rows) / len(rows)}


def trivial(cfg, rows, meta) -> tuple:
    mean = sum(truth for _, truth in rows) / len(rows)
    return "the mean brightness", [(mean, truth) for _, truth in rows]


def predict(cfg, model, batches, meta, options):
    for batch in batches:
        for value in model(batch)["brightness"].tolist():
            yield {"brightness": 100 * value if options.percent else value}


def preview(cfg, rows, meta, image) -> visiontl.Pictures:
    return visiontl.Pictures("val", [(f"{guess:.2f}", image(id)) for id, (guess, _) in enumerate(rows[:2])])


def check(cfg, data, meta, seen) -> list:
    heights = [size[0] for sizes in seen.sizes.values() for size in sizes if size is not None]
    return [visiontl.Finding("note", f"the lowest picture has {min(heights)} rows", "rows do not matter to brightness")]


def refuse(cfg, policy: str) -> str | None:
    return "its dropout needs a moving head" if policy == "all" and cfg.dropout > 0.9 else None


def example(folder: Path) -> str:
    return str(once(folder / "pictures", make))


def make(place: Path) -> None:
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(32):
        pixels = random.normal(random.uniform(40, 215), 25, (40, 48, 3)).clip(0, 255)  # (H, W, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i:02}.png")


@visiontl.hookimpl
def visiontl_tasks():
    task = visiontl.Task(
        name="brightness",
        config=BrightnessConfig,
        data=data,
        sample=sample,
        collate=collate,
        model=model,
        loss=loss,
        rows=rows,
        score=score,
        best=("mae", "min"),
        trivial=trivial,
        predict=predict,
        options=Options,
        preview=preview,
        refuse=refuse,
        check=check,
        example=example,
    )
    return [task]
