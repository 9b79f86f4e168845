"""Memory: a picture takes a few bytes for each of its pixels, and a file of weights no more than it holds."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from visiontl_segmentation.drawing import draw
from visiontl_segmentation.listing import MaskFile, MaskReader, Pair
from visiontl_segmentation.looks import counted, look
from visiontl_segmentation.masks import color_codes, meaning_of_colors, meaning_of_values
from visiontl_segmentation.remembered import look_at
from visiontl_segmentation.written import class_indices, mask_image
from visiontl_style import tiles

from visiontl.backbones.files import read_file
from visiontl.backbones.importing import import_weights
from visiontl.engine import predict, scan
from visiontl.errors import DataError, WeightsError
from visiontl.kit import strips
from visiontl.kit.images import fit_tensor, how_stored, open_image, to_tensor
from visiontl.spec import ImageSpec

WIDTH, HEIGHT = 3000, 2500  # 7.5 megapixels
PLAIN = {
    "L": 5,
    "RGB": 4,
    "P": 5,
    "1": 5,
    "CMYK": 8,
    "I;16": 8,
    "RGBA": 9,
    "LA": 9,
}  # bytes a pixel, when opened


def picture(mode: str, size: tuple[int, int]) -> Image.Image:
    shades = np.add.outer(np.arange(size[1]) * 7, np.arange(size[0]) * 3)
    gray = Image.fromarray((shades % 251).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((shades % 60_000).astype(np.uint16))
    if mode in ("RGBA", "LA"):
        made = gray.convert(mode)
        made.putalpha(gray.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        return made
    return gray.convert(mode)


def resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def added(function) -> float:
    """Bytes of resident memory at the peak of a call, above what there was; in a forked process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            before = resident("VmRSS")
            function()
            os.write(writing, struct.pack("d", resident("VmHWM") - before))
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as told:
        return struct.unpack("d", told.read())[0]


measured = pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's peak of memory")


@measured
@pytest.mark.parametrize("mode", PLAIN)
def test_a_picture_is_opened_in_few_bytes_a_pixel(tmp_path, mode):
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture(mode, (WIDTH, HEIGHT)).save(file, **({} if mode == "CMYK" else {"compress_level": 1}))
    assert added(lambda: open_image(file)) < (PLAIN[mode] + 1) * WIDTH * HEIGHT + 25e6


class Files:
    """A split of one file, as a task that shows its middle makes it."""

    def __init__(self, file: Path):
        self.names = [str(file)]

    def __len__(self):
        return 1

    def image(self, id):
        return open_image(self.names[id])

    def __getitem__(self, key):
        return {"image": fit_tensor(self.image(key[0]), ImageSpec())}


@measured
def test_doctor_holds_a_picture_once(tmp_path):
    file = tmp_path / "a.bmp"
    picture("RGB", (WIDTH, HEIGHT)).save(file)
    scan.read(Files(file), 0, True)  # type: ignore[arg-type] (imports and tables that are made once)
    assert added(lambda: scan.read(Files(file), 0, True)) < 9 * WIDTH * HEIGHT + 25e6  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", PLAIN)
def test_strips_of_a_picture_are_the_picture(tmp_path, monkeypatch, mode):
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture(mode, (90, 70)).save(file)
    whole = open_image(file)
    monkeypatch.setattr(strips, "PIXELS", 300)
    parted = open_image(file)
    assert parted.tobytes() == whole.tobytes()
    assert parted.info.keys() == whole.info.keys()
    assert np.array_equal(strips.values(whole), np.array(whole))
    assert torch.equal(to_tensor(whole), torch.from_numpy(np.array(whole)).permute(2, 0, 1))
    if mode in ("RGBA", "LA"):
        given = Image.open(file).convert("RGBA")
        on_white = Image.alpha_composite(Image.new("RGBA", given.size, "white"), given).convert("RGB")
        assert parted.tobytes() == on_white.tobytes()
        assert parted.info["alpha"].tobytes() == given.getchannel("A").tobytes()


def test_a_given_picture_is_never_the_one_that_is_worked_on():
    from visiontl.engine.photos import as_image

    given = picture("RGB", (20, 10))
    assert as_image(given) is not given


