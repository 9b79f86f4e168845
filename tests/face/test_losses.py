"""Losses, logits and gradients against pytorch-metric-learning, against formulas by hand, and in half precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from visiontl_face.config import FaceConfig, LossConfig
from visiontl_face.losses import hardest, loss, triplets
from visiontl_face.margins import MarginHead, margin_logits

CLASSES, WIDTH, BATCH = 5, 6, 12

pml = pytest.importorskip("pytorch_metric_learning")


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings (B, d), labels (B,), class weights (C, d)."""
    draw = torch.Generator().manual_seed(seed)
    embedding = torch.randn(BATCH, WIDTH, generator=draw)
    return embedding, torch.arange(BATCH) % CLASSES, torch.randn(CLASSES, WIDTH, generator=draw)


def ours(config: LossConfig, embedding, label, weight):
    """(loss, gradient of the embeddings, gradient of the class weights)"""
    head = MarginHead(CLASSES, config.sub_centers, WIDTH, config.margins(), config.scale)
    with torch.no_grad():
        head.weight.copy_(weight.reshape(head.weight.shape))
    leaf = embedding.clone().requires_grad_()
    value = F.cross_entropy(head(F.normalize(leaf, dim=1), label), label)
    value.backward()
    assert head.weight.grad is not None
    return value.detach(), leaf.grad, head.weight.grad


def theirs(criterion, embedding, label, weight):
    """The same from pytorch-metric-learning, whose weights are (d, C)."""
    with torch.no_grad():
        criterion.W.copy_(weight.T)
    leaf = embedding.clone().requires_grad_()
    value = criterion(leaf, label)
    value.backward()
    return value.detach(), leaf.grad, criterion.W.grad.T


def compare(mine, other):
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a.reshape(b.shape), b, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("seed", range(5))
def test_arcface_is_pytorch_metric_learnings(seed):
    from pytorch_metric_learning.losses import ArcFaceLoss

    embedding, label, weight = made(seed)
    embedding += 3 * weight[label]  # angles below pi - m: beyond it the two go on differently
    config = LossConfig(name="arcface", m2=0.4, scale=16)
    criterion = ArcFaceLoss(CLASSES, WIDTH, margin=math.degrees(0.4), scale=16)  # theirs is in degrees
    compare(ours(config, embedding, label, weight), theirs(criterion, embedding, label, weight))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("seed", range(5))
def test_cosface_is_pytorch_metric_learnings(seed):
    from pytorch_metric_learning.losses import CosFaceLoss

    embedding, label, weight = made(seed)
    config = LossConfig(name="cosface", m3=0.2, scale=16)
    criterion = CosFaceLoss(CLASSES, WIDTH, margin=0.2, scale=16)
    compare(ours(config, embedding, label, weight), theirs(criterion, embedding, label, weight))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("seed", range(3))
def test_sub_center_arcface_is_pytorch_metric_learnings(seed):
    from pytorch_metric_learning.losses import SubCenterArcFaceLoss

    embedding, label, _ = made(seed)
    weight = torch.randn(CLASSES * 3, WIDTH, generator=torch.Generator().manual_seed(9))
    embedding += 3 * weight[label * 3]
    config = LossConfig(name="arcface", m2=0.3, scale=8, sub_centers=3)
    criterion = SubCenterArcFaceLoss(
        num_classes=CLASSES, embedding_size=WIDTH, margin=math.degrees(0.3), scale=8, sub_centers=3
    )
    compare(ours(config, embedding, label, weight), theirs(criterion, embedding, label, weight))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("seed", range(5))
