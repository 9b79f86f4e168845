"""Batches, model and loss, by hand and without the engine."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F
from visiontl_classification import TASK

from tests.classification.helpers import (
    StubBackbone,
    config,
    folders,
    generator,
    one_batch,
    picture,
    read,
    shapes_meta,
)
from visiontl import BackboneError, ConfigError


def fake_samples(count: int = 4, classes: int = 3):
    rng = np.random.default_rng(0)
    return [
        {
            "image": torch.from_numpy(rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)),
            "size": (20, 10 + i),
            "label": np.int64(i % classes),
        }
        for i in range(count)
    ]


def test_collate_in_evaluation_and_for_predict():
    meta = shapes_meta(["a", "b", "c"])
    cfg = config(mixup=0.2, cutmix=1.0)
    batch = TASK.collate(cfg, fake_samples(), None, meta)
    assert batch["image"].shape == (4, 3, 8, 8)
    assert batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [0, 1, 2, 0]
    assert batch["label"].dtype == torch.int64
    assert batch["size"].tolist() == [[20, 10], [20, 11], [20, 12], [20, 13]]
    unlabeled = [{key: value for key, value in sample.items() if key != "label"} for sample in fake_samples()]
    assert "label" not in TASK.collate(cfg, unlabeled, None, meta)
    assert TASK.collate(config(), fake_samples(), generator(0), meta)["image"].dtype == torch.uint8


@pytest.mark.parametrize("keys", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_batches(keys):
    meta, cfg, samples = shapes_meta(["a", "b", "c"]), config(**keys), fake_samples(6)
    plain = TASK.collate(cfg, samples, None, meta)
    plain_image = plain["image"].float() / 255
    seen = set()
    for seed in range(12):
        batch = TASK.collate(cfg, samples, generator(seed), meta)
        again = TASK.collate(cfg, samples, generator(seed), meta)
        assert torch.equal(batch["image"], again["image"])
        assert torch.equal(batch["label"], again["label"])
        assert batch["label"].shape == (6, 3)
        assert torch.allclose(batch["label"].sum(1), torch.ones(6))
        assert batch["image"].dtype == torch.float32
        assert 0 <= float(batch["image"].min()) <= float(batch["image"].max()) <= 1
        seen.add(batch["image"].numpy().tobytes())
        # each picture is its own share and another's rest, and the label says the same share
        for i in range(6):
            kept = batch["label"][i, int(plain["label"][i])]
            if "mixup" not in keys:  # cut: every pixel is from one of the two
                same = (batch["image"][i] == plain_image[i]).all(0).float().mean()
                assert same >= min(float(kept), 1.0) - 1e-6 or kept == 1
    assert len(seen) > 1


def test_mixup_is_a_convex_combination_with_the_share_of_the_label():
    meta, cfg, samples = shapes_meta(["a", "b"]), config(mixup=1.0), fake_samples(2, 2)
    a, b = (sample["image"].float() / 255 for sample in samples)
    mixed = 0
    for seed in range(10):
        batch = TASK.collate(cfg, samples, generator(seed), meta)
        share = float(batch["label"][0, 0])
        mixed += share < 1
        assert torch.allclose(batch["image"][0], share * a + (1 - share) * b, atol=1e-6)
        assert torch.allclose(batch["image"][1], share * b + (1 - share) * a, atol=1e-6)
    assert mixed


def test_cutmix_label_is_the_share_of_the_pixels():
    meta, cfg, samples = shapes_meta(["a", "b"]), config(cutmix=1.0), fake_samples(2, 2)
    samples[0]["image"], samples[1]["image"] = torch.zeros(3, 8, 8).byte(), torch.full((3, 8, 8), 255).byte()
    shares = set()
    for seed in range(20):
        batch = TASK.collate(cfg, samples, generator(seed), meta)
        white = float(batch["image"][0].mean())
        assert float(batch["label"][0, 1]) == pytest.approx(white, abs=1e-6)
        shares.add(white)
    assert len(shares) > 3


def test_a_share_of_the_batches_is_left_unmixed():
    meta, cfg, samples = shapes_meta(["a", "b", "c"]), config(mixup=1.0, mix_probability=0.5), fake_samples(6)
    hard = sum(
        bool((TASK.collate(cfg, samples, generator(seed), meta)["label"].max(1).values == 1).all())
        for seed in range(60)
    )
    assert 15 <= hard <= 45


def test_balanced_batches(tmp_path):
    folders(tmp_path, {"train/a": 20, "train/b": 5, "train/c": 2, "val/a": 3})
    data = read(tmp_path, sampler="balanced")
    plan = data.batches("train", 7, 0, 6)
    assert plan == data.batches("train", 7, 0, 6)
    assert plan != data.batches("train", 7, 1, 6) != data.batches("train", 8, 1, 6)
    for epoch in range(4):
        batches = data.batches("train", 7, epoch, 6)
        assert [len(batch) for batch in batches] == [6] * (27 // 6)
        for batch in batches:
            assert set(Counter(data.train.targets[batch].tolist()).values()) == {2}
        used = Counter(i for batch in batches for i in batch)
        of_b = [used[i] for i in range(27) if data.train.targets[i] == 1]
        assert max(of_b) - min(of_b) <= 1  # none again before all of them
    assert [len(batch) for batch in data.batches("train", 0, 0, 100)] == [27]
    assert data.batches("val", 0, 0, 2) == [[0, 1], [2]]
    assert read(tmp_path).batches is None


def test_the_model_learns_the_example(tmp_path):
    data = read(TASK.example(tmp_path), augment="none")
    cfg = config(augment="none")
    meta = json.loads(json.dumps(data.meta))
    torch.manual_seed(0)
    model = TASK.model(cfg, StubBackbone(), meta)
    batch = TASK.collate(cfg, [data.train[i, 0] for i in (0, 1, 40, 41, 80, 81)], generator(0), meta)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = TASK.loss(cfg, model(batch), batch, meta)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(3), abs=0.1)  # all classes start nearly equal
    assert losses[-1] < 0.5 * losses[0]
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"backbone", "head"}


def test_heads():
    meta = shapes_meta(["a", "b", "c"])
    head = {"hidden": 10, "dropout": 0.5, "norm": "batchnorm"}
    model = TASK.model(config(head=head), StubBackbone(), meta)
    kinds = [type(layer) for layer in model.head]
    assert kinds == [nn.BatchNorm1d, nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    assert not list(model.head[0].parameters())
    image = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert model({"image": image})["logits"].shape == (4, 3)


def test_gray_input_and_channels_that_no_photo_has():
    meta = shapes_meta(["a", "b"])
    backbone = StubBackbone(in_channels=1)
    model = TASK.model(config(), backbone, meta).eval()
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    by_hand = (0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2])[:, None] / 255
    expected = model.head(backbone(by_hand, pooled=True).pooled)
    assert torch.allclose(model({"image": image})["logits"], expected, atol=1e-5)
    with pytest.raises(BackboneError, match="in_channels: 4"):
        TASK.model(config(), StubBackbone(in_channels=4), meta)


def test_loss_is_cross_entropy():
    logits, label = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    meta = shapes_meta(["a", "b", "c"])
    loss = TASK.loss(config(), {"logits": logits}, {"label": label}, meta)
    by_hand = -torch.log(torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True))
    assert loss["loss"] == pytest.approx(float(by_hand[range(5), label].mean()), rel=1e-5)
    assert set(loss) == {"loss"}
    smooth = TASK.loss(config(label_smoothing=0.3), {"logits": logits}, {"label": label}, meta)
    target = F.one_hot(label, 3) * 0.7 + 0.1
    assert smooth["loss"] == pytest.approx(float((by_hand * target).sum(1).mean()), rel=1e-5)
    assert smooth["cross_entropy"] == pytest.approx(float(loss["loss"]), rel=1e-5)
    soft = TASK.loss(config(), {"logits": logits}, {"label": F.one_hot(label, 3).float()}, meta)
    assert soft["loss"] == pytest.approx(float(loss["loss"]), rel=1e-5)


def test_class_weights_count_images_and_add_up_over_parts():
    logits, label = torch.randn(12, 3), torch.tensor([0] * 6 + [1] * 4 + [2] * 2)
    meta = {**shapes_meta(["a", "b", "c"]), "counts": [6, 4, 2], "images": 12}
    weights = torch.tensor(compute_class_weight("balanced", classes=np.arange(3), y=label.numpy())).float()
    cfg = config(class_weights="balanced")
    whole = TASK.loss(cfg, {"logits": logits}, {"label": label}, meta)["loss"]
    plain = F.cross_entropy(logits, label, reduction="none")
    assert float(whole) == pytest.approx(float((plain * weights[label]).mean()), rel=1e-5)
    parts = [
        TASK.loss(cfg, {"logits": logits[s]}, {"label": label[s]}, meta)["loss"] for s in (slice(0, 4), slice(4, 12))
    ]
    assert float(parts[0] * 4 + parts[1] * 8) / 12 == pytest.approx(float(whole), rel=1e-5)
    given = TASK.loss(config(class_weights=[0.0, 0.0, 3.0]), {"logits": logits}, {"label": label}, meta)["loss"]
    assert float(given) == pytest.approx(float(plain[-2:].sum() * 3 / 12), rel=1e-5)


def test_the_number_of_class_weights_is_checked(tmp_path):
    folders(tmp_path, {"a": 4, "b": 4})
    with pytest.raises(ConfigError, match=r"class_weights: 3 numbers for 2 classes; .* a, b"):
        read(tmp_path, class_weights=[1.0, 2.0, 3.0])


def test_multi_label_loss(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "list.csv").write_text(
        "path,label,split\n0.png,x|y,train\n1.png,x,train\n2.png,y,train\n3.png,,train\n"
    )
    source = {"csv": str(tmp_path / "list.csv"), "val_fraction": 0}
    data = read(source, labels="multi", augment="none")
    cfg = config(source, labels="multi", augment="none")
    batch = one_batch(data, cfg)
    assert batch["label"].tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]
    logits = TASK.model(cfg, StubBackbone(), data.meta)(batch)["logits"]
    p = torch.sigmoid(logits)
    by_hand = -(batch["label"] * p.log() + (1 - batch["label"]) * (1 - p).log()).mean()
    loss = TASK.loss(cfg, {"logits": logits}, batch, data.meta)
    assert float(loss["loss"]) == pytest.approx(float(by_hand), rel=1e-5)
    balanced = config(source, labels="multi", class_weights="balanced")
    weighted = TASK.loss(balanced, {"logits": logits}, batch, {**data.meta, "counts": [1, 2], "images": 4})["loss"]
    rates = torch.tensor([3.0, 1.0])
    by_hand = -(rates * batch["label"] * p.log() + (1 - batch["label"]) * (1 - p).log()).mean()
    assert float(weighted) == pytest.approx(float(by_hand), rel=1e-5)
    mixing = config(source, labels="multi", mixup=1.0)
    mixed = TASK.collate(mixing, [data.train[i, 0] for i in range(4)], generator(1), data.meta)
    assert mixed["label"].shape == (4, 2)
    assert torch.isfinite(TASK.loss(mixing, {"logits": logits}, mixed, data.meta)["loss"])


def test_multi_label_smoothing_moves_every_target_towards_a_half():
    logits, label = torch.randn(5, 3), torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]).float()
    cfg = config({"csv": "x.csv"}, labels="multi", label_smoothing=0.2)
    loss = TASK.loss(cfg, {"logits": logits}, {"label": label}, shapes_meta(["a", "b", "c"], "multi"))
    p, target = torch.sigmoid(logits), label * 0.8 + 0.1
    assert float(loss["loss"]) == pytest.approx(
        float(-(target * p.log() + (1 - target) * (1 - p).log()).mean()), rel=1e-5
    )
    plain = float(-(label * p.log() + (1 - label) * (1 - p).log()).mean())
    assert float(loss["binary_cross_entropy"]) == pytest.approx(plain, rel=1e-5)
