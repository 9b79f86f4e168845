"""Backbones of torchvision: its classification models, cut by hooks at the last unit of each stride.

The last linear (or convolution) is replaced by Identity, so the model's own forward gives the pooled embedding
exactly as it was trained, hidden layers included; hooks on units give the maps of the same pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.backbone import Backbone, Features, OriginalHead
from visiontl.backbones import downloads
from visiontl.backbones.catalog import Tag
from visiontl.backbones.channels import adapted_conv
from visiontl.backbones.library import LibraryBackbone, Plan, fresh, reason
from visiontl.backbones.sizing import check_size, measure, nearest_power, takes
from visiontl.errors import BackboneError, first_line
from visiontl.kit.layers import capture
from visiontl.kit.stages import meta_copy, partition
from visiontl.spec import ImageSpec

CONTAINERS = {
    "features",
    "layers",
    "trunk_output",
    "blocks",
    "encoder",
    "encoder.layers",
}  # opened to find units
INSIDE_PREPROCESSING = ("googlenet", "inception_v3")  # see default_spec
DILATIONS = {
    32: (False, False, False),
    16: (False, False, True),
    8: (False, True, True),
}  # of resnet's layer2..4


@dataclass(frozen=True)
class Cut:
    """Where a pyramid level leaves the model. layout: nchw, nhwc or tokens (B, 1 + h * w, C)."""

    unit: str
    layout: str
    changed: bool  # a later operation works in place on it: then the pass must not end here


@dataclass(frozen=True)
class CutPlan(Plan):
    """The plan of a body whose pyramid is taken where its own operations leave it."""

    cuts: tuple[Cut, ...]
    head: str  # name of the layer that was replaced by Identity
    patch: int  # pixels; ViT only, else 0


class TorchvisionBackbone(LibraryBackbone):
    """A torchvision model. Its parameters are named as torchvision names them, below `body.`."""

    def __init__(self, arch: str, plan: CutPlan, spec: ImageSpec, in_channels: int, body: nn.Module):
        super().__init__(f"torchvision/{arch}", arch, spec, in_channels, body, plan)
        self.plan = plan

    def extract(self, x: Tensor, maps: tuple[int, ...], pooled: bool, layers: tuple[str, ...]) -> Features:
        cuts = [self.plan.cuts[level] for level in maps]
        return run_pass(self.body, x, cuts, pooled, layers, self.plan.patch, self.name)

    def classifier(self, num_classes: int | None = None) -> OriginalHead:
        """The architecture's own last layer.

        num_classes: default the loaded weights' own, else that of the architecture's default weights.
        """
        names = categories(self.arch)
        count = num_classes or self.head_classes or len(names) or 1000
        layer = fresh(original_layer(self.arch, count, self.plan.head))
        loaded = bool(self.head_state) and count == self.head_classes
        if loaded:
            prefix = f"{self.plan.head}."
            layer.load_state_dict({k.removeprefix(prefix): v for k, v in self.head_state.items()})
        classes = names if loaded and count == len(names) else None
        if isinstance(layer, nn.Conv2d):  # SqueezeNet classifies each place and pools the logits
            body = nn.Sequential(layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
            return OriginalHead(body, "map", count, classes, {"body.0.": f"{self.plan.head}."})
        return OriginalHead(layer, "pooled", count, classes, {"body.": f"{self.plan.head}."})

    def library_call(self, num_classes: int) -> str:
        given = constructor(self.arch, {**self.plan.kwargs, **({"num_classes": num_classes} if num_classes else {})})
        options = "".join(f", {key}={value!r}" for key, value in given.items())
        lines = [f"model = torchvision.models.get_model({self.arch!r}, weights=None{options})"]
        if not num_classes:  # it has no argument for that
            lines.append(f"model.set_submodule({self.plan.head!r}, torch.nn.Identity())")
        if self.in_channels != 3:
            name = first_conv(self.body)
            lines.append(f"model.set_submodule({name!r}, torch.nn.{self.body.get_submodule(name)!r})")
        return "; ".join(lines)

    def input_convs(self) -> Sequence[str]:
        return [first_conv(self.body)]

    def own_head(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int] | None:
        own = {f"{self.plan.head}.{k}": v for k, v in self.head_layer().state_dict().items()}
        if not set(own) <= set(state):
            return None
        count = state[f"{self.plan.head}.weight"].shape[0]
        if any(tuple(state[k].shape) != (count, *v.shape[1:]) for k, v in own.items()):
            return None
        return {key: state[key] for key in own}, count

    def head_layer(self) -> nn.Module:
        return original_layer(self.arch, 1000, self.plan.head)


class Enough(Exception):
    """Everything that was asked for has been computed: leave the model's forward."""


