"""Whole segmentation models of torchvision and of segmentation-models-pytorch as a start: the same answers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional
from torchvision.models import get_model
from visiontl_segmentation.wholes import MODELS

from visiontl import WeightsError
from visiontl.config.resolve import resolve
from visiontl.engine.init import backbone_like, warm_start
from visiontl.engine.model import build_model
from visiontl.engine.wholes import whole_of, with_start
from visiontl.plugins import backbone_entry
from visiontl.report.console import Console

CLASSES = ["background", "cat", "dog"]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
SMP = {
    "Unet": {"decoder_channels": (64, 32, 16, 16, 16)},
    "UnetPlusPlus": {"decoder_channels": (64, 32, 16, 16, 16)},
    "MAnet": {},
    "Linknet": {},
    "FPN": {},
    "PSPNet": {},
    "UPerNet": {"decoder_channels": 64},
    "Segformer": {"decoder_segmentation_channels": 64},
    "DeepLabV3": {"encoder_name": "tu-resnet18"},
    "DeepLabV3Plus": {"encoder_name": "tu-resnet18", "decoder_atrous_rates": (2, 4, 6)},
    "PAN": {"encoder_name": "tu-resnet18"},
}


def moved(model):
    """Statistics of norms that differ from channel to channel."""
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.8, 1.25)
        elif key.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
    return model.eval()


def ours(init: str, *overrides: str):
    config = {"task": {"name": "segmentation", "data": "nowhere"}, "init": init}
    resolved = with_start(resolve(config, overrides), Console(main=False))
    entry, _ = backbone_entry(resolved.config.backbone.name)
    whole = whole_of(resolved.task, init)
    built = build_model(resolved, backbone_like(resolved, entry), whole.meta(resolved.cfg, CLASSES))
    warm_start(built, Console(main=False))
    return built.model.eval()


def answers(model, image):
    """(B, 3, H, W) uint8 -> logits (B, K, H, W)"""
    found = model({"image": image})
    size = tuple(image.shape[2:])
    assert found["extent"].tolist() == [list(size)] * len(image)
    logits = found["logits"]
    return logits if logits.shape[2:] == size else functional.interpolate(logits, size, mode="bilinear")


@pytest.mark.parametrize("name", [name for name in MODELS if "101" not in name])
def test_answers_are_torchvisions(name, tmp_path):
    torch.manual_seed(0)
    model = moved(get_model(name, weights=None, weights_backbone=None, num_classes=3))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "a.safetensors")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        wanted = model((image / 255 - MEAN) / STD)["out"]
        for init in (f"torchvision/{name}:{tmp_path / 'a.safetensors'}", str(tmp_path / "a.safetensors")):
            torch.testing.assert_close(
                answers(ours(init), image), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max())
            )


@pytest.mark.parametrize("family", SMP)
def test_answers_are_those_of_segmentation_models_pytorch(family, tmp_path):
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    options = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 3, **SMP[family]}
    model = moved(getattr(smp, family)(**options))
    model.save_pretrained(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    side = 128 if family == "PAN" else 64
    image = torch.randint(0, 256, (2, 3, side, side + 32), dtype=torch.uint8)
    with torch.no_grad():
        wanted = model((image / 255 - MEAN) / STD)
        found = answers(ours(str(tmp_path)), image)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("DeepLabV3", {}, "dilates its own encoders otherwise than torchvision does"),
        ("Unet", {"encoder_name": "vgg11"}, "its encoder is no backbone here"),
        ("Unet", {"encoder_depth": 4, "decoder_channels": (64, 32, 16, 16)}, "encoder_depth=4"),
        ("Unet", {"decoder_attention_type": "scse"}, "decoder_attention_type=scse"),
    ],
)
def test_models_without_a_place_here_are_refused(family, options, said, tmp_path):
    import segmentation_models_pytorch as smp

    getattr(smp, family)(**{"encoder_name": "resnet18", "encoder_weights": None, **options}).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=said):
        ours(str(tmp_path))


def test_a_state_dict_alone_says_how_to_save_it(tmp_path):
    save_file({"segmentation_head.0.weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"save_pretrained\(FOLDER\)"):
        ours(str(tmp_path / "a.safetensors"))
    torch.save({"model": {"nothing": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="holds nothing"):
        ours(str(tmp_path / "a.pth"))
