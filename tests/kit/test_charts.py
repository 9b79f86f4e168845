"""What reports of several tasks are made of."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from visiontl import DataError
from visiontl.kit.charts import chosen_pictures, draw_bars, draw_confusion, ends, short, spread


def test_few_of_many():
    assert ends(range(4), 4) == [0, 1, 2, 3]
    assert ends(range(9), 4) == [0, 1, 7, 8]
    assert spread(range(9), 3) == [0, 4, 8]
    assert spread([5], 3) == [5]
    assert spread([], 3) == []
    assert short("a" * 22) == "a" * 22
    assert short("a" * 23) == "a" * 21 + "…"


def test_an_image_that_cannot_be_read_any_more_is_left_out():
    def picture(number: int) -> tuple[str, Image.Image]:
        if number % 2:
            raise DataError("gone")
        return f"image {number}", Image.new("RGB", (number + 1, 1))

    [made] = chosen_pictures("Title", range(4), picture, "caption")
    assert (made.title, [text for text, _ in made.items]) == ("Title", ["image 0", "image 2"])
    assert made.caption == "caption 2 more images cannot be read any more."  # nothing is left out in silence
    assert chosen_pictures("Title", [1, 3], picture) == []


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def test_bars_have_their_values_and_the_first_is_on_top(axes):
    draw_bars(axes, ["cat", "d" * 30], [0.5, 0.25], "AP")
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.25]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "d" * 21 + "…"]
    assert [text.get_text() for text in axes.texts] == ["0.500", "0.250"]
    assert axes.yaxis_inverted()
    draw_bars(axes, ["cat"], [0.0], "AP")  # an axis from 0 to 0 would be a warning


def test_a_confusion_matrix_says_its_texts_in_letters_that_contrast(axes):
    draw_confusion(axes, np.array([[0.9, 0.1], [0.0, 1.0]]), [["9", "1"], ["", "3"]], ["cat", "dog"])
    said = {text.get_text(): (text.get_position(), text.get_color()) for text in axes.texts}
    assert said == {"9": ((0, 0), "white"), "1": ((1, 0), "black"), "3": ((1, 1), "white")}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