def run_pass(
    body: nn.Module,
    x: Tensor,
    cuts: Sequence[Cut],
    pooled: bool,
    layers: Sequence[str],
    patch: int,
    name: str,
) -> Features:
    """One pass of the body. It ends at the deepest unit asked for, unless pooled is asked for too."""
    modules = dict(body.named_modules())
    given: dict[str, Tensor] = {}
    waiting = {cut.unit for cut in cuts} | set(layers)
    stop = not pooled and not any(cut.changed for cut in cuts)

    def hook_for(unit: str, keep: bool):
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if keep:
                given[unit] = output
            waiting.discard(unit)
            if stop and not waiting and not torch.compiler.is_compiling():
                raise Enough

        return hook

    embedding = None
    with capture(body, layers, name) as found:
        kept = {cut.unit for cut in cuts}
        handles = [modules[u].register_forward_hook(hook_for(u, u in kept)) for u in {*kept, *layers}]
        try:
            embedding = body(x)
        except Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
    maps = [as_map(given[cut.unit], cut.layout, x, patch) for cut in cuts]
    return Features(maps, embedding if pooled else None, found.outputs())


def as_map(output: Tensor, layout: str, x: Tensor, patch: int) -> Tensor:
    """A unit's output -> (B, C, h, w)."""
    if layout == "nhwc":
        return output.permute(0, 3, 1, 2)  # (B, h, w, C) -> (B, C, h, w)
    if layout == "tokens":
        grid = x.shape[2] // patch, x.shape[3] // patch
        return output[:, 1:].transpose(1, 2).unflatten(2, grid)  # (B, 1 + hw, C) -> (B, C, h, w)
    return output


