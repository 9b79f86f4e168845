"""A small set of drawn faces, so that everything can be tried where there is no data. Nobody real is in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.example import once

PEOPLE = {"train": 12, "val": 4, "test": 4}
IMAGES = 6  # per person
SIDE = 72  # pixels
SEED = 30


def example(folder: Path) -> str:
    """Draws FOLDER/faces/{train,val,test}/person_00/*.png (120 images of 72 px of 20 people) and returns FOLDER/faces.
    The same pixels every time; a folder that is there is kept; never half a set."""
    return str(once(Path(folder) / "faces", make))


def make(place: Path) -> None:
    person = 0
    for split, people in PEOPLE.items():
        for _ in range(people):
            own = place / split / f"person_{person:02d}"
            own.mkdir(parents=True)
            traits = drawn_traits(np.random.default_rng([SEED, person]))
            for number in range(IMAGES):
                portrait(traits, np.random.default_rng([SEED, person, number])).save(own / f"{number:02d}.png")
            person += 1


def drawn_traits(rng: np.random.Generator) -> dict[str, float]:
    """What stays the same in all pictures of one person; lengths relative to the picture's side."""
    return {
        "skin": rng.uniform(0.35, 0.95),
        "hue": rng.uniform(0, 0.12),
        "hair": rng.uniform(0.05, 0.8),
        "fringe": rng.uniform(0.05, 0.3),
        "width": rng.uniform(0.26, 0.38),
        "height": rng.uniform(0.36, 0.45),
        "eyes": rng.uniform(0.1, 0.19),
        "eye": rng.uniform(0.03, 0.06),
        "nose": rng.uniform(0.06, 0.16),
        "mouth": rng.uniform(0.08, 0.2),
        "lips": rng.uniform(0.02, 0.05),
        "beard": float(rng.random() < 0.3),
    }


def portrait(traits: dict[str, float], rng: np.random.Generator) -> Image.Image:
    """One picture: another place, light and mood."""
    scale = SIDE * 3  # drawn large and shrunk: smooth edges
    light = rng.uniform(0.75, 1.15)
    ground = tuple(int(v) for v in rng.integers(60, 200, 3))
    picture = Image.new("RGB", (scale, scale), ground)
    pen = ImageDraw.Draw(picture)
    x, y = 0.5 + rng.normal(0, 0.02), 0.52 + rng.normal(0, 0.02)

    def tone(value: float, warm: float = 0.0) -> tuple[int, int, int]:
        channels = (value + warm, value, value - warm)
        return tuple(int(min(255, max(0, 255 * channel * light))) for channel in channels)  # type: ignore[return-value]

    def oval(cx: float, cy: float, rx: float, ry: float, fill: tuple[int, int, int]) -> None:
        pen.ellipse([scale * v for v in (cx - rx, cy - ry, cx + rx, cy + ry)], fill=fill)

    width, height = traits["width"], traits["height"]
    oval(x, y - 0.05, width * 1.15, height * 1.1, tone(traits["hair"], 0.05))
    oval(x, y, width, height, tone(traits["skin"], traits["hue"]))
    pen.pieslice(
        [scale * v for v in (x - width, y - height, x + width, y - height + 2 * traits["fringe"])],
        180, 360, fill=tone(traits["hair"], 0.05),
    )  # fmt: skip
    if traits["beard"]:
        oval(x, y + height * 0.72, width * 0.6, height * 0.26, tone(traits["hair"], 0.05))
    for side in (-1, 1):
        ex, ey = x + side * traits["eyes"], y - 0.06
        oval(ex, ey, traits["eye"] * 1.5, traits["eye"] * rng.uniform(0.7, 1.0), tone(0.98))
        oval(ex + rng.normal(0, 0.005), ey, traits["eye"] * 0.6, traits["eye"] * 0.6, tone(0.1))
    pen.line(
        [scale * x, scale * (y - 0.02), scale * x, scale * (y + traits["nose"])], fill=tone(0.25), width=scale // 50
    )
    smile = rng.uniform(0.5, 1.2)
    oval(x, y + height * 0.6, traits["mouth"], traits["lips"] * smile, tone(0.45, 0.25))
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    noisy = small + rng.normal(0, 6, small.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
