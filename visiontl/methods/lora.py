"""Low-rank adapters (Hu et al. 2021, LoRA) beside linear and 1 x 1 convolution layers of a backbone.

A layer with weight W answers as one with W + alpha / rank B A would. Names of the weights that stay as they are do not
change: the layer gets two parameters more, `lora_A` and `lora_B`. What is exported holds the sum alone.
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
from visiontl.runs import store

A, B = ADAPTER
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
        module.lora_scale = wanted.alpha / wanted.rank  # type: ignore[assignment]
        module.register_forward_hook(adapted)
        for part in ADAPTER:
            stages[f"{name}.{part}"] = stages[f"{name}.weight"]
    backbone.stage_of = stages
    return list(chosen)


def named(name: str, target: str) -> bool:
    """Whether a pattern names a module, by all of its name or by its last part or parts."""
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")


def adapted(module: Any, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """W x, and what B A adds to it."""
    x, a, b, scale = given[0], module.lora_A, module.lora_B, float(module.lora_scale)
    if a.ndim == 2:
        return output + scale * functional.linear(functional.linear(x, a), b)
    return output + scale * functional.conv2d(functional.conv2d(x, a, stride=module.stride), b)


def adapters(model: nn.Module) -> dict[str, Any]:
    """Layers with an adapter, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, A)}


def merged(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of the model as one without adapters has it: each weight with its adapter added."""
    found = dict(state)
    for name, module in adapters(model).items():
        a, b = found.pop(f"{name}.{A}"), found.pop(f"{name}.{B}")
        found[f"{name}.weight"] = found[f"{name}.weight"] + added(a, b, module.lora_scale)
    return found


def added(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """(rank, in), (out, rank) -> scale B A, (out, in); of 1 x 1 convolutions with their (1, 1) behind."""
    return scale * (b.flatten(1) @ a.flatten(1)).view(b.shape[0], a.shape[1], *a.shape[2:])


def unmerged(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse, as far as the model's answers go: the weights as they are given, and adapters that add nothing."""
    found = dict(state)
    for name, module in adapters(model).items():
        found |= {f"{name}.{A}": module.lora_A.detach(), f"{name}.{B}": torch.zeros_like(module.lora_B)}
    return found


# ----------------------------------------------------------------------------------------------- the adapter alone


def files(backbone: Backbone, wanted: Lora) -> dict[str, store.Content]:
    """The adapter as peft writes it, with the norm layers that trained beside it: names are those of the weights' own
    library, so `PeftModel.from_pretrained(that library's model, folder)` takes it."""
    own, state = backbone.library_names(), backbone.state_dict()
    theirs = {name: own[f"{name}.weight"].removesuffix(".weight") for name in adapters(backbone)}
    tensors = {
        f"{PREFIX}{theirs[name]}.{part}.weight": state[f"{name}.{part}"].contiguous()
        for name in theirs
        for part in ADAPTER
    }
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
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "target_modules": sorted(theirs.values()),
        "modules_to_save": sorted({own[name].rpartition(".")[0] for name in norms}) or None,
    }
    return {FILES[0]: tensors, FILES[1]: json.dumps(config, indent=2)}


def read(backbone: Backbone, folder: Path, wanted: Lora) -> None:
    """An adapter, as peft writes it, into the backbone's. Raises CheckpointError for one that does not fit."""
    if lacking := [name for name in FILES if not (folder / name).is_file()]:
        raise CheckpointError(f"{folder}: holds no adapter ({lacking[0]} is absent)")
    config, given = store.read_json(folder, FILES[1]), store.read_tensors(folder, FILES[0])
    stated = {"r": wanted.rank, "lora_alpha": wanted.alpha}
    for key, value in stated.items():
        if config.get(key) != value:
            raise CheckpointError(
                f"{folder}: its {key} is {config.get(key)}, freeze.policy says {value}; state the same"
            )
    own, ours = backbone.library_names(), {}
    for name, theirs in own.items():
        if not name.endswith(ADAPTER):
            ours[f"{PREFIX}{theirs}"] = name
    for name in adapters(backbone):
        theirs = own[f"{name}.weight"].removesuffix(".weight")
        ours |= {f"{PREFIX}{theirs}.{part}.weight": f"{name}.{part}" for part in ADAPTER}
    state = backbone.state_dict()
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
