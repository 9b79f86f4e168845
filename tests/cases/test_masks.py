"""Masks as people make them: their meaning is decided by all of them, and predictions go out as masks came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from visiontl_segmentation.data import data
from visiontl_segmentation.written import class_indices, mask_image, table_of_values

import visiontl
from tests.segmentation.made import config, picture, write
from visiontl import ImageSpec
from visiontl.engine.model import through_json
from visiontl.engine.predict import predict_files

SIZE = (40, 56)  # (H, W)
SPEC = ImageSpec(size=SIZE)
SPLITS = {"train": 6, "val": 3}
BLACK_FIRST = [0, 0, 0, 220, 20, 60, 0, 0, 142]


def drawn(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) uint8: ground 0, a block of 1, a block of 2; another one for each number."""
    mask = np.zeros(size, dtype=np.uint8)
    shift = number * 3 % 8
    mask[4 + shift : 20 + shift, 6:24] = 1
    mask[12:32, 30 + shift : 46 + shift] = 2
    return mask


Save = Callable[[np.ndarray, Path, int], Any]  # (class of each pixel, file without ending, number)


def saved(root: Path, save: Save, names: str | None = None, splits: Mapping[str, int] = SPLITS) -> Path:
    number = 0
    for split, count in splits.items():
        for _ in range(count):
            picture(root / f"images/{split}/{number:02}.png", SIZE, seed=number)
            (root / f"masks/{split}").mkdir(parents=True, exist_ok=True)
            save(drawn(number), root / f"masks/{split}/{number:02}", number)
            number += 1
    if names:
        write(root / "classes.txt", names)
    return root


def values(*levels: int, mode: Any = np.uint8) -> Save:
    """Gray masks in which class k has levels[k]."""
    return lambda mask, file, number: Image.fromarray(np.array(levels, dtype=mode)[mask]).save(f"{file}.png")


def rgb(mask: np.ndarray, file: Path, number: int) -> None:
    Image.fromarray(np.stack([mask] * 3, -1)).save(f"{file}.png")


def palette(mask: np.ndarray, file: Path, number: int) -> None:
    image = Image.frombytes("P", mask.shape[::-1], mask.tobytes())
    image.putpalette(BLACK_FIRST)
    image.save(f"{file}.png")


def turned_palette(mask: np.ndarray, file: Path, number: int) -> None:
    """The same colors, in another order in each file."""
    order = np.roll([0, 1, 2], number)
    image = Image.frombytes("P", mask.shape[::-1], np.argsort(order).astype(np.uint8)[mask].tobytes())
    image.putpalette([part for k in order for part in BLACK_FIRST[3 * k : 3 * k + 3]])
    image.save(f"{file}.png")


def colored(mask: np.ndarray, file: Path, number: int) -> None:
    Image.fromarray(np.array(BLACK_FIRST, dtype=np.uint8).reshape(3, 3)[mask]).save(f"{file}.png")


def alpha(color: tuple[int, int, int]) -> Save:
    def save(mask: np.ndarray, file: Path, number: int) -> None:
        image = Image.new("RGBA", mask.shape[::-1], (*color, 0))
        image.putalpha(Image.fromarray((mask > 0).astype(np.uint8) * 255))
        image.save(f"{file}.png")

    return save


def jpeg(*levels: int, quality: int = 75) -> Save:
    def save(mask: np.ndarray, file: Path, number: int) -> None:
        Image.fromarray(np.array(levels, dtype=np.uint8)[mask]).save(f"{file}.jpg", quality=quality)

    return save


def soft(mask: np.ndarray, file: Path, number: int) -> None:
    """Enlarged and made smaller again, as tools for photos do."""
    image = Image.fromarray((mask > 0).astype(np.uint8) * 255)
    image.filter(ImageFilter.GaussianBlur(0.8)).save(f"{file}.png")


def truths(found: Any, split: str = "train") -> list[np.ndarray]:
    part = found.splits()[split]
    return [part[i, 0]["truth"].numpy() for i in range(len(part))]


def read(root: Path, **keys: Any) -> Any:
    return data(config(root, {"augment": "none"}, **keys), SPEC)


TABLE = {"ground": BLACK_FIRST[:3], "disc": BLACK_FIRST[3:6], "square": BLACK_FIRST[6:]}
BINARY = np.array([0, 1, 1], dtype=np.uint8)
SAME = np.array([0, 1, 2], dtype=np.uint8)

