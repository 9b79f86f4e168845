"""Everything random is a pure function of a few integers, so no generator has a state worth saving."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_MASK = (1 << 64) - 1

# Streams: the first number mixed after a run's seed, so that what is drawn for one purpose says nothing of another
ORDER, SAMPLE, BATCH, STEP, _, INIT = range(6)


def mix(*numbers: int) -> int:
    """Integers -> one well-scattered 63-bit seed (the finaliser of SplitMix64, Steele et al. 2014, chained)."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state + (number & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def seed_generators(seed: int, device: torch.device) -> None:
    """What torch draws from on the CPU and on this device starts from `seed`.

    torch.manual_seed also notes a stack trace for each kind of device that is not there: 0.1 ms, each time.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)


def generator(*numbers: int) -> torch.Generator:
    """A torch generator on the CPU whose state is a function of the numbers."""
    return torch.Generator().manual_seed(mix(*numbers))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block Python's, NumPy's and torch's CPU generators start from `seed`; afterwards each is
    where it was. For libraries that draw from global generators, such as torchvision's v2 transforms."""
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
