"""The steps of the task."""

import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import visiontl
from visiontl.kit.charts import chosen_pictures, file_of, spread
from visiontl.kit.drawing import panels
from visiontl.kit.example import once
from visiontl.kit.folders import find_images
from visiontl.kit.images import open_image, to_tensor
from visiontl.kit.splits import hold_out

SHOWN, KEPT = 6, 48  # photos in the report; pixels of the side of what is kept of each


class Photos:
    """Clean photos and their noisy selves. Ids are positions in the order of the names."""

    def __init__(self, files, spec, noise, train):
        self.files, self.spec, self.noise, self.train = files, spec, noise, train
        self.names = [str(file) for file in files]

    def __len__(self):
        return len(self.files)

    def image(self, id):
        """As the model is to see it: noisy, always in the same way."""
        return noisy(open_image(self.files[id]), self.noise, zlib.crc32(Path(self.names[id]).name.encode()))

    def __getitem__(self, key):
        id, seed = key
        clean = open_image(self.files[id])
        if not self.train:
            made = prepared(self.image(id), self.spec)
            return {**made, "clean": prepared(clean, self.spec)["image"]}
        random = np.random.default_rng(seed)
        part = window(clean, self.spec.size, random.random(2))
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part
        size = (clean.height, clean.width)
        return {"image": to_tensor(noisy(part, self.noise, seed)), "clean": to_tensor(part), "size": size}


def noisy(photo, noise, seed):
    drawn = np.random.default_rng(seed).normal(0, noise, (photo.height, photo.width, 3))
    return Image.fromarray((np.asarray(photo) + drawn).round().clip(0, 255).astype(np.uint8))


def window(photo, size, where=(0.5, 0.5)):
    """A part of a photo in its own pixels, of (H, W); what lies beyond a small photo is mirrored. where: 0..1, down and
    across."""
    height, width = size
    lack = max(0, height - photo.height), max(0, width - photo.width)
    if any(lack):
        photo = Image.fromarray(np.pad(np.asarray(photo), [(0, lack[0]), (0, lack[1]), (0, 0)], "symmetric"))
    top, left = (
        int(share * (own - one)) for share, own, one in zip(where, (photo.height, photo.width), size, strict=True)
    )
    return photo.crop((left, top, left + width, top + height))


def prepared(photo, spec):
    """The middle of a photo as the model sees it, for scores; predictions take all of it."""
    return {"image": to_tensor(window(photo, spec.size)), "size": (photo.height, photo.width)}


def data(cfg, spec, meta=None):
    found, notes = find_images([cfg.data], "task.data")
    if len(found) < 5 and not meta:
        raise visiontl.DataError(f"{cfg.data}: {len(found)} photos; at least 5 are needed")
    parts = {"test": list(found)} if meta else hold_out(found, found.__getitem__, {"val": 0.2, "test": 0.2}, seed=0)
    splits = {name: Photos(files, spec, cfg.noise, name == "train") for name, files in parts.items()}
    return visiontl.Data(**splits, meta={"tile": list(spec.size)}, notes=notes)


def sample(cfg, spec, meta):
    return lambda photo: {**prepared(photo, spec), "photo": np.asarray(photo)}


def collate(cfg, samples, generator, meta):
    batch = {"image": torch.stack([one["image"] for one in samples])}  # (B, 3, h, w) uint8
    if "clean" in samples[0]:
        batch["clean"] = torch.stack([one["clean"] for one in samples])  # (B, 3, h, w) uint8
    if "photo" in samples[0]:
        batch["photos"] = [one["photo"] for one in samples]  # (H, W, 3) uint8 each
    return batch


def loss(cfg, outputs, batch, meta):
    return {"loss": (outputs["restored"] - batch["clean"].float() / 255).square().mean()}


def rows(cfg, outputs, batch, meta):
    restored = levels(outputs["restored"])
    made = []
    for given, found, clean in zip(batch["image"], restored, batch["clean"], strict=True):
        parts = {name: small(one) for name, one in (("given", given), ("restored", found), ("clean", clean))}
        made.append({"mse": apart(found, clean), "before": apart(given, clean), **parts})
    return made


