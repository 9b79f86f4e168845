"""The formulas, and the place of the heat in the photo, against networks whose answer can be written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.explain.made import CLASSES, brightness_classifier, linear_classifier, ramp, spotted
from visiontl import BackboneError, ConfigError
from visiontl.engine.explain import Explainer, find_taps, still
from visiontl.engine.model import load_backbone
from visiontl.kit.cam import heat_of, overlay, share_by_place
from visiontl.kit.images import fit_tensor, open_image
from visiontl.testing import Case


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def maps_by_hand(built, photo: Image.Image) -> np.ndarray:
    """(6, 8, 8): what the network's only convolution gives, by sums over 4 x 4 pixels."""
    conv = built.backbone.conv
    pixels = np.asarray(photo, dtype=np.float64).transpose(2, 0, 1) / 255  # (3, 32, 32)
    patches = pixels.reshape(3, 8, 4, 8, 4)
    found = np.einsum("kcij,cyixj->kyx", conv.weight.detach().numpy(), patches)
    return found + conv.bias.detach().numpy()[:, None, None]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_linear_network_is_explained_exactly(label, frozen):
    """Its logit is b + sum over k and places of w_k A_k / 64, so a place's share is known."""
    built = linear_classifier()
    built.backbone.requires_grad_(not frozen)
    photo = noise(32, 32)
    explainer = Explainer(built)
    found = explainer.explain(photo, explainer.parse({"label": label}))
    model: Any = built.model
    weights = model.head[-1].weight.detach().numpy()[CLASSES.index(label)]  # (6,)
    shares = np.einsum("k,kyx->yx", weights, maps_by_hand(built, photo)) / 64
    assert (shares > 0).any(), label
    np.testing.assert_allclose(found.cam, shares.clip(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(found.heat.shape, (32, 32))
    assert found.heat.dtype == np.float32
    assert found.heat.max() == 1.0
    with torch.no_grad():
        logits = built.model({"image": torch.from_numpy(np.array(photo).transpose(2, 0, 1))[None]})["logits"][0]
    assert found.words == f"class {label}, {float(logits.softmax(0)[CLASSES.index(label)]):.2f}"
    again = explainer.explain(photo, explainer.parse({"label": label, "method": "hirescam"}))
    np.testing.assert_allclose(again.cam, found.cam, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("double")
def test_shares_of_several_maps_add_up_to_the_number():
    """y = <g1, A1> + <g2, A2>: where all shares are positive, none is lost on the way to the finest grid."""
    rng = np.random.default_rng(0)
    maps = [torch.from_numpy(rng.random(shape)) for shape in ((5, 2, 3), (4, 8, 12))]
    gradients = [torch.from_numpy(rng.random(one.shape)) for one in maps]
    total = sum(float((one * gradient).sum()) for one, gradient in zip(maps, gradients, strict=True))
    found = share_by_place(maps, gradients)
    assert found.shape == (8, 12)
    assert float(found.sum()) == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(share_by_place(maps[1:], gradients[1:]), (maps[1] * gradients[1]).sum(0))


def test_the_heat_over_the_whole_photo_is_a_bilinear_enlargement():
    cam = np.random.default_rng(1).random((5, 7)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(cam)[None, None], (43, 61), mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(heat_of(cam, (0, 0, 61, 43), (43, 61)), wanted / wanted.max(), atol=1e-6)


def test_the_heat_is_zero_where_nothing_was_shown_or_nothing_counts():
    heat = heat_of(np.ones((4, 4), np.float32), (10, 0, 50, 40), (40, 60))
    assert heat[:, 10:50].min() == heat.max() == 1.0
    assert not heat[:, :10].any()
    assert not heat[:, 50:].any()
    cam = np.zeros((4, 4), np.float32)
    cam[1, 2], cam[3, 0] = 1.0, 9.0  # the second in the lower half, which is padding
    padded = heat_of(cam, (0, 0, 80, 80), (40, 80))
    assert padded.max() == padded[29:31, 49:51].max() == 1.0
    assert not padded[:, :20].any()
    nothing = heat_of(np.zeros((4, 4), np.float32), (0, 0, 8, 8), (8, 8))
    assert not nothing.any()
    assert np.isfinite(nothing).all()


@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize("size", [(90, 40), (40, 90), (64, 64), (24, 24)])
def test_the_heat_lies_on_what_raises_the_class(crop, size):
    built = brightness_classifier(crop)
    side = min(size)
    left, top = (size[0] - side) // 2 + side // 2, (size[1] - side) // 2 + side // 4
    box = (left, top, left + side // 4, top + side // 4)
    explainer = Explainer(built)
    found = explainer.explain(spotted(size, box), explainer.parse({"label": "bee"}))
    assert found.heat.shape == (size[1], size[0])
    rows, columns = np.nonzero(found.heat > 0.5)
    cell = 4 / 32 * side / crop  # pixels of the photo
    assert abs(rows.mean() + 0.5 - (box[1] + box[3]) / 2) < cell / 2
    assert abs(columns.mean() + 0.5 - (box[0] + box[2]) / 2) < cell / 2
    low = explainer.explain(spotted(size, box), explainer.parse({"label": "ant"}))
    assert low.empty  # its weights are 0: nothing raises it, and nothing is divided by 0
    assert not low.heat.any()
    assert "nothing in the photo raises it" not in low.words
    assert low.beside().width > 300


def test_a_photo_turned_by_its_file_is_explained_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    spotted((60, 40), (0, 0, 12, 12)).save(tmp_path / "turned.png", exif=exif)
    photo = open_image(tmp_path / "turned.png")
    assert photo.size == (40, 60)
    explainer = Explainer(brightness_classifier())
    upright = explainer.explain(photo.crop((0, 0, 40, 40)), explainer.parse({"label": "bee"}))
    assert np.unravel_index(upright.heat.argmax(), (40, 40))[1] >= 28  # the spot is at the upper right now


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "face"])
@pytest.mark.parametrize("size", [(255, 120), (120, 255)])
def test_each_task_says_which_part_of_the_photo_its_network_saw(tmp_path, task, size):
    """Read from a photo whose colors are its coordinates, as the backbone is given it."""
    built = Case(task, tmp_path).run().built
    photo, seen = ramp(*size), []
    hook = built.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    explainer = Explainer(built)
    asked = {"other": photo} if task == "face" else {}
    found = explainer.explain(photo, explainer.parse(asked))
    hook.remove()
    assert found.heat.shape == (size[1], size[0])
    assert np.isfinite(found.heat).all()
    image = seen[-1][0].numpy()  # (3, h, w)
    image = image * 255 if image.dtype == np.float32 else image.astype(np.float64)
    left, top, right, bottom = found.shown
    across = left + (np.arange(image.shape[2]) + 0.5) / image.shape[2] * (right - left)  # in pixels of the photo
    down = top + (np.arange(image.shape[1]) + 0.5) / image.shape[1] * (bottom - top)
    inside = np.ix_((down > 3) & (down < size[1] - 3), (across > 3) & (across < size[0] - 3))
    columns = np.broadcast_to(across / size[0] * 255, image.shape[1:])[inside]
    rows = np.broadcast_to((down / size[1] * 255)[:, None], image.shape[1:])[inside]
    assert columns.size > 500
    assert np.abs(image[0][inside] - columns).max() < 3.5
    assert np.abs(image[1][inside] - rows).max() < 3.5


@pytest.mark.usefixtures("double")
def test_a_transformer_with_a_class_token_is_explained_by_the_block_before_its_last(tmp_path):
    """The patches of its last block lead nowhere. By hand: the blocks one by one, and a gradient in plain autograd."""
    overrides = ["backbone.name=timm/vit_tiny_patch16_224", "backbone.image_size=64"]
    built = Case("classification", tmp_path).run(*overrides).built
    model: Any = built.model.eval()
    body: Any = built.backbone.body
    photo = noise(64, 64)
    explainer = Explainer(built)
    found = explainer.explain(photo, explainer.parse({}))
    assert found.stages == ("blocks.10",)
    image = fit_tensor(photo, built.backbone.spec)[None]
    with still(model), torch.enable_grad():
        x = body.norm_pre(body._pos_embed(body.patch_embed(built.backbone.normalize(image))))
        for block in body.blocks[:11]:
            x = block(x)
        x = x.detach().requires_grad_(True)
        logits = model.head(body.forward_head(body.norm(body.blocks[11](x)), pre_logits=True))[0]
        [slope] = torch.autograd.grad(logits.max(), [x])
    tokens, weights = x.detach()[0, 1:], slope[0, 1:].mean(0)  # (16, C), (C,)
    np.testing.assert_allclose(found.cam, (tokens @ weights).clamp(min=0).reshape(4, 4), rtol=1e-9, atol=1e-12)
    last = explainer.explain(photo, explainer.parse({"stage": "blocks.11"}))
    assert last.empty
    with pytest.raises(ConfigError, match=r"no map of timm/vit_tiny_patch16_224 is from 'blocks\.12'; did you mean"):
        explainer.explain(photo, explainer.parse({"stage": "blocks.12"}))


@pytest.mark.parametrize(
    ("name", "layouts"),
    [
        ("timm/resnet18", {"nchw"}),  # whose blocks run one activation twice in torchvision, not here
        ("torchvision/resnet18", {"nchw"}),
        ("torchvision/squeezenet1_1", {"nchw"}),
        ("timm/swin_tiny_patch4_window7_224", {"nhwc"}),
        ("timm/pvt_v2_b0", {"tokens"}),
    ],
)
def test_every_map_of_a_backbone_is_found_among_its_modules(name, layouts):
    backbone = load_backbone(name, "none")
    taps = find_taps(backbone)
    assert [tap.level for tap in taps] == list(reversed(range(len(backbone.channels))))
    assert {tap.layout for tap in taps} == layouts
    assert {tap.stage for tap in taps} <= set(backbone.stages)


def test_a_backbone_without_maps_is_refused_in_words():
    built = linear_classifier()
    built.backbone.channels = ()
    explainer = Explainer(built)
    with pytest.raises(BackboneError, match="stub gives one vector an image and no map"):
        explainer.explain(noise(32, 32), explainer.parse({}))


def test_the_overlay_is_the_gray_photo_where_there_is_no_heat():
    photo = noise(30, 20)
    plain = overlay(photo, np.zeros((20, 30), np.float32))
    np.testing.assert_array_equal(np.asarray(plain), np.asarray(photo.convert("L").convert("RGB")))
    framed = np.asarray(overlay(photo, np.zeros((20, 30), np.float32), (10, 0, 20, 20)))
    np.testing.assert_array_equal(framed[:, 10:20], np.asarray(plain)[:, 10:20])
    assert framed[:, :10].mean() < np.asarray(plain)[:, :10].mean() / 2
