"""Backbones of timm: the full model without its classifier, one pass for maps and pooled.

features_only is not used: it renames keys, drops the final norm and with it the pooled embedding.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.backbone import Backbone, Features, OriginalHead
from visiontl.backbones import downloads
from visiontl.backbones.catalog import Tag
from visiontl.backbones.library import LibraryBackbone, Plan, fresh, reason
from visiontl.backbones.sizing import Geometry, check_size, measure, same_geometry, takes
from visiontl.errors import BackboneError, WeightsError, first_line
from visiontl.kit.layers import capture
from visiontl.kit.stages import partition
from visiontl.spec import ImageSpec

PROBE_CLASSES = 997  # a prime, so that no other width of a network equals it

# Constructor arguments that free a body from its image size, tried in this order; the state dict stays the same.
SIZE_FREEDOM = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},  # ViT, EVA, BEiT-like
    {"dynamic_img_size": True},
    {"strict_img_size": False},  # Swin
    {},
)


# Modules whose bodies run at other sizes than they are made for, and read wrong places of their tables of positions
# then: MViT counts relative positions from the table's middle, which is that of the size it was made for.
MADE_FOR_ONE_SIZE = ("mvitv2",)

VARIANTS: dict[str, Callable[..., Any]] = {}
"""Architectures that another source makes out of timm's: name -> what takes the arguments of `timm.create_model`."""


