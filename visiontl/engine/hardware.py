"""On what a run computes, in words, and how another device is chosen."""

from __future__ import annotations

import torch

from visiontl.kit.words import count


def on_device(device: torch.device) -> str:
    """'device: GPU 0 of 2, NVIDIA H200 (...)', with what is set to get another one. One line."""
    if device.type != "cpu":
        name, there = device.type, torch.accelerator.device_count()
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        which = f"GPU {device.index or 0} of {there}, {name}"
        other = ", CUDA_VISIBLE_DEVICES=1 takes another one" if there > 1 else ""
        return f"device: {which} (ACCELERATE_USE_CPU=1 in front of the command takes the CPU{other})"
    if torch.accelerator.is_available():
        why = "asked for by ACCELERATE_USE_CPU, though there is a GPU"
    elif torch.version.cuda is None and not torch.accelerator.current_accelerator():
        why = "this torch is built for CPUs alone"
    else:
        why = "torch sees no GPU"
    return f"device: CPU, {count(torch.get_num_threads(), 'thread')} ({why})"
