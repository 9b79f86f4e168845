"""From coarse logits to the photo's pixels, and windows over large images, against plain whole-image code."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional
from visiontl_segmentation import cells, compiled, pixels
from visiontl_segmentation.pixels import decided, largest, resampled
from visiontl_segmentation.views import resized_mask
from visiontl_segmentation.windows import bands, starts, taper

from visiontl import ImageSpec


def whole(logits, extent, shown, size):
    """By grid_sample: each pixel of the photo asks the map at its own place."""
    ys, xs = (
        ((torch.arange(n, dtype=torch.float64) + 0.5) / n * s / e * 2 - 1)
        for n, s, e in zip(size, shown, extent, strict=True)
    )
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)[None]
    found = functional.grid_sample(logits[None].double(), grid, padding_mode="border", align_corners=False)
    return found[0].float()


@pytest.mark.parametrize(
    ("grid", "extent", "shown", "size"),
    [
        ((6, 8), (24, 32), (24, 32), (24, 32)),
        ((6, 8), (24, 32), (21, 30), (63, 90)),
        ((6, 8), (24, 32), (24, 17), (50, 31)),
        ((6, 8), (192, 256), (180, 250), (95, 130)),
        ((24, 32), (24, 32), (23, 31), (23, 31)),
        ((24, 32), (24, 32), (24, 32), (24, 32)),
        ((5, 7), (70, 98), (64, 96), (131, 57)),
        ((1, 1), (32, 32), (5, 3), (11, 2)),
    ],
)
@pytest.mark.parametrize("smooth", [True, False], ids=["regions", "noise"])
def test_resizing_is_bilinear_whatever_the_padding(monkeypatch, smooth, grid, extent, shown, size):
    coarse = 3 * torch.randn(1, 5, 3, 3)
    logits = functional.interpolate(coarse, grid, mode="bilinear")[0] if smooth else torch.randn(5, *grid)
    expected = whole(logits, extent, shown, size)
    assert torch.allclose(resampled(logits, extent, shown, size), expected, atol=1e-4)
    monkeypatch.setattr(pixels, "BAND", 5 * size[1] * 3)  # bands of three rows
    assert torch.allclose(resampled(logits, extent, shown, size), expected, atol=1e-4)
    assert (decided(logits, extent, shown, size) != expected.argmax(0)).float().mean() < 0.001  # ties, to rounding


def test_without_padding_it_is_interpolate():
    logits = torch.randn(3, 12, 16)
    expected = functional.interpolate(logits[None], (45, 61), mode="bilinear", align_corners=False)[0]
    assert torch.allclose(resampled(logits, (48, 64), (48, 64), (45, 61)), expected, atol=1e-4)


def drawn(kind, classes, grid, draw):
    shape = (classes, *grid)
    if kind == "regions":
        return functional.interpolate(torch.randn(1, classes, 3, 4, generator=draw), grid, mode="bicubic")[0]
    if kind == "ties":
        return torch.randint(-1, 2, shape, generator=draw).float()
    if kind == "alike":
        return 1000 + 1e-3 * torch.randn(shape, generator=draw)
    logits = torch.randn(shape, generator=draw)
    if kind == "not finite":
        logits.view(-1)[torch.randint(0, logits.numel(), (3,), generator=draw)] = torch.tensor(
            [float("nan"), float("inf"), float("-inf")]
        )
    return torch.zeros(shape) if kind == "nothing" else logits


@pytest.mark.parametrize("kind", ["regions", "noise", "ties", "alike", "not finite", "nothing"])
def test_what_is_spared_changes_no_pixel(monkeypatch, by, kind):
    """Each pixel is what the largest of all resized logits says, to the last one, in either layout of memory, with
    numba and without."""
    draw, settled = torch.Generator().manual_seed(0), 0
    monkeypatch.setattr(cells, "TOGETHER", 1 << 12)
    for k in range(40):
        classes, grid = (1, 2, 3, 11, 254)[k % 5], ((1, 1), (7, 9), (40, 23))[k % 3]
        extent = tuple(side * 4 for side in grid)
        shown = tuple(int(side * (0.3 + 0.7 * torch.rand(1, generator=draw))) for side in extent) if k % 4 else extent
        size = (shown, (61, 83), (5, 200), (150, 4), (90, 92))[k // 8]
        logits = drawn(kind, classes, grid, draw)
        logits = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1) if k % 2 else logits
        monkeypatch.setattr(cells, "PIXELS", (1 << 20, 1000)[k % 2])
        assert torch.equal(decided(logits, extent, shown, size), largest(resampled(logits, extent, shown, size))), k
        known = cells.points(logits)
        assert (known is None) == (kind == "not finite"), k
        if known is not None and size == (61, 83) and grid == (7, 9):
            rows, columns, _ = pixels.places(logits, extent, shown, size)
            settled += int((cells.decide(known, rows, columns) != compiled.OPEN).sum()) / 61 / 83
    if kind in ("regions", "noise"):
        assert settled > 1.98  # of two maps nearly all is decided without resizing


def test_what_rounding_decides_is_decided_as_resizing_does(by):
    """Of whole numbers classes are level at many pixels but for rounding."""
    draw = torch.Generator().manual_seed(0)
    for k in range(60):
        logits = torch.randint(0, 3, (11, 20, 32), generator=draw).float() / 3
        logits[:, :, k % 16 :] = logits[:, :1, k % 16 : k % 16 + 1]  # most cells are one class's
        size = tuple(torch.randint(100, 260, (2,), generator=draw).tolist())
        expected = largest(resampled(logits, (80, 128), (80, 128), size))
        assert torch.equal(decided(logits, (80, 128), (80, 128), size), expected), k


@pytest.mark.parametrize(("extent", "shown", "size"), [((4, 10), (2, 10), (2, 10)), ((17, 24), (11, 20), (23, 4))])
def test_a_photo_that_is_nearly_as_large_as_the_grid_is_resized_too(extent, shown, size):
    logits = torch.randn(5, *((2, 5) if extent == (4, 10) else (3, 4)))
    assert torch.allclose(resampled(logits, extent, shown, size), whole(logits, extent, shown, size), atol=1e-4)


def test_largest_is_argmax():
    scores = torch.randn(7, 20, 30)
    scores[3] = scores[5]  # of equals the first
    assert torch.equal(largest(scores).long(), scores.argmax(0))


def test_masks_are_resized_by_the_nearest_pixel():
    mask = np.random.default_rng(0).integers(0, 200, (31, 47)).astype(np.uint8)
    for size in ((31, 47), (10, 20), (62, 94), (100, 7), (1, 1)):
        expected = functional.interpolate(torch.tensor(mask)[None, None].float(), size, mode="nearest-exact")[0, 0]
        assert np.array_equal(resized_mask(mask, size), expected.numpy().astype(np.uint8)), size


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(10, 16, 0.25), (16, 16, 0.5), (17, 16, 0.0), (100, 16, 0.25)]
)
def test_windows_cover_everything(length, window, overlap):
    found = starts(length, window, overlap)
    assert found[0] == 0
    assert max(found) == max(0, length - window)
    assert all(b - a <= max(1, round(window * (1 - overlap))) for a, b in itertools.pairwise(found))


class Echo:
    """Stands in for a model: the logits of a pixel are a function of its color alone, so windows change nothing."""

    def __init__(self, step: int = 1):
        self.most = 0

    def at_pixels(self, images):
        self.most = max(self.most, images.shape[2] * images.shape[3])
        return images.float()[:, :3] / 40


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("size", [(100, 130), (32, 32), (20, 90), (33, 31)])
def test_blending_changes_nothing_where_windows_agree(size, overlap):
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    model = Echo()
    found = list(bands(model, image, ImageSpec(size=(32, 32)), overlap))
    tops = [top for top, _ in found]
    assert tops == sorted(tops)
    together = torch.cat([band for _, band in found], 1)
    assert torch.allclose(together, (image.float() / 40).softmax(0), atol=1e-5)
    assert model.most <= 32 * 32
    assert max(band.shape[1] for _, band in found) <= 32


def test_the_taper_is_one_in_the_middle_and_never_zero():
    weights = taper(20, 0.25)
    assert weights[10] == 1
    assert weights.min() > 0
    assert torch.equal(weights, weights.flip(0))
