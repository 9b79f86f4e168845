"""What is drawn for people: where, in which colors, and that nothing odd breaks it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from visiontl.kit.drawing import (
    LARGEST,
    Shape,
    contrast,
    enlarged,
    font,
    panels,
    put_boxes,
    put_lines,
    sheet,
    shortened,
    tinted,
    with_legend,
)

RED = (232, 70, 46)
NAMES = ["Größe", "кошка", "γάτα", "猫" * 30, "a\nb\tc\x00", "", "x" * 50_000, "\u202e\ud800"]


def gray(width: int = 640, height: int = 480) -> Image.Image:
    return Image.new("RGB", (width, height), (90, 90, 90))


def boxed(*boxes: tuple[float, float, float, float], text: str = "cat  0.90") -> Image.Image:
    return put_boxes(gray(), [Shape(box, RED, text) for box in boxes])


def changed(picture: Image.Image, plain: Image.Image) -> np.ndarray:
    return (np.asarray(picture) != np.asarray(plain)).any(2)  # (H, W)


def filled(picture: Image.Image) -> int:
    return int((np.asarray(picture) == RED).all(2).sum())


def test_line_and_tag_are_outside_and_the_object_stays_free():
    drawn = boxed((100, 100, 300, 260))
    touched = changed(drawn, gray())
    assert not touched[105:255, 105:295].any()  # the inside
    assert touched[100, 100:300].all()
    assert touched[259, 100:300].all()
    assert touched[100:260, 100].all()
    assert touched[100:260, 299].all()
    rows, columns = np.nonzero(touched)
    assert (rows.min() >= 75, rows.max() <= 261) == (True, True)  # nothing but the tag's height above
    assert (columns.min() >= 98, columns.max() <= 301) == (True, True)
    assert touched[80:98].any()  # the tag
    assert drawn.getpixel((200, 101)) == RED


def test_a_line_of_dashes_leaves_gaps():
    drawn = put_boxes(gray(), [Shape((100, 100, 300, 260), RED, dashed=True)])
    share = changed(drawn, gray())[100, 110:290].mean()
    assert 0.4 < share < 0.8
    assert not changed(drawn, gray())[110:250, 110:290].any()


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 640, 480), (0, 0, 5, 5), (635, 475, 640, 480), (0, 100, 640, 101), (10, 10, 10, 10), (-20, -20, 30, 30),
        (600, -5, 700, 500), (0.2, 470.5, 0.4, 479.9),
    ],
)  # fmt: skip
def test_boxes_at_the_border_have_a_readable_tag(box):
    drawn = boxed(box)
    assert filled(drawn) > 500  # a whole tag lies inside the picture
    assert changed(drawn, gray()).sum() < 0.2 * drawn.width * drawn.height


def test_tags_of_neighbors_do_not_overlap():
    box = (200, 200, 340, 340)
    lines = 4 * 138 * 2  # a line of two pixels around 140
    assert filled(boxed(box, box, box, box)) - lines > 0.95 * 4 * (filled(boxed(box)) - lines)


def test_lines_and_letters_grow_with_the_picture():
    small, large = (
        put_boxes(gray(side, side), [Shape((side / 4,) * 2 + (side * 3 / 4,) * 2, RED)]) for side in (250, 2500)
    )
    widths = [int(changed(one, gray(*one.size))[one.height // 2, : one.width // 2].sum()) for one in (small, large)]
    assert widths == [4, 12]  # lines of 2 and 10 pixels between two of contrast


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16", "1"])
def test_small_pictures_are_enlarged_in_any_mode_and_the_given_one_stays(mode):
    photo = Image.new(mode, (32, 64))
    before = photo.tobytes()
    picture, factor = enlarged(photo)
    assert (picture.mode, picture.size, factor) == ("RGB", (320, 640), 10)
    put_lines(picture, ["words"])
    assert photo.tobytes() == before
    assert enlarged(gray())[1] == 1
    assert enlarged(gray())[0].size == (640, 480)
    assert enlarged(photo, 60)[1] == 2


@pytest.mark.parametrize("size", [(1, 1), (100_000, 1), (1, 3000), (7, 4000)])
def test_long_pictures_do_not_fill_the_memory(size):
    picture, factor = enlarged(Image.new("RGB", size))
    assert max(picture.size) <= max(LARGEST, *size)
    assert picture.width * picture.height < 3_000_000
    shape = Shape((0, 0, size[0] * factor, size[1] * factor), RED, "cat")
    put_boxes(picture, [shape, Shape(shape.box, RED, "cat", dashed=True)])
    put_lines(picture, ["cat"])
    with_legend(picture, [(RED, "cat")])


@pytest.mark.parametrize("name", NAMES)
def test_any_name(name):
    plain = gray(400, 400)
    assert changed(put_boxes(gray(400, 400), [Shape((50, 50, 200, 200), RED, f"{name}  0.5")]), plain).any()
    assert changed(put_lines(gray(400, 400), [name]), plain).any()
    assert with_legend(plain, [(RED, name)]).size == (400, 400 + 24 + 15)  # one line, and letters of 15 pixels
    assert panels([(name, plain), (name, plain)]).width == 806


def test_long_names_give_way_and_the_number_stays():
    text = shortened("a very long name of a class that nobody can read  0.87", 14, 120)
    assert text.startswith("a very")
    assert text.endswith("…  0.87")
    assert font(text, 14).getlength(text) <= 120
    assert shortened("x" * 50_000 + "  0.87", 14, 120).endswith("…  0.87")
    assert shortened("short  0.87", 14, 120) == "short  0.87"


def test_letters_contrast_with_what_they_stand_on():
    assert [contrast(one) for one in ((250, 225, 60), (0, 255, 0), (70, 0, 255), (10, 10, 10))] == [
        (0, 0, 0), (0, 0, 0), (255, 255, 255), (255, 255, 255),
    ]  # fmt: skip
    for color, letters in (((250, 225, 60), 0), ((70, 0, 255), 255)):
        drawn = np.asarray(put_boxes(gray(), [Shape((100, 100, 300, 260), color, "cat")]))
        assert (drawn[78:98, 100:140] == letters).all(2).any()


def test_colors_are_laid_over_the_pixels_that_are_meant():
    where = np.zeros((30, 40), dtype=bool)
    where[10:20, 5:15] = True
    made = np.asarray(tinted(gray(40, 30), np.full((30, 40, 3), (250, 0, 0), dtype=np.uint8), where)).astype(int)
    assert (made[~where] == 90).all()
    assert (np.abs(made[where] - (178, 40, 40)) <= 1).all()  # 0.55 of the color, 0.45 of the photo


def test_a_legend_lists_colors_below_the_picture_and_counts_what_has_no_room():
    entries = [(RED, "first"), ((0, 255, 0), "second"), ((70, 0, 255), "third")]
    made = np.asarray(with_legend(gray(400, 300), entries))
    assert (made[:300] == 90).all()
    found = {}
    for color, _ in entries:
        rows, columns = np.nonzero((made == color).all(2))
        assert rows.min() > 300
        found[color] = (columns.mean() // 200, (rows.mean() - 300) // 24)
    assert list(found.values()) == [(0, 0), (0, 1), (1, 0)]  # column by column
    many = [(RED, f"class {i}") for i in range(50)]
    listed = (np.asarray(with_legend(gray(400, 300), many)) == RED).all(2)
    assert (
        int((np.diff(listed.any(1).astype(int)) == 1).sum()) == 12
    )  # two columns of twelve; the last says how many more
    assert with_legend(gray(400, 300), []).size == (400, 300)


@pytest.mark.parametrize("width", [320, 966, 1920])
def test_a_legend_is_read_where_the_picture_is_shown_320_pixels_wide(width):
    """Letters of the legend are about 12 pixels there: lines are 1.6 times that apart."""
    one, two = (with_legend(gray(width, 300), [(RED, "a")] * n).height for n in (1, 3))
    assert (two - one) / width * 320 / 1.6 >= 11.5


def test_pictures_stand_beside_each_other_below_their_words():
    made = np.asarray(panels([("truth", gray(280, 200)), ("answer", gray(140, 100)), ("third", gray(280, 50))]))
    line = 30  # 1.5 times a 14th of 280
    assert made.shape == (200 + 50 + 2 * line + 6, 2 * 280 + 6, 3)
    assert (made[line : line + 200, :280] == 90).all()
    assert (made[line : line + 200, 286:] == 90).all()  # brought to the same width
    assert (made[2 * line + 206 :, :280] == 90).all()
    for left in (0, 286):
        assert (made[:line, left : left + 100] == 0).all(2).any()  # the words


def test_lines_stand_in_a_dark_box_at_the_top_left():
    made = np.asarray(put_lines(Image.new("RGB", (300, 300), "white"), ["one", "two"]).convert("L")).astype(int)
    one = np.asarray(put_lines(Image.new("RGB", (300, 300), "white"), ["one"]).convert("L")).astype(int)
    assert (made[:, 2] < 100).sum() - (one[:, 2] < 100).sum() == 27  # 1.3 times letters of 300 / 14 pixels
    assert (made[100:] == 255).all()
    assert (made[:, 150:] == 255).all()
    assert (made[:40, :60] > 200).sum() > 20  # letters


def test_a_sheet_by_hand():
    a, b, c = (Image.new("RGB", size, color) for size, color in (((4, 6), "red"), ((10, 2), "lime"), ((6, 4), "blue")))
    made = np.asarray(sheet([[a, b], [None, c]], gap=2))
    assert made.shape == (6 + 2 + 4, 4 + 2 + 10, 3)
    expected = np.full(made.shape, 255)
    expected[:6, :4] = (255, 0, 0)
    expected[2:4, 6:16] = (0, 255, 0)
    expected[8:12, 8:14] = (0, 0, 255)
    assert (made == expected).all()
    assert sheet([[a]], cell=(20, 10)).size == (20, 10)
    assert sheet([[a, None, None], [b]], cell=(5, 5), gap=1).size == (10 + 5 + 5 + 2, 6 + 5 + 1)
