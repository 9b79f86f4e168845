"""Low-rank adapters (Hu et al. 2021, LoRA) beside linear and 1 x 1 convolution layers of a backbone.

A layer with weight W answers as one with W + alpha / rank B A would. Names of the weights that stay as they are do not
change: the layer gets two parameters more, `lora_A` and `lora_B`, and with dora a third, `lora_magnitude_vector`. What
is exported holds the sum alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontl.backbone import Backbone
from visiontl.errors import CheckpointError, PolicyError
from visiontl.freezing.layout import ADAPTER, is_norm
from visiontl.freezing.surgical import Lora
from visiontl.kit.words import some
from visiontl.methods import dora
from visiontl.runs import store

A, B, MAGNITUDE = ADAPTER
FILES = ("adapter_model.safetensors", "adapter_config.json")  # as peft calls them
PREFIX = "base_model.model."  # of peft's names


def fitting(backbone: Backbone) -> dict[str, nn.Linear | nn.Conv2d]:
    """Layers that can have an adapter, by name. Those inside torch's own attention are read without being called."""
    inside = [f"{name}." for name, module in backbone.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return {
        name: module
        for name, module in backbone.named_modules()
        if (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and is_pointwise(module)))
        and not name.startswith(tuple(inside))
    }


def is_pointwise(module: nn.Conv2d) -> bool:
    return module.kernel_size == (1, 1) and module.groups == 1 and module.padding in ((0, 0), 0)


def insert(backbone: Backbone, wanted: Lora) -> list[str]:
    """Give the layers that a target names an adapter; the names of those layers. B starts at 0, so nothing changes yet.

    Raises PolicyError where a target names none.
    """
    layers, chosen = fitting(backbone), dict[str, nn.Linear | nn.Conv2d]()
    for target in wanted.targets:
        found = {name: one for name, one in layers.items() if named(name, target)}
        if not found:
            raise PolicyError(
                f"freeze.policy: lora: {target!r} names no linear or 1 x 1 convolution layer of {backbone.name}, "
                f"which has {some(list(layers), 8) or 'none'}"
            )
        chosen |= found
    stages = dict(backbone.stage_of)
    for name, module in chosen.items():
        weight = module.weight
        shape = (1,) * (weight.ndim - 2)
        a = torch.empty(wanted.rank, weight.shape[1], *shape, device=weight.device, dtype=weight.dtype)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        module.register_parameter(A, nn.Parameter(a))
        module.register_parameter(B, nn.Parameter(a.new_zeros(weight.shape[0], wanted.rank, *shape)))
        if wanted.dora:
            module.register_parameter(MAGNITUDE, nn.Parameter(dora.lengths(weight.detach())))
        module.lora_scale = wanted.alpha / wanted.rank  # type: ignore[assignment]
        module.register_forward_hook(adapted)
        for part in parts(module):
            stages[f"{name}.{part}"] = stages[f"{name}.weight"]
    backbone.stage_of = stages
    return list(chosen)


def named(name: str, target: str) -> bool:
    """Whether a pattern names a module, by all of its name or by its last part or parts."""
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")


def parts(module: nn.Module) -> list[str]:
    """Names of a layer's parameters that are its adapter's; none for a layer without one."""
    return [part for part in ADAPTER if hasattr(module, part)]