class TimmBackbone(LibraryBackbone):
    """A timm architecture. Its parameters are named as timm names them, below `body.`."""

    def __init__(self, arch: str, plan: Plan, spec: ImageSpec, in_channels: int, body: nn.Module):
        super().__init__(f"timm/{arch}", arch, spec, in_channels, body, plan)
        self.plan = plan

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Within the block all images have sides of multiples of 32. TensorFlow's padding is a formula of the size;
        where the stride divides that, it is a number, and a graph that is traced holds no formulas."""
        from timm.layers import padding

        before = padding.get_same_padding
        padding.get_same_padding = lambda x, kernel, stride, dilation: max((kernel - 1) * dilation + 1 - stride, 0)
        try:
            yield
        finally:
            padding.get_same_padding = before

    def extract(self, x: Tensor, maps: tuple[int, ...], pooled: bool, layers: tuple[str, ...]) -> Features:
        body: Any = self.body
        levels = sorted(set(maps))
        deepest = max((self.depth_of_layer(name) for name in layers), default=-1)
        whole = pooled or deepest >= len(self.channels)
        with capture(self.body, layers, self.name) as found:
            by_level: dict[int, Tensor] = {}
            embedding = None
            if whole:
                if levels:
                    y, given = body.forward_intermediates(x, indices=levels, output_fmt="NCHW")
                    by_level = dict(zip(levels, given, strict=True))
                else:
                    y = body.forward_features(x)
                embedding = body.forward_head(y, pre_logits=True)
            else:
                asked = sorted({*levels, deepest}) if layers else levels
                given = body.forward_intermediates(
                    x, indices=asked, stop_early=True, intermediates_only=True, output_fmt="NCHW"
                )
                by_level = dict(zip(asked, given, strict=True))
        return Features([by_level[i] for i in maps], embedding if pooled else None, found.outputs())

    def classifier(self, num_classes: int | None = None) -> OriginalHead:
        """The architecture's own classifier.

        num_classes: default the loaded weights' own, else that of the architecture's default weights, else 1000.
        Raises BackboneError where the logits are no function of the pooled embedding.
        """
        count = num_classes or self.head_classes or default_classes(self.arch)
        names, flat, averaged = head_plan(self.arch, tuple(sorted(self.plan.kwargs.items())), count, self.embed_dim)
        full: Any = meta_body(self.arch, {**self.plan.kwargs, "num_classes": count})
        modules = [fresh(full.get_submodule(name)) for name in names]
        loaded = self.head_state and count == self.head_classes
        if loaded:
            for name, module in zip(names, modules, strict=True):
                inside = {k[len(name) + 1 :]: v for k, v in self.head_state.items() if k.startswith(f"{name}.")}
                module.load_state_dict(inside)
        if not flat:
            modules = [nn.Sequential(nn.Unflatten(1, (self.embed_dim, 1, 1)), m, nn.Flatten()) for m in modules]
        head = Averaged(modules) if averaged else modules[0]
        classes = imagenet_names() if loaded and count == 1000 else None
        places = [f"body.{f'heads.{i}.' * averaged}{'1.' * (not flat)}" for i in range(len(names))]
        ours = {place: f"{name}." for place, name in zip(places, names, strict=True)}
        return OriginalHead(head, "pooled", count, classes, ours)

    def library_call(self, num_classes: int) -> str:
        given = {k: v for k, v in self.plan.kwargs.items() if (k, v) != ("in_chans", 3)}
        options = "".join(f", {key}={value!r}" for key, value in given.items())
        return f"model = timm.create_model({self.arch!r}, num_classes={num_classes}{options})"

    def renamed(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        from visiontl.backbones.remap import from_torchvision

        remapped = from_torchvision(self, state)
        if remapped is not None:
            return remapped
        changed = self.filtered(state)
        own = set(self.body.state_dict())
        if len(own & set(changed)) <= len(own & set(state)):
            return state, []
        return changed, ["names converted by timm's own filter for this family"]

    def refitted(self, state: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """As timm's own loading does it for the family, where more fits then."""
        changed = self.filtered(state)
        own = self.body.state_dict()

        def fitting(given: Mapping[str, Tensor]) -> int:
            return sum(k in given and given[k].shape == v.shape for k, v in own.items())

        return changed if fitting(changed) > fitting(state) else state

    def filtered(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state through the filter that timm loads this family's files with; as it is where there is none."""
        module = sys.modules[type(self.body).__module__]
        convert = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
        if convert is None:
            return state
        known = len(inspect.signature(convert).parameters) == 1  # it reads the state alone
        try:
            with quiet(), torch.no_grad():
                return dict(convert(dict(state)) if known else convert(dict(state), self.body))
        except Exception:  # the library's converters expect certain names and fail on others: nothing to convert
            return state

    def resized(self, key: str, weight: Tensor, own: Tensor, grids: set[tuple[int, int]]) -> Tensor | None:
        name, _, last = key.rpartition(".")
        window = getattr(self.body.get_submodule(name), "window_size", None)
        if last == "relative_position_bias_table" and isinstance(window, tuple | list):
            from timm.layers.pos_embed_rel import resize_rel_pos_bias_table

            try:
                return resize_rel_pos_bias_table(weight, (window[0], window[1]), tuple(own.shape))
            except (ValueError, RuntimeError, AssertionError, IndexError):  # no square window gives this table
                return None
        return super().resized(key, weight, own, grids)

    def own_head(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int] | None:
        own = self.head_tensors_or_none()
        if own is None or not set(own) <= set(state):
            return None
        counts = {state[k].shape[0] for k, v in own.items() if v.dim() > 1 and v.shape[0] == PROBE_CLASSES}
        if len(counts) != 1:
            return None
        count = counts.pop()
        for key, value in own.items():
            wanted = tuple(count if i == 0 and d == PROBE_CLASSES else d for i, d in enumerate(value.shape))
            if tuple(state[key].shape) != wanted:
                return None
        return {key: state[key] for key in own}, count

    def head_tensors_or_none(self) -> dict[str, Tensor] | None:
        try:
            return self.head_tensors()
        except BackboneError:
            return None

    def head_tensors(self) -> dict[str, Tensor]:
        """Meta tensors of the original classifier with PROBE_CLASSES classes, in module order."""
        names, _, _ = head_plan(self.arch, tuple(sorted(self.plan.kwargs.items())), PROBE_CLASSES, self.embed_dim)
        full = meta_body(self.arch, {**self.plan.kwargs, "num_classes": PROBE_CLASSES})
        return {k: v for k, v in full.state_dict().items() if any(k.startswith(f"{n}.") for n in names)}

    def input_convs(self) -> Sequence[str]:
        first = (getattr(self.body, "_traits", None) or {}).get("first_conv") or getattr(
            self.body, "pretrained_cfg", {}
        ).get("first_conv")
        return [first] if isinstance(first, str) else list(first or ())


class Averaged(nn.Module):
    """Distilled models: two classifiers read the same embedding, and the logits are their mean."""

    def __init__(self, heads: Sequence[nn.Module]):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, pooled: Tensor) -> Tensor:
        return torch.stack([head(pooled) for head in self.heads]).mean(0)  # (B, num_classes)


def build(
    arch: str,
    spec: ImageSpec | None = None,
    in_channels: int = 3,
    output_stride: int | None = None,
    image_size: tuple[int, int] | None = None,
    made_as: type[TimmBackbone] = TimmBackbone,
) -> Backbone:
    """timm/ARCH with random weights. A given spec (saved, or a tag's) wins over the architecture's own."""
    default = spec or default_spec(arch)
    height, width = image_size or default.size
    plan = make_plan(arch, in_channels, output_stride, (height, width))
    with quiet():
        body = create(arch, **plan.kwargs)
    chosen = replace(default, size=(height, width), pad_to=plan.geometry.pad_to, sizing=plan.geometry.sizing)
    return made_as(arch, plan, chosen, in_channels, body)