def test_a_batch_ends_with_the_photo_that_fills_it(monkeypatch):
    monkeypatch.setattr(predict, "PIXELS", 1000)
    photos = [Image.new("L", (100, rows)) for rows in (4, 4, 4, 20, 1, 1, 1, 1, 1)]
    left, found = iter(photos), []
    while batch := list(predict.together(left, 4)):
        found.append(len(batch))
    assert found == [3, 1, 4, 1]


@pytest.mark.parametrize("size", [(100, 120), (301, 50), (50, 101), (602, 303), (301, 101), (40, 1)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_painting_is_resized_in_parts_with_the_same_bits(monkeypatch, size, mode):
    monkeypatch.setattr(tiles, "FLOATS", 2000)
    photo = torch.randint(0, 256, (4, 301, 101), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(photo[None].float() / 255, size=size, mode=mode, antialias=True)[0]
    assert torch.equal(tiles.resized(photo, size, mode), (expected.clamp(0, 1) * 255).round().to(torch.uint8))
    most = 60
    small = [max(16, round(side * most / (301 * 101) ** 0.5)) for side in (301, 101)]
    expected = functional.interpolate(photo[None, :3].float() / 255, size=small, mode="bilinear", antialias=True)
    assert torch.equal(tiles.reduced(photo[:3], most), expected)


@pytest.mark.parametrize("form", ["palette", "color"])
def test_a_mask_is_written_and_drawn_in_few_bytes_a_pixel(form, monkeypatch):
    names, colors = ["a", "b", "c"], [[0, 0, 0], [9, 200, 3], [250, 3, 90]]
    values = colors if form == "color" else [0, 7, 200]
    how = {"form": form, "values": values, "palette": []}
    meta = {"classes": names, "colors": colors, "background": 0, "masks": how, "written": how}
    mask = np.random.default_rng(0).integers(0, 3, (1500, 2000), dtype=np.uint8)
    photo = Image.new("RGB", (2000, 1500), (90, 20, 30))
    tracemalloc.start()
    made = mask_image(mask, meta)
    found = class_indices(made, meta)
    shown = draw(photo, {"mask": made}, meta)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found, mask)
    assert shown.getpixel((0, 0)) != (90, 20, 30) or mask[0, 0] == 0
    assert peak < 16 * mask.size


@pytest.mark.parametrize("color", [False, True])
def test_what_a_large_mask_holds_is_counted_in_few_bytes_a_pixel(color):
    plain = np.random.default_rng(0).integers(0, 3, (60, 80), dtype=np.uint8).repeat(25, 0).repeat(25, 1)
    raw = np.stack([plain, plain * 7, plain * 9], -1) if color else plain  # (1500, 2000)
    tracemalloc.start()
    codes = color_codes(raw) if color else raw
    found = counted([codes[:700], codes[700:701], codes[701:]])
    meaning = (
        meaning_of_colors({(k, 7 * k, 9 * k): k for k in range(3)})
        if color
        else meaning_of_values("index", {0: 0, 1: 1, 2: 2})
    )
    indices = meaning.apply(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(indices, plain)
    assert found.values.tolist() == [(k << 16) + (7 * k << 8) + 9 * k if color else k for k in range(3)]
    assert found.pixels.tolist() == np.bincount(plain.ravel()).tolist()
    padded = np.pad(plain, 1, mode="edge")
    neighbors = (padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1])
    alone = np.logical_and.reduce([one == plain for one in neighbors])
    assert found.solid.tolist() == np.bincount(plain[alone]).tolist()
    assert peak < 16 * plain.size + 25e6


def test_a_large_mask_of_another_size_than_its_photo_is_refused_by_its_header(tmp_path):
    """Its pixels are not there: who read them would say that it is damaged."""
    Image.new("RGB", (30, 20)).save(tmp_path / "photo.png")
    Image.new("RGB", (3000, 2000)).save(tmp_path / "mask.png")
    content = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "mask.png").write_bytes(content[: content.index(b"IDAT") + 20])
    seen = look_at(str(tmp_path), {"mask.png": "photo.png"})["mask.png"]
    assert (seen.size, seen.problem.partition("mask.png: ")[2]) == (
        None,
        "the mask has 3000 x 2000 pixels, its photo photo.png 30 x 20",
    )
    reader = MaskReader(str(tmp_path), meaning_of_colors({(0, 0, 0): 0}))
    with pytest.raises(DataError, match="the mask has 3000 x 2000 pixels"):
        reader(Pair("photo.png", MaskFile("mask.png")))
    Image.new("RGB", (3000, 2000)).save(tmp_path / "photo.png")
    with pytest.raises(DataError, match="damaged mask"):
        reader(Pair("photo.png", MaskFile("mask.png")))


def test_a_large_mask_of_colors_is_looked_at_in_strips(tmp_path):
    plain = np.random.default_rng(0).integers(0, 3, (30, 40), dtype=np.uint8).repeat(100, 0).repeat(100, 1)  # 12 M
    Image.fromarray(np.stack([plain, plain * 7, plain * 9], -1)).save(tmp_path / "mask.png", compress_level=1)
    tracemalloc.start()
    seen = look(tmp_path / "mask.png")
    peak = tracemalloc.get_traced_memory()[1]  # of NumPy's arrays; Pillow's own picture has 4 bytes a pixel beside them
    tracemalloc.stop()
    assert seen.form == "color"
    assert seen.found.pixels.tolist() == np.bincount(plain.ravel()).tolist()
    assert peak < 5 * plain.size


# ------------------------------------------------------------------------------------------------ files of weights


def saved(path: Path, state, **options) -> Path:
    torch.save(state, path, **options)
    return path


def zipped_anew(path: Path, how: int) -> Path:
    """The same entries, compressed another way."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def with_pickle(path: Path, change) -> Path:
    """The pickle of an archive changed, all else as it was."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return path


class Bytes:
    def __reduce__(self):
        return bytearray, (5_000_000_000,)


class Values:
    def __reduce__(self):
        return torch.Tensor, (100_000, 100_000)


def compressed(path: Path) -> Path:
    return zipped_anew(saved(path, {"w": torch.zeros(50_000_000, dtype=torch.uint8)}), zipfile.ZIP_DEFLATED)


def too_long(path: Path) -> Path:
    """A storage that says to have more values than lie there."""
    saved(path, {"w": torch.zeros(1000)})
    return with_pickle(path, lambda content: content.replace(b"M\xe8\x03", b"J\x00\xca\x9a\x3b"[:5]))


def old_too_long(path: Path) -> Path:
    saved(path, {"w": torch.zeros(1000)}, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"M\xe8\x03", b"J\x00\xca\x9a\x3b"))
    return path


