"""AdamW whose moments take 8 bits a value (Dettmers et al. 2022, block-wise), by bitsandbytes: an extra of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from visiontl.config.schema import OptimConfig
from visiontl.errors import ConfigError

NAME = "adamw8bit"
SMALLEST, BLOCK = 4096, 256  # values: moments of smaller tensors stay in fp32; those that share a scale
CODES = 256  # what 8 bits can stand for
INSTALL = "pip install 'visiontl[bits]'"


def library() -> Any:
    """bitsandbytes. Raises ConfigError where it is not installed, or cannot be loaded."""
    try:
        import bitsandbytes
        import bitsandbytes.optim
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"optim.name=adamw8bit needs bitsandbytes ({error}): {INSTALL}; optim.name=adamw needs none"
        ) from None
    return bitsandbytes


def require(config: OptimConfig) -> None:
    """Raise ConfigError where the config asks for what is not installed, before anything is read."""
    if config.name == NAME:
        library()


def adamw8bit(groups: list[dict[str, Any]], config: OptimConfig, device: torch.device) -> Optimizer:
    """Raises ConfigError for a device on which it has not been tried by the library."""
    if device.type not in ("cpu", "cuda", "xpu"):
        raise ConfigError(f"optim.name=adamw8bit: bitsandbytes has none for {device.type}; use optim.name=adamw")
    for parameter in (parameter for group in groups for parameter in group["params"]):
        # it walks memory, and would lay the weights out so itself at its first update, after their moments were made
        parameter.data = parameter.data.contiguous()
    return library().optim.AdamW8bit(groups, lr=config.lr, betas=config.betas, min_8bit_size=SMALLEST)


def unshared(value: Tensor) -> Tensor:
    """A value of an optimizer's state by itself: a table of codes is one for all parameters, a file of tensors holds
    none twice."""
    return value.clone() if value.shape == (CODES,) else value


def shapes(names: Iterable[str], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{name|key: a tensor of that shape} of the state of parameters that had an update."""
    found: dict[str, Tensor] = {}
    for name in names:
        weight = weights[name]
        own = {"step": (), "state1": weight.shape, "state2": weight.shape}
        if weight.numel() >= SMALLEST:
            blocks = -(-weight.numel() // BLOCK)
            own |= {"qmap1": (CODES,), "qmap2": (CODES,), "absmax1": (blocks,), "absmax2": (blocks,)}
        found |= {f"{name}|{key}": torch.empty(shape, device="meta") for key, shape in own.items()}
    return found
