"""What a process takes of the machine while it trains."""

from __future__ import annotations

import psutil
import torch


def memory_used(device: torch.device) -> float:
    """Megabytes (10^6 bytes): of a GPU the most that tensors of this process took so far; else what the process has in
    memory now, without its loader processes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return psutil.Process().memory_info().rss / 1e6