def repeated(path: Path) -> Path:
    return saved(path, {"head.weight": torch.ones(1).expand(1000, 1_000_000)})


def repeated_of_old(path: Path) -> Path:
    return saved(path, {"w": torch.ones(1).expand(1000, 1_000_000)}, _use_new_zipfile_serialization=False)


def bytes_of_a_number(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"w": torch.zeros(1).tolist(), "x": Bytes()}, protocol=2))
    return path


def values_of_numbers(path: Path) -> Path:
    saved(path, {"w": torch.zeros(3)})
    return with_pickle(path, lambda content: pickle.dumps(collections.OrderedDict(w=Values()), protocol=2))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (compressed, "would become 50,0.*compressed .*data/0"),
        (too_long, "storage '0' claims 4,000,000,000 bytes, and 4,000 are there"),
        (old_too_long, "storage '.*' claims 4,000,000,000 bytes"),
        (repeated, r"shape \(1000, 1000000\) repeats the 4 bytes"),
        (repeated_of_old, r"shape \(1000, 1000000\) repeats the 4 bytes"),
        (bytes_of_a_number, "bytearray of 5,000,000,000 values out of nothing"),
        (values_of_numbers, "Tensor of 100,000 x 100,000 values out of nothing"),
    ],
)
def test_weights_that_claim_more_than_they_hold_are_refused_before_anything_is_made(tmp_path, make, words):
    file = make(tmp_path / "w.pth")
    before = resident("VmHWM") if os.access("/proc/self/clear_refs", os.W_OK) else 0
    with pytest.raises(WeightsError, match=f"w.pth: claims more than it holds.*{words}"):
        read_file(file)
    assert not before or resident("VmHWM") < before + 150e6