def adapted(module: Any, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """W x, and what B A adds to it; with a magnitude, the rows that both make have its lengths."""
    x, a, b, scale = given[0], module.lora_A, module.lora_B, float(module.lora_scale)
    if a.ndim == 2:
        more = scale * functional.linear(functional.linear(x, a), b)
    else:
        more = scale * functional.conv2d(functional.conv2d(x, a, stride=module.stride), b)
    if not hasattr(module, MAGNITUDE):
        return output + more
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # the lengths of what is exported
        change = added(a, b, scale)
    return dora.answer(module, output, more, change)


def adapters(model: nn.Module) -> dict[str, Any]:
    """Layers with an adapter, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, A)}


def merged(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of the model as one without adapters has it: each weight with its adapter added."""
    found = dict(state)
    for name, module in adapters(model).items():
        a, b = found.pop(f"{name}.{A}"), found.pop(f"{name}.{B}")
        found[f"{name}.weight"] = found[f"{name}.weight"] + added(a, b, module.lora_scale)
        if (magnitude := found.pop(f"{name}.{MAGNITUDE}", None)) is not None:
            found[f"{name}.weight"] = dora.rescaled(found[f"{name}.weight"], magnitude)
    return found


def added(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """(rank, in), (out, rank) -> scale B A, (out, in); of 1 x 1 convolutions with their (1, 1) behind."""
    return scale * (b.flatten(1) @ a.flatten(1)).view(b.shape[0], a.shape[1], *a.shape[2:])


def unmerged(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse, as far as the model's answers go: the weights as they are given, and adapters that add nothing."""
    found = dict(state)
    for name, module in adapters(model).items():
        found |= {f"{name}.{A}": module.lora_A.detach(), f"{name}.{B}": torch.zeros_like(module.lora_B)}
        if hasattr(module, MAGNITUDE):
            found[f"{name}.{MAGNITUDE}"] = dora.lengths(found[f"{name}.weight"])
    return found


# ----------------------------------------------------------------------------------------------- the adapter alone


def files(backbone: Backbone, wanted: Lora) -> dict[str, store.Content]:
    """The adapter as peft writes it, with the norm layers that trained beside it: names are those of the weights' own
    library, so `PeftModel.from_pretrained(that library's model, folder)` takes it."""
    own, state = backbone.library_names(), backbone.state_dict()
    theirs = {name: own[f"{name}.weight"].removesuffix(".weight") for name in adapters(backbone)}
    tensors = {key: state[name].contiguous() for key, name in keys(backbone, own).items()}
    for key in tensors:  # peft's magnitudes of a convolution are those of a map: (1, out, 1, 1)
        if key.endswith(MAGNITUDE) and tensors[key.replace(MAGNITUDE, f"{A}.weight")].ndim == 4:
            tensors[key] = tensors[key].view(1, -1, 1, 1)
    norms = {
        f"{name}.{part}": tensor
        for name, module in backbone.named_modules()
        if is_norm(module)
        for part, tensor in module.state_dict().items()
        if f"{name}.{part}" in own
    }
    tensors |= {f"{PREFIX}{own[name]}": tensor.contiguous() for name, tensor in norms.items()}
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": backbone.name,
        "inference_mode": True,
        "r": wanted.rank,
        "lora_alpha": wanted.alpha,
        "lora_dropout": 0.0,
        "use_dora": wanted.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "target_modules": sorted(theirs.values()),
        "modules_to_save": sorted({own[name].rpartition(".")[0] for name in norms}) or None,
    }
    return {FILES[0]: tensors, FILES[1]: json.dumps(config, indent=2)}


def keys(backbone: Backbone, own: Mapping[str, str]) -> dict[str, str]:
    """{peft's name: ours} of the adapters' parameters. own: {our name: the library's} of the backbone's."""
    found = {}
    for name, module in adapters(backbone).items():
        place = f"{PREFIX}{own[f'{name}.weight'].removesuffix('.weight')}"
        found |= {
            f"{place}.{part}" if part == MAGNITUDE else f"{place}.{part}.weight": f"{name}.{part}"
            for part in parts(module)
        }
    return found


def read(backbone: Backbone, folder: Path, wanted: Lora) -> None:
    """An adapter, as peft writes it, into the backbone's. Raises CheckpointError for one that does not fit."""
    if lacking := [name for name in FILES if not (folder / name).is_file()]:
        raise CheckpointError(f"{folder}: holds no adapter ({lacking[0]} is absent)")
    config, given = store.read_json(folder, FILES[1]), store.read_tensors(folder, FILES[0])
    stated = {"r": wanted.rank, "lora_alpha": wanted.alpha, "use_dora": wanted.dora}
    for key, value in stated.items():
        found = config.get(key, False if key == "use_dora" else None)  # which peft had not always
        if found != value:
            raise CheckpointError(f"{folder}: its {key} is {found}, freeze.policy says {value}; state the same")
    own = backbone.library_names()
    ours = {f"{PREFIX}{theirs}": name for name, theirs in own.items() if not name.endswith(ADAPTER)}
    ours |= keys(backbone, own)
    state = backbone.state_dict()
    given = {key: one.flatten() if key.endswith(MAGNITUDE) else one for key, one in given.items()}
    strange = [key for key in given if key not in ours or state[ours[key]].shape != given[key].shape]
    absent = [key for key, name in ours.items() if name.endswith(ADAPTER) and key not in given]
    if strange or absent:
        first = (strange or absent)[0]
        raise CheckpointError(
            f"{folder}: {len(strange) + len(absent)} tensors do not fit backbone and targets, such as {first}"
        )
    with torch.no_grad():
        for key, tensor in given.items():
            state[ours[key]].copy_(tensor)
