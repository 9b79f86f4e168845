"""Pooling of a detector's regions on the CPU, forward and backward, against torchvision's RoIAlign."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from benchmarks.harness import BenchmarkError, Case, Options, Table, measure, ratios, seconds
from torch import Tensor
from torchvision.ops import roi_align as torchvisions
from visiontl_detection.regions import roi_align

ABOUT = """
The regions of 4 images of 320 x 448 pixels on their map of stride 4, 128 channels, pooled to 7 x 7 cells with 2 x 2
samples each, and the gradient of the map. Both compute the same: values and gradients are compared before a time
counts. `torchvision again` is the control.
"""

CELLS, SCALE = 7, 0.25


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    counts = (16,) if options.quick else (256, 1024, 2048)
    yield "Pooling regions on the CPU", partial(compare, counts, 2 if options.quick else 12)


def compare(counts: tuple[int, ...], rounds: int) -> Table:
    rows, values = [], {}
    for count in counts:
        features, regions, cotangent = made(count)
        own, theirs = (gradient(pool, features, regions, cotangent) for pool in (visiontls, torchvision))
        if float((own - theirs).abs().max()) > 1e-3 * float(theirs.abs().max()):
            raise BenchmarkError("the gradients of the two differ")
        cases = {"torchvision": torchvision, "torchvision again": torchvision, "visiontl": visiontls}
        laps = measure(
            [Case(name, partial(timed, pool, features, regions, cotangent)) for name, pool in cases.items()], rounds
        )
        for name, mine in laps.items():
            faster = ratios(laps["torchvision"], mine)
            rows.append([count, name, seconds(mine).text(1, 1e3), faster.text(2)])
            values[f"{count}, {name}"] = faster.median
    return Table(
        ["regions", "pooling", "ms", "times as fast"], rows, [f"{torch.get_num_threads()} threads."], values=values
    )


def made(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(4, 128, 80, 112), (count, 5): image, x1, y1, x2, y2 in pixels, and what comes back from behind."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(4, 128, 80, 112, generator=draw).contiguous(memory_format=torch.channels_last)
    corner = torch.rand(count, 2, generator=draw) * torch.tensor([360.0, 240.0])
    side = torch.rand(count, 2, generator=draw) * 80 + 8
    image = torch.randint(0, 4, (count, 1), generator=draw).float()
    return features, torch.cat([image, corner, corner + side], 1), torch.randn(count, 128, CELLS, CELLS, generator=draw)


def torchvision(features: Tensor, regions: Tensor) -> Tensor:
    return torchvisions(features, regions, CELLS, SCALE, 2)


def visiontls(features: Tensor, regions: Tensor) -> Tensor:
    return roi_align(features, regions, CELLS, SCALE)


def gradient(pool: Callable[..., Tensor], features: Tensor, regions: Tensor, cotangent: Tensor) -> Tensor:
    leaf = features.detach().requires_grad_()
    pool(leaf, regions).backward(cotangent)
    assert leaf.grad is not None
    return leaf.grad


def timed(pool: Callable[..., Tensor], *inputs: Tensor) -> float:
    began = time.perf_counter()
    gradient(pool, *inputs)
    return time.perf_counter() - began
