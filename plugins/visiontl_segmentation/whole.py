"""A whole segmentation model of torchvision or of segmentation-models-pytorch as a start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import ClassRows, Parts, Source, WeightsError, Whole
from visiontl.kit.words import count, did_you_mean, some
from visiontl_segmentation.config import SegmentationConfig
from visiontl_segmentation.model import Segmenter
from visiontl_segmentation.wholes import MODELS, PREFIX

SIDE = 520  # pixels of the shorter side that torchvision's models were trained on
FAMILIES = {  # class of segmentation-models-pytorch -> (decoder, kernel of its last layer, it is enlarged from corners)
    "Unet": ("unet", 3, False),
    "UnetPlusPlus": ("unetplusplus", 3, False),
    "MAnet": ("manet", 3, False),
    "Linknet": ("linknet", 1, False),
    "FPN": ("fpn", 1, True),
    "PSPNet": ("pspnet", 3, True),
    "UPerNet": ("upernet", 1, True),
    "Segformer": ("segformer", 1, True),
    "DeepLabV3": ("deeplabv3", 1, True),
    "DeepLabV3Plus": ("deeplabv3plus", 1, True),
    "PAN": ("pan", 3, True),
}
ATROUS = ("DeepLabV3", "DeepLabV3Plus", "PAN")
ENCODERS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    "mobilenet_v2",
)
DEFAULTS = {"decoder_use_norm": "batchnorm", "decoder_attention_type": None, "activation": None, "aux_params": None}
U_SHAPED = ("Unet", "UnetPlusPlus", "MAnet")
SCALES = {"PSPNet": 8, "DeepLabV3": 8}  # how far an answer is enlarged by default; 4 else
WIDTHS = ("decoder_channels", "decoder_segmentation_channels", "psp_out_channels")


def whole(source: Source) -> Whole:
    """What a file, a folder, a repository of the hub or a tag holds. Raises WeightsError for what is none of them."""
    given = source.name.removeprefix(PREFIX)
    if given:
        return of_torchvision(source, given, *tagged(source, given))
    state = source.read("")
    if source.config is not None and "_model_class" in source.config:
        return of_smp(source, state, source.config)
    if any(key.startswith("classifier.") for key in state) and any(key.startswith("backbone.") for key in state):
        return of_torchvision(source, told_by(state, source.text), state, source.classes)
    smp = any(key.startswith("segmentation_head.") for key in state)
    why = (
        "it looks like a model of segmentation-models-pytorch, whose shape a state dict does not say: save it by "
        "model.save_pretrained(FOLDER), which writes its config.json too, and name the folder"
        if smp
        else f"it holds {some(list(state), 3) or 'nothing'}"
    )
    raise WeightsError(f"init: {source.text}: is no FCN, DeepLabV3 or LR-ASPP of torchvision: {why}")


def tagged(source: Source, name: str) -> tuple[Mapping[str, Tensor], Sequence[str] | None]:
    """(the tensors, the names of the classes) of a file, or of a tag of torchvision's."""
    from torchvision.models import get_model_weights

    if source.file is not None:
        return source.read(""), source.classes
    enum: Any = get_model_weights(name)
    known = [one.name for one in enum]
    if source.tag not in ("", "DEFAULT", *known):
        raise WeightsError(
            f"init: {PREFIX}{name} has no weights {source.tag!r} (its tags: {some(known)}; a file is named as "
            f"{PREFIX}{name}:FILE){did_you_mean(source.tag, known)}"
        )
    found = enum.DEFAULT if source.tag in ("", "DEFAULT") else enum[source.tag]
    return source.read(found.url), found.meta["categories"]


def told_by(state: Mapping[str, Tensor], text: str) -> str:
    """The name of torchvision's model that a state dict is of, by its names and shapes."""
    for name in MODELS:
        own = library(name)
        if all(key in state and state[key].shape == shape for key, shape in own.items()):
            return name
    raise WeightsError(
        f"init: {text}: has a classifier, and fits none of {', '.join(MODELS)} of torchvision; its names are such as "
        f"{some(list(state), 3)}"
    )


