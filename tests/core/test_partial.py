"""Images without a label count nothing, however an update is dealt out to micro-batches and processes."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch

from visiontl.engine import partial
from visiontl.errors import TrainingError
from visiontl.kit.partial import divisor, labeled_mean, zero
from visiontl.processes import ranks

VALUES = [3.0, None, 5.0, 7.0, None, None, 11.0, 2.0]  # the loss of each image, None where it has no label


def batch_of(ids):
    known = [VALUES[id] for id in ids if VALUES[id] is not None]
    return {"id": torch.tensor(ids), "values": known, "labeled": {"a": len(known), "never": 0}}


def losses(monkeypatch, group):
    """What the engine minimizes, summed over micro-batches and averaged over ranks, as its loop and DDP do."""
    world = len(group[0])
    images = sum(len(ids) for micro in group for ids in micro)
    own = [sum(batch_of(micro[rank])["labeled"]["a"] for micro in group) for rank in range(world)]
    total = 0.0
    for rank in range(world):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(ranks, "world", lambda: world)
        monkeypatch.setattr(ranks, "gather_objects", lambda sums: [{"a": float(n), "never": 0.0} for n in own])
        batches = (batch_of(micro[rank] or micro[0]) for micro in group)
        for micro, batch in zip(group, partial.divisors(batches, group), strict=True):
            assert batch["labeled"]["never"] == 1.0
            mean = float(labeled_mean(torch.tensor(batch["values"], dtype=torch.float64), batch, "a"))
            total += mean * len(micro[rank]) * world / images / world
    return total


@pytest.mark.parametrize(
    "group",
    [
        [[(0, 1, 2, 3, 4, 5, 6, 7)]],
        [[(0, 1, 2, 3)], [(4, 5, 6, 7)]],
        [[(4, 5)], [(0, 1, 2, 3, 6, 7)]],
        [[(0, 1, 2), (3, 4, 5)], [(6, 7), ()]],
        [[(0, 1), (4, 5), (2, 3)], [(6, 7), (), ()]],
    ],
    ids=["one batch", "two", "one of them without a label", "two processes, one idle", "three processes, one without"],
)
def test_the_mean_is_over_the_labels_of_the_whole_update(monkeypatch, group):
    known = [Fraction(one) for one in VALUES if one is not None]
    assert losses(monkeypatch, group) == pytest.approx(float(sum(known) / len(known)), rel=1e-12)


def test_batches_that_state_nothing_are_read_as_they_are_needed():
    read = []

    def batches():
        for number in itertools.count():
            read.append(number)
            yield {"image": number}

    coming, group = batches(), [[(0,)], [(1,)], [(2,)]]
    for number, batch in enumerate(partial.divisors(coming, group)):
        assert batch == {"image": number}
        assert read == list(range(number + 1))
    assert next(coming) == {"image": 3}


def test_terms_that_differ_are_refused():
    batches = iter([{"labeled": {"a": 1}}, {"labeled": {"b": 1}}])
    with pytest.raises(TrainingError, match=r"state `labeled` of a and of b; name the same terms"):
        list(partial.divisors(batches, [[(0,)], [(1,)]]))


def test_the_kit_divides_by_what_the_batch_states():
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    labeled_mean(values, {"labeled": {"a": 2}}, "a").backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.5] * 3
    nothing = torch.zeros(4, 3, requires_grad=True)
    labeled_mean(nothing[torch.zeros(4, dtype=torch.bool)].sum(1), {"labeled": {"a": 0}}, "a").backward()
    assert nothing.grad is not None
    assert not nothing.grad.any()
    with pytest.raises(LookupError, match="no `labeled` of 'b'"):
        divisor({"labeled": {"a": 2}}, "b")


def test_zero_reaches_all_that_trains_and_nothing_else():
    layer, fixed = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3).requires_grad_(False)
    feature = torch.full((2, 2), 3.0, requires_grad=True)
    value = zero(layer, fixed, feature, torch.ones(2))
    value.backward()
    assert value.item() == 0
    for tensor in (*layer.parameters(), feature):
        assert tensor.grad is not None
        assert not tensor.grad.any()
    assert fixed.weight.grad is None
    assert zero(fixed).item() == 0
