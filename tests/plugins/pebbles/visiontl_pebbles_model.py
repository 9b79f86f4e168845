"""The architecture, as its authors have it, and the backbone around it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from visiontl_pebbles import DAY

import visiontl
from visiontl.kit.layers import capture
from visiontl.kit.stages import partition

CLASSES = ("granite", "slate", "flint")


class Pebbles(nn.Module):
    """The authors' own model, with its classifier: (B, C, H, W), normalized -> (B, 3)."""

    def __init__(self, in_channels: int = 3, classes: int = len(CLASSES)):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.norm = nn.LayerNorm(12)
        self.answer = nn.Linear(12, classes)

    def maps(self, x):
        fine = self.first(x)  # (B, 8, H/2, W/2)
        return [fine, self.second(fine)]

    def pool(self, last):
        return self.norm(last.mean((2, 3)))  # (B, 12, h, w) -> (B, 12)

    def forward(self, x):
        return self.answer(self.pool(self.maps(x)[-1]))


class PebblesBackbone(visiontl.Backbone):
    def __init__(self, spec: visiontl.ImageSpec, in_channels: int):
        super().__init__("pebbles/small", spec, in_channels)
        self.channels, self.strides, self.embed_dim = (8, 12), (2, 4), 12
        self.body = Pebbles(in_channels)
        del self.body.answer
        parts = partition(self.body, self.views)
        self.stages, self.stage_of = parts.stages, parts.stage_of

    def views(self, body):
        maps = body.maps(torch.zeros(2, self.in_channels, 16, 16, device=next(body.parameters()).device))
        return maps, body.pool(maps[-1])

    def extract(self, x, maps, pooled, layers):
        with capture(self.body, layers, self.name) as found:
            given = self.body.maps(x)
            embedding = self.body.pool(given[-1]) if pooled or "norm" in layers else None
        return visiontl.Features([given[i] for i in maps], embedding if pooled else None, found.outputs())

    def library_names(self):
        return {name: name.removeprefix("body.") for name in super().library_names()}

    def adopt_names(self, state):
        """Files of the first edition call the stages one and two."""
        old = {"one.": "first.", "two.": "second."}
        if not any(name.startswith(tuple(old)) for name in state):
            return state, []
        named = {old.get(name[:4], name[:4]) + name[4:]: value for name, value in state.items()}
        return named, ["names of the first edition"]

    def own_head(self, state):
        if not {"answer.weight", "answer.bias"} <= set(state):
            return None
        return {name: state[name] for name in ("answer.weight", "answer.bias")}, len(state["answer.bias"])

    def classifier(self, num_classes=None):
        count = num_classes or self.head_classes or len(CLASSES)
        layer = nn.Linear(self.embed_dim, count)
        if self.head_state and count == self.head_classes:
            layer.load_state_dict({name.removeprefix("answer."): value for name, value in self.head_state.items()})
        return visiontl.OriginalHead(layer, "pooled", count, CLASSES, {"body.": "answer."})


def build(spec=None, in_channels=3, output_stride=None, image_size=None):
    if output_stride not in (None, 4):
        raise visiontl.BackboneError("pebbles/small has its deepest map at stride 4; leave backbone.output_stride out")
    chosen = spec or DAY
    return PebblesBackbone(replace(chosen, size=tuple(image_size or chosen.size)), in_channels)


def weights(tag):
    """{name: tensor} of the authors' model; drawn from a seed here, read from a file elsewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(("day", "night").index(tag) + 1)
        model = Pebbles()
        for _, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    return model.state_dict()
