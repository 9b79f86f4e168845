"""Which style pictures are drawn in training, and in which colors."""

from __future__ import annotations

import torch
from visiontl_style.config import StyleConfig
from visiontl_style.data import Photos, data, recolored
from visiontl_style.example import example

from tests.style.made import config


def test_recoloring_follows_the_seed_reaches_every_hue_and_keeps_grays_gray():
    red = torch.tensor([200, 40, 40], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 4)
    seen = [[tuple(recolored(red, seed, 1.0)[:, 0, 0].tolist()) for seed in range(60)] for _ in range(2)]
    assert seen[0] == seen[1]
    assert {max(range(3), key=color.__getitem__) for color in seen[0]} == {0, 1, 2}, "each channel leads in turn"
    gray = torch.full((3, 4, 4), 90, dtype=torch.uint8)
    for seed in range(20):
        made = recolored(gray, seed, 1.0)[:, 0, 0].int()
        assert int(made.max() - made.min()) <= 1
    assert recolored(red, 3, 0.0) is red


def test_a_smaller_amount_changes_less():
    pixels = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    changes = [
        sum(float((recolored(pixels, seed, amount).float() - pixels.float()).abs().mean()) for seed in range(30))
        for amount in (0.1, 0.5, 1.0)
    ]
    assert changes[0] < changes[1] < changes[2]


def test_styles_are_recolored_in_training_alone_and_only_where_asked(tmp_path):
    source = example(tmp_path)

    def split(amount: float) -> tuple[Photos, Photos]:
        cfg: StyleConfig = config(way="adain", data=source, color_jitter=amount)
        found = data(cfg, None)
        return found.train, found.val

    (plain, still), (mixed, same) = split(0.0), split(1.0)
    pairs = [(plain[0, seed]["style"], mixed[0, seed]["style"]) for seed in range(12)]
    assert all(not torch.equal(a, b) for a, b in pairs)
    assert torch.equal(still[0, 0]["style"], same[0, 0]["style"])