def test_weights_as_torch_writes_them_are_read(tmp_path):
    half = torch.arange(6.0).half()
    state = {
        "a": torch.zeros(3, 4), "tied": half, "too": half[2:], "turned": torch.rand(3, 5).t(), "0": torch.zeros(0, 9),
        "few": torch.ones(1).expand(100), "z": torch.zeros(2, dtype=torch.complex64), "n": {"b": torch.ones(2).bool()},
    }  # fmt: skip
    for old in (False, True):
        found = read_file(saved(tmp_path / f"{old}.pth", state, _use_new_zipfile_serialization=not old))
        assert all(torch.equal(found[key], state[key]) for key in state if key != "n")
    packed = zipped_anew(saved(tmp_path / "p.pth", {"w": torch.rand(50_000)}), zipfile.ZIP_STORED)
    assert len(read_file(packed)["w"]) == 50_000


def test_archives_that_are_no_weights_are_told_apart(tmp_path):
    import tarfile

    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("model/weights.h5", b"x" * 400)
    with pytest.raises(WeightsError, match=r"a zip archive that holds model/weights.h5, and no data.pkl"):
        read_file(tmp_path / "a.pth")
    with tarfile.open(tmp_path / "b.pth.tar", "w") as archive:
        archive.add(tmp_path / "a.pth", "a.pth")
    with pytest.raises(WeightsError, match="a tar archive"):
        read_file(tmp_path / "b.pth.tar")


def test_importing_refuses_an_archive_that_inflates(tmp_path):
    big = io.BytesIO()
    np.savez_compressed(big, **{f"w{i}": np.zeros((40_000_000,), np.uint8) for i in range(8)})
    (tmp_path / "w.npz").write_bytes(big.getvalue())
    with pytest.raises(WeightsError, match="would become 320,0"):
        import_weights(tmp_path / "w.npz", tmp_path / "w.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@measured
@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
def test_text_of_a_png_that_inflates_is_not_kept(tmp_path, kind):
    """200 MB of text in a picture of 200 kB."""
    packed = zlib.compress(bytes(200_000_000), 1)
    head = {"zTXt": b"k\0\0", "iTXt": b"k\0\1\0\0\0", "iCCP": b"k\0\0"}[kind]
    plain = io.BytesIO()
    picture("RGB", (64, 64)).save(plain, "PNG")
    content = plain.getvalue()
    (tmp_path / "a.png").write_bytes(content[:33] + chunk(kind.encode(), head + packed) + content[33:])

    def opened():
        with contextlib.suppress(DataError):  # refused is right too
            open_image(tmp_path / "a.png")

    assert added(opened) < 30e6


@measured
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif", ".png"])
def test_of_many_frames_one_is_held(tmp_path, suffix):
    frames = [Image.new("RGB", (800, 800), (number * 4, 90, 200 - number)) for number in range(60)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])

    def opened():
        assert open_image(tmp_path / f"a{suffix}").size == (800, 800)
        assert how_stored(str(tmp_path / f"a{suffix}")).animated

    assert added(opened) < 25e6  # all of them are 115 MB


@measured
@pytest.mark.parametrize("tag", [0x0111, 0x0117, 0x8773, 0x8769])
def test_a_tiff_that_claims_gigabytes_of_a_tag_is_read_or_refused_in_its_own_size(tmp_path, tag):
    """0x0111 and 0x0117 say where strips lie, 0x8773 is a color profile, 0x8769 EXIF; each of a billion values."""
    entries = {
        0x0100: (3, 1, 64), 0x0101: (3, 1, 64), 0x0102: (3, 1, 8), 0x0103: (3, 1, 1), 0x0106: (3, 1, 1),
        0x0111: (4, 1, 400), 0x0116: (3, 1, 64), 0x0117: (4, 1, 4096), 0x8773: (7, 4, 0), 0x8769: (4, 1, 8),
    }  # fmt: skip
    entries[tag] = (4, 1_000_000_000, 200)
    directory = b"".join(struct.pack("<HHLL", number, *entries[number]) for number in sorted(entries))
    content = b"II*\0" + struct.pack("<LH", 8, len(entries)) + directory + bytes(4)
    (tmp_path / "a.tif").write_bytes(content.ljust(400, b"\0") + bytes(4096))

    def opened():
        with contextlib.suppress(DataError):
            open_image(tmp_path / "a.tif")

    assert added(opened) < 40e6
