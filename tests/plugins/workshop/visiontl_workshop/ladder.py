"""A small residual network, with the stages of its tensors and modules written down by hand."""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

import visiontl
from visiontl.kit.layers import capture
from visiontl_workshop import SPEC

WIDTHS = (12, 20, 32)  # channels of the levels, at strides 2, 4, 8


class Rung(nn.Module):
    """Half the pixels, more channels, and a branch around it."""

    def __init__(self, inside, outside):
        super().__init__()
        self.down = nn.Conv2d(inside, outside, 3, 2, 1)
        self.norm = nn.GroupNorm(4, outside)
        self.mix = nn.Conv2d(outside, outside, 3, 1, 1)
        self.scale = nn.Parameter(torch.full((1, outside, 1, 1), 0.1))  # LayerScale (Touvron et al. 2021)

    def forward(self, x):
        x = F.gelu(self.norm(self.down(x)))
        return x + self.scale * self.mix(x)


class Ladder(visiontl.Backbone):
    def __init__(self, spec, in_channels):
        super().__init__("workshop/ladder", spec, in_channels)
        self.channels, self.strides, self.embed_dim = WIDTHS, (2, 4, 8), WIDTHS[-1]
        self.rungs = nn.ModuleList(
            Rung(inside, outside) for inside, outside in zip((in_channels, *WIDTHS), WIDTHS, strict=False)
        )
        self.norm = nn.LayerNorm(WIDTHS[-1])
        self.register_buffer("seen", torch.zeros(()))  # of images it was trained on: kept with the weights
        self.stages = ("rung0", "rung1", "rung2", "final")
        self.stage_of = stage_of(self)

    def extract(self, x, maps, pooled, layers):
        """No further than what is asked for."""
        deepest = len(self.rungs) if pooled or layers else max(maps, default=-1) + 1
        levels = []
        with capture(self, layers, self.name) as found:
            for rung in self.rungs[:deepest]:
                x = rung(x)
                levels.append(x)
            embedding = self.norm(x.mean((2, 3))) if pooled or "norm" in layers else None
        return visiontl.Features([levels[i] for i in maps], embedding if pooled else None, found.outputs())


def stage_of(backbone):
    """{name: stage} of every parameter, buffer and module but `rungs` itself, which spans three stages, and `mean` and
    `std`, which are the input's and belong to none."""
    found = {"norm": "final", "norm.weight": "final", "norm.bias": "final", "seen": "final"}
    for place, rung in enumerate(backbone.rungs):
        own = f"rungs.{place}"
        inside = [name for name, _ in (*rung.named_modules(), *rung.named_parameters(), *rung.named_buffers()) if name]
        found |= {own: f"rung{place}", **{f"{own}.{name}": f"rung{place}" for name in inside}}
    return found


def build(spec=None, in_channels=3, output_stride=None, image_size=None):
    if output_stride not in (None, 8):
        raise visiontl.BackboneError("workshop/ladder has its deepest map at stride 8; leave output_stride out")
    chosen = spec or SPEC
    return Ladder(replace(chosen, size=tuple(image_size or chosen.size)), in_channels)


def weights(tag):
    """{name: tensor}; drawn from a seed here, read from a file elsewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = Ladder(SPEC, 3)
    return {name: tensor for name, tensor in made.state_dict().items() if name not in ("mean", "std")}
