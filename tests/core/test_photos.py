"""What `predict` takes: the same photo from a file, PIL, NumPy and torch gets the same answer; all else is refused."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import visiontl
from visiontl import DataError
from visiontl.engine.model import export
from visiontl.engine.photos import as_image
from visiontl.kit import depths
from visiontl.kit.images import open_image
from visiontl.testing import Case

TASKS = ("classification", "detection", "face", "segmentation", "style")


def pixels(height: int = 40, width: int = 56, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8)


def plain(prediction) -> dict:
    """A prediction as values that can be compared, without the time it took."""
    found = {}
    for key, value in prediction.items():
        if key != "milliseconds":
            found[key] = np.asarray(value).tolist() if isinstance(value, Image.Image | np.ndarray) else value
    return found


@pytest.fixture(scope="module")
def brightness(tmp_path_factory) -> visiontl.Predictor:
    case = Case("brightness", tmp_path_factory.mktemp("brightness"))
    return visiontl.load(visiontl.train(case.resolved("train.epochs=1")))


@pytest.mark.parametrize("task", TASKS)
def test_one_photo_has_one_answer_however_it_is_given(task, tmp_path):
    run = Case(task, tmp_path).run()
    export(tmp_path / "model", run.built, run.built.model.state_dict())
    model = visiontl.load(tmp_path / "model")
    photo = pixels()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    given = {
        "path": str(tmp_path / "photo.png"),
        "PIL": Image.fromarray(photo),
        "array": photo,
        "floats": photo.astype(np.float32) / 255,
        "tensor": torch.from_numpy(photo).permute(2, 0, 1),
    }
    answers = {name: model.predict(one) for name, one in given.items()}
    for name, answer in answers.items():
        assert isinstance(answer, dict)
        assert plain(answer) == plain(answers["path"]), name
    drawn = answers["tensor"].picture()
    assert isinstance(drawn, Image.Image)
    assert drawn.width >= 56


def test_several_photos_are_a_list_a_folder_a_glob_or_a_batch(brightness, tmp_path, capsys):
    photos = [pixels() // (i + 1) for i in range(5)]
    for i, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / f"{i}.png")
    expected = [brightness.predict(photo)["brightness"] for photo in photos]
    assert len(set(expected)) == 5
    (tmp_path / "notes.txt").write_text("x")
    batch = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)
    for given in (
        photos,
        tuple(photos),
        iter(photos),
        [tmp_path / f"{i}.png" for i in range(5)],
        np.array([str(tmp_path / f"{i}.png") for i in range(5)]),
        [str(tmp_path / "0.png"), photos[1], Image.fromarray(photos[2]), batch[3], batch[4] / 255],
        tmp_path,
        str(tmp_path / "*.png"),
        np.stack(photos),
        batch,
        batch.float() / 255,
    ):
        found = brightness.predict(given)
        assert isinstance(found, list)
        assert [one["brightness"] for one in found] == pytest.approx(expected, rel=1e-4)
    found = brightness.predict(tmp_path)
    assert [file.name for file in found.files] == [f"{i}.png" for i in range(5)]
    assert "no picture: notes.txt" in capsys.readouterr().out


def test_a_file_of_a_folder_that_cannot_be_read_is_said_and_passed_over(brightness, tmp_path, capsys):
    for i in range(3):
        Image.fromarray(pixels()).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_text("no picture")
    found = brightness.predict(tmp_path)
    assert [file.name for file in found.files] == ["0.png", "2.png"]
    assert list(found.failed) == [str(tmp_path / "1.png")]
    assert "warning" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"photos\[1\]: .*1\.png: not a picture"):  # named, it is no accident
        brightness.predict([tmp_path / "0.png", tmp_path / "1.png"])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_of_pil_is_read_as_its_file(mode, tmp_path):
    gray = Image.fromarray(pixels(channels=1)[..., 0])
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 200).convert(mode)
    else:
        image = Image.merge("RGB", [gray, gray.rotate(180), gray]).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(gray)
    file = tmp_path / f"photo.{'tif' if mode in ('CMYK', 'YCbCr', 'I', 'F') else 'png'}"
    image.save(file)
    expected = np.asarray(open_image(file))
    assert expected.std() > 1
    np.testing.assert_array_equal(np.asarray(as_image(Image.open(file))), expected)
    if mode != "YCbCr":  # a TIFF of which is read as RGB
        np.testing.assert_array_equal(np.asarray(as_image(image)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_pil_image_as_it_turns_its_file(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels()).save(tmp_path / "turned.png", exif=exif)
    expected = np.asarray(open_image(tmp_path / "turned.png"))
    given = as_image(Image.open(tmp_path / "turned.png"))
    np.testing.assert_array_equal(np.asarray(given), expected)
    assert expected.shape[:2] == ((40, 56) if orientation < 5 else (56, 40))
    np.testing.assert_array_equal(np.asarray(as_image(given)), expected)  # and not twice


def png_of_16_bits(values: np.ndarray) -> bytes:
    """(H, W, 3) uint16 as a PNG of 16 bits a value, written by hand: Pillow writes none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    height, width = values.shape[:2]
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("depth", ["auto", 12, 16, "range", (100.0, 3000.0)])
@pytest.mark.parametrize("highest", [255, 4095, 20000, 65535])
def test_16_bits_in_memory_are_read_as_a_file_of_16_bits(depth, highest, tmp_path):
    values = np.random.default_rng(1).integers(0, highest + 1, (24, 32, 3)).astype(np.uint16)
    values[0, 0] = highest
    (tmp_path / "color.png").write_bytes(png_of_16_bits(values))
    Image.fromarray(values[..., 0]).save(tmp_path / "gray.png")
    with depths.reading(depth):
        for file, array in (("color.png", values), ("gray.png", values[..., 0])):
            expected = np.asarray(open_image(tmp_path / file))
            np.testing.assert_array_equal(np.asarray(as_image(array)), expected)
            np.testing.assert_array_equal(np.asarray(as_image(Image.open(tmp_path / file))), expected)


