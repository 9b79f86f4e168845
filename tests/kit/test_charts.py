"""What reports of several tasks are made of."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from visiontl import DataError
from visiontl.kit.charts import (
    chosen_pictures,
    class_balance,
    confused_pairs,
    draw_bars,
    draw_confusion,
    ends,
    short,
    spread,
    worst_bars,
)


def test_few_of_many():
    assert ends(range(4), 4) == [0, 1, 2, 3]
    assert ends(range(9), 4) == [0, 1, 7, 8]
    assert spread(range(9), 3) == [0, 4, 8]
    assert spread([5], 3) == [5]
    assert spread([], 3) == []
    assert short("a" * 22) == "a" * 22
    assert short("a long name of class 1234") == "a long name …lass 1234"  # names of one kind begin alike


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
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "d" * 12 + "…" + "d" * 9]
    assert [text.get_text() for text in axes.texts] == ["0.500", "0.250"]
    assert axes.yaxis_inverted()
    draw_bars(axes, ["cat"], [0.0], "AP")  # an axis from 0 to 0 would be a warning


def test_a_confusion_matrix_says_its_texts_in_letters_that_contrast(axes):
    draw_confusion(axes, np.array([[0.9, 0.1], [0.0, 1.0]]), [["9", "1"], ["", "3"]], ["cat", "dog"])
    said = {text.get_text(): (text.get_position(), text.get_color()) for text in axes.texts}
    assert said == {"9": ((0, 0), "white"), "1": ((1, 0), "black"), "3": ((1, 1), "white")}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_the_most_confused_pairs():
    matrix = np.array([[5, 3, 0], [1, 9, 0], [0, 2, 0]])
    assert confused_pairs(matrix, ["a", "b", "c"]) == [
        ("a", "b", 3, "37.5%"), ("c", "b", 2, "100.0%"), ("b", "a", 1, "10.0%"),
    ]  # fmt: skip
    many = np.ones((200, 200), dtype=int)
    many[150, 7] = 50
    pairs = confused_pairs(many, [str(i) for i in range(200)])
    assert (pairs[0][:3], len(pairs)) == (("150", "7", 50), 15)


def test_the_worst_classes_come_first_and_the_best_are_not_forgotten(axes):
    figure = worst_bars("IoU", [(f"class {i}", i / 200) for i in range(200)], "IoU", 40)
    figure.draw(axes)
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        f"class {i}" for i in (*range(20), *range(180, 200))
    ]
    assert figure.caption == "The 20 worst and the 20 best; 160 between them are in the table."
    assert worst_bars("IoU", [("a", 0.1), ("b", 0.2)], "IoU", 40).caption == ""


def test_balance_of_a_few_classes_is_two_bars_each(axes):
    figure = class_balance(["rare", "often"], [10, 30], [0, 5], "boxes")
    figure.draw(axes)
    assert [bar.get_width() for bar in axes.patches] == [75, 25, 100, 0]  # percent, the most frequent first
    assert [text.get_text() for text in axes.texts] == ["30", "10", "5", "0"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "this split"]
    assert "3.0 times as many as the rarest" in figure.caption
    assert "1 class of training is not in this split: rare" in figure.caption


def test_balance_of_many_classes_is_a_curve_with_its_ends_by_name(axes):
    counts = [1000 - 5 * i for i in range(199)] + [0]
    figure = class_balance([f"c{i}" for i in range(200)], counts, [1] * 200, "images")
    figure.draw(axes)
    training, here = axes.get_lines()
    assert list(training.get_ydata()) == counts
    assert list(here.get_xdata()) == list(range(1, 201))
    assert "Most: c0 (1,000), c1 (995), c2 (990). Fewest: c197 (15), c198 (10), c199 (0)." in figure.caption
    assert "100.0 times" in figure.caption  # of those that are there
    assert figure.size[1] < 5
    axes.figure.canvas.draw()
    assert not [label.get_text() for label in axes.get_yticklabels() if "$" in label.get_text()]
