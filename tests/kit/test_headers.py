"""Sizes of upright pictures without decoding them."""

from __future__ import annotations

import pytest
from PIL import Image

from visiontl.kit.headers import image_size, image_sizes, possible_sizes


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
@pytest.mark.parametrize("orientation", [None, 3, 6])
def test_sizes_are_those_of_the_upright_picture(tmp_path, suffix, orientation):
    path = tmp_path / f"0.{suffix}"
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (8, 5)).save(path, **({"exif": exif} if suffix != "bmp" else {}))
    expected = (8, 5) if orientation == 6 and suffix != "bmp" else (5, 8)
    assert image_size(path) == expected
    assert expected in possible_sizes(path)


def test_what_cannot_be_read_has_no_size(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    assert image_sizes(str(tmp_path), ["a.png", "b.png", "none.png"]) == [None, (4, 4), None]
    assert possible_sizes(tmp_path / "a.png") == set()
