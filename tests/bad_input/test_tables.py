"""Tables and lists: each trains, or is refused with its line."""

from __future__ import annotations

import os

import pytest

from tests.bad_input.conftest import CONFIG
from tests.bad_input.outcome import check_refused, command
from tests.bad_input.sources import photo, read, sound
from tests.bad_input.tables import LISTS, TABLES


@pytest.mark.parametrize("table", TABLES, ids=lambda one: one.name)
def test_tables(capsys, place, table):
    sound(place / "photos")
    photo(place / "secret.png")
    (place / "photos/out.png").symlink_to(place / "secret.png")
    os.mkfifo(place / "photos/pipe.png")
    content = table.content if isinstance(table.content, bytes) else table.content.encode()
    (place / "photos/table.csv").write_bytes(content)
    (place / "config.yaml").write_text(CONFIG.format(data="photos/table.csv"))
    check(capsys, place, table.words)


@pytest.mark.parametrize("lists", LISTS, ids=lambda one: one.name)
def test_lists(capsys, place, lists):
    sound(place / "photos")
    (place / "lists").mkdir()
    (place / "lists/val.txt").write_text("val/a/0.png\n")
    if lists.content is not None:
        content = lists.content if isinstance(lists.content, bytes) else lists.content.encode()
        (place / "lists/train.txt").write_bytes(content)
    (place / "config.yaml").write_text(CONFIG.format(data="{folder: photos, lists: lists}"))
    check(capsys, place, lists.words)


def check(capsys, place, words):
    if words is None:
        assert "train: " in read(place / "config.yaml")
    else:
        check_refused(command(capsys, place, "train", "config.yaml"), *words)
