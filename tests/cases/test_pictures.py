"""Pictures as other people's cameras, scanners and phones leave them, against values computed by hand."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import visiontl
from visiontl.doctor.diagnose import diagnose
from visiontl.engine.depth import ReadAs, warn_of_depth
from visiontl.engine.model import resolve_run
from visiontl.kit import depths
from visiontl.kit.folders import find_images
from visiontl.kit.headers import image_size, possible_sizes
from visiontl.kit.images import how_stored, open_image
from visiontl.report.console import Console
from visiontl.testing import Case

RANDOM = np.random.default_rng(0)
TWELVE = RANDOM.integers(0, 4096, (6, 8))  # as a camera of 12 bits gives
TWELVE[0, 0] = 3000  # beyond 11 bits, whatever was drawn


def gray(dtype: type, kind: str) -> Callable[[np.ndarray, Path], None]:
    return lambda values, path: Image.fromarray(values.astype(dtype)).save(path, kind)


def pgm(values: np.ndarray, path: Path) -> None:
    path.write_bytes(b"P5 8 6 65535\n" + values.astype(">u2").tobytes())


def big_endian(values: np.ndarray, path: Path) -> None:
    tiff(values[..., None], path, ">")


def png(values: np.ndarray, path: Path) -> None:
    """(H, W, C) of 16 bits: gray with alpha, RGB or RGBA, which Pillow cannot write."""
    height, width, channels = values.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def tiff(values: np.ndarray, path: Path, order: str = "<", deflate: bool = False) -> None:
    """(H, W, C) of 16 bits, in either byte order."""
    height, width, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    pixels = zlib.compress(pixels) if deflate else pixels
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    entries = 10 + (channels == 4)
    place = 8 + 2 + entries * 12 + 4
    tags = [(256, 3, width), (257, 3, height), (258, 0, place), (259, 3, 8 if deflate else 1)]
    tags += [(262, 3, 2 if channels > 1 else 1), (273, 4, place + len(bits)), (277, 3, channels), (278, 3, height)]
    tags += [(279, 4, len(pixels)), (284, 3, 1), *([(338, 3, 2)] if channels == 4 else [])]
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, entries)
    for tag, kind, value in tags:
        if kind == 0:  # the bits of each channel: in their place where they fit
            inside = value if channels > 2 else 16 << (16 if order == ">" else 0)
            out += struct.pack(f"{order}HHII", tag, 3, channels, inside)
        else:
            out += struct.pack(f"{order}HHI", tag, kind, 1)
            out += struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
    path.write_bytes(out + struct.pack(f"{order}I", 0) + bits + pixels)


def by_hand(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """uint8 as the rule states it."""
    return np.rint(np.clip((values - black) / (white - black), 0, 1) * 255).astype(np.uint8)


def shown(path: Path, depth: depths.Depth = "auto") -> np.ndarray:
    with depths.reading(depth):
        return np.asarray(open_image(path)).astype(int)


GRAYS = {
    "16.png": gray(np.uint16, "PNG"),
    "16.tif": gray(np.uint16, "TIFF"),
    "big-endian.tif": big_endian,
    "32.tif": gray(np.int32, "TIFF"),
    "float.tif": gray(np.float32, "TIFF"),
    "16.pgm": pgm,
}


@pytest.mark.parametrize("name", GRAYS)
@pytest.mark.parametrize(("top", "bits"), [(255, 8), (900, 10), (4095, 12), (9000, 14), (65535, 16)])
def test_gray_of_many_bits_is_read_by_the_fewest_that_hold_it(tmp_path, name, top, bits):
    values = RANDOM.integers(0, top + 1, (6, 8))
    values[0, 0] = top
    GRAYS[name](values, tmp_path / name)
    expected = by_hand(values, 0, 2**bits - 1)
    np.testing.assert_allclose(shown(tmp_path / name)[..., 0], expected, atol=1)
    assert len(np.unique(shown(tmp_path / name))) == len(np.unique(expected))


@pytest.mark.parametrize("name", GRAYS)
@pytest.mark.parametrize(("depth", "black", "white"), [(12, 0, 4095), (16, 0, 65535), ((1000, 3000), 1000, 3000)])
def test_a_depth_that_is_given_holds_for_every_file(tmp_path, name, depth, black, white):
    GRAYS[name](TWELVE, tmp_path / name)
    np.testing.assert_allclose(shown(tmp_path / name, depth)[..., 0], by_hand(TWELVE, black, white), atol=1)
    own = by_hand(TWELVE, TWELVE.min(), TWELVE.max())
    np.testing.assert_allclose(shown(tmp_path / name, "range")[..., 0], own, atol=1)


@pytest.mark.parametrize("values", [TWELVE - 1024, -TWELVE, TWELVE * 100, (TWELVE - 2000) / 1000])
def test_values_below_0_or_beyond_16_bits_keep_their_contrast(tmp_path, values):
    kind = np.float32 if values.dtype.kind == "f" else np.int32
    gray(kind, "TIFF")(values, tmp_path / "ct.tif")
    np.testing.assert_allclose(shown(tmp_path / "ct.tif")[..., 0], by_hand(values, values.min(), values.max()), atol=1)
    window = by_hand(values, -200, 1000)
    np.testing.assert_allclose(shown(tmp_path / "ct.tif", (-200, 1000))[..., 0], window, atol=1)


def test_floats_from_0_to_1_stay_so_and_what_is_not_finite_is_refused(tmp_path):
    values = TWELVE / 8190
    gray(np.float32, "TIFF")(values, tmp_path / "a.tif")
    np.testing.assert_allclose(shown(tmp_path / "a.tif")[..., 0], by_hand(values, 0, 1), atol=1)
    gray(np.float32, "TIFF")(np.where(values > 0.1, np.nan, values), tmp_path / "nan.tif")
    with pytest.raises(visiontl.DataError, match="not finite"):
        open_image(tmp_path / "nan.tif")


COLORS = {
    "rgb.png": png,
    "rgb.tif": tiff,
    "big-endian.tif": lambda values, path: tiff(values, path, ">"),
    "deflate.tif": lambda values, path: tiff(values, path, deflate=True),
}


@pytest.mark.parametrize("name", COLORS)
@pytest.mark.parametrize("channels", [3, 4])
def test_color_of_16_bits_is_read_whole(tmp_path, name, channels):
    """Pillow keeps the upper 8 of 16 bits: of 12 that are used, 16 levels."""
    values = RANDOM.integers(0, 4096, (6, 8, channels))
    values[0, 0] = 4095
    if channels == 4:
        values[..., 3] = 65535  # alpha
    COLORS[name](values, tmp_path / name)
    np.testing.assert_allclose(shown(tmp_path / name), by_hand(values[..., :3], 0, 4095), atol=1)
    window = by_hand(values[..., :3], 100, 700)
    np.testing.assert_allclose(shown(tmp_path / name, (100, 700)), window, atol=1)
    np.testing.assert_array_equal(shown(tmp_path / name, 16), values[..., :3] >> 8)
    values[1, 1] = 65535
    COLORS[name](values, tmp_path / name)
    np.testing.assert_array_equal(shown(tmp_path / name), values[..., :3] >> 8)


@pytest.mark.parametrize("top", [4000, 40000])
def test_a_transparent_color_of_16_bits_is_one_however_bright_the_picture_is(tmp_path, top):
    values = np.full((4, 4, 3), top)
    values[0, 0] = 0
    png(values, tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    named = b"tRNS" + struct.pack(">3H", 0, 0, 0)
    chunk = struct.pack(">I", 6) + named + struct.pack(">I", zlib.crc32(named))
    place = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:place] + chunk + content[place:])
    image = open_image(tmp_path / "a.png")
    assert np.asarray(image)[0, 0].tolist() == [255, 255, 255]
    assert np.asarray(image.info["alpha"])[0].tolist() == [0, 255, 255, 255]


def test_a_model_from_before_the_key_reads_as_it_learned(tmp_path, deep):
    report = visiontl.train(Case("classification", tmp_path, {"data": str(deep)}).resolved("train.epochs=1"))
    model = Path(report["run"]) / "model"
    assert visiontl.load(model).built.resolved.config.data.depth == "auto"
    text = (model / "config.yaml").read_text()
    older = "".join(line for line in text.splitlines(keepends=True) if not line.strip().startswith("depth:"))
    assert older != text
    (model / "config.yaml").write_text(older)
    assert resolve_run(model).config.data.depth == 16
    assert resolve_run(model, ["data.depth=range"]).config.data.depth == "range"


def test_gray_with_alpha_of_16_bits_is_read_whole(tmp_path):
    values = np.stack([TWELVE, np.full_like(TWELVE, 65535)], axis=-1)
    png(values, tmp_path / "a.png")
    np.testing.assert_allclose(shown(tmp_path / "a.png")[..., 1], by_hand(TWELVE, 0, 4095), atol=1)


@pytest.mark.parametrize("depth", ["auto", "range", 12, (0.0, 50.0)])
def test_pictures_of_8_bits_are_read_as_they_are(tmp_path, depth):
    values = RANDOM.integers(0, 99, (6, 8, 3), dtype=np.uint8)
    for name, stored in (("a.png", values), ("g.png", values[..., 0]), ("a.bmp", values)):
        Image.fromarray(stored).save(tmp_path / name)
        expected = stored if stored.ndim == 3 else np.repeat(stored[..., None], 3, axis=-1)
        np.testing.assert_array_equal(shown(tmp_path / name, depth), expected)


def test_little_used_and_unequal_ranges_are_told():
    whole, other = depths.Levels(0, 4000, 0, 4095, own=False), depths.Levels(0, 900, 0, 1023, own=False)
    assert depths.doubts([whole, whole]) == []
    [said] = depths.doubts([whole, other])
    assert "equal values become unequal grays; data.depth=12 reads all alike" in said
    [said] = depths.doubts([depths.Levels(0, 200, 0, 65535, own=False)] * 3)
    assert said.startswith("3 pictures of more than 8 bits use less than 1 % of the range")
    assert "data.depth=8 would show it" in said
    own = [depths.Levels(-1000, 300, -1000, 300, own=True), depths.Levels(-900, 1400, -900, 1400, own=True)]
    assert "data.depth=[-1000,1400] reads all alike" in depths.doubts(own)[0]
    assert depths.doubts(own, "range") == []  # as was asked for
    assert depths.doubts([depths.Levels(7, 7, 7, 7, own=True)]) == []  # one color, which is told elsewhere


@pytest.fixture
def deep(tmp_path) -> Path:
    """Two classes of pictures of 16 bits that use 200 of 65,536 values."""
    for label, mean in (("a", 60), ("b", 140)):
        (tmp_path / "deep" / label).mkdir(parents=True)
        for i in range(8):
            values = RANDOM.integers(mean - 50, mean + 50, (24, 24)).astype(np.uint16)
            Image.fromarray(values).save(tmp_path / "deep" / label / f"{i}.png")
    return tmp_path / "deep"


def test_a_run_reads_by_its_depth_wherever_it_reads(tmp_path, deep):
    """Trained with [0, 255], it predicts of a picture of 16 bits what it does of the same values in 8 bits."""
    run = Case("classification", tmp_path, {"data": str(deep)}).run("data.depth=[0,255]", "train.epochs=1")
    split = run.data.train
    pixels = np.asarray(split.image(0))
    with Image.open(deep / split.names[0]) as stored:
        np.testing.assert_array_equal(pixels[..., 0], np.asarray(stored))
    other = pickle.loads(pickle.dumps(split))  # as a loader process gets it
    np.testing.assert_array_equal(np.asarray(other.image(0)), pixels)
    assert (split[0, 0]["image"] == other[0, 0]["image"]).all()
    report = visiontl.train(Case("classification", tmp_path, {"data": str(deep)}).resolved("data.depth=[0,255]"))
    predictor = visiontl.load(report["run"])
    Image.fromarray(pixels).save(tmp_path / "eight.png")
    answers = predictor.predict([deep / split.names[0], tmp_path / "eight.png"])
    assert answers[0]["probabilities"] == answers[1]["probabilities"]


def test_doctor_and_training_warn_of_pictures_that_use_next_to_nothing(tmp_path, deep, capsys):
    resolved = Case("classification", tmp_path, {"data": str(deep)}).resolved("data.depth=16")
    found = diagnose(resolved, Console(main=False))
    assert [one.level for one in found.findings if "less than 1 %" in one.what] == ["warning"]
    split = Case("classification", tmp_path, {"data": str(deep)}).run("data.depth=16").data.train
    warn_of_depth(split, 16, Console())
    assert "use less than 1 % of the range" in " ".join(capsys.readouterr().out.split())
    warn_of_depth(ReadAs(split.split, 8), 8, Console())
    assert "less than 1 %" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------- suffixes


def test_photos_are_known_by_what_can_be_decoded(tmp_path):
    """Each format is written by Pillow and found by every suffix that Pillow registers for it."""
    image = Image.fromarray(RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    named = {
        "JPEG": ("a.jpg", "b.jpeg", "c.jfif", "d.jpe", "E.JFIF"), "JPEG2000": ("f.jp2", "g.j2k"), "AVIF": ("h.avif",),
        "WEBP": ("i.webp",), "TIFF": ("j.tif", "k.TIFF"), "MPO": ("l.mpo",), "PPM": ("m.ppm", "n.pnm"),
        "PNG": ("o.png", "p.apng"), "BMP": ("q.bmp",), "GIF": ("r.gif",),
    }  # fmt: skip
    for kind, names in named.items():
        for name in names:
            image.save(tmp_path / name, kind)
    (tmp_path / "z.heic").write_bytes(b"\0\0\0\x18ftypheic")
    for name in ("s.txt", "t.csv", "u.txt", "v.eps", "w.pdf", "x.ico"):
        (tmp_path / name).write_bytes(b"x")
    found, [note] = find_images([tmp_path])
    assert list(found.values()) == sorted(name for names in named.values() for name in names)
    assert all(open_image(path).size == (8, 6) == image_size(path)[::-1] for path in found)
    assert "7 names passed over" in note
    assert "HEIC, which needs pip install pillow-heif: z.heic" in note
    assert "no picture: s.txt, t.csv, u.txt, v.eps, w.pdf and 1 more (2 .txt, 1 .csv, 1 .eps, 1 .pdf, 1 .ico)" in note
    with pytest.raises(visiontl.DataError, match="it is HEIC, as phones write it: pip install pillow-heif"):
        open_image(tmp_path / "z.heic")


# ----------------------------------------------------------------------------------------------------- EXIF


def with_orientation(value: Any, kind: int = 3) -> bytes:
    """A JPEG whose EXIF states that orientation: as TIFF's type 3, a short, or as another one."""
    packed = struct.pack("<HI", kind, 1) + (struct.pack("<HH", value, 0) if kind == 3 else bytes(value))
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01" + packed + b"\0\0\0\0"
    buffer = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).convert("RGB").save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [with_orientation(0), with_orientation(9), with_orientation(65535), with_orientation(b"six\0", 2)]
)
def test_what_is_no_orientation_turns_nothing_and_is_not_said_to(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert open_image(path).size == (8, 6)
    assert image_size(path) == (6, 8)
    assert not how_stored(str(path)).turned


def test_a_turned_picture_is_turned_once(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_orientation(6))
    image = open_image(path)
    assert image.size == (6, 8)
    assert how_stored(str(path)).turned
    image.save(tmp_path / "b.png", exif=image.getexif())
    assert open_image(tmp_path / "b.png").size == (6, 8)


KINDS = {}
for _kind, _options in {
    "GIF": {"save_all": True}, "PNG": {}, "JPEG": {}, "WEBP": {}, "TIFF": {}, "BMP": {}, "PPM": {}, "JPEG2000": {},
}.items():  # fmt: skip
    _buffer = io.BytesIO()
    _image = Image.fromarray(RANDOM.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    _more = {"append_images": [_image.rotate(180)]} if _kind == "GIF" else {}
    _image.save(_buffer, _kind, **_options, **_more)
    KINDS[_kind] = _buffer.getvalue()


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4),
    keep=st.one_of(st.just(1.0), st.floats(0.3, 1.0)),
)
def test_a_damaged_file_is_read_or_refused_in_words_and_all_agree(tmp_path_factory, kind, changes, keep):
    content = bytearray(KINDS[kind])
    for place, value in changes:
        content[int(place * len(content))] = value
    path = tmp_path_factory.getbasetemp() / f"fuzz.{kind.lower()}"
    path.write_bytes(content[: int(keep * len(content)) + 1])
    image, refused = opened(path)
    if image is None:
        assert path.name in refused
        return
    how_stored(str(path))  # what training can read, doctor can
    assert (image.height, image.width) in possible_sizes(path)


def opened(path: Path) -> tuple[Image.Image | None, str]:
    try:
        return open_image(path), ""
    except visiontl.DataError as error:
        return None, str(error)
