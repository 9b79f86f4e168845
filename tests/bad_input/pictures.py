"""Pictures that cameras, scanners, browsers and accidents leave: each is a function that writes one file."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

SIZE = (48, 40)  # width, height


@dataclass(frozen=True)
class Picture:
    """file: its name. write: path -> None. words: what the error says of it; None: it can be read."""

    file: str
    write: Callable[[Path], Any]
    words: str | None = None


def scene(size: tuple[int, int] = SIZE) -> Image.Image:
    """A smooth picture that no orientation maps to itself."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    return Image.fromarray((255 * np.stack([x, y, x * y**2], -1)).round().astype(np.uint8))


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or scene()).save(buffer, kind, **options)
    return buffer.getvalue()


def raw(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def part(kind: str, share: float, **options: Any) -> Callable[[Path], Any]:
    """The first `share` of a file, as a broken download leaves it."""

    def write(path: Path) -> None:
        whole = encoded(kind, **options)
        path.write_bytes(whole[: round(len(whole) * share)])

    return write


def save(kind: str, make: Callable[[], Image.Image] = scene, **options: Any) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(encoded(kind, make(), **options))


def noise(kind: str = "PNG") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *more: bytes, depth: int = 8, color: int = 2, rows: bytes | None = None) -> bytes:
    """A PNG by hand: for headers that no library would write."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = rows if rows is not None else b"\0" * (height * (1 + width * 3))
    content = chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def with_text(characters: int) -> bytes:
    text = b"Comment\0\0" + zlib.compress(b"x" * characters)
    return png(8, 8, chunk(b"zTXt", text))


def flipped(kind: str, place: float) -> Callable[[Path], Any]:
    """One byte changed, at a share of the file's length."""

    def write(path: Path) -> None:
        content = bytearray(encoded(kind, noise()))
        content[int(len(content) * place)] ^= 0xFF
        path.write_bytes(bytes(content))

    return write


def sixteen_bits() -> Image.Image:
    return Image.fromarray((np.asarray(scene().convert("L")).astype(np.uint16)) * 257)


def real_numbers(scale: float = 1 / 255, bad: float | None = None) -> Image.Image:
    values = np.asarray(scene().convert("L")).astype(np.float32) * np.float32(scale)
    if bad is not None:
        values[3, 3] = bad
    return Image.fromarray(values)


def palette(transparency: Any) -> Callable[[Path], Any]:
    return lambda path: scene().quantize(16).save(path, "PNG", transparency=transparency)


def frames(kind: str, **options: Any) -> Callable[[Path], Any]:
    more = [scene().rotate(180), scene().rotate(90)]
    return lambda path: scene().save(path, kind, save_all=True, append_images=more, **options)


