"""Photos on their way to a batch: the fast resizing against Pillow's and torchvision's, and the loading benchmark."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional
from visiontl_classification.views import training_view

from tests.classification.helpers import config
from tests.shared import ROOT
from visiontl import ImageSpec
from visiontl.kit.images import fit_image, fit_tensor, resize_tensor, to_tensor


def photo(width: int, height: int) -> Image.Image:
    """Noise with coarse and fine parts."""
    rng = np.random.default_rng(width)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
    fine = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return Image.blend(coarse.resize((width, height), Image.Resampling.BICUBIC), fine, 0.2)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (256, 256), (97, 133), (30, 3000)])
def test_the_fast_preprocessing_is_pillows_but_for_rounding(name, shape):
    image, spec = photo(*shape), ImageSpec(size=(224, 192), interpolation=name)
    apart = (fit_tensor(image, spec).int() - to_tensor(fit_image(image, spec)).int()).abs()
    assert apart.shape == (3, 224, 192)
    assert apart.max() <= (2 if name.startswith("bi") else 0)
    assert apart.float().mean() < 0.25  # 0.02 with torch's vector kernels; the plain ones round one value in five apart


@pytest.mark.parametrize("kernels", ["those of this CPU", "DEFAULT"])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_the_fast_preprocessing_is_torchvisions_for_tensors(name, kernels, monkeypatch):
    if kernels == "DEFAULT":  # as a CPU without AVX2 says, which has no kernel of bytes for bilinear
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kernels)
    for size in ((500, 375), (37, 91), (300, 256)):
        image = photo(*size)
        for shape in ((48, 64), (91, 300), (375, 200)):
            resized = functional.resize(functional.to_image(image), list(shape), InterpolationMode(name))
            found = resize_tensor(image, shape, name)
            assert torch.equal(found, resized.as_subclass(torch.Tensor))
            assert found.stride(0) == 1  # colors side by side
    image = photo(500, 375)
    resized = functional.resize(functional.pil_to_tensor(image), 256, InterpolationMode(name), antialias=True)
    expected = functional.center_crop(resized, [224, 224])
    assert torch.equal(fit_tensor(image, ImageSpec(interpolation=name)), expected)


def test_a_picture_of_the_right_size_keeps_its_pixels():
    image = photo(64, 48)
    assert torch.equal(resize_tensor(image, (48, 64), "bilinear"), to_tensor(image))


@pytest.mark.parametrize("augment", ["light", "standard", "trivialaugment", "randaugment"])
def test_a_random_view_is_a_function_of_its_seed_and_leaves_other_generators_alone(augment):
    image, view = photo(100, 75), training_view(config(augment=augment), ImageSpec(size=(32, 48)))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = view(image, 1), view(image, 2)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    np.random.seed(6)
    again = view(image, 1)
    assert one["image"].shape == (3, 32, 48)
    assert one["image"].dtype == torch.uint8
    assert one["image"].is_contiguous()
    assert one["size"] == (75, 100)
    assert torch.equal(one["image"], again["image"])
    assert not torch.equal(one["image"], other["image"])


def test_a_random_crop_is_the_photos_own_part():
    """A picture whose red grows to the right and green downwards tells where a crop comes from."""
    red = np.tile(np.linspace(0, 250, 200), (150, 1))
    green = np.tile(np.linspace(0, 250, 150)[:, None], (1, 200))
    image = Image.fromarray(np.stack([red, green, red], axis=2).astype(np.uint8))
    view = training_view(config(augment="light", flip=False), ImageSpec(size=(64, 64)))
    shares = []
    for seed in range(20):
        pixels = view(image, seed)["image"].float()  # (3, 64, 64)
        across, down = pixels[0].mean(0), pixels[1].mean(1)
        assert (across.diff() > 0).all()
        assert (down.diff() > 0).all()
        share = (across[-1] - across[0]) / 250 * (down[-1] - down[0]) / 250 * (64 / 63) ** 2
        shares.append(share)
        assert 0.65 < share < 1.05
    assert min(shares) < 0.8


def test_the_loading_benchmark_compares_pipelines_that_agree(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from benchmarks import loading
    from benchmarks.harness import Options

    threads = torch.get_num_threads()
    ((title, make),) = loading.tables(Options(quick=True))
    table = make()
    assert title == "Loading, photos of 500 x 375 pixels"
    assert len(table.rows) == 4 * len(loading.VIEWS)
    assert all(value > 0 for value in table.values.values())
    assert torch.get_num_threads() == threads
    assert loading.drawn(tmp_path, 4) == 4
    levels, share = loading.difference(tmp_path)
    assert levels <= loading.MOST_LEVELS
    assert share < 0.25  # of the values; 0.02 with torch's vector kernels
    monkeypatch.setattr(loading, "MOST_LEVELS", -1.0)
    with pytest.raises(Exception, match="differ by"):
        make()