def levels(image):
    """0..1 -> uint8 levels."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def apart(a, b):
    """Mean squared difference, in levels of 255."""
    return float((a.double() - b.double()).square().mean())


def small(image):
    """The middle of an image, for the report: (h, w, 3) uint8."""
    top, left = ((side - min(side, KEPT)) // 2 for side in image.shape[1:])
    return image[:, top : top + KEPT, left : left + KEPT].permute(1, 2, 0).cpu().numpy()


def decibels(mse):
    return 10 * np.log10(255**2 / max(mse, 1e-3))


def score(cfg, rows, meta):
    return {
        "psnr": float(np.mean([decibels(row["mse"]) for row in rows])),
        "rmse": float(np.mean([row["mse"] for row in rows]) ** 0.5),
        "gain": float(np.mean([decibels(row["mse"]) - decibels(row["before"]) for row in rows])),
    }


def trivial(cfg, rows, meta):
    return "the noisy photo itself", [{**row, "mse": row["before"]} for row in rows]


def predict(cfg, model, batches, meta, options):
    for batch in batches:
        for photo in batch["photos"]:
            restored = whole(model, photo, meta["tile"], batch["image"].device)  # (H, W, 3)
            changed = options.strength * (restored - photo)
            picture = Image.fromarray((photo + changed).round().clip(0, 255).astype(np.uint8))
            yield {"restored": picture, "changed_by": float(np.sqrt(np.mean(changed**2)))}


def whole(model, photo, tile, device):
    """A photo of any size from windows of one, which overlap by half and fade into each other. (H, W, 3), levels."""
    own = photo.shape[:2]
    lack = [max(0, side - size) for side, size in zip(tile, own, strict=True)]
    padded = np.pad(photo, [(0, lack[0]), (0, lack[1]), (0, 0)], "symmetric")
    total, weights = np.zeros(padded.shape), np.zeros((*padded.shape[:2], 1))
    fade = np.multiply.outer(*(np.bartlett(side + 2)[1:-1] for side in tile))[..., None]
    for top in starts(padded.shape[0], tile[0]):
        for left in starts(padded.shape[1], tile[1]):
            part = padded[top : top + tile[0], left : left + tile[1]]
            images = torch.from_numpy(part.copy()).permute(2, 0, 1)[None].to(device)
            found = model({"image": images})["restored"][0].float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
            total[top : top + tile[0], left : left + tile[1]] += 255 * found * fade
            weights[top : top + tile[0], left : left + tile[1]] += fade
    return (total / weights)[: own[0], : own[1]]


def starts(length, tile):
    """Where windows begin that cover a side and overlap by half or more."""
    number = 1 + -(-(length - tile) // max(1, tile // 2))
    return sorted({round(place) for place in np.linspace(0, length - tile, number)})


def draw(image, prediction, meta):
    return panels([("given", image), ("restored", prediction["restored"])])


def report(cfg, rows, meta, image):
    def curve(axes):
        before, after = ([decibels(row[key]) for row in rows] for key in ("before", "mse"))
        axes.scatter(before, after, s=18)
        ends = min(before), max(before)
        axes.plot(ends, ends, linestyle="--", label="unchanged")
        axes.set_xlabel("noisy photo, PSNR in decibels")
        axes.set_ylabel("restored, PSNR in decibels")
        axes.legend()

    def shown(id):
        row = rows[id]
        parts = [(words, Image.fromarray(row[words]).resize((192, 192))) for words in ("given", "restored", "clean")]
        words = f"{decibels(row['before']):.1f} to {decibels(row['mse']):.1f} dB: {file_of(image, id)}"
        return words, panels(parts, columns=3)

    order = spread(sorted(range(len(rows)), key=lambda id: rows[id]["mse"]), SHOWN)
    return [
        visiontl.Figure("Gain", curve, "A point for each photo; above the line it was made better."),
        *chosen_pictures("Photos", order, shown, f"The middle {KEPT} pixels, from the best restored to the worst."),
    ]


def example(folder):
    return str(once(folder / "photos", make))


def make(place):
    """Skies, hills and houses: areas, edges and a little texture."""
    for number in range(40):
        random = np.random.default_rng(number)
        width, height = (120, 90) if number % 2 else (90, 112)
        colors = random.integers(30, 226, (4, 3))
        photo = Image.new("RGB", (width, height), tuple(colors[0].tolist()))
        pen = ImageDraw.Draw(photo)
        for color in colors[1:]:
            points = random.uniform(-0.2, 1.2, (4, 2)) * (width, height)
            pen.polygon([tuple(point) for point in points], fill=tuple(color.tolist()))
            pen.ellipse([*(points[0] - 12), *(points[0] + 12)], fill=tuple((255 - color).tolist()))
        shade = np.linspace(0.75, 1.1, width)[None, :, None] * np.asarray(photo)
        Image.fromarray(shade.clip(0, 255).astype(np.uint8)).save(place / f"{number:02}.png")
