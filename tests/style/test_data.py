"""Which style pictures are drawn in training, and in which colours."""

from __future__ import annotations

import torch
from visiontl_style.config import StyleConfig
from visiontl_style.data import Photos, data, permuted
from visiontl_style.example import example

from tests.style.made import config


def test_permuted_colours_follow_the_seed_and_half_stay():
    pixels = torch.tensor([0, 1, 2], dtype=torch.uint8).view(3, 1, 1).expand(3, 2, 2)
    seen = [[tuple(permuted(pixels, seed)[:, 0, 0].tolist()) for seed in range(200)] for _ in range(2)]
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 6, "every order of red, green and blue"
    assert 0.5 < seen[0].count((0, 1, 2)) / 200 < 0.68, "a half, and a sixth of the other half"


def test_colours_are_permuted_in_training_alone_and_only_where_asked(tmp_path):
    source = example(tmp_path)

    def split(permute: bool) -> tuple[Photos, Photos]:
        cfg: StyleConfig = config(way="adain", data=source, permute_colours=permute)
        found = data(cfg, None)
        return found.train, found.val

    (plain, still), (mixed, same) = split(False), split(True)
    pairs = [(plain[0, seed]["style"], mixed[0, seed]["style"]) for seed in range(12)]
    assert any(not torch.equal(a, b) for a, b in pairs)
    assert all(sorted(a.sum((1, 2)).tolist()) == sorted(b.sum((1, 2)).tolist()) for a, b in pairs)
    assert torch.equal(still[0, 0]["style"], same[0, 0]["style"])