def test_gray_floats_are_read_by_a_range_where_the_model_was_trained_with_one(tmp_path):
    values = np.linspace(-1000, 3000, 24 * 32, dtype=np.float32).reshape(24, 32)  # as of computed tomography
    Image.fromarray(values).save(tmp_path / "scan.tif")
    for depth in ("range", (-1000.0, 2000.0)):
        with depths.reading(depth):
            np.testing.assert_array_equal(np.asarray(as_image(values)), np.asarray(open_image(tmp_path / "scan.tif")))
    with pytest.raises(DataError, match="-1000 to 3000: 0 to 1 was expected"):
        as_image(values)


def test_transparency_is_put_on_white(tmp_path):
    photo = pixels(channels=4)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    expected = np.asarray(open_image(tmp_path / "photo.png"))
    alpha = photo[..., 3:].astype(float) / 255
    assert np.abs(photo[..., :3] * alpha + 255 * (1 - alpha) - expected).max() <= 1.01
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    for given in (photo, photo / 255, tensor, tensor.double() / 255, Image.fromarray(photo)):
        np.testing.assert_array_equal(np.asarray(as_image(given)), expected)


def test_gray_is_gray_in_every_form():
    gray = pixels(channels=1)[..., 0]
    expected = np.repeat(gray[..., None], 3, axis=2)
    tensor = torch.from_numpy(gray)
    for given in (gray, gray[..., None], gray / 255, tensor, tensor[None], tensor[None].float() / 255):
        np.testing.assert_array_equal(np.asarray(as_image(given)), expected)


def test_a_tensor_that_needs_gradients_or_is_not_contiguous_is_a_photo():
    photo = torch.from_numpy(pixels()).permute(2, 0, 1)
    np.testing.assert_array_equal(np.asarray(as_image((photo / 255).requires_grad_())), pixels())
    np.testing.assert_array_equal(np.asarray(as_image(photo[:, ::2, 1::3])), pixels()[::2, 1::3])
    halves = torch.tensor([0.0, 1.0]).repeat(3, 4, 4)
    assert set(np.unique(np.asarray(as_image(halves.bfloat16())))) == {0, 255}


PHOTO = pixels()
REFUSED = [
    (PHOTO.astype(np.float32), "values up to 255: 0 to 1 was expected; 0 to 255 as uint8: array.astype"),
    (PHOTO / 255.0 - 0.5, "is it normalized already"),
    (np.where(PHOTO > 9, np.nan, 0.5), "NaN"),
    (PHOTO.astype(np.int64), "an array of int64: uint8"),
    (PHOTO > 9, "an array of bool"),
    (PHOTO.transpose(2, 0, 1), "channel-first: array.transpose"),
    (PHOTO[:, :, :2], r"shape \(40, 56, 2\) is no photo"),
    (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\) is no photo"),
    (np.zeros((3, 50, 3), np.uint8), "may be channel-first"),
    (np.zeros((2, 2, 2, 2, 2)), "is no photo"),
    (np.float32(3), "got"),
    (torch.from_numpy(PHOTO), "channel-last: tensor.permute"),
    (torch.zeros(3, 50, 3), "may be channel-last"),
    (torch.zeros(3, 8, 8, dtype=torch.int64), "an array of int64"),
    (torch.full((3, 8, 8), 2.0), "values up to 2: 0 to 1 was expected"),
    (torch.zeros(0, 3, 8, 8), "an empty batch"),
    ([], "no photos: the list is empty"),
    (iter([]), "no photos"),
    (None, "got NoneType"),
    (5, "got int"),
    (b"\xff\xd8", "got bytes"),
    ({"a.jpg": 1}, "got dict"),
    ([PHOTO, None], r"photos\[1\]: a photo is a path, .* got NoneType"),
    ([PHOTO, [PHOTO]], r"photos\[1\]: .* got list"),
    ([PHOTO, PHOTO, PHOTO / 2], r"photos\[2\]: a float array with values up to 127.5"),
    ([PHOTO, PHOTO[None]], r"photos\[1\]: .* is a batch"),
    ([PHOTO, "nowhere.jpg"], r"photos\[1\]: nowhere.jpg: no such file"),
    ("nowhere.jpg", "nowhere.jpg: no such file"),
    ("nowhere/*.jpg", "matches no pictures"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_photo_is_refused_in_words(brightness, given, said):
    with pytest.raises(DataError, match=said) as refused:
        brightness.predict(given)
    assert len(str(refused.value)) < 300


def test_a_damaged_pil_image_is_refused(brightness, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="the PIL image cannot be read"):
        brightness.predict(Image.open(tmp_path / "half.png"))


def test_a_photo_is_left_as_it_was(brightness):
    given = [PHOTO.copy(), torch.from_numpy(PHOTO.copy()).permute(2, 0, 1), Image.fromarray(PHOTO)]
    brightness.predict(given)
    np.testing.assert_array_equal(given[0], PHOTO)
    np.testing.assert_array_equal(given[1].permute(1, 2, 0).numpy(), PHOTO)
    np.testing.assert_array_equal(np.asarray(given[2]), PHOTO)