def build(
    arch: str,
    spec: ImageSpec | None = None,
    in_channels: int = 3,
    output_stride: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> Backbone:
    """torchvision/ARCH with random weights. A given spec (saved, or a tag's) wins over the architecture's own."""
    default = spec or default_spec(arch)
    height, width = image_size or default.size
    plan = make_plan(arch, in_channels, output_stride, (height, width))
    body, _ = without_head(create(arch, **plan.kwargs))
    adapt_channels(body, in_channels)
    chosen = replace(default, size=(height, width), pad_to=plan.geometry.pad_to, sizing=plan.geometry.sizing)
    return TorchvisionBackbone(arch, plan, chosen, in_channels, body)


def create(arch: str, **kwargs: Any) -> nn.Module:
    from torchvision import models

    with quiet():
        return models.get_model(arch, weights=None, **constructor(arch, kwargs))


def constructor(arch: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the architecture: one head, and no normalization of its own."""
    inside = {"aux_logits": False, "init_weights": True, "transform_input": False}
    return {**(inside if arch in INSIDE_PREPROCESSING else {}), **kwargs}


def without_head(model: nn.Module) -> tuple[nn.Module, str]:
    """Replace the last linear or convolution by Identity; (the model, the layer's name)."""
    name = [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Identity())
    return model, name


def meta_model(arch: str, kwargs: Mapping[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"):
            return create(arch, **kwargs).eval()
    except Exception:  # RegNet computes its widths with tensors and reads them: build it, then drop the values
        return meta_copy(create(arch, **kwargs)).eval()


@lru_cache(maxsize=16)
def original_layer(arch: str, num_classes: int, head: str) -> nn.Module:
    """The architecture's last layer on the meta device."""
    return meta_model(arch, {"num_classes": num_classes}).get_submodule(head)


def first_conv(body: nn.Module) -> str:
    return next(name for name, module in body.named_modules() if isinstance(module, nn.Conv2d))


def adapt_channels(body: nn.Module, in_channels: int) -> None:
    """Give the first convolution another number of input channels."""
    name = first_conv(body)
    old: Any = body.get_submodule(name)
    if old.in_channels == in_channels:
        return
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,
        old.stride,
        old.padding,
        old.dilation,
        bias=old.bias is not None,
        device=old.weight.device,
    )
    with torch.no_grad():
        if old.weight.device.type != "meta":
            changed = adapted_conv(old.weight, new.weight, in_channels)
            assert changed is not None
            new.weight.copy_(changed)
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, new)


@lru_cache(maxsize=64)
def make_plan(
    arch: str, in_channels: int = 3, output_stride: int | None = None, size: tuple[int, int] | None = None
) -> CutPlan:
    """Find how to build the body for images of `size`, its cuts, geometry and stages. Meta device only."""
    from torchvision import models

    native = default_spec(arch).size
    built_for = native
    kwargs: dict[str, Any] = {}
    if arch.startswith("vit_"):
        kwargs["image_size"] = native[0]
    body, head = without_head(meta_model(arch, kwargs))
    adapt_channels(body, in_channels)
    patch = int(getattr(body, "patch_size", 0)) if isinstance(body, models.VisionTransformer) else 0
    cuts = find_cuts(body, in_channels, native)
    if output_stride is not None:
        kwargs |= dilation(arch, output_stride)
        try:
            body, _ = without_head(meta_model(arch, kwargs))
        except Exception as error:
            raise BackboneError(
                f"torchvision/{arch} has no choice of output stride{reason(error)}; leave "
                "backbone.output_stride out, or choose a dilatable backbone such as torchvision/resnet50"
            ) from None
        adapt_channels(body, in_channels)
    geometry = measure(shapes_of(body, cuts, in_channels, patch), native)
    if size is not None and size != native and not takes(geometry, size):
        try:
            made = {**kwargs, **made_for(arch, size)}
            other, _ = without_head(meta_model(arch, made))
            adapt_channels(other, in_channels)
            shapes_of(other, cuts, in_channels, patch)(*size)
        except Exception as error:
            check_size(f"torchvision/{arch}", size, native, geometry, first_line(error))
            raise
        body, kwargs, built_for = other, made, size
        geometry = replace(geometry, pad_to=1, sizing="fixed")

    def views(model: nn.Module):
        device = next(model.parameters()).device
        x = torch.zeros(1, in_channels, *built_for, device=device)
        features = run_pass(model, x, cuts, True, (), patch, arch)
        return features.maps, features.pooled

    count = sum(parameter.numel() for parameter in body.parameters())
    parts = partition(body, views)
    return CutPlan(kwargs, native, built_for, geometry, parts, count, cuts, head, patch)


def dilation(arch: str, output_stride: int) -> dict[str, Any]:
    """The constructor argument that ends an architecture at this stride."""
    if arch.startswith("mobilenet_v3") and output_stride in (16, 32):  # as in torchvision's segmentation models
        return {"dilated": output_stride == 16}
    return {"replace_stride_with_dilation": DILATIONS[output_stride]}


def made_for(arch: str, size: tuple[int, int]) -> dict[str, Any]:
    """The constructor argument that fixes the image size."""
    if arch.startswith("vit_"):
        if size[0] != size[1]:
            raise ValueError("only square images")
        return {"image_size": size[0]}
    if arch.startswith("maxvit"):
        return {"input_size": tuple(size)}
    raise ValueError("its constructor takes no image size")


def shapes_of(body: nn.Module, cuts: Sequence[Cut], in_channels: int, patch: int):
    def run(height: int, width: int):
        with torch.no_grad():
            x = torch.zeros(1, in_channels, height, width, device="meta")
            features = run_pass(body, x, cuts, True, (), patch, "")
        assert features.pooled is not None
        return [(m.shape[1], m.shape[2], m.shape[3]) for m in features.maps], features.pooled.shape[1]

    return run


def find_cuts(body: nn.Module, in_channels: int, size: tuple[int, int]) -> tuple[Cut, ...]:
    """The last unit of each nominal stride, shallow first; for a ViT each of its layers."""
    from torchvision import models

    nhwc = isinstance(body, models.SwinTransformer)
    seen: list[tuple[str, str, int, Tensor, int]] = []
    ended = False

    def hook_for(unit: str):
        def hook(module: nn.Module, _args: Any, output: Any) -> None:
            nonlocal ended
            ended = ended or isinstance(module, nn.AdaptiveAvgPool2d)  # from here on it is a head
            if ended or isinstance(module, nn.LayerNorm) or not isinstance(output, Tensor):
                return
            if output.dim() == 3 and ".encoder_layer_" in unit:
                seen.append((unit, "tokens", len(seen) + 1, output, output._version))
            elif output.dim() == 4:
                height = output.shape[1] if nhwc else output.shape[2]
                if height > 1 and type(module).__name__ != "Permute":
                    stride = nearest_power(size[0] / height)
                    seen.append((unit, "nhwc" if nhwc else "nchw", stride, output, output._version))

        return hook

    handles = [module.register_forward_hook(hook_for(name)) for name, module in units(body)]
    with torch.no_grad():
        body(torch.zeros(1, in_channels, *size, device="meta"))
    for handle in handles:
        handle.remove()
    tokens = [entry for entry in seen if entry[1] == "tokens"]
    last = {stride: entry for entry in (tokens or seen) for stride in [entry[2]]}
    return tuple(
        Cut(unit, layout, output._version != version) for _, (unit, layout, _, output, version) in sorted(last.items())
    )


def units(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The children in order, those of containers in place of the container."""
    found = []
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        found += units(child, f"{full}.") if full in CONTAINERS else [(full, child)]
    return found


def knows(arch: str) -> bool:
    """True for the name of an architecture of the installed torchvision."""
    from torchvision import models

    return arch in models.list_models(module=models)


def state(arch: str, tag: str) -> Mapping[str, Any]:
    """The tensors of a tag, through torch's cache. Raises WeightsError."""
    return downloads.read_cached(weights_enum(arch)[tag].url, hashed=True)


def weights_enum(arch: str) -> Any:
    from torchvision import models

    return models.get_model_weights(arch)


def default_spec(arch: str, tag: str | None = None) -> ImageSpec:
    """The input specification of a tag's weights, or of the architecture's default ones.

    GoogLeNet's and Inception's weights come with transform_input=True, which turns ImageNet's statistics into
    mean 0.5 and std 0.5 inside the model. Here the model has it off, and the specification says 0.5.
    """
    enum = weights_enum(arch)
    preset = (enum[tag] if tag else enum.DEFAULT).transforms()
    size, resized = preset.crop_size[0], preset.resize_size[0]
    half = (0.5, 0.5, 0.5)
    inside = arch in INSIDE_PREPROCESSING
    return ImageSpec(
        size=(size, size),
        mean=half if inside else tuple(preset.mean),
        std=half if inside else tuple(preset.std),
        interpolation=preset.interpolation.value,
        crop=size / resized,
    )


def categories(arch: str) -> list[str]:
    """Class names of the architecture's default weights, in logit order."""
    return list(weights_enum(arch).DEFAULT.meta.get("categories") or ())


def tags(arch: str) -> tuple[Tag, ...]:
    """The pretrained weights of an architecture, the recommended one first."""
    enum = weights_enum(arch)
    found = []
    for one in sorted(enum, key=lambda w: w is not enum.DEFAULT):
        accuracy = one.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
        # no license is stated in the tags: the repository's, and SWAG's own (github.com/facebookresearch/SWAG)
        license = "cc-by-nc-4.0" if "SWAG" in one.name else "bsd-3-clause"
        found.append(Tag(one.name, license, one.url, accuracy if accuracy == accuracy else None))  # one is NaN
    return tuple(found)


@contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
