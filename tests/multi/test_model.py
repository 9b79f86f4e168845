"""One pass of one backbone serves all parts, and each answers as it would alone; the losses follow their formulas."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn
from visiontl_multi.balance import MOST, Fork, balanced
from visiontl_multi.batches import part_batch
from visiontl_multi.seats import Seat

from tests.multi.made import arrows, installed, keypoints
from visiontl import Backbone, Features, ImageSpec, plugins
from visiontl.engine.prepare import set_up
from visiontl.engine.train import fit
from visiontl.errors import TrainingError
from visiontl.freezing.probe import watched
from visiontl.testing import Case
from visiontl.testing.double import hold, in_double
from visiontl.testing.steps import batch_of


@pytest.fixture
def case(tmp_path):
    with installed(keypoints()):
        yield Case("multi", tmp_path / "case", arrows(tmp_path / "set"))


def test_each_part_answers_as_it_would_alone_and_the_backbone_is_called_once(case):
    """Both tasks built alone on the same backbone, with the same weights in their heads, are the oracle."""
    run = case.run("task.views.side=point")
    model, backbone, meta = run.built.model.eval(), run.built.backbone, run.built.meta
    batch = batch_of(run, run.data.val, list(range(4)))
    with torch.no_grad(), watched(backbone) as calls:
        together = model(batch)["parts"]
    assert len(calls) == 1
    assert calls[0][1:] == ((1,), True, ())
    for name, part in run.resolved.cfg.tasks.items():
        alone = part.task.model(part.section, backbone, meta["parts"][name]["meta"]).eval()
        alone.load_state_dict({**alone.state_dict(), **model.parts[name].state_dict()})
        with torch.no_grad():
            expected = alone(part_batch(batch, name))
        for key, value in expected.items():
            assert torch.equal(together[name][key], value), name


@pytest.mark.parametrize("views", ["{}", "{side: point}"])
def test_training_and_prediction_are_one_pass_too(case, views):
    run = case.run(f"task.views={views}", limit=2)
    with watched(run.built.backbone) as calls:
        fit(run)
    evaluations = -(-len(run.data.val) // 4)
    assert len(calls) == 2 + evaluations  # updates, and batches of val
    rows = Counter(len(call[0]) for call in calls[:2])
    assert set(rows) == {4} if views != "{}" else max(rows) > 4  # a view of its own is a row more
    task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
    prepare = task.sample(cfg, run.built.backbone.spec, meta)
    photos = [run.data.val.image(id) for id in range(3)]
    batches = [
        {**task.collate(cfg, [prepare(one)], None, meta), "id": torch.tensor([i])} for i, one in enumerate(photos)
    ]
    with torch.no_grad(), watched(run.built.backbone) as calls:
        found = list(task.predict(cfg, run.built.model.eval(), iter(batches), meta, None))
    assert len(calls) == 3
    assert [set(one) for one in found] == [{"point", "side"}] * 3


def losses(case, *overrides):
    """(the loss, what it is made of, the model) of one batch in which both parts have labels, in float64."""
    with in_double():
        run = case.run(*overrides)
        hold(run.built.model.train())
        batch = batch_of(run, run.data.train, list(range(8)))
        found = run.resolved.task.loss(run.resolved.cfg, run.built.model(batch), batch, run.built.meta)
    return found, run.built.model


def test_fixed_weights_add_up(case):
    found, _ = losses(case, "task.weights={point: 2, side: 0.5}")
    assert float(found["loss"]) == pytest.approx(2 * float(found["point/loss"]) + 0.5 * float(found["side/loss"]))


def test_uncertainty_is_kendalls_sum_and_its_variances_learn(case):
    overrides = ["task.weighting=uncertainty", "task.weights={point: 2}"]
    model = losses(case, *overrides)[1]
    for variance in model.log_variances.values():
        assert variance.item() == 0
    with torch.no_grad():
        model.log_variances["point"].fill_(1.5)
    run = case.run(*overrides)
    batch = batch_of(run, run.data.train, list(range(8)))
    run.built.model.load_state_dict(model.float().state_dict())
    hold(run.built.model.train())
    again = run.resolved.task.loss(run.resolved.cfg, run.built.model(batch), batch, run.built.meta)
    point, side = float(again["point/loss"]), float(again["side/loss"])
    assert float(again["loss"]) == pytest.approx(2 * (math.exp(-1.5) * point + 0.75) + side, rel=1e-5)
    again["loss"].backward()
    slope = run.built.model.log_variances["point"].grad
    assert float(slope) == pytest.approx(2 * (0.5 - math.exp(-1.5) * point), rel=1e-4)


def test_balanced_gradients_have_their_mean_norm_times_the_weights(case):
    """Three features, two of them read by both parts, by hand."""
    torch.manual_seed(0)
    features = [torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    heads = [torch.randn(6, dtype=torch.float64) * scale for scale in (1.0, 3.0)]
    reads = [(0, 1), (0, 2)]

    def loss(part, given):
        return sum((given[i] @ heads[part]).square().mean() for i in reads[part])

    own = [torch.autograd.grad(loss(part, features), features, allow_unused=True) for part in range(2)]
    norms = [math.sqrt(sum(float(one.square().sum()) for one in part if one is not None)) for part in own]
    mean, weights = sum(norms) / 2, (1.0, 2.0)
    expected = [
        sum(own[part][i] * weights[part] * mean / norms[part] for part in range(2) if own[part][i] is not None)
        for i in range(3)
    ]
    copies = Fork.apply(weights, *features)
    (loss(0, copies[:3]) + loss(1, copies[3:])).backward()
    for feature, gradient in zip(features, expected, strict=True):
        assert torch.allclose(feature.grad, gradient, rtol=1e-6)
    assert [float(one) for one in balanced(torch.tensor([0.0, 2.0]), (1.0, 1.0))] == [1.0, 1.0]
    assert float(balanced(torch.tensor([1e-6, 2.0]), (1.0, 1.0))[0]) == MOST


def test_balance_changes_what_the_backbone_learns_and_not_what_is_said(case):
    plain, _ = losses(case)
    found, model = losses(case, "task.weighting=balance", "task.weights={side: 3}")
    assert float(found["loss"]) == pytest.approx(float(plain["loss"]))
    plain["loss"].backward()
    found["loss"].backward()
    assert all(one.grad is not None for one in model.parameters())


def test_a_head_learns_at_its_own_rate(case):
    run = case.run("task.rates={side: 0.25}", "freeze.policy=all")
    names = {parameter: name for name, parameter in run.built.model.named_parameters()}
    rates = {names[one]: group["lr"] for group in run.optimizer.param_groups for one in group["params"]}
    assert {name.split(".")[1]: rate for name, rate in rates.items()} == {"point": 0.01, "side": 0.0025}


def test_a_part_without_a_label_gives_gradients_of_zero(case):
    run = case.run("task.weighting=uncertainty")
    model, split = run.built.model.train(), run.data.train
    bare = [id for id, entry in enumerate(split.entries) if "side" not in entry][:2]
    batch = batch_of(run, split, bare)
    assert batch["labeled"] == {"point": 2.0, "side": 0.0}
    run.resolved.task.loss(run.resolved.cfg, model(batch), batch, run.built.meta)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name.startswith(("parts.", "log_variances.")):
            assert bool(parameter.grad.any()) == ("point" in name), name


class Tiny(Backbone):
    """One map and a pooled vector, counted."""

    def __init__(self):
        super().__init__("tiny", ImageSpec(size=(8, 8)))
        self.body = nn.Conv2d(3, 4, 1)
        self.stages, self.stage_of, self.channels, self.strides, self.embed_dim = ("body",), {}, (4,), (1,), 4
        self.passes = 0

    def extract(self, x, maps, pooled, layers):
        self.passes += 1
        found = self.body(x)
        return Features([found] if maps else [], found.mean((2, 3)) if pooled else None)


def test_a_seat_answers_from_the_pass_for_its_pixels_alone():
    shared = Tiny()
    seat = Seat(shared)
    image = torch.zeros(2, 3, 8, 8)
    made = shared(image, [0], True)
    seat.hold(image, {0: made.maps[0]}, made.pooled, {})
    assert seat(image, maps=[0]).maps[0] is made.maps[0]
    assert seat(image, pooled=True).maps == []
    assert shared.passes == 1
    seat(image.flip(3), maps=[0])
    assert shared.passes == 2
    assert list(seat.parameters()) == []
    assert dict(seat.state_dict()) == {}
    assert seat.embed_dim == 4
    assert seat.spec == shared.spec
    assert isinstance(seat, Backbone)
    assert (seat.asked.maps, seat.others.maps) == ({0}, {0})


def test_a_part_that_writes_into_features_gets_its_own(case):
    """Seen before training, it is given copies; one that begins later is refused."""
    module = keypoints()
    steps = __import__("visiontl_keypoints_steps")

    class Writing(steps.Keypoints):
        late = False

        def forward(self, batch):
            found = self.backbone(batch["image"], maps=[1]).maps[0]
            if self.training or not self.late:
                found = found.mul_(2)
            return {"points": self.points(found)}

    kept, task = plugins.task("keypoints"), replace(module.TASK, model=Writing)
    offered = plugins._registry().offered["visiontl_tasks"].values
    offered["keypoints"] = task
    try:
        run = case.run()
        assert run.built.model.seats["point"].clones
        assert not run.built.model.seats["side"].clones
        Writing.late = True
        with pytest.raises(TrainingError, match="point: its model changes the backbone's features in place"):
            set_up(case.resolved())
    finally:
        offered["keypoints"] = kept