def library(name: str) -> dict[str, torch.Size]:
    """{name: shape} of what torchvision's model has, but for the auxiliary head and what is one row a class."""
    from torchvision.models import get_model

    with torch.device("meta"):
        options = {} if name.startswith("lraspp") else {"aux_loss": False}
        own = get_model(name, weights=None, weights_backbone=None, **options).state_dict()
    last = ("classifier.4.", "low_classifier.", "high_classifier.")
    return {k: v.shape for k, v in own.items() if not any(one in k for one in last) and "num_batches" not in k}


def of_torchvision(source: Source, name: str, state: Mapping[str, Tensor], names: Sequence[str] | None) -> Whole:
    decoder, backbone, stride = MODELS[name]
    own = library(name)
    last = "classifier.high_classifier." if name.startswith("lraspp") else "classifier.4."
    lacking = [key for key in (*own, f"{last}weight", f"{last}bias") if key not in state]
    other = [key for key, shape in own.items() if key in state and state[key].shape != shape]
    if lacking or other:
        key = (lacking or other)[0]
        what = "is missing" if lacking else f"is {tuple(state[key].shape)} there, {tuple(own[key])} in it"
        raise WeightsError(
            f"init: {source.text}: is no {name}, or only a part of one: {key} {what} ({count(len(lacking), 'tensor')} "
            f"missing, {len(other)} of another shape)"
        )
    return Whole(
        name=f"{PREFIX}{name}",
        classes=checked(source.text, names, int(state[f"{last}weight"].shape[0])),
        backbone={"name": f"{PREFIX}{backbone}", "output_stride": stride},
        needs={"decoder.name": decoder},
        prefers={"resize": SIDE},
        meta=meta,
        tensors=lambda model: placed(model, state),
        cut=("decode.backbone.body.classifier.",),
        left=[key for key in state if key.startswith("aux_classifier.")],
    )