def create(arch: str, **kwargs: Any) -> Any:
    import timm

    if arch in VARIANTS:
        return VARIANTS[arch](**kwargs)
    return timm.create_model(arch, pretrained=False, **{"num_classes": 0, **kwargs})


def meta_body(arch: str, kwargs: Mapping[str, Any]) -> Any:
    with torch.device("meta"), quiet():
        return create(arch, **kwargs).eval()


def default_spec(arch: str, tag: str | None = None) -> ImageSpec:
    """The input specification of a tag's weights, or of the architecture's default ones."""
    import timm

    found = timm.get_pretrained_cfg(f"{arch}.{tag}" if tag else arch)
    if found is None:
        return ImageSpec()
    interpolation = found.interpolation if found.interpolation in ("bilinear", "nearest", "lanczos") else "bicubic"
    return ImageSpec(
        size=(found.input_size[1], found.input_size[2]),
        mean=tuple(found.mean),
        std=tuple(found.std),
        interpolation=interpolation,
        crop=found.crop_pct,
    )


def default_classes(arch: str) -> int:
    import timm

    found = timm.get_pretrained_cfg(arch)
    return (found.num_classes if found is not None else 0) or 1000


@lru_cache(maxsize=64)
def make_plan(
    arch: str, in_channels: int = 3, output_stride: int | None = None, size: tuple[int, int] | None = None
) -> Plan:
    """Find how to build the body for images of `size`, its geometry and stages. Meta device only."""
    native = default_spec(arch).size
    wanted: dict[str, Any] = {"in_chans": in_channels}
    if output_stride is not None:
        wanted["output_stride"] = output_stride
    body, freedom = _first_that_builds(arch, wanted)
    geometry = _geometry(arch, body, in_channels, native)
    if type(body).__module__.rpartition(".")[2] in MADE_FOR_ONE_SIZE:
        geometry = replace(geometry, pad_to=1, sizing="fixed")
    if output_stride is not None and max(geometry.strides) > output_stride:
        raise BackboneError(
            f"timm/{arch} cannot keep its maps at stride {output_stride}: they are at {geometry.strides}; "
            "leave backbone.output_stride out, or choose a dilatable backbone such as timm/resnet50"
        )
    kwargs = {**wanted, **freedom}
    built_for = native
    if size is not None and size != native and not takes(geometry, size):
        try:  # such a body may be made for another size
            other = meta_body(arch, {**wanted, "img_size": size})
            shapes = _run(other, in_channels)(*size)
            if not same_geometry(size, shapes, geometry, native, _run(body, in_channels)(*native)):
                raise ValueError("its maps keep the grid of another size")
        except Exception as error:
            check_size(f"timm/{arch}", size, native, geometry, first_line(error))
            raise
        body, built_for, kwargs = other, size, {**wanted, "img_size": size}
        geometry = replace(geometry, pad_to=1, sizing="fixed")

    def views(model: Any):
        x = torch.zeros(1, in_channels, *built_for, device="meta")
        y, maps = model.forward_intermediates(x, output_fmt="NCHW")
        return maps, model.forward_head(y, pre_logits=True)

    count = sum(parameter.numel() for parameter in body.parameters())
    return Plan(kwargs, native, built_for, geometry, partition(body, views), count)


