"""The transparency of cut-outs, and meshes that no other score sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from visiontl_style.charts import report
from visiontl_style.config import PredictOptions
from visiontl_style.formulas import PERIODS, checkerboard, energy_by_period
from visiontl_style.networks import Transformer
from visiontl_style.predictions import draw, predict
from visiontl_style.scores import relative_energy, rows, score
from visiontl_style.views import sample

import visiontl
from tests.style.made import META, batch, config, generator, network, photo
from visiontl.kit.images import open_image, to_rgb


@pytest.fixture(scope="module")
def models():
    return {way: network(way=way, width=4) for way in ("feed_forward", "adain")}


def alpha_of(width: int, height: int) -> Image.Image:
    """Nothing to the left, everything to the right, and a soft edge."""
    row = np.clip((np.arange(width) - width / 3) * 255 / max(1, width / 3), 0, 255)
    return Image.fromarray(np.broadcast_to(row, (height, width)).round().astype(np.uint8))


def cut_out(width: int, height: int) -> Image.Image:
    made = photo(width, height).convert("RGBA")
    made.putalpha(alpha_of(width, height))
    return made


@torch.no_grad()
def painted(model, image: Image.Image, **options) -> Image.Image:
    made = sample(model.cfg, visiontl.ImageSpec(size=(32, 32)), META)(image)
    return next(predict(model.cfg, model, [{"photo": [made["photo"]]}], META, PredictOptions.model_validate(options)))[
        "stylized"
    ]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


@pytest.mark.parametrize("way", ["feed_forward", "adain"])
@pytest.mark.parametrize(
    "options", [{}, {"strength": 0.5}, {"keep_colors": True}, {"style_scale": 2}, {"tile": 128}], ids=str
)
def test_a_cut_out_stays_one_whatever_is_asked(way, options, models):
    size = (190, 131) if "tile" in options else (61, 43)
    image = to_rgb(cut_out(*size))
    found = painted(models[way], image, **options)
    assert (found.mode, found.size) == ("RGBA", size)
    assert np.array_equal(pixels(found.getchannel("A")), pixels(alpha_of(*size)))
    plain = Image.fromarray(np.asarray(image))  # the same colors, without transparency
    assert np.array_equal(pixels(painted(models[way], plain, **options)), pixels(found.convert("RGB")))


@pytest.mark.parametrize("size", [(101, 67), (33, 64), (1, 1), (9, 7)])
def test_it_has_the_photos_size_and_is_resized_with_it(size, models):
    image = to_rgb(cut_out(*size))
    found = painted(models["feed_forward"], image)
    assert np.array_equal(pixels(found.getchannel("A")), pixels(alpha_of(*size)))
    larger = painted(models["feed_forward"], image, size=120)
    assert larger.mode == "RGBA"
    assert max(larger.size) == 120
    if min(size) > 8:
        expected = pixels(alpha_of(*size).resize(larger.size, Image.Resampling.BILINEAR))
        assert np.abs(pixels(larger.getchannel("A")) - expected).max() <= 2


@pytest.mark.parametrize("kind", ["RGBA.png", "LA.png", "P.png", "RGBA.webp", "RGBA.tif", "turned.png", "opaque.png"])
def test_transparency_of_every_kind_of_file_is_kept(kind, models, tmp_path):
    file, mode = tmp_path / kind, kind.split(".")[0]
    made = cut_out(40, 24)
    keys: dict[str, Any] = {}
    if mode == "LA":
        made = made.convert("LA")
    elif mode == "P":
        made = made.convert("RGB").quantize(16)
        keys = {"transparency": 3}
    elif mode == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        keys = {"exif": exif}
    elif mode == "opaque":
        made.putalpha(255)
    elif kind.endswith("webp"):
        keys = {"lossless": True}
    made.save(file, **keys)
    expected = pixels(Image.open(file).convert("RGBA").getchannel("A"))
    if mode == "turned":
        expected = np.rot90(expected, -1)
    opened = open_image(file)
    assert np.array_equal(pixels(opened.info["alpha"]), expected)
    assert ("turned" in opened.info) == (mode == "turned")
    found = painted(models["feed_forward"], opened)
    assert np.array_equal(pixels(found.getchannel("A")), expected)


def test_photos_without_transparency_have_none_and_pictures_for_people_are_on_white(models):
    image = photo(40, 30)
    assert painted(models["feed_forward"], image).mode == "RGB"
    opened = to_rgb(cut_out(60, 40))
    result = painted(models["feed_forward"], opened)
    both = draw(opened, {"stylized": result}, META)
    assert both.mode == "RGB"
    assert both.getpixel((60, 5)) == (255, 255, 255)
    assert painted(models["feed_forward"], opened.crop((0, 0, 30, 30))).mode == "RGB", (
        "that of the whole is no longer it"
    )


def test_the_core_writes_it(tmp_path):
    """As `visiontl predict` does."""
    from visiontl.runtime.written import stored

    found = painted(network(width=4), to_rgb(cut_out(31, 17)))
    (tmp_path / "out").mkdir()
    record = stored({"stylized": found}, tmp_path / "out", "cut-out", {})
    with Image.open(tmp_path / "out" / record["stylized"]) as written:
        assert (written.mode, written.format) == ("RGBA", "PNG")
        assert np.array_equal(pixels(written.getchannel("A")), pixels(alpha_of(31, 17)))


def wave(period: float, across: bool, down: bool, level: float = 20, size: int = 256) -> torch.Tensor:
    """(1, 3, size, size): a cosine of so many levels of 255 around gray; both: the product, a mesh."""
    line = torch.cos(2 * np.pi * torch.arange(size, dtype=torch.float64) / period)
    one = torch.ones(size, dtype=torch.float64)
    plane = (line if down else one)[:, None] * (line if across else one)
    return (0.5 + level / 255 * plane).float().expand(1, 3, size, size)


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize(("across", "down"), [(True, False), (False, True), (True, True)])
def test_a_wave_is_found_at_its_period_with_its_energy(period, across, down):
    """A cosine of 20 levels has a mean square of 200, a product of two 100; at 2 pixels it is +-20 at each: 400."""
    found = energy_by_period(wave(period, across, down))[0]
    spread = int(period > 8)  # the window blurs what lies close together
    assert abs(PERIODS[int(found.argmax())] - period) <= spread
    expected = 400 if period == 2 else 100 if across and down else 200
    near = sum(float(found[i]) for i, p in enumerate(PERIODS) if abs(p - period) <= 1 + spread)
    assert near == pytest.approx(expected, rel=0.1 if period < 15 else 0.2)  # the last rings end the range


@pytest.mark.parametrize("size", [(48, 48), (64, 200), (300, 257)])
def test_noise_has_its_variance_in_all_periods_together(size):
    """White noise of 10 levels: 100 in all, of which frequencies below 1 / 16.5 have (2 / 16.5)^2 in square rings."""
    noise = 0.5 + 10 / 255 * torch.randn(1, 1, *size, generator=generator()).expand(1, 3, *size)
    found = energy_by_period(noise)[0]
    assert float(found.sum()) == pytest.approx(100 * (1 - (2 / 16.5) ** 2), rel=0.1)
    assert (found > 0).all(), "no ring is empty"
    assert float(energy_by_period(torch.full((1, 3, *size), 0.3)).max()) < 1e-6


def test_a_mesh_of_3_pixels_is_seen_where_the_checkerboard_score_sees_nothing():
    """On a photo that is smooth: the photo's own waves of 2 and 3 pixels are weak, the mesh of 3 levels is not."""
    from visiontl.kit.images import to_tensor

    plain = to_tensor(photo(256, 256))[None].float() / 255
    meshed = plain + wave(3, True, True, level=3) - 0.5
    seen = energy_by_period(meshed)[0] / energy_by_period(plain)[0]
    assert PERIODS[int(seen.argmax())] == 3
    assert float(seen[1]) > 1.2 * float(np.median(seen.numpy()))
    boards = [float(checkerboard(one, 8)) for one in (plain, meshed)]
    assert boards[1] < 1.5 * boards[0] + 0.3