def placed(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of torchvision's model by the names of ours; of LR-ASPP's two last layers, whose answers are added, one
    is made that reads both maps."""
    assert isinstance(model, Segmenter)
    features = "features." if "decode.backbone.body.features.0.0.weight" in model.state_dict() else ""
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("backbone."):
            made[f"decode.backbone.body.{features}{key.removeprefix('backbone.')}"] = value
        elif key.startswith("classifier.4."):
            made[f"head.{key.removeprefix('classifier.4.')}"] = value
        elif key.startswith("classifier.") and "_classifier" not in key:
            made[f"decode.decoder.{key.removeprefix('classifier.')}"] = value
    at = "classifier.{}_classifier.{}"
    if at.format("low", "weight") in state:
        low, high = ([state[at.format(one, kind)] for kind in ("weight", "bias")] for one in ("low", "high"))
        made["head.weight"], made["head.bias"] = torch.cat([low[0], high[0]], dim=1), low[1] + high[1]
    return made


def of_smp(source: Source, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Whole:
    """A model that segmentation-models-pytorch saved by save_pretrained. Raises WeightsError for options that have no
    place here, saying which."""
    family, encoder = str(config["_model_class"]), str(config.get("encoder_name", "resnet34"))
    said = f"init: {source.text}: {family} on {encoder} of segmentation-models-pytorch"
    if family not in FAMILIES:
        raise WeightsError(f"{said}: has no place here; those that have are {', '.join(FAMILIES)}")
    timm = encoder.startswith("tu-")
    if not timm and encoder not in ENCODERS:
        raise WeightsError(
            f"{said}: its encoder is no backbone here; those that are: {', '.join(ENCODERS)}, and tu-NAME of timm"
        )
    if family in ATROUS and not timm:
        raise WeightsError(
            f"{said}: the library dilates its own encoders otherwise than torchvision does, so answers would differ; "
            "models on tu-NAME, which timm dilates, are read"
        )
    odd = odd_options(family, config)
    if odd:
        raise WeightsError(f"{said}: {', '.join(odd)}: has no place here; such a model cannot be built from a config")
    decoder, kernel, corners = FAMILIES[family]
    needs: dict[str, Any] = {"decoder.name": decoder, "decoder.kernel": kernel, "decoder.align_corners": corners}
    width = width_of(family, config)
    if width is not None:
        needs["decoder.width"] = width
    backbone: dict[str, Any] = {"name": f"timm/{encoder.removeprefix('tu-')}" if timm else f"torchvision/{encoder}"}
    if family in ATROUS:
        backbone["output_stride"] = int(config.get("encoder_output_stride", 8 if family == "DeepLabV3" else 16))
    if family.startswith("DeepLabV3"):
        needs["decoder.rates"] = [int(rate) for rate in config.get("decoder_atrous_rates", (12, 24, 36))]
    return Whole(
        name=f"{family} on {encoder} of segmentation-models-pytorch",
        classes=checked(source.text, source.classes, int(state["segmentation_head.0.weight"].shape[0])),
        backbone=backbone,
        needs=needs,
        prefers={},
        meta=meta,
        tensors=lambda model: smp_placed(model, state),
        cut=("decode.backbone.body.classifier.", "decode.backbone.body.fc."),
    )


def odd_options(family: str, config: Mapping[str, Any]) -> list[str]:
    """Options of a saved model that are not the library's defaults and that our decoders are not built with."""
    depth = 3 if family == "PSPNet" else 5
    odd = [f"encoder_depth={config['encoder_depth']}"] if config.get("encoder_depth", depth) != depth else []
    scale = config.get("upsampling")
    if scale not in (None, SCALES.get(family, 4)) and family in ("FPN", "PSPNet", "UPerNet", "Segformer", *ATROUS):
        odd.append(f"upsampling={scale}")
    if int(config.get("in_channels", 3)) != 3:
        odd.append(f"in_channels={config['in_channels']}")
    for key in ("decoder_use_norm", "decoder_attention_type", "activation", "aux_params"):
        if key in config and config[key] not in (DEFAULTS[key], True):
            odd.append(f"{key}={config[key]}")
    if config.get("decoder_merge_policy", "add") != "add":
        odd.append(f"decoder_merge_policy={config['decoder_merge_policy']}")
    channels = config.get("decoder_channels")
    if family in U_SHAPED and channels is not None:
        first = int(channels[0])
        if list(channels) != [max(16, first >> i) for i in range(5)]:
            odd.append(f"decoder_channels={list(channels)}")
    return odd


def width_of(family: str, config: Mapping[str, Any]) -> int | None:
    """task.decoder.width of a saved model, None where it is the default."""
    if family in U_SHAPED:
        found = int((config.get("decoder_channels") or (256,))[0])
        return None if found == 256 else found
    if family == "FPN":
        found = int(config.get("decoder_pyramid_channels", 256))
    elif family == "Linknet":
        return None
    else:
        found = next((int(config[key]) for key in WIDTHS if key in config), 0)
    default = {"PSPNet": 512, "PAN": 32}.get(family, 256)
    return None if found in (0, default) else found


def smp_placed(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of segmentation-models-pytorch's model by the names of ours."""
    starts = {
        "encoder.model.": "decode.backbone.body.",  # of timm
        "encoder.": "decode.backbone.body.",
        "decoder.": "decode.decoder.",
        "segmentation_head.0.": "head.",
    }
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        start = next((start for start in starts if key.startswith(start)), None)
        made[key if start is None else starts[start] + key.removeprefix(start)] = value
    return made


def checked(text: str, names: Sequence[str] | None, outputs: int) -> list[str] | None:
    """The names of the classes as they are. Raises WeightsError for another number of them than of outputs."""
    if names is not None and len(names) != outputs:
        raise WeightsError(
            f"init: {text}: {count(len(names), 'name')} of classes for a model with {outputs}; classes.txt holds one "
            "name a line, in the order of its outputs"
        )
    return None if names is None else ["background" if name == "__background__" else name for name in names]


def meta(cfg: SegmentationConfig, classes: Sequence[str]) -> dict[str, Any]:
    colors = [[(37 * i) % 256, (91 * i) % 256, (153 * i) % 256] for i in range(len(classes))]
    return {
        "classes": list(classes),
        "ignored": [],
        "background": classes.index("background") if "background" in classes else None,
        "colors": colors,
        "values": [[i, i] for i in range(len(classes))],
        "masks": {},
        "counts": [0] * len(classes),
    }


def parts(cfg: SegmentationConfig, model: Any, meta: Mapping[str, Any]) -> Parts:
    names = list(meta["classes"])
    neck = ("decode.decoder.", "decode.neck.", "decode.project.")
    return Parts(neck, {f"head.{kind}": ClassRows(names) for kind in ("weight", "bias")})
