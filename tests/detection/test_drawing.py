"""Pictures with boxes: what they show, where, and that nothing odd breaks them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from visiontl_detection.drawing import LARGEST, color, draw, draw_rows, font, palette, shortened

from tests.detection.test_scores import meta_of, row

META = {"classes": ["cat", "dog"]}


def one(label="cat", score=0.9, box=(100, 100, 300, 260)) -> dict:
    return {"label": label, "score": score, "box": list(box)}


def changed(picture: Image.Image, plain: Image.Image) -> np.ndarray:
    return (np.asarray(picture) != np.asarray(plain)).any(2)  # (H, W)


def test_line_and_tag_are_outside_and_the_object_stays_free():
    photo = Image.new("RGB", (640, 480), (90, 90, 90))
    before = photo.tobytes()
    drawn = draw(photo, {"objects": [one()]}, META)
    assert photo.tobytes() == before
    assert drawn.size == photo.size
    touched = changed(drawn, photo)
    assert not touched[105:255, 105:295].any()  # the inside
    assert touched[100, 100:300].all()
    assert touched[259, 100:300].all()
    assert touched[100:260, 100].all()
    assert touched[100:260, 299].all()
    rows, columns = np.nonzero(touched)
    assert (rows.min() >= 75, rows.max() <= 261) == (True, True)  # nothing but the tag's height above
    assert (columns.min() >= 98, columns.max() <= 301) == (True, True)
    assert touched[80:98].any()  # the tag
    assert tuple(drawn.getpixel((200, 101))) == color(0)
    other = draw(photo, {"objects": [one("dog")]}, META)
    assert tuple(other.getpixel((200, 101))) == color(1)


def test_nothing_found_changes_nothing():
    photo = Image.new("RGB", (640, 480), (90, 90, 90))
    assert draw(photo, {"objects": []}, META).tobytes() == photo.tobytes()


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 640, 480), (0, 0, 5, 5), (635, 475, 640, 480), (0, 100, 640, 101), (10, 10, 10, 10), (-20, -20, 30, 30),
        (600, -5, 700, 500), (0.2, 470.5, 0.4, 479.9),
    ],
)  # fmt: skip
def test_boxes_at_the_border_have_a_readable_tag(box):
    photo = Image.new("RGB", (640, 480), (90, 90, 90))
    drawn = draw(photo, {"objects": [one(box=box)]}, META)
    filled = (np.asarray(drawn) == color(0)).all(2)
    assert filled.sum() > 500  # a whole tag lies inside the picture
    assert changed(drawn, photo).sum() < 0.2 * photo.width * photo.height


def test_tags_of_neighbors_do_not_overlap():
    photo = Image.new("RGB", (640, 480), (90, 90, 90))
    objects = [one(box=(200, 200, 340, 340), score=0.9 - i / 10) for i in range(4)]

    def colored(some) -> int:
        return int((np.asarray(draw(photo, {"objects": some}, META)) == color(0)).all(2).sum())

    lines = 4 * 138 * 2  # a line of two pixels around 140
    assert colored(objects) - lines > 0.95 * sum(colored([each]) - lines for each in objects)


def test_small_pictures_are_enlarged_and_long_ones_do_not_fill_the_memory():
    drawn = draw(Image.new("RGB", (32, 64)), {"objects": [one(box=(8, 16, 24, 48))]}, META)
    assert drawn.size == (320, 640)
    assert tuple(drawn.getpixel((160, 160))) == color(0)  # the box was enlarged along
    for size in ((1, 1), (100_000, 1), (1, 3000), (7, 4000)):
        drawn = draw(Image.new("RGB", size), {"objects": [one(box=(0, 0, *size))]}, META)
        assert max(drawn.size) <= max(LARGEST, *size)
        assert drawn.width * drawn.height < 3_000_000
        rows = row([(0, 0, *size)], [0.9], [0], [(0, 0, *size)], [1], size=size[::-1])
        draw_rows(Image.new("RGB", size), rows, meta_of(2), 0.5)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16", "1"])
def test_any_mode(mode):
    assert draw(Image.new(mode, (400, 400)), {"objects": [one()]}, META).mode == "RGB"


@pytest.mark.parametrize("name", ["Größe", "кошка", "γάτα", "猫" * 30, "a\nb\tc\x00", "", "x" * 50_000, "\u202e\ud800"])
def test_any_name(name):
    drawn = draw(Image.new("RGB", (400, 400)), {"objects": [one(name)]}, {"classes": [name]})
    assert changed(drawn, Image.new("RGB", (400, 400))).any()


def test_long_names_give_way_and_the_score_stays():
    text = shortened("a very long name of a class that nobody can read  0.87", 14, 120)
    assert text.startswith("a very")
    assert text.endswith("…  0.87")
    assert font(text, 14).getlength(text) <= 120


def test_colors_are_told_apart():
    colors = np.array(palette(), dtype=float)
    assert len({tuple(c) for c in colors}) == 80
    for count, least in ((2, 150), (8, 90), (20, 50), (80, 20)):
        gaps = np.linalg.norm(colors[:count, None] - colors[None, :count], axis=2)
        assert gaps[~np.eye(count, dtype=bool)].min() > least
    assert color(81) == color(1)


def test_truth_and_detections():
    photo = Image.new("RGB", (600, 600), (90, 90, 90))
    right, wrong, lost, unsure = (50, 50, 150, 150), (300, 50, 400, 150), (50, 300, 150, 400), (300, 300, 400, 400)
    data = row([right, wrong, unsure], [0.9, 0.8, 0.2], [0, 1, 0], [right, lost], [0, 1], size=(600, 600))
    drawn = np.asarray(draw_rows(photo, data, meta_of(2), 0.5)).astype(int)

    def shown(box, rgb) -> bool:
        x1, y1, x2, y2 = box
        return bool((np.abs(drawn[y1 - 30 : y2 + 30, x1 - 10 : x2 + 10] - rgb).sum(2) == 0).any())

    blue, orange, yellow = (86, 180, 233), (230, 90, 0), (250, 225, 60)
    assert [shown(right, c) for c in (blue, orange, yellow)] == [True, False, False]
    assert [shown(wrong, c) for c in (blue, orange, yellow)] == [False, True, False]
    assert [shown(lost, c) for c in (blue, orange, yellow)] == [False, False, True]
    assert (drawn[270:430, 270:430] == 90).all()  # below the threshold
    half = draw_rows(photo.resize((300, 300)), data, meta_of(2), 0.5)  # a smaller copy: enlarged, boxes in place
    assert half.size == (600, 600)
    assert (np.asarray(half)[120, 50:53] == blue).all(1).any()