# kind -> (how it is saved, classes.txt, keys, class of what was drawn as 0, 1, 2 (255: ignored), the mask's raw values
# for these; what a program that knows nothing of visiontl would read)
KINDS: dict[str, tuple[Save, str | None, dict[str, Any], np.ndarray, Any]] = {
    "index": (values(0, 1, 2), "a\nb\nc\n", {}, SAME, [0, 1, 2]),
    "index, 0 ignored": (values(0, 1, 2), "u\nb\nc\n", {"ignore_index": [0, 255]}, np.array([255, 0, 1]), [0, 1, 2]),
    "index, by name": (values(2, 0, 1), "a\nb\nu\n", {"ignore_index": ["u"]}, np.array([255, 0, 1]), [2, 0, 1]),
    "index with gaps": (values(0, 11, 7), None, {}, np.array([0, 11, 7]), [0, 11, 7]),
    "values far apart": (values(0, 127, 255), None, {}, SAME, [0, 127, 255]),
    "named values far apart": (values(0, 100, 200), "a\nb\nc\n", {}, SAME, [0, 100, 200]),
    "gray as RGB": (rgb, "a\nb\nc\n", {}, SAME, [[0] * 3, [1] * 3, [2] * 3]),
    "palette": (palette, "a\nb\nc\n", {}, SAME, [0, 1, 2]),
    "palettes that differ": (turned_palette, None, {"colors": TABLE}, SAME, np.array(BLACK_FIRST).reshape(3, 3)),
    "color": (colored, None, {"colors": TABLE}, SAME, np.array(BLACK_FIRST).reshape(3, 3)),
    "color, one ignored": (colored, None, {"colors": TABLE, "ignore_index": ["ground"]}, np.array([255, 0, 1]),
                           np.array(BLACK_FIRST).reshape(3, 3)),
    "binary": (values(0, 255, 255), None, {}, BINARY, [0, 255, 255]),
    "binary, 16 bits": (values(0, 65535, 65535, mode=np.uint16), None, {}, BINARY, [0, 65535, 65535]),
    "binary, 0 and 128": (values(0, 128, 128), None, {}, BINARY, [0, 128, 128]),
    "binary, JPEG": (jpeg(0, 255, 255), None, {}, BINARY, [0, 255, 255]),
    "alpha": (alpha((255, 255, 255)), None, {}, BINARY, [[255, 255, 255, 0], [255] * 4, [255] * 4]),
    "black on transparent": (alpha((0, 0, 0)), None, {}, BINARY, [[0] * 4, [0, 0, 0, 255], [0, 0, 0, 255]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_kind_give_the_classes_that_were_drawn(tmp_path, kind):
    save, names, keys, classes, _ = KINDS[kind]
    found = read(saved(tmp_path, save, names), **keys)
    for number, mask in enumerate(truths(found)):
        assert np.array_equal(mask, classes[drawn(number)]), kind
    number = len(found.meta["classes"])
    assert number == (12 if kind == "index with gaps" else len({*classes.tolist()} - {255})), "no class too many"


def flat(raw: Any) -> np.ndarray:
    """(..., C) channels -> one number a pixel; (...) numbers as they are."""
    array = np.asarray(raw).astype(np.int64)
    if array.shape[-1] in (3, 4) and array.ndim > 1:
        return sum((array[..., k] << (8 * k) for k in range(array.shape[-1])), np.zeros(array.shape[:-1], np.int64))
    return array


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_written_as_they_were_read(tmp_path, kind):
    """A truth of the set, written as a prediction, is the same for a program that knows nothing of visiontl, and
    read again, with the model and without, it is the same truth."""
    save, names, keys, classes, raw = KINDS[kind]
    root = saved(tmp_path, save, names)
    found = read(root, **keys)
    meta = through_json(found.meta)
    for number in range(SPLITS["train"], 9):
        guess = np.where(classes == 255, 0, classes)[drawn(number)].astype(np.uint8)  # a model says no ignored class
        image = mask_image(guess, meta)
        file = next((root / "masks/val").glob(f"{number:02}.*"))
        file.unlink()
        image.save(file.with_suffix(".png"))
        pixels = flat(np.asarray(Image.open(file.with_suffix(".png"))))
        kept = np.isin(drawn(number), np.flatnonzero(classes != 255))
        assert np.array_equal(pixels[kept], flat(np.array(raw, dtype=np.int64))[drawn(number)][kept])
        assert np.array_equal(class_indices(image, meta), guess)
    for again in (read(root, **keys), data(config(root, {"augment": "none"}), SPEC, meta)):
        for number, mask in enumerate(truths(again, "val"), start=SPLITS["train"]):
            expected = np.where(classes == 255, 0, classes)[drawn(number)]
            assert np.array_equal(mask, expected)
    table = table_of_values(meta).splitlines()
    assert [row.split(",")[0] for row in table[1:]] == meta["classes"]


def miou(guess: list[np.ndarray], truth: list[np.ndarray], kept: list[int]) -> float:
    """By the definition, on raw values: mean over `kept` of intersection / union, on pixels whose truth is kept."""
    pairs = [(a[np.isin(b, kept)], b[np.isin(b, kept)]) for a, b in zip(guess, truth, strict=True)]
    shares = []
    for value in kept:
        hit = sum(int(((a == value) & (b == value)).sum()) for a, b in pairs)
        shares.append(hit / sum(int(((a == value) | (b == value)).sum()) for a, b in pairs))
    return float(np.mean(shares))


@pytest.mark.parametrize("kind", ["index, 0 ignored", "binary, JPEG", "color, one ignored"])
def test_predictions_score_as_evaluation_does(tmp_path, kind):
    save, names, keys, classes, raw = KINDS[kind]
    root = saved(tmp_path / "set", save, names)
    settings = {
        "task": {
            "name": "segmentation",
            "data": {"folder": str(root), **keys},
            "decoder": {"name": "unet", "width": 32},
        },
        "backbone": {"name": "visiontl/tiny", "weights": "none", "image_size": 64},
        "train": {"epochs": 0, "batch_size": 2},
        "loader": {"workers": 0},
        "run": {"folder": str(tmp_path / "runs")},
    }
    report = visiontl.train(settings)
    predict_files(report["run"], [root / "images/val"], tmp_path / "out")
    codes = flat(np.array(raw, dtype=np.int64))
    guess = [flat(np.asarray(Image.open(file))) for file in sorted((tmp_path / "out/mask").iterdir())]
    truth = [codes[drawn(SPLITS["train"] + k)] for k in range(3)]
    kept = sorted({int(code) for code, one in zip(codes, classes, strict=True) if one != 255})
    assert {*np.unique(np.stack(guess)).tolist()} <= {*kept}
    assert miou(guess, truth, kept) == pytest.approx(report["scores"]["val"]["miou"], abs=1e-12)
    assert (tmp_path / "out/values.csv").read_text().count("\n") == 1 + len(kept)
