"""Pictures with boxes: what they show, in which colors."""

from __future__ import annotations

import numpy as np
from PIL import Image
from visiontl_detection.drawing import beside, draw, draw_rows, draw_truth

from tests.detection.test_scores import meta_of, row
from visiontl.kit.drawing import class_color

META = {"classes": ["cat", "dog"]}


def one(label="cat", score=0.9, box=(100, 100, 300, 260)) -> dict:
    return {"label": label, "score": score, "box": list(box)}


def test_boxes_have_the_color_of_their_class_and_the_photo_stays():
    photo = Image.new("RGB", (640, 480), (90, 90, 90))
    before = photo.tobytes()
    for label, place in (("cat", 0), ("dog", 1)):
        drawn = draw(photo, {"objects": [one(label)]}, META)
        assert drawn.size == photo.size
        assert drawn.getpixel((200, 101)) == class_color(place)
    assert draw(photo, {"objects": []}, META).tobytes() == photo.tobytes() == before


def test_boxes_are_enlarged_along_with_small_pictures():
    drawn = draw(Image.new("RGB", (32, 64)), {"objects": [one(box=(8, 16, 24, 48))]}, META)
    assert drawn.size == (320, 640)
    assert drawn.getpixel((160, 160)) == class_color(0)
    for size in ((1, 1), (1, 3000)):
        rows = row([(0, 0, *size)], [0.9], [0], [(0, 0, *size)], [1], size=size[::-1])
        assert max(draw_rows(Image.new("RGB", size), rows, meta_of(2), 0.5).size) <= 4096


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


def test_truth_stands_beside_what_was_found():
    photo = Image.new("RGB", (600, 600), (90, 90, 90))
    data = row([(300, 300, 500, 500)], [0.9], [0], [(50, 50, 250, 250), (300, 60, 400, 160)], [0, 1], size=(600, 600))
    truth = draw_truth(photo, data, meta_of(2))
    assert [truth.getpixel(place) for place in ((150, 51), (350, 61))] == [class_color(0), class_color(1)]
    assert (np.asarray(truth)[290:510, 290:510] == 90).all()  # nothing of what was found
    both = np.asarray(beside(photo, data, meta_of(2), 0.5))
    assert both.shape[1] == 2 * 600 + 6
    below = both[-600:]
    assert (below[:, :600] == np.asarray(truth)).all()
    assert (below[:, 606:] == np.asarray(draw_rows(photo, data, meta_of(2), 0.5))).all()