def test_scores_and_report_hold_the_energy_relative_to_the_photos():
    cfg = config(preview=0)
    with torch.no_grad():
        outputs = network(preview=0)(batch(2))
    outputs = {**outputs, "energy": outputs["plain_energy"] * 2}
    outputs["energy"][:, 1] = 7 * outputs["plain_energy"][:, 1]
    made = rows(cfg, outputs, batch(2), META)
    scores = score(cfg, made, META)
    assert scores["energy_peak"] == pytest.approx(7)
    assert scores["energy_by_period"] == {str(p): pytest.approx(7 if p == 3 else 2) for p in PERIODS}
    assert relative_energy([{"energy": [1.0], "plain_energy": [0.0]}]).tolist() == [100], "a photo of one color"
    figure = next(
        item for item in report(cfg, made, META, lambda id: photo(48, 48)) if item.title == "Energy by period"
    )
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    figure.draw(axes)
    assert np.allclose(axes.lines[0].get_ydata(), [7 if p == 3 else 2 for p in PERIODS])


def shaped(period: int, up: str) -> float:
    """What upsampling makes of strokes: the energy at 2 to 3 pixels / that at the strokes' own period and beside it."""
    coarse = wave(period / 2, True, False, size=128)
    fine = torch.nn.functional.interpolate(coarse, scale_factor=2, mode=up)
    found = energy_by_period(fine)[0]
    return float(found[:2].sum() / found[2:].sum())


def test_the_transformers_upsampling_makes_no_mesh_of_strokes():
    net = Transformer(4, 1, 1)
    assert {net.up1.up, net.up2.up} == {"bilinear"}
    for period in (5, 6, 8):  # an image of amplitude tan(pi / period), its cube when bilinear
        assert shaped(period, "nearest") == pytest.approx(np.tan(np.pi / period) ** 2, rel=0.2)
        assert shaped(period, "bilinear") == pytest.approx(np.tan(np.pi / period) ** 6, rel=0.4)


def test_weights_from_before_paint_as_they_did():
    torch.manual_seed(0)
    net, image, ones = Transformer(4, 1, 1).eval(), torch.rand(1, 3, 32, 32), torch.ones(1, 1)
    state = {name: value for name, value in net.state_dict().items() if name != "smooth"}
    old = Transformer(4, 1, 1).eval()
    old.load_state_dict(state, strict=True)
    with torch.no_grad():
        assert old.up2.up == "nearest"
        assert not torch.equal(old(image, ones), net(image, ones))
        again = Transformer(4, 1, 1).eval()
        again.load_state_dict(old.state_dict(), strict=True)
        assert torch.equal(again(image, ones), old(image, ones))
        again.load_state_dict(net.state_dict(), strict=True)
        assert torch.equal(again(image, ones), net(image, ones))
