"""The pictures of README.md and docs/: small, and made by tools/pictures.py of what the gallery's commands leave."""

from __future__ import annotations

import re
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from tests.core.test_docs import tool
from tests.shared import ROOT

FOLDER = ROOT / "docs/pictures"
LIMIT = 1_500_000  # bytes of all together
CREATURES = ("beetle", "butterfly", "fish", "mushroom", "snail", "turtle")


@pytest.fixture(scope="module")
def pictures():
    return tool("pictures")


def shown(page: str) -> set[str]:
    return set(re.findall(r"pictures/([\w-]+\.\w+)\)", (ROOT / page).read_text(encoding="utf-8")))


def test_pictures_are_small_and_each_is_shown():
    files = sorted(FOLDER.iterdir())
    assert {file.name for file in files} == shown("README.md") | shown("docs/gallery.md")
    assert sum(file.stat().st_size for file in files) <= LIMIT
    for file in files:
        with Image.open(file) as picture:
            assert 300 <= picture.width <= 1400, file.name


def plain(path: Path, size: tuple[int, int] = (60, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(str(path))).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)


@pytest.fixture
def work(tmp_path, pictures):
    """What the gallery's commands would have left."""
    for name in CREATURES:
        plain(tmp_path / f"classified/pictures/{name}_0.jpg")
        plain(tmp_path / f"classified/pictures/{name}_1.jpg")
        plain(tmp_path / f"explained/pictures/{name}_0.jpg", (130, 80))
    for number in range(4):
        for place in ("boxes", "masks", "painted"):
            plain(tmp_path / place / f"pictures/scene_{number}.jpg")
        plain(tmp_path / f"painted/stylized/scene_{number}.png")
        plain(tmp_path / f"runs/samples-style/new/scene_{number}.jpg")
    for words in pictures.commands():
        if words[:2] == ["face", "compare"]:
            for photo in words[3:5]:
                plain(tmp_path / photo)
            said = "similarity 0.8123, threshold 0.4000 (far 0.01)\nverdict: the same person\n"
            pictures.result(words, tmp_path).write_text(said)
    return tmp_path


def test_what_the_commands_left_becomes_the_pictures(work, pictures, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(pictures.shutil, "which", lambda name: None)
    pictures.drawn(work, out)
    pictures.pages(work, out)
    said = capsys.readouterr().out
    left = re.search(r"no Chromium .*: left as they are: (.*)", said)
    assert left, said
    made = {file.name for file in out.iterdir()}
    assert made | set(left[1].split(", ")) == {file.name for file in FOLDER.iterdir()}
    assert made & set(left[1].split(", ")) == set()


def test_a_command_whose_result_is_there_is_not_run_again(pictures, tmp_path, monkeypatch):
    ran = []

    def started(call, **more):
        ran.append(call[3:])
        return CompletedProcess(call, 0, stdout="said")

    monkeypatch.setattr(pictures.subprocess, "run", started)
    pictures.run(tmp_path)
    assert ran == pictures.commands()
    (tmp_path / "classified").mkdir()
    ran.clear()
    pictures.run(tmp_path)
    assert [words for words in pictures.commands() if words not in ran] == [
        words for words in pictures.commands() if "classified" in words or words[:2] == ["face", "compare"]
    ]


def test_pictures_of_several_sizes_stand_in_a_row_at_one_height(pictures):
    wide, tall = Image.new("RGB", (80, 40), "red"), Image.new("RGB", (20, 40), "blue")
    made = pictures.row([wide, tall], 20)
    assert made.size == (40 + pictures.GAP + 10, 20)
    assert [made.getpixel((x, 10)) for x in (20, 44, 52)] == [(255, 0, 0), pictures.PAPER, (0, 0, 255)]
