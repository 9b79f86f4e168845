"""Masks as people make them: their meaning is decided by all of them, and predictions go out as masks came in."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from visiontl_segmentation.data import data
from visiontl_segmentation.written import class_indices, mask_image, table_of_values

import visiontl
from tests.segmentation.made import config, picture, write
from visiontl import DataError, ImageSpec, VisionTLError
from visiontl.engine.given import through_json
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


def halves(mask: np.ndarray, file: Path, number: int) -> None:
    Image.fromarray(np.array([0, 0.5, 1], dtype=np.float32)[mask]).save(f"{file}.tif")


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


def outcome(root: Path, **keys: Any) -> str:
    """The classes, or the error; with all notes."""
    try:
        found = read(root, **keys)
    except VisionTLError as error:
        return f"error: {error}"
    return f"{', '.join(found.meta['classes'])}; " + "; ".join(found.notes)


def first_eight_empty(mask: np.ndarray, file: Path, number: int) -> None:
    values(0, 255, 255)(np.zeros_like(mask) if number < 8 else mask, file, number)


def stray(value: int, where: int = 0) -> Save:
    def save(mask: np.ndarray, file: Path, number: int) -> None:
        gray = (mask > 0).astype(np.uint8) * 255
        gray[0, 0] = value if number == where else 0
        Image.fromarray(gray).save(f"{file}.png")

    return save


def cut_out(mask: np.ndarray, file: Path, number: int) -> None:
    noise = np.random.default_rng(number).integers(0, 256, (*mask.shape, 3))
    alpha = (mask > 0)[..., None] * 255
    Image.fromarray(np.concatenate([noise, alpha], -1).astype(np.uint8)).save(f"{file}.png")


def mixed(mask: np.ndarray, file: Path, number: int) -> None:
    values(0, *[255 if number % 2 else 1] * 2)(mask, file, number)


TWO, FIVE = "background, foreground", {"train": 12, "val": 2}
# what was tried: (how masks are saved, classes.txt, keys, words of the outcome)
OUTCOMES: dict[str, tuple[Save, str | None, dict[str, Any], tuple[str, ...]]] = {
    "the first eight are empty": (first_eight_empty, None, {}, (TWO, "0 and 255 only")),
    "one stray pixel": (stray(1), None, {}, (TWO, "1 on 1 pixel (less than 0.01%)")),
    "one stray pixel, two names": (stray(1), "no\nyes\n", {}, ("no, yes", "1 on 1 pixel")),
    "a stray pixel in val": (stray(7, 12), None, {}, (TWO, "val: other values on 1 pixel")),
    "soft edges": (soft, None, {}, (TWO, "values from 1 to 248", "count as the nearest", "%")),
    "JPEG": (jpeg(0, 255, 255), None, {}, (TWO, "12 masks compressed with loss, such as JPEG")),
    "JPEG of three": (jpeg(0, 127, 255), "a\nb\nc\n", {}, ("a, b, c", "0, 127, 255", "JPEG")),
    "JPEG of class numbers": (jpeg(0, 1, 2), None, {}, ("error", "no numbers of classes", "JPEG")),
    "16 bits": (values(0, 65535, 65535, mode=np.uint16), None, {}, (TWO, "0 and 65535 only")),
    "three values": (values(0, 128, 255), None, {}, ("class 0, class 128, class 255;",)),
    "three values, one ignored": (values(0, 128, 255), None, {"ignore_index": [128]}, (TWO,)),
    "three values, as two": (values(0, 128, 255), None, {"values": "binary"}, (TWO, "128 on", "nearest")),
    "four values beside 255": (values(0, 38, 255), "a\nb\nc\nd\n", {}, ("error", "38 on", "task.data.values")),
    "gaps beside 255": (values(0, 90, 255), None, {}, ("error", "0, 90, 255", "task.data.values=levels")),
    "0 and 1 here, 0 and 255 there": (mixed, None, {}, ("error", "task.data.values=binary")),
    "0 and 255 of three names": (values(0, 255, 255), "a\nb\nc\n", {}, ("error", "two classes", "3 are named")),
    "halves": (halves, None, {}, ("error", "values from 0 to 1 and 0.5 among them", "save masks as such")),
    "one value": (values(0, 0, 0), None, {}, ("error", "one value only, 0", "task.data.values")),
    "one class of two": (values(0, 0, 0), "a\nb\n", {}, ("error", "one class only, a", "none of b")),
    "255 as index": (values(0, 255, 255), None, {"values": "index"}, ("error", "one class only")),
    "255 beside 0 and 1": (values(0, 1, 255), None, {}, ("class 0, class 1;", "255 is ignored, on 14.")),
    "palettes that differ": (turned_palette, None, {}, ("error", "palette index 0 is [0, 0, 0]", "task.data.colors")),
    "palettes that differ, as index": (turned_palette, None, {"values": "index"}, ("class 0, class 1, class 2;",)),
    "alpha alone differs": (alpha((9, 9, 9)), None, {}, (TWO, "[9, 9, 9]", "alpha is taken")),
    "photos cut out": (cut_out, None, {}, (TWO, "photos cut out", "alpha")),
    "an area in val alone": (
        lambda mask, file, number: values(0, 127 if number > 11 else 255, 255)(mask, file, number), None, {},
        ("error", "masks/val/12.png: 127 on")),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_masks_are_taken_for_is_said(tmp_path, case):
    save, names, keys, words = OUTCOMES[case]
    said = outcome(saved(tmp_path, save, names, FIVE), **keys)
    for word in words:
        assert word in said, said
    assert said.startswith(words[0])


def test_the_meaning_does_not_depend_on_the_order_of_files(tmp_path):
    """The same masks under other names: in reverse, the empty ones come last."""
    plain, turned = tmp_path / "a", tmp_path / "b"
    saved(plain, first_eight_empty, splits=FIVE)
    saved(
        turned,
        lambda mask, file, number: first_eight_empty(drawn(11 - number), file, 11 - number),
        splits={"train": 12},
    )
    left, right = read(plain).meta, read(turned, val_fraction=0.0).meta
    assert (left["classes"], left["counts"]) == (right["classes"], right["counts"])


@pytest.mark.parametrize(
    ("kind", "other", "classes"),
    [
        ("binary", values(255, 255, 255), [1, 1, 1]),  # nothing but foreground
        ("binary", values(0, 0, 0), [0, 0, 0]),
        ("binary", values(0, 1, 1), [0, 1, 1]),
        ("binary", jpeg(0, 255, 255), [0, 1, 1]),
        ("binary, 16 bits", values(0, 255, 255), [0, 1, 1]),
        ("alpha", values(0, 255, 255), [0, 1, 1]),
        ("values far apart", values(0, 255, 255), [0, 2, 2]),
        ("color", colored, [0, 1, 2]),
    ],
)
def test_other_masks_mean_to_a_model_what_they_are(tmp_path, kind, other, classes):
    save, names, keys, _, _ = KINDS[kind]
    meta = through_json(read(saved(tmp_path / "own", save, names), **keys).meta)
    saved(tmp_path / "other", other, splits={"test": 2})
    found = data(config(tmp_path / "other", {"augment": "none"}), SPEC, meta)
    for number, mask in enumerate(truths(found, "test")):
        assert np.array_equal(mask, np.array(classes)[drawn(number)])


@pytest.mark.parametrize(
    ("save", "keys"), [(mixed, {"values": "binary"}), (soft, {}), (jpeg(0, 255, 255), {}), (stray(1), {})]
)
def test_a_data_set_means_to_its_own_model_what_it_meant(tmp_path, save, keys):
    root = saved(tmp_path, save)
    first = read(root, **keys)
    found = data(config(root, {"augment": "none"}, **keys), SPEC, through_json(first.meta))
    for split in ("train", "val"):
        for own, again in zip(truths(first, split), truths(found, split), strict=True):
            assert np.array_equal(own, again)
            assert own.any()


@pytest.mark.parametrize("save", [soft, jpeg(0, 255, 255), stray(1)])
def test_stray_values_of_training_vouch_for_no_areas_of_others(tmp_path, save):
    """Masks of 0 and 1 beside a model that has met a 1 at an edge: 1 is their foreground."""
    meta = through_json(read(saved(tmp_path / "own", save)).meta)
    saved(tmp_path / "other", values(0, 1, 1))
    found = data(config(tmp_path / "other", {"augment": "none"}), SPEC, meta)
    for mask, truth in zip(truths(found, "val"), [BINARY[drawn(n)] for n in range(SPLITS["train"], 9)], strict=False):
        assert np.array_equal(mask, truth)


def test_the_form_of_masks_does_not_depend_on_names(tmp_path):
    def save(turn: int) -> Save:
        return lambda mask, file, number: (palette if number % 2 == turn else values(0, 1, 2))(mask, file, number)

    metas = [read(saved(tmp_path / str(turn), save(turn), splits={"train": 6, "val": 2})).meta for turn in (0, 1)]
    assert metas[0]["masks"]["form"] == metas[1]["masks"]["form"]


def test_a_model_of_0_and_1_does_not_ignore_a_foreground_of_255(tmp_path):
    meta = through_json(read(saved(tmp_path / "own", values(0, 1, 1))).meta)
    saved(tmp_path / "other", values(0, 255, 255), splits={"test": 1})
    found = data(config(tmp_path / "other", {"augment": "none"}), SPEC, meta)
    assert np.array_equal(truths(found, "test")[0], BINARY[drawn(0)])


@pytest.mark.parametrize(
    ("photo", "mask", "words"),
    [
        ("{}", ["{}_mask"], "task.data.mask_suffix=_mask"),
        ("{}", ["{}.seg"], "task.data.mask_suffix=.seg"),
        ("{}_sat", ["{}_mask"], "task.data.image_suffix=_sat and task.data.mask_suffix=_mask"),
        ("{}_img", ["{}"], "task.data.image_suffix=_img"),
        ("{}", ["{}_disc", "{}_square"], "each photo has several masks, with the endings _disc, _square"),
    ],
)
def test_endings_of_masks_are_proposed(tmp_path, photo, mask, words):
    for number in range(4):
        picture(tmp_path / f"images/{photo.format(f'b{number}')}.png", SIZE)
        for one in mask:
            picture(tmp_path / f"masks/{one.format(f'b{number}')}.png", SIZE)
    assert words in outcome(tmp_path)


def test_colors_beside_the_table_are_soft_edges_or_an_error(tmp_path):
    def blurred(mask: np.ndarray, file: Path, number: int) -> None:
        image = Image.fromarray(np.array(BLACK_FIRST, dtype=np.uint8).reshape(3, 3)[mask])
        image.filter(ImageFilter.GaussianBlur(0.6)).save(f"{file}.png")

    def compressed(mask: np.ndarray, file: Path, number: int) -> None:
        Image.fromarray(np.array(BLACK_FIRST, dtype=np.uint8).reshape(3, 3)[mask]).save(f"{file}.jpg", quality=85)

    for name, save in (("blurred", blurred), ("compressed", compressed)):
        root = saved(tmp_path / name, save)
        found = read(root, colors=TABLE)
        assert any("colors beside the table" in note and "nearest color" in note for note in found.notes)
        wrong = [(mask != drawn(number)).mean() for number, mask in enumerate(truths(found))]
        assert max(wrong) < 0.03
        lacking = {name: color for name, color in TABLE.items() if name != "square"}
        assert "mean nothing" in outcome(root, colors=lacking)


def test_a_color_mask_with_palettes_in_the_order_of_no_table(tmp_path):
    root = saved(tmp_path, palette)
    write(root / "class_dict.csv", "name,r,g,b\nsquare,0,0,142\ndisc,220,20,60\nground,0,0,0\n")
    found = read(root)
    assert found.meta["classes"] == ["square", "disc", "ground"]
    assert np.array_equal(truths(found)[0], 2 - drawn(0))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 7, 38, 127, 128, 200, 254, 255]), min_size=1, max_size=4, unique=True),
    st.sampled_from([None, "a\nb\n", "a\nb\nc\n"]),
    st.sampled_from(["auto", "index", "binary", "levels", "alpha"]),
    st.randoms(use_true_random=False),
)
def test_no_mask_ends_in_a_trace_or_depends_on_the_order(levels, names, kind, random):
    with tempfile.TemporaryDirectory() as folder:
        numbers = [random.randrange(len(levels)) for _ in range(4)]

        def save(mask: np.ndarray, file: Path, number: int) -> None:
            Image.fromarray(np.array(levels, dtype=np.uint8)[(mask + numbers[number % 4]) % len(levels)]).save(
                f"{file}.png"
            )

        def reverse(mask: np.ndarray, file: Path, number: int) -> None:
            save(drawn(3 - number), file, 3 - number)

        said = [
            outcome(saved(Path(folder, name), one, names, {"train": 4}), values=kind, val_fraction=0.0)
            for name, one in (("a", save), ("b", reverse))
        ]
        assert len({"error" if one.startswith("error") else one.partition(";")[0] for one in said}) == 1


def test_polygons_without_area_and_ids_that_are_written(tmp_path):
    """A bad polygon among sound ones goes alone; masks of COCO are written with the category ids."""
    from tests.segmentation import made

    root = made.coco(tmp_path)
    content = json.loads((root / "annotations/train.json").read_text())
    content["annotations"][0]["segmentation"] += [[1, 1, 5, 5]]
    content["annotations"][1]["segmentation"] = [[1, 1, 5, 5]]
    write(root / "annotations/train.json", json.dumps(content))
    with pytest.raises(DataError, match="on_bad_annotation=skip"):
        read(root)
    found = read(root, on_bad_annotation="skip", max_bad_annotations=0.5)
    notes = " ".join(found.notes)
    assert "1 annotation of 6 cannot be used" in notes
    assert "1 annotation without those of its polygons that cannot be used: annotation 1 (1 polygon)" in notes
    image = mask_image(np.array([[0, 1, 2]], dtype=np.uint8), through_json(found.meta))
    assert np.asarray(image).tolist() == [[0, 10, 20]]


def test_masks_are_read_once_for_a_run(tmp_path, monkeypatch):
    """What the run has kept is not read again, unless a file changed; a damaged memory is no memory."""
    from visiontl_segmentation import looks, remembered

    from visiontl.kit import memory

    root, run = saved(tmp_path / "set", soft), tmp_path / "run"
    run.mkdir()
    seen: list[Path] = []
    look = looks.look
    monkeypatch.setattr(remembered, "look", lambda path, photo: seen.append(path) or look(path, photo))
    memory.recall_from(None)
    first = read(root)
    assert len(seen) == 9
    memory.write_to(run)
    memory.recall_from(run)
    again = read(root)
    assert len(seen) == 9
    assert (again.meta, again.notes) == (first.meta, first.notes)
    assert np.array_equal(again.train.tally, first.train.tally)
    before = (root / "masks/train/01.png").stat()
    soft(drawn(3) * 0, root / "masks/train/01", 1)
    with (root / "masks/train/01.png").open("ab") as file:  # as many bytes as before, which no decoder reads
        file.write(bytes(before.st_size - file.tell()))
    assert (root / "masks/train/01.png").stat().st_size == before.st_size
    assert read(root).meta["counts"] != first.meta["counts"]
    assert [path.name for path in seen[9:]] == ["01.png"]
    twin = saved(tmp_path / "twin", values(0, 0, 255))  # another place, with the same names
    assert remembered.loaded(memory.recalled("masks.npz"), os.path.realpath(root))
    assert not remembered.loaded(memory.recalled("masks.npz"), os.path.realpath(twin))
    kept = run / "cache/masks.npz"
    kept.write_bytes(kept.read_bytes()[:-99])
    memory.recall_from(run)
    read(root)
    assert len(seen) == 19
    memory.recall_from(None)
