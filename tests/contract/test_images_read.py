"""A head that reads the pixels beside the backbone's features: where features are cached, black pictures stand in the
batch, so such a task must not be given them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import visiontl_keypoints
import visiontl_keypoints_steps as steps

from tests.contract.test_faults import Offered
from visiontl import plugins
from visiontl.backbone import Features
from visiontl.engine.caching import spread
from visiontl.testing import Case


class Beside(steps.Keypoints):
    """Its answer is moved by how bright the photo is, as a U-Net's last layers read the photo itself."""

    def forward(self, batch):
        bright = batch["image"].float().mean((1, 2, 3)) / 255  # (B,)
        return {"points": super().forward(batch)["points"] + 0.1 * bright[:, None, None]}


def bright_loss(cfg, outputs, batch, meta):
    return {"loss": steps.loss(cfg, outputs, batch, meta)["loss"] * batch["image"].float().mean()}


def bright_rows(cfg, outputs, batch, meta):
    bright = batch["image"].float().mean((1, 2, 3)).tolist()
    return [{**row, "bright": one} for row, one in zip(steps.rows(cfg, outputs, batch, meta), bright, strict=True)]


@pytest.mark.parametrize(
    ("changes", "cached", "said"),
    [
        ({}, {"train", "val"}, "features of the frozen backbone are cached"),
        ({"model": Beside}, set(), "not cached: the model or its loss reads the images beside the backbone's features"),
        ({"loss": bright_loss}, set(), "not cached: the model or its loss reads the images beside"),
        ({"rows": bright_rows}, {"train"}, "features of val are not cached: rows are made of the images too"),
    ],
)
def test_features_are_cached_only_where_nothing_else_reads_the_images(changes, cached, said, tmp_path):
    plugin = Offered(replace(visiontl_keypoints.TASK, name="beside", **changes))
    plugins.register(plugin, "beside")
    try:
        run = Case("beside", tmp_path).run("freeze.policy=all", "features.views=1", "features.cache=memory")
    finally:
        plugins.manager().unregister(plugin)
        plugins._registry().offered.clear()
    assert run.caches.keys() == cached
    assert any(said in note for note in run.console.notes)


def test_features_that_stand_for_a_batch_are_all_different():
    """Equal rows would hide what a loss makes of several images, as one of triplets does."""
    few = Features([torch.rand(2, 3, 4, 4) + 1], torch.rand(2, 5) + 1, {"a": torch.rand(2, 7).half() + 1})
    found = spread(few, 9)
    for part in (*found.maps, found.pooled, *found.layers.values()):
        assert part is not None
        assert len(part) == 9
        assert len(torch.unique(part.flatten(1), dim=0)) == 9
    assert torch.equal(found.maps[0][:1], few.maps[0][:1])
    assert found.layers["a"].dtype == torch.float16