def test_batch_hard_triplets_are_pytorch_metric_learnings(seed):
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner
    from pytorch_metric_learning.reducers import MeanReducer

    embedding, label, _ = made(seed)
    mine = embedding.clone().requires_grad_()
    value = triplets(*hardest(F.normalize(mine, dim=1), label), margin=0.3)["loss"]
    value.backward()
    other = embedding.clone().requires_grad_()
    distance = LpDistance(normalize_embeddings=True, p=2)
    criterion = TripletMarginLoss(margin=0.3, distance=distance, reducer=MeanReducer())
    expected = criterion(other, label, BatchHardMiner(distance=distance)(other, label))
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("margins", "angle", "expected"),
    [
        ((1.0, 0.5, 0.0), 0.8, math.cos(1.3)),
        ((1.0, 0.0, 0.35), 0.8, math.cos(0.8) - 0.35),
        ((1.0, 0.3, 0.2), 0.8, math.cos(1.1) - 0.2),
        ((2.0, 0.1, 0.1), 0.8, math.cos(1.7) - 0.1),
        ((1.0, 0.5, 0.0), 3.0, -math.cos(3.5) - 2),  # beyond pi
        ((4.0, 0.0, 0.0), 2.0, math.cos(8.0) - 4),  # beyond 2 pi
    ],
)
def test_the_own_logit_is_the_formula_by_hand_in_radians(margins, angle, expected):
    cosine = torch.tensor([[math.cos(angle), 0.1]], requires_grad=True)
    logits = margin_logits(cosine, torch.tensor([0]), margins, 10.0)
    assert logits.tolist() == [pytest.approx([10 * expected, 1.0], abs=1e-5)]
    logits[0, 0].backward()
    m1, m2, m3 = margins
    h = 1e-4  # radians; the derivative by the cosine is that by the angle / -sin

    def value(t: float) -> float:
        turned = m1 * t + m2
        k = math.floor(turned / math.pi)
        return 10 * ((-1) ** k * math.cos(turned) - 2 * k - m3)

    slope = (value(angle + h) - value(angle - h)) / (2 * h) / -math.sin(angle)
    assert cosine.grad is not None
    assert cosine.grad[0, 0].item() == pytest.approx(slope, rel=1e-3)


def test_the_own_logit_never_rises_with_the_angle():
    for margins in ((1.0, 0.5, 0.0), (1.0, 0.3, 0.2), (1.35, 0.2, 0.1), (4.0, 0.0, 0.0)):
        angle = torch.linspace(0.01, math.pi - 0.01, 500)
        cosine = torch.stack([angle.cos(), torch.zeros(500)], 1)
        own = margin_logits(cosine, torch.zeros(500, dtype=torch.int64), margins, 1.0)[:, 0]
        assert (own.diff() <= 1e-5).all(), margins


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["arcface", "cosface", "combined"])
def test_gradients_are_finite_where_an_embedding_is_its_class_or_its_opposite(name, dtype):
    """The arccosine's derivative is infinite there; half precision rounds cosines to 1 long before."""
    config = LossConfig(name=name)
    head = MarginHead(2, 1, 4, config.margins(), config.scale)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[[1.0, 0, 0, 0]], [[0, 1.0, 0, 0]]]))
    base = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0.9999, 0.003, 0, 0]])
    leaf = base.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = head(F.normalize(leaf, dim=1), torch.tensor([0, 0, 0]))
    assert logits.dtype == torch.float32
    F.cross_entropy(logits, torch.tensor([0, 0, 0])).backward()
    for gradient in (leaf.grad, head.weight.grad):
        assert gradient is not None
        assert gradient.isfinite().all()


def test_triplets_of_equal_embeddings_have_a_finite_gradient():
    leaf = F.normalize(torch.ones(4, 3), dim=1).requires_grad_()
    triplets(*hardest(leaf, torch.tensor([0, 0, 1, 1])), margin=0.2)["loss"].backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_a_batch_without_a_triplet_costs_nothing_and_still_sends_a_gradient(labels):
    cfg = FaceConfig.model_validate({"data": "x", "loss": "triplet"})
    leaf = torch.randn(4, 3, requires_grad=True)
    label = torch.tensor(labels)
    value = loss(cfg, {"embedding": F.normalize(leaf, dim=1)}, {"label": label}, {})["loss"]
    value.backward()
    assert value == 0
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() == 0
