"""A third party's source of backbones: what is on offer. No torch, for `visiontl list` reads this."""

from __future__ import annotations

import visiontl

DAY = visiontl.ImageSpec(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), crop=1.0)
NIGHT = visiontl.ImageSpec(size=(48, 48), mean=(0.1, 0.1, 0.2), std=(0.5, 0.5, 0.5), interpolation="bicubic")
SPECS = {"day": DAY, "night": NIGHT}


@visiontl.hookimpl
def visiontl_backbones():
    small = visiontl.BackboneEntry(
        name="pebbles/small",
        build=visiontl.lazy("visiontl_pebbles_model:build"),
        weights=(visiontl.Weights("day", "drawn from a seed", "cc0-1.0"), visiontl.Weights("night", license="mit")),
        spec=SPECS.__getitem__,
        state=visiontl.lazy("visiontl_pebbles_model:weights"),
        facts={"params": 1152, "embed_dim": 12, "strides": (2, 4), "size": (32, 32)},
    )
    return [small]