def _first_that_builds(arch: str, wanted: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    failure: Exception | None = None
    for freedom in SIZE_FREEDOM:
        try:
            return meta_body(arch, {**wanted, **freedom}), freedom
        except Exception as error:
            failure = error
    assert failure is not None
    if "output_stride" in wanted:
        try:
            meta_body(arch, {k: v for k, v in wanted.items() if k != "output_stride"})
        except Exception:
            raise BackboneError(f"timm/{arch} cannot be built: {first_line(failure)}") from failure
        raise BackboneError(
            f"timm/{arch} has no choice of output stride{reason(failure)}; leave backbone.output_stride out, "
            "or choose a dilatable backbone such as timm/resnet50"
        ) from None
    raise BackboneError(f"timm/{arch} cannot be built: {first_line(failure)}") from failure


def _run(body: Any, in_channels: int):
    def run(height: int, width: int):
        with torch.no_grad():
            x = torch.zeros(1, in_channels, height, width, device="meta")
            y, maps = body.forward_intermediates(x, output_fmt="NCHW")
            pooled = body.forward_head(y, pre_logits=True)
        if any(m.dim() != 4 for m in maps):
            raise BackboneError("its intermediate features are no maps")
        if pooled.dim() != 2:
            raise BackboneError("its head pools nothing: no embedding per image")
        return [tuple(m.shape[1:]) for m in maps], pooled.shape[1]

    return run


def _geometry(arch: str, body: Any, in_channels: int, native: tuple[int, int]) -> Geometry:
    declared = [info["reduction"] for info in body.feature_info]
    try:
        return measure(_run(body, in_channels), native, declared)
    except Exception as error:
        raise BackboneError(
            f"timm/{arch} cannot serve as a backbone: one pass that gives a pyramid and a pooled embedding fails "
            f"({first_line(error)})"
        ) from None


@lru_cache(maxsize=16)
def head_plan(
    arch: str, kwargs: tuple[tuple[str, Any], ...], num_classes: int, embed_dim: int
) -> tuple[list[str], bool, bool]:
    """(names of the classifier modules, their input is (B, C) rather than (B, C, 1, 1), their mean is the logits).

    A classifier is the outermost module that holds nothing of the backbone and reads something of the pooled
    embedding's shape: a linear layer, or one with its own norm. Everything that the backbone lacks must be in one.
    """
    full: Any = meta_body(arch, {**dict(kwargs), "num_classes": num_classes})
    body = set(meta_body(arch, {**dict(kwargs), "num_classes": 0}).state_dict())
    extra = [key for key in full.state_dict() if key not in body]
    outside = {
        prefix
        for key in extra
        for prefix in prefixes(key.rpartition(".")[0])
        if not any(k.startswith(f"{prefix}.") for k in body)
    }
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str):
        def hook(_module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(args[0], Tensor) and args[0].flatten(1).shape == (2, embed_dim):
                seen[name] = (args[0], output)

        return hook

    handles = [full.get_submodule(name).register_forward_hook(keep(name)) for name in outside]
    size = dict(kwargs).get("img_size") or default_spec(arch).size
    with torch.no_grad():
        logits = full(torch.zeros(2, dict(kwargs)["in_chans"], *size, device="meta"))
    for handle in handles:
        handle.remove()
    names = [name for name in seen if not any(name.startswith(f"{other}.") for other in seen)]
    given = [seen[name][0] for name in names]
    reason = None
    if not extra:
        reason = "it has no classifier"
    elif not all(any(key.startswith(f"{name}.") for name in names) for key in extra):
        reason = "its logits are computed from more than the pooled embedding"
    elif any(one is not given[0] for one in given):
        reason = "each of its classifiers reads an embedding of its own"
    elif any(seen[name][1].flatten(1).shape != logits.shape for name in names):
        reason = "its classifiers' output is not yet its logits"
    if reason:
        raise BackboneError(f"timm/{arch} offers no original classifier: {reason}")
    order = list(full.state_dict())
    names.sort(key=lambda name: next(i for i, key in enumerate(order) if key.startswith(f"{name}.")))
    return names, given[0].dim() == 2, len(names) > 1


def prefixes(name: str) -> list[str]:
    """'a.b.c' -> ['a', 'a.b', 'a.b.c']."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


@contextmanager
def quiet():
    """timm's warnings about names and sizes say nothing that is not said here in words."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def knows(arch: str) -> bool:
    """True for the name of an architecture of the installed timm."""
    import timm

    return timm.is_model(arch) and "." not in arch


def state(arch: str, tag: str) -> Mapping[str, Any]:
    """The tensors of a tag, through the library's own place and cache. Raises WeightsError."""
    import timm

    found: Any = timm.get_pretrained_cfg(f"{arch}.{tag}")
    if found.hf_hub_id:
        return downloads.hub_state(found.hf_hub_id, found.hf_hub_filename)
    if found.custom_load or str(found.url).endswith(".npz"):
        raise WeightsError(f"timm/{arch}: the weights {tag!r} are published in a JAX format only; choose another tag")
    return downloads.read_cached(found.url)


def tags(arch: str) -> tuple[Tag, ...]:
    """The pretrained weights of an architecture, the recommended one first."""
    from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg

    known = get_arch_pretrained_cfgs(arch)
    default = get_pretrained_cfg(arch)
    found = []
    for name, cfg in known.items():
        tag = name.partition(".")[2]
        if not cfg.has_weights or not tag:
            continue
        source = f"hf-hub:{cfg.hf_hub_id}" if cfg.hf_hub_id else str(cfg.url)
        found.append(Tag(tag, cfg.license or "unknown", source))
    return tuple(sorted(found, key=lambda one: one.tag != (default.tag if default else None)))


@cache
def imagenet_labels() -> tuple[list[str], list[str]]:
    """(WordNet ids, readable names) of the 1000 classes of ImageNet-1k in logit order. Imports no timm."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise BackboneError("ImageNet's class names come with timm, which is not installed: pip install timm")
    folder = Path(spec.submodule_search_locations[0]) / "data" / "_info"
    ids = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    lemmas = dict(
        line.split("\t", 1)
        for line in (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    )
    return ids, [lemmas[one] for one in ids]


def imagenet_names() -> list[str]:
    return list(imagenet_labels()[1])
