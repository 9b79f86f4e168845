"""The neck's start, the network's two modes, and what autocast, one image and gray input do to them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from visiontl_face.losses import loss
from visiontl_face.model import FaceNetwork, model
from visiontl_face.neck import Neck, projection
from visiontl_face.start import class_weights, start

from tests.face.made import config
from visiontl import BackboneError, load_backbone, plugins

META = {"identities": ["a", "b", "c"]}


def features(seed: int = 0, people: int = 4, each: int = 6, width: int = 10):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(people).repeat_interleave(each)
    spread = torch.linspace(0.2, 3, width)
    centers = torch.randn(people, width, generator=draw) * 2
    return centers[labels] + torch.randn(len(labels), width, generator=draw) * spread + 5, labels


def test_the_centered_start_is_the_features_minus_their_mean():
    pooled, labels = features()
    neck = Neck(10, 10, 0.0).eval()
    neck.set_start(projection(pooled, labels, 10, None), pooled)
    new = features(1)[0]
    torch.testing.assert_close(neck(new), new - pooled.mean(0), rtol=1e-4, atol=1e-4)
    wider = Neck(10, 16, 0.0).eval()
    wider.set_start(projection(pooled, labels, 16, None), pooled)
    torch.testing.assert_close(wider(new)[:, :10], new - pooled.mean(0), rtol=1e-4, atol=1e-4)
    assert wider(new)[:, 10:].abs().max() == 0


def test_a_narrower_start_keeps_the_directions_of_most_variance():
    pooled, labels = features()
    matrix = projection(pooled, labels, 4, None)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(4), rtol=1e-5, atol=1e-5)
    centered = pooled - pooled.mean(0)
    _, values, right = torch.linalg.svd(centered, full_matrices=False)
    assert (centered @ matrix.T).square().sum() == pytest.approx(float(values[:4].square().sum()), rel=1e-5)
    torch.testing.assert_close((matrix @ right[:4].T).abs(), torch.eye(4), rtol=1e-3, atol=1e-3)


def test_the_whitened_start_evens_out_the_spread_within_people():
    """Without shrinkage (nearly) the covariance within identities becomes a multiple of the identity matrix."""
    pooled, labels = features(each=40)
    neck = Neck(10, 10, 0.0).eval()
    neck.set_start(projection(pooled, labels, 10, 1e-6), pooled)
    with torch.no_grad():
        x = neck(pooled)
    for label in labels.unique():
        x[labels == label] -= x[labels == label].mean(0)
    covariance = x.T @ x / len(x)
    torch.testing.assert_close(covariance / covariance.trace() * 10, torch.eye(10), rtol=1e-3, atol=1e-3)
    full = projection(pooled, labels, 10, 1.0)
    torch.testing.assert_close(full, torch.eye(10), rtol=1e-5, atol=1e-5)


def test_one_image_per_person_is_not_whitened():
    pooled, _ = features(each=1, people=8)
    assert torch.equal(projection(pooled, torch.arange(8), 10, 0.5), torch.eye(10))


def test_class_weights_are_mean_directions():
    embedding = F.normalize(torch.tensor([[1.0, 0.2], [1.0, -0.2], [0.0, 3.0]]), dim=1)
    made = class_weights(embedding, torch.tensor([0, 0, 2]), 3, 1)
    torch.testing.assert_close(made[:, 0], torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    several = class_weights(embedding, torch.tensor([0, 0, 2]), 3, 4)
    assert several.shape == (3, 4, 2)
    assert len(several[0].unique(dim=0)) == 4
    assert (F.normalize(several[0], dim=1)[:, 0] > 0.9).all()


def network(**keys) -> tuple[FaceNetwork, dict]:
    torch.manual_seed(0)
    backbone = load_backbone("visiontl/tiny", "none", image_size=(32, 32))
    made = model(config(**{"data": "x", "dimension": 8, **keys}), backbone, META)
    assert isinstance(made, FaceNetwork)
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    return made, {"image": torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8), "label": label}


@pytest.mark.parametrize("name", ["arcface", "cosface", "combined", "triplet"])
def test_every_parameter_gets_a_gradient(name):
    made, batch = network(loss=name)
    made.train()
    cfg = config(data="x", dimension=8, loss=name)
    loss(cfg, made(batch), batch, META)["loss"].backward()
    silent = [key for key, parameter in made.named_parameters() if parameter.grad is None]
    assert silent == []


def test_start_makes_evaluation_the_training_free_embedding():
    made, batch = network(neck={"start": "centered"}, dimension=64)
    cfg = config(data="x", dimension=64, neck={"start": "centered"})
    made.eval()
    with torch.no_grad():
        start(cfg, made, [batch], META)
        found = made({"image": batch["image"].flip(0)})
    assert made.center.abs().sum() > 0
    torch.testing.assert_close(
        found["embedding"][:, : found["centered"].shape[1]], found["centered"], rtol=1e-3, atol=1e-3
    )
    assert made.head is not None
    own = F.normalize(made.neck(made.features(batch["image"])), dim=1)[:2].mean(0)
    torch.testing.assert_close(made.head.weight[0, 0], F.normalize(own, dim=0), rtol=1e-4, atol=1e-5)


def test_flips_are_summed():
    made, batch = network()
    made.eval()
    with torch.no_grad():
        both = made(batch)["embedding"]
        made.flip = False
        plain, mirrored = made(batch)["embedding"], made({"image": batch["image"].flip(3)})["embedding"]
    torch.testing.assert_close(both, F.normalize(plain + mirrored, dim=1))
    torch.testing.assert_close(both.norm(dim=1), torch.ones(6))


def test_neck_and_logits_are_fp32_under_autocast():
    made, batch = network()
    made.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = made(batch)
    assert outputs["embedding"].dtype == outputs["logits"].dtype == torch.float32


def test_one_image_alone_can_be_trained_on():
    neck = Neck(4, 3, 0.0).train()
    assert neck(torch.ones(1, 4)).isfinite().all()
    assert int(neck.norm.num_batches_tracked or 0) == 0


def test_a_backbone_of_one_channel_reads_photos_as_gray():
    entry, _ = plugins.backbone_entry("visiontl/tiny")
    made = model(config(data="x", dimension=8), entry.build(in_channels=1, image_size=(32, 32)), META).eval()
    with torch.no_grad():
        assert made({"image": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)})["embedding"].shape == (2, 8)
    with pytest.raises(BackboneError, match=r"backbone\.in_channels: 4"):
        model(config(data="x"), entry.build(in_channels=4, image_size=(32, 32)), META)