def oriented(orientation: int, kind: str = "PNG", image: Image.Image | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(kind, image, exif=exif)


UNDO: dict[int, list[Image.Transpose]] = {  # how a camera held that way would have stored the scene
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


def held(orientation: int) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        stored = scene()
        for step in UNDO[orientation]:
            stored = stored.transpose(step)
        path.write_bytes(oriented(orientation, "PNG", stored))

    return write


def rgb_with_a_clear_color(path: Path) -> None:
    scene().save(path, "PNG", transparency=(0, 0, 0))


def link(target: str) -> Callable[[Path], Any]:
    return lambda path: path.symlink_to(target)


def link_to_a_picture(path: Path) -> None:
    target = path.with_name(".hidden-target.png")
    target.write_bytes(encoded("PNG"))
    path.symlink_to(target.name)


def plug(path: Path) -> None:
    """A socket's name in the file system; its path may be 100 characters at most, so it is made from within."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def phone(path: Path) -> None:
    """Two JPEGs in one file, as phones with several lenses write them."""
    scene().save(path, "MPO", save_all=True, append_images=[scene().rotate(180)])


def tiff_without_pixels(path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    buffer = io.BytesIO()
    tags[256], tags[257] = 48, 40
    buffer.write(b"II*\0\x08\0\0\0")
    tags.save(buffer)
    path.write_bytes(buffer.getvalue())


def bomb_gif() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + encoded("GIF")[13:]


def bomb_bmp() -> bytes:
    content = bytearray(encoded("BMP"))
    content[18:26] = struct.pack("<ii", 60_000, 60_000)
    return bytes(content)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 40\n%%EndComments\n(ran) print\nshowpage\n%%EOF\n"
HTML = b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"
WAS_TEXT = PngImagePlugin.PngInfo()
WAS_TEXT.add_text("Comment", "<script>alert(1)</script>" * 20)
CUT = "damaged picture"
NONE = "not a picture that Pillow can read"
LARGE = "pixels; shrink it first"
SPECIAL = "is no regular file"

READABLE = [
    Picture("plain.jpg", save("JPEG")),
    Picture("progressive.jpg", save("JPEG", progressive=True)),
    Picture("cmyk.jpg", save("JPEG", lambda: scene().convert("CMYK"))),
    Picture("gray.jpg", save("JPEG", lambda: scene().convert("L"))),
    Picture("gray.png", save("PNG", lambda: scene().convert("L"))),
    Picture("one-bit.png", save("PNG", lambda: scene().convert("1"))),
    Picture("one-bit.tif", save("TIFF", lambda: scene().convert("1"), compression="group4")),
    Picture("sixteen-bit.png", save("PNG", sixteen_bits)),
    Picture("sixteen-bit.tif", save("TIFF", sixteen_bits)),
    Picture("sixteen-bit.pgm", raw(b"P5 8 8 65535\n" + bytes(range(128)))),
    Picture("sixteen-bit-rgb.png", raw(png(8, 8, depth=16, rows=b"\0" * (8 * 49)))),
    Picture("thirty-two-bit.tif", save("TIFF", lambda: Image.fromarray(np.asarray(sixteen_bits()).astype(np.int32)))),
    Picture("float.tif", save("TIFF", real_numbers)),
    Picture("float-large.tif", save("TIFF", lambda: real_numbers(1e30))),
    Picture("float-negative.tif", save("TIFF", lambda: real_numbers(-1.0))),
    Picture("lab.tif", save("TIFF", lambda: Image.new("LAB", SIZE, (120, 130, 140)))),
    Picture("ycbcr.tif", save("TIFF", lambda: scene().convert("YCbCr"))),
    Picture("gray-alpha.png", save("PNG", lambda: scene().convert("LA"))),
    Picture("rgba.png", save("PNG", lambda: scene().convert("RGBA"))),
    Picture("palette.png", save("PNG", lambda: scene().quantize(16))),
    Picture("palette-one-clear-color.png", palette(3)),
    Picture("palette-with-alpha.png", palette(bytes(range(0, 256, 16)))),
    Picture("rgb-with-a-clear-color.png", rgb_with_a_clear_color),
    Picture("palette-clear.gif", lambda path: scene().quantize(16).save(path, "GIF", transparency=0)),
    Picture("animated.gif", frames("GIF", duration=50)),
    Picture("animated.png", frames("PNG")),
    Picture("animated.webp", frames("WEBP")),
    Picture("pages.tif", frames("TIFF")),
    Picture("phone.jpg", phone),
    Picture("lossy.webp", save("WEBP")),
    Picture("lossless-alpha.webp", save("WEBP", lambda: scene().convert("RGBA"), lossless=True)),
    Picture("windows.bmp", save("BMP")),
    Picture("jpeg-inside.tif", save("TIFF", compression="jpeg")),
    Picture("one-pixel.png", save("PNG", lambda: scene((1, 1)))),
    Picture("one-column.png", save("PNG", lambda: scene((1, 300)))),
    Picture("one-row.png", save("PNG", lambda: scene((300, 1)))),
    Picture("strip.png", raw(png(200_000, 1))),
    Picture("tower.png", raw(png(1, 200_000))),
    Picture("png-inside.jpg", save("PNG")),
    Picture("jpeg-inside.png", save("JPEG")),
    Picture("gif-inside.bmp", save("GIF")),
    Picture("SHOUTING.JPG", save("JPEG")),
    Picture("two.dots.and space.jpg", save("JPEG")),
    Picture("broken-profile.jpg", save("JPEG", icc_profile=b"no profile at all" * 9)),
    Picture("broken-profile.png", raw(png(8, 8, chunk(b"iCCP", b"x\0\0not compressed")))),
    Picture("broken-exif.jpg", save("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7frubbish")),
    Picture("empty-exif.jpg", save("JPEG", exif=b"Exif\0\0")),
    Picture("orientation-0.png", raw(oriented(0))),
    Picture("orientation-9.png", raw(oriented(9))),
    Picture("orientation-65535.jpg", raw(oriented(65535, "JPEG"))),
    Picture("text-inside.png", save("PNG", pnginfo=WAS_TEXT)),
    Picture("rubbish-after-the-end.jpg", raw(encoded("JPEG") + b"\0rubbish" * 500)),
    Picture("link.png", link_to_a_picture),
    *(Picture(f"held-{orientation}.png", held(orientation)) for orientation in UNDO),
]

UNREADABLE = [
    Picture("empty.jpg", raw(b""), "the file is empty"),
    Picture("one-byte.jpg", raw(b"\xff"), NONE),
    Picture("zeros.png", raw(b"\0" * 4096), NONE),
    Picture("text.jpg", raw(b"just some words\n"), "it is a text file"),
    Picture("page.jpg", raw(HTML), "it is an HTML page"),
    Picture("page-with-a-mark.jpg", raw(b"\xef\xbb\xbf" + HTML), "it is an HTML page"),
    Picture("page-late.jpg", raw(b"\n\n   <html>\n"), "it is an HTML page"),
    Picture("json.jpg", raw(b'{"error": "quota exceeded"}'), "it is a text file"),
    Picture("document.jpg", raw(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), "it is a PDF document"),
    Picture("drawing.png", raw(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "it is an SVG drawing"),
    Picture("archive.jpg", raw(b"PK\x03\x04" + b"\0" * 60), "it is a ZIP archive"),
    Picture("program.png", raw(b"\x7fELF" + bytes(range(200))), NONE),
    Picture("postscript.jpg", raw(POSTSCRIPT), "it is a PostScript document"),
    Picture("git-lfs-pointer.jpg", raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "text file"),
    Picture("cut-at-2-bytes.jpg", raw(encoded("JPEG")[:2]), NONE),
    Picture("cut-in-the-header.jpg", part("JPEG", 0.2), ""),
    Picture("cut-in-half.jpg", part("JPEG", 0.75), CUT),
    Picture("cut-in-half-progressive.jpg", part("JPEG", 0.75, progressive=True), CUT),
    Picture("end-marker-missing.jpg", raw(encoded("JPEG")[:-2]), CUT),
    Picture("cut-signature.png", raw(encoded("PNG")[:8]), NONE),
    Picture("cut-header.png", raw(encoded("PNG")[:20]), CUT),
    Picture("cut-in-half.png", part("PNG", 0.5), CUT),
    Picture("cut-in-half.gif", part("GIF", 0.5), CUT),
    Picture("cut-in-half.tif", part("TIFF", 0.5), ""),
    Picture("cut-in-half.webp", part("WEBP", 0.5), ""),
    Picture("cut-in-half.bmp", part("BMP", 0.5), CUT),
    Picture("cut-in-half.pgm", raw(b"P5 8 8 255\n" + b"x" * 20), CUT),
    Picture("changed-byte.png", flipped("PNG", 0.5), CUT),
    Picture("no-pixels.tif", tiff_without_pixels, ""),
    Picture("no-size.png", raw(png(0, 0)), ""),
    Picture("not-finite.tif", save("TIFF", lambda: real_numbers(bad=float("nan"))), "not finite"),
    Picture("infinite.tif", save("TIFF", lambda: real_numbers(bad=float("inf"))), "not finite"),
    Picture("bomb.png", raw(png(20_000, 20_000, rows=b"")), LARGE),
    Picture("smaller-bomb.png", raw(png(10_000, 10_000, rows=b"")), LARGE),
    Picture("bomb.gif", raw(bomb_gif()), LARGE),
    Picture("bomb.bmp", raw(bomb_bmp()), LARGE),
    Picture("bomb-of-text.png", raw(with_text(50_000_000)), CUT),
    Picture("bomb-of-length.png", raw(b"\x89PNG\r\n\x1a\n\x7f\xff\xff\xffIHDR" + b"\0" * 40), ""),
    Picture("link-to-nothing.jpg", link("absent-target.jpg"), "no such file"),
    Picture("link-to-itself.jpg", link("link-to-itself.jpg"), ""),
    Picture("link-to-a-device.jpg", link("/dev/zero"), SPECIAL),
    Picture("pipe.jpg", lambda path: os.mkfifo(path), SPECIAL),
    Picture("plug.jpg", plug, SPECIAL),
]


def write_all(pictures: list[Picture], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        picture.write(folder / picture.file)
