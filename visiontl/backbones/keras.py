"""Architectures of keras-applications, for the files of weights that Keras writes of them: keras/resnet50,
keras/mobilenetv2, keras/efficientnetb0, keras/vgg16.

They are timm's but for what would make other numbers of the same weights: where a stride stands, on which side an image
is padded, the epsilon of batch norm, biases before it, the order of colors. Sources: keras.applications of Keras 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from visiontl.backbones import timm
from visiontl.backbones.kerasnames import IMAGENET_MEAN, IMAGENET_STD, names_of
from visiontl.errors import BackboneError
from visiontl.spec import ImageSpec

# as keras.applications.imagenet_utils.preprocess_input has it, in terms of values of 0 to 1, RGB
CAFFE = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255))  # colors in the order BGR
TF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PREPARED = {"resnet50": CAFFE, "vgg16": CAFFE, "mobilenetv2": TF, "efficientnetb0": (IMAGENET_MEAN, IMAGENET_STD)}
EPSILON = {"resnet50": 1.001e-5, "mobilenetv2": 1e-3, "efficientnetb0": 1e-3}
BEGINS = {
    "resnet50": "resnet50",
    "mobilenetv2": "mobilenetv2_100",
    "efficientnetb0": "tf_efficientnet_b0",
    "vgg16": "vgg16",
}
COUNT = "num_batches_tracked"


class KerasBackbone(timm.TimmBackbone):
    """Its parameters are named as timm names them, below `body.`."""

    def __init__(self, arch: str, *given: Any):
        super().__init__(arch, *given)
        self.kind = arch.removeprefix("keras_")
        self.name = f"keras/{self.kind}"

    def library_call(self, num_classes: int) -> str:
        raise BackboneError(
            f"{self.name} is none of timm's architectures: it pads, strides or standardizes as Keras does"
        )

    def renamed(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        found, rest = named(state, self.kind)
        if not found:
            return state, []
        notes = [f"layers of Keras' {self.kind}, by the names of its file"]
        mean, variance = state.get("normalization/0"), state.get("normalization/1")
        if mean is not None and variance is not None and self.kind == "efficientnetb0":
            self.set_spec(replace(self.spec, **prepared(mean, variance)))
            rest = {name: value for name, value in rest.items() if not name.startswith("normalization/")}
        return {**found, **rest}, notes

    def refitted(self, state: dict[str, Tensor]) -> Mapping[str, Tensor]:
        return state


def named(state: Mapping[str, Tensor], kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(tensors by the names of our body, those of the file that have none there)."""
    found: dict[str, Tensor] = {}
    rest = dict(state)
    for layer, ours in names_of(kind, [name.rpartition("/")[0] for name in state]).items():
        arrays = [rest.pop(f"{layer}/{index}") for index in range(5) if f"{layer}/{index}" in rest]
        found |= dict(converted(ours, arrays))
    if kind == "resnet50":
        found = without_biases(found)
    first = next((name for name in found if name in ("conv1.weight", "features.0.weight")), None)
    if first is not None and found[first].shape[1] == 3:  # from BGR to RGB
        found[first] = found[first].flip(1)
    return found, rest


def converted(ours: str, arrays: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """A layer's arrays in Keras' order and shapes -> its tensors in ours: kernels (h, w, in, out), of depthwise ones
    (h, w, in, 1), of dense ones (in, out); of batch norm gamma, beta, mean, variance."""
    if len(arrays) == 4 and all(one.dim() == 1 for one in arrays):
        for name, value in zip(("weight", "bias", "running_mean", "running_var"), arrays, strict=True):
            yield f"{ours}.{name}", value.float()
        return
    kernel, *bias = [one.float() for one in arrays]
    if kernel.dim() == 4:
        depthwise = ours.endswith("conv_dw")
        kernel = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
    elif kernel.dim() == 2:
        kernel = kernel.T
    yield f"{ours}.weight", kernel.contiguous()
    for value in bias[:1]:
        yield f"{ours}.bias", value


def without_biases(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """A bias before batch norm moves the mean that is taken away: ours have none."""
    made = dict(found)
    for name in [name for name in found if re.search(r"(conv\d|downsample\.0)\.bias$", name)]:
        conv = name.removesuffix(".bias")
        norm = conv.replace("downsample.0", "downsample.1") if "downsample" in conv else conv.replace("conv", "bn")
        bias = made.pop(name)
        if f"{norm}.running_mean" in made:
            made[f"{norm}.running_mean"] = made[f"{norm}.running_mean"] - bias
    return made


def prepared(mean: Tensor, variance: Tensor) -> dict[str, tuple[float, ...]]:
    """What EfficientNet's own layer of normalization states. Keras divides once more by the root of ImageNet's
    deviation where the weights are its own, whose variance is that deviation."""
    means, variances = [one.flatten().double().tolist() for one in (mean, variance)]
    if len(variances) == 3 and all(abs(v - s) < 1e-4 for v, s in zip(variances, IMAGENET_STD, strict=True)):
        return {"mean": tuple(means), "std": IMAGENET_STD}
    return {"mean": tuple(means), "std": tuple(max(v**0.5, 1e-7) for v in variances)}


def body(kind: str, **given: Any) -> nn.Module:
    """timm's architecture, changed to compute what Keras' does."""
    import timm as library

    made: Any = library.create_model(BEGINS[kind], pretrained=False, **{"num_classes": 0, **given})
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = EPSILON[kind]
    if kind == "resnet50":
        strides_first(made)
    elif kind == "mobilenetv2":
        pad_as_tensorflow(made)
    elif kind == "vgg16":
        from timm.layers.classifier import ClassifierHead

        made.pre_logits = nn.Identity()  # files without the classifier end here
        made.num_features = made.head_hidden_size = 512
        made.head = ClassifierHead(512, given.get("num_classes", 0), pool_type="avg")
    return made


def strides_first(made: nn.Module) -> None:
    """In a block that reduces, the first convolution does (ResNet as published), not the second."""
    for module in made.modules():
        second: Any = getattr(module, "conv2", None)
        if second is not None and tuple(second.stride) == (2, 2):
            first: Any = module.conv1
            first.stride, second.stride = (2, 2), (1, 1)


def pad_as_tensorflow(made: nn.Module) -> None:
    """Where the stride is 2, more is padded below and at the right."""
    from timm.layers.conv2d_same import Conv2dSame

    for parent in list(made.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2) and not isinstance(conv, Conv2dSame):
                same: Any = Conv2dSame(
                    conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, 0, conv.dilation, conv.groups,
                    conv.bias is not None,
                )  # fmt: skip
                same.weight, same.bias = conv.weight, conv.bias
                setattr(parent, name, same)


def build(
    kind: str, spec: ImageSpec | None, in_channels: int, output_stride: int | None, image_size: tuple[int, int] | None
) -> Any:
    arch = f"keras_{kind}"
    timm.VARIANTS.setdefault(arch, partial(body, kind))
    mean, std = PREPARED[kind]
    own = spec or ImageSpec((224, 224), mean, std, interpolation="bilinear", crop=1.0)
    return timm.build(arch, own, in_channels, output_stride, image_size, KerasBackbone)
