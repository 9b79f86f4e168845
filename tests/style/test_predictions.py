"""Painting whole photos: any size, no seams, strength, colors, mixing, and names that there are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from visiontl_style.colors import with_colors_of
from visiontl_style.config import PredictOptions
from visiontl_style.example import dots
from visiontl_style.networks import ConditionalInstanceNorm, statistics_of
from visiontl_style.predictions import draw, predict
from visiontl_style.tiles import reduced, spans

from tests.style.made import META, generator, network, photo
from visiontl import ConfigError, DataError
from visiontl.kit.images import to_tensor


@pytest.fixture(scope="module")
def models():
    """With random scales and shifts: as they begin, all styles are one."""
    made = {way: network(way=way, width=4) for way in ("feed_forward", "adain")}
    random = generator(7)
    for module in made["feed_forward"].modules():
        if isinstance(module, ConditionalInstanceNorm):
            module.weight.data.add_(torch.rand(module.weight.shape, generator=random) - 0.5)
            module.bias.data.add_(torch.rand(module.bias.shape, generator=random) - 0.5)
    return made


@pytest.fixture(params=["feed_forward", "adain"])
def model(request, models):
    return models[request.param]


@torch.no_grad()
def painted(model, image: Image.Image, **options) -> dict:
    batches = [{"photo": [to_tensor(image)]}]
    return next(predict(model.cfg, model, batches, META, PredictOptions.model_validate(options)))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


@pytest.mark.parametrize("size", [(1, 1), (200, 3), (37, 61), (64, 48)])
def test_the_result_has_the_photos_size(model, size):
    found = painted(model, photo(*size))
    assert found["stylized"].size == size
    assert found["size"] == [size[1], size[0]]
    assert found["style"] == {"waves": 1.0}


def test_a_size_that_was_asked_for_is_of_the_longer_side(model):
    assert painted(model, photo(60, 40), size=90)["stylized"].size == (90, 60)


def test_tiles_equal_the_whole_picture_with_the_same_statistics(models):
    """Not only no visible seam: no difference beyond rounding, wherever the tiles end."""
    model, image = models["feed_forward"], photo(300, 210)
    tiled = painted(model, image, tile=128)["stylized"]
    shares = torch.tensor([[1.0, 0.0]])
    given = to_tensor(image)
    with torch.no_grad(), statistics_of(model.net, reduced(given, 128), shares):
        whole = model.net(given[None].float() / 255, shares)[0]
    expected = (whole * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(pixels(tiled) - expected).max() <= 1
    own = painted(model, image)["stylized"]
    assert np.abs(pixels(own) - pixels(tiled)).mean() < 40, "and near what the picture is without tiles"


def test_tiles_with_their_own_statistics_would_have_seams(models):
    """What the test above is for: the same tiles, each normalized by itself, jump at their borders."""
    model, image = models["feed_forward"], photo(256, 128)
    shares = torch.tensor([[1.0, 0.0]])
    given = to_tensor(image)[None].float() / 255
    with torch.no_grad():
        halves = torch.cat([model.net(given[..., :128], shares), model.net(given[..., 128:], shares)], dim=3)[0] * 255
    tiled = pixels(painted(model, image, tile=128)["stylized"])
    jump = {
        "own": float((halves[..., 128] - halves[..., 127]).abs().mean()),
        "ours": float(np.abs(tiled[:, 128] - tiled[:, 127]).mean()),
    }
    inside = float(np.abs(np.diff(tiled, axis=1)).mean())
    assert jump["ours"] < 2 * inside + 1
    assert jump["own"] > 2 * jump["ours"]


def test_adain_in_tiles_has_no_seams(models):
    model, image = models["adain"], photo(320, 256)
    tiled, whole = (pixels(painted(model, image, tile=tile)["stylized"]) for tile in (128, 4096))
    steps = np.abs(np.diff(tiled, axis=1)).mean((0, 2))  # (W - 1,) between neighboring columns
    borders = steps[[127, 255]]
    assert borders.max() <= 1.5 * np.median(steps) + 1
    # the statistics come from a smaller copy: a slow difference is allowed, and no more
    assert np.abs(tiled - whole).mean() < 25


@pytest.mark.parametrize("length", [1, 127, 128, 129, 300, 1000])
def test_spans_keep_every_pixel_once_and_begin_on_the_networks_grid(length):
    found = list(spans(length, 128, 30, 4))
    kept = [pixel for span in found for pixel in range(span.first, span.last)]
    assert kept == list(range(length))
    for span in found:
        assert span.start % 4 == 0
        assert span.start == 0 or span.first - span.start >= 30
        assert span.stop == length or span.stop - span.last >= 30


def test_strength_zero_is_the_photo_and_half_lies_between(models):
    image = photo(50, 40)
    full, half, none = (pixels(painted(models["feed_forward"], image, strength=s)["stylized"]) for s in (1, 0.5, 0))
    assert np.array_equal(none, pixels(image))
    assert np.abs(half - (full + none) / 2).max() <= 1


def test_adain_at_strength_zero_decodes_the_photos_own_features(models):
    model, image = models["adain"], photo(64, 48)
    found = [pixels(painted(model, image, strength=s, style=["dots"])["stylized"]) for s in (0.0, 0.5, 1.0)]
    other = pixels(painted(model, image, strength=0.0, style=["waves"])["stylized"])
    assert np.array_equal(found[0], other), "no style is left in it"
    assert not np.array_equal(found[0], found[2])
    near, far = (np.abs(found[i] - found[0]).mean() for i in (1, 2))
    assert near < far


def test_colors_are_the_photos_and_brightness_is_the_results(model):
    image = photo(60, 44)
    plain, kept = (painted(model, image, keep_colors=keep)["stylized"] for keep in (False, True))
    for channel in ("Cb", "Cr"):
        own, found = (pixels(x.convert("YCbCr").getchannel(channel)) for x in (image, kept))
        assert np.abs(own - found).mean() < 12, "but for colors beyond the range of RGB"
    luma = [pixels(x.convert("L")) for x in (plain, kept)]
    assert np.abs(luma[0] - luma[1]).mean() < 6


def test_colors_on_a_gray_result_by_hand():
    result = with_colors_of(Image.new("RGB", (4, 4), (200, 100, 50)), Image.new("RGB", (4, 4), (124, 124, 124)))
    found = np.array(result.getpixel((0, 0)))
    # Y of (200, 100, 50) is 124, so it is the photo again
    assert np.abs(found - (200, 100, 50)).max() <= 2


def test_styles_mix_by_their_shares(model):
    image = photo(56, 48)
    one, other = (painted(model, image, style=name)["stylized"] for name in ("waves", "dots"))
    both = painted(model, image, style={"waves": 3, "dots": 1})
    assert both["style"] == {"waves": 0.75, "dots": 0.25}
    assert not np.array_equal(pixels(one), pixels(other))
    assert not np.array_equal(pixels(both["stylized"]), pixels(one))
    almost = painted(model, image, style={"waves": 1, "dots": 1e-9})["stylized"]
    assert np.abs(pixels(almost) - pixels(one)).max() <= 1
    assert painted(model, image, style=["waves", "dots"])["style"] == {"waves": 0.5, "dots": 0.5}


def test_adain_takes_any_picture_as_a_file(models, tmp_path):
    dots().save(tmp_path / "mine.png")
    by_file = painted(models["adain"], photo(48, 48), style=str(tmp_path / "mine.png"))["stylized"]
    by_name = painted(models["adain"], photo(48, 48), style="dots")["stylized"]
    assert np.abs(pixels(by_file) - pixels(by_name)).max() <= 1
    scaled = painted(models["adain"], photo(48, 48), style=str(tmp_path / "mine.png"), style_scale=2)["stylized"]
    assert not np.array_equal(pixels(scaled), pixels(by_file))


def test_larger_strokes_come_from_a_smaller_photo(models):
    image = photo(128, 96)
    plain, large = (pixels(painted(models["feed_forward"], image, style_scale=s)["stylized"]) for s in (1, 2))
    assert plain.shape == large.shape
    assert np.abs(np.diff(large, axis=1)).mean() < np.abs(np.diff(plain, axis=1)).mean()


@pytest.mark.parametrize(
    ("way", "options", "error", "words"),
    [
        ("feed_forward", {"style": "wavse"}, ConfigError, "did you mean 'waves'"),
        ("feed_forward", {"style": {"waves": 1, "monet": 1}}, ConfigError, "'monet' is none of the styles"),
        ("feed_forward", {"style": []}, ConfigError, "names none"),
        ("feed_forward", {"style": {}}, ConfigError, "names none"),
        ("adain", {"style": "nowhere/monet.jpg"}, DataError, "no such file"),
    ],
)
def test_styles_that_there_are_not(models, way, options, error, words):
    with pytest.raises(error, match=words):
        painted(models[way], photo(40, 40), **options)


def test_drawing_puts_photo_and_result_side_by_side_and_never_shrinks():
    small, large = Image.new("RGB", (30, 20), "red"), Image.new("RGB", (60, 40), "blue")
    for image, result in ((small, large), (large, small)):
        drawn = draw(image, {"stylized": result}, META)
        assert drawn.size == (120, 40)
        colors = drawn.getpixel((5, 5)), drawn.getpixel((115, 35))
        assert colors == (image.getpixel((0, 0)), result.getpixel((0, 0)))
