"""Opening pictures of every kind, and the evaluation preprocessing against torchvision's own."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

import visiontl
from visiontl.kit.images import fit_image, open_image, to_rgb, to_tensor


@pytest.fixture
def photo():
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_all_eight_orientations_give_the_same_picture(photo, tmp_path):
    undo = {  # how a camera held that way would have stored the picture
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    for orientation, steps in undo.items():
        stored = photo
        for step in steps:
            stored = stored.transpose(step)
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(tmp_path / "photo.png", exif=exif)
        assert np.array_equal(np.asarray(open_image(tmp_path / "photo.png")), np.asarray(photo)), orientation


def test_a_damaged_tiff_is_named_and_nothing_else_is_said_of_it(tmp_path, capfd):
    """libtiff and Pillow's log speak of `tempfile.tif` on stderr, or of no file at all."""
    kept, dice, said = io.BytesIO(), np.random.default_rng(0), []
    Image.new("RGB", (32, 24)).save(kept, "TIFF", compression="tiff_lzw")
    for _ in range(60):
        content = bytearray(kept.getvalue())
        for place in dice.integers(8, len(content), 4):
            content[place] = dice.integers(256)
        (tmp_path / "photo.tif").write_bytes(content)
        try:
            open_image(tmp_path / "photo.tif")
        except visiontl.DataError as error:
            said.append("photo.tif: " in str(error))
    assert len(said) > 20
    assert all(said)
    assert capfd.readouterr().err == ""
    assert logging.getLogger("PIL").handlers  # else Python prints what nobody handles


def test_modes_become_rgb():
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    assert np.asarray(to_rgb(Image.fromarray(ramp)))[-1, -1].tolist() == [255, 255, 255]
    assert np.asarray(to_rgb(Image.fromarray((ramp // 257).astype(np.int32))))[-1, -1].tolist() == [255] * 3
    assert np.asarray(to_rgb(Image.fromarray(ramp.astype(np.float32) / 65535)))[-1, -1].tolist() == [255] * 3
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("1", (4, 4), 1)).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("CMYK", (4, 4), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("L", (4, 4), 77)).getpixel((0, 0)) == (77, 77, 77)


def test_what_is_no_picture_is_named(photo, tmp_path):
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG")
    cases = {
        "empty.jpg": (b"", "empty"),
        "page.jpg": (b"<!DOCTYPE html><html></html>", "HTML page"),
        "text.jpg": (b"just some words in a file", "text file"),
        "cut.jpg": (buffer.getvalue()[:300], "damaged picture"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(visiontl.DataError, match=words) as caught:
            open_image(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(visiontl.DataError, match="no such file"):
        open_image(tmp_path / "absent.jpg")
    with pytest.raises(visiontl.DataError, match="is a folder"):
        open_image(tmp_path)


def test_a_decompression_bomb_is_refused(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(visiontl.DataError, match="pixels; shrink it first"):
        open_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (256, 256), (97, 133)])
def test_preprocessing_is_torchvisions(shape):
    random = np.random.default_rng(1)
    image = Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8))
    spec = visiontl.ImageSpec(size=(224, 224), crop=0.875)
    theirs = functional.center_crop(functional.resize(image, 256, antialias=True), [224, 224])
    ours, theirs = to_tensor(fit_image(image, spec)), functional.pil_to_tensor(theirs)
    assert ours.shape == (3, 224, 224)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_the_interpolation_of_the_weights_is_used(name):
    random = np.random.default_rng(1)
    image = Image.fromarray(random.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    fitted = fit_image(image, visiontl.ImageSpec(size=(45, 60), crop=1.0, interpolation=name))
    by_hand = image.resize((60, 45), getattr(Image.Resampling, name.upper()))
    assert np.array_equal(np.asarray(fitted), np.asarray(by_hand))


def test_the_value_range_of_the_weights_is_used():
    """Weights of the Caffe kind read 0..255 less a mean: 200 - 104, and a deviation of 1."""
    from visiontl.backbones import tiny

    spec = visiontl.ImageSpec(size=(32, 32), mean=(104.0,) * 3, std=(1.0,) * 3, value_range=(0.0, 255.0))
    backbone = tiny.build(spec=spec)
    assert float(backbone.normalize(torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)).mean()) == pytest.approx(
        96, rel=1e-4
    )
    assert float(backbone.normalize(torch.full((1, 3, 32, 32), 200 / 255)).mean()) == pytest.approx(96, rel=1e-4)
