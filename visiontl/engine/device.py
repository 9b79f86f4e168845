"""The Accelerator of a run, and the choice of precision and memory layout by device and model family."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType, ProjectConfiguration, parse_flag_from_env, send_to_device
from torch import nn

from visiontl.backbone import Backbone
from visiontl.config.schema import TrainConfig
from visiontl.engine.cpu import keep_freed_memory, widen_slow_convolutions
from visiontl.engine.hardware import on_device
from visiontl.errors import ConfigError, TrainingError
from visiontl.processes import compiler, launch, ranks
from visiontl.report.console import Console
from visiontl.runs.environment import environment

SUPPORTED = {
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
}


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs. precision: fp32, bf16 or fp16."""

    accelerator: Accelerator
    precision: str
    channels_last: bool

    def environment(self) -> dict[str, Any]:
        """For a report: machine, versions, processes, precision and memory layout."""
        layout = {"precision": self.precision, "channels_last": self.channels_last}
        return {**environment(self.accelerator), **layout}


def place(
    section: TrainConfig, model: nn.Module, backbone: Backbone, console: Console, trackers: Sequence[str] = ()
) -> Placement:
    """Put a model on its device, in the precision and layout that suit it; says which, and why."""
    device = current_device()
    precision, why = choose_precision(section.precision, device)
    layout, layout_why = choose_channels_last(section.channels_last, model, device)
    accelerator = make_accelerator(precision, trackers)
    if device.type == "cpu":
        keep_freed_memory()
        if precision == "bf16":
            widen_slow_convolutions(model)
    backbone.channels_last = layout
    if layout:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.to(accelerator.device)
    console.say(on_device(device), keep=True)
    console.say(describe(section, precision, why, layout, layout_why), keep=True)
    return Placement(accelerator, precision, layout)


def make_accelerator(precision: str, trackers: Sequence[str] = ()) -> Accelerator:
    """One per run. Its state is a singleton of the process, so an earlier run's is put away first."""
    current_device()
    AcceleratorState._reset_state()
    GradientState._reset_state()
    try:
        accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(precision, precision),
            log_with=list(trackers) if trackers else None,
            # some trackers demand a folder here; the run's own is known only later (see record.start_trackers)
            project_config=ProjectConfiguration(logging_dir="."),
            gradient_accumulation_steps=1,
        )
    except ValueError as error:
        raise ConfigError(
            f"train.precision {precision!r} or run.trackers {trackers!r} cannot be had here: {error}"
        ) from error
    # the environment of `accelerate launch` overrides the constructor; backward would then divide the loss
    accelerator.gradient_accumulation_steps = 1
    if accelerator.distributed_type not in SUPPORTED:
        raise ConfigError(
            f"{accelerator.distributed_type.value} is not supported; launch with plain data parallelism "
            "(multi-CPU or multi-GPU), see docs/distributed.md"
        )
    launched = launch.world_size()
    if accelerator.num_processes != launched or ranks.world() != launched:
        raise TrainingError(
            f"{launched} processes were launched, but {accelerator.num_processes} found each other; on CPU launch with "
            "torchrun, see docs/distributed.md"
        )
    return accelerator


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """(precision, why): `auto` takes what the launcher says, else bf16 where the hardware multiplies in it."""
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted != "auto":
        return wanted, "config"
    if launched not in ("no", "bf16", "fp16"):
        raise ConfigError(f"accelerate launch asks for {launched}; visiontl trains in fp32, bf16 or fp16")
    if launched in ("bf16", "fp16"):
        return launched, "accelerate launch"
    if device.type == "cuda":
        return ("bf16", "the GPU has it") if torch.cuda.is_bf16_supported(False) else ("fp16", "the GPU has no bf16")
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private in torch; absent means no
        if any(getattr(torch.cpu, probe, bool)() for probe in probes):
            return "bf16", "the CPU multiplies in bf16"
        return "fp32", "the CPU has no bf16 instructions"
    return "fp32", f"default on {device.type}"


def choose_channels_last(wanted: str | bool, model: nn.Module, device: torch.device) -> tuple[bool, str]:
    """(layout, why): conv nets gain from channels_last on CPU and on GPUs with bf16; transformers do not."""
    if wanted != "auto":
        return bool(wanted), "config"
    if device.type not in ("cpu", "cuda"):
        return False, f"default on {device.type}"
    convolutions = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))
    total = sum(parameter.numel() for parameter in model.parameters())
    convolutional = convolutions > 0.5 * total
    return convolutional, "a conv net" if convolutional else "not mainly convolutions"


def current_device() -> torch.device:
    """The device of this process. The first call starts the process group.

    Without `cpu=True` Accelerate leaves processes that torchrun started on a machine with no accelerator alone:
    each would train by itself, and nothing would be said.
    """
    compiler.let_wait()
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    with launch.waited_for():
        device = PartialState(cpu=cpu).device
    assert device is not None
    return device


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with all its tensors, in nested lists and dicts too, on the device. Loaders give them on the CPU."""
    if device.type == "cpu":
        return dict(batch)
    return dict(send_to_device(dict(batch), device, non_blocking=True))


def describe(config: TrainConfig, precision: str, why: str, channels_last: bool, layout_why: str) -> str:
    layout = "channels_last" if channels_last else "contiguous"
    compiled = ", torch.compile" if config.compile else ""
    return f"precision {precision} ({why}), memory layout {layout} ({layout_why}){compiled}"
