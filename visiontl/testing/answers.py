"""What the model, the loss and the answers of a task promise, one clause a check."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from visiontl.engine.model import export
from visiontl.engine.partial import LABELED, divisors
from visiontl.engine.predict import load
from visiontl.engine.prepare import Run
from visiontl.engine.rows import in_fp32
from visiontl.engine.train import fit
from visiontl.errors import VisionTLError
from visiontl.freezing.layout import backbone_prefix
from visiontl.kit.words import some
from visiontl.report.formats import is_number
from visiontl.report.values import json_value
from visiontl.testing.case import Case, same, state
from visiontl.testing.double import hold, in_double
from visiontl.testing.equality import difference
from visiontl.testing.steps import COUNT, batch_of, judged

LEARNING = 40  # updates
FEW = 32  # images that are looked through for those without a label
MIXED = 6  # times that images are dealt out anew
ALMOST = 1e-6  # relative, in float64
OUTSIDE = 0.5  # how far pixels given to the backbone may lie outside 0..1: what a network painted may, a little
COORDINATES = {
    "box",
    "boxes",
    "point",
    "points",
    "keypoint",
    "keypoints",
    "landmarks",
    "polygon",
    "polygons",
    "corners",
}


def answers(run: Run, ids: Sequence[int]) -> list[Any]:
    """Rows of these images of the judged split, as evaluation makes them."""
    task, model = run.resolved.task, run.built.model.eval()
    batch = batch_of(run, judged(run)[0], list(ids))
    with torch.no_grad():
        outputs = model(batch)
    return list(task.rows(run.resolved.cfg, in_fp32(outputs), batch, run.built.meta))


# the model


def reads_all_of_its_own_parameters(case: Case) -> None:
    """model, loss: the loss reads every parameter beside the backbone's."""
    run = case.run(f"freeze.policy={case.policies(['none', 'all', 'norm_and_bias'])[0]}")
    prefix = backbone_prefix(run.built.model, run.built.backbone)
    own = [name for name in run.layout.unread if not name.startswith(prefix)]
    assert not own, f"model: the loss never reads {some(own)}: use what they compute in the loss, or leave them out"


def holds_the_backbone_once(case: Case) -> None:
    """model: the backbone is in it once; no copy of its weights stands beside it."""
    run = case.run()
    model, prefix = run.built.model, backbone_prefix(run.built.model, run.built.backbone)
    inside = {name: tensor for name, tensor in model.named_parameters() if name.startswith(prefix) and tensor.ndim > 1}
    beside = [(name, tensor) for name, tensor in model.named_parameters() if not name.startswith(prefix)]
    copies = [
        name
        for name, tensor in beside
        if any(tensor.shape == one.shape and torch.equal(tensor, one) for one in inside.values())
    ]
    assert not copies, f"model: {some(copies)} is a copy of the backbone's weights, which no freeze policy reaches"


def gives_the_backbone_its_pixels(case: Case) -> None:
    """model: it calls the backbone as a module, with images of 0..1 or uint8 as the batch has them; the backbone
    normalizes them, once."""
    run = case.run()
    given: list[Tensor] = []
    handle = run.built.backbone.register_forward_pre_hook(lambda module, arguments: given.append(arguments[0]))
    try:
        answers(run, range(2))
    finally:
        handle.remove()
    assert given, "model: its forward does not call `backbone(images, ...)`, so nothing normalizes the images"
    for images in given:
        if images.is_floating_point():
            low, high = float(images.min()), float(images.max())
            assert -OUTSIDE <= low <= high <= 1 + OUTSIDE, (
                f"model: it gives the backbone floats from {low:.3g} to {high:.3g}; expected 0..1 as in the batch: "
                "mean and deviation are the backbone's own business"
            )


def has_all_parameters_from_the_start(case: Case) -> None:
    """model: parameters and buffers exist before the first batch, and no others come with it."""
    run = case.run(limit=1)
    task, backbone = run.resolved.task, copy.deepcopy(run.built.backbone)
    fresh = task.model(run.resolved.cfg, backbone, run.built.meta)
    late = sorted(set(run.built.model.state_dict()) ^ set(fresh.state_dict()))
    assert not late, f"model: {some(late)} came with the first batch; the optimizer and checkpoints need it before"
    lazy = [name for name, tensor in fresh.state_dict().items() if nn.parameter.is_lazy(tensor)]
    assert not lazy, f"model: {some(lazy)} is made at the first batch; the optimizer and checkpoints need it before"
    before = set(run.built.model.state_dict())
    fit(run)
    answers(run, range(2))
    new = sorted(set(run.built.model.state_dict()) ^ before)
    assert not new, f"model: {some(new)} came or went after the model was built; make all of it in `model`"


def keeps_its_state_in_the_module(case: Case) -> None:
    """model: what it knows is in parameters and buffers: two runs of one seed in one process are equal, and a fresh
    model that loads the tensors answers alike."""
    first, second = case.run(limit=2), case.run(limit=2)
    for run in (first, second):
        fit(run)
    moved = same(state(first), state(second))
    assert not moved, (
        f"model: a second run in the same process ends with other tensors, {some(moved)}: what outlives a run?"
    )
    fresh = case.run()
    fresh.built.model.load_state_dict(state(first))
    differs = difference(answers(first, range(COUNT)), answers(fresh, range(COUNT)))
    assert not differs, f"model: rows{differs} from a fresh model with the same tensors: keep its state in buffers"


def answers_alike_twice(case: Case) -> None:
    """model, rows: in evaluation nothing is drawn; the same batch gets the same rows, bit for bit."""
    run = case.run()
    differs = difference(answers(run, range(COUNT)), answers(run, range(COUNT)))
    assert not differs, f"model: rows{differs} for the same batch twice in evaluation: is dropout active there?"


def answers_each_image_by_itself(case: Case) -> None:
    """rows: one per image in the order of the batch, whatever else is in the batch."""
    with in_double():
        run = case.run()
        count = min(COUNT, len(judged(run)[0]))
        together = answers(run, range(count))
        assert len(together) == count, f"rows: {len(together)} records for {count} images"
        turned = answers(run, range(count - 1, -1, -1))[::-1]
        single = [answers(run, [id])[0] for id in range(count)]
    differs = difference(together, turned, ALMOST)
    assert not differs, f"rows{differs} where the batch is turned around: rows must follow the order of the batch"
    differs = difference(together, single, ALMOST)
    assert not differs, f"rows{differs} among others and alone: an image's row must not depend on its batch"


def changes_no_batch(case: Case) -> None:
    """model, loss, rows: the batch stays as it is; others read it after them."""
    run = case.run()
    task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
    split = run.data.train
    assert split is not None
    for training in (True, False):
        images = split if training else judged(run)[0]
        batch = batch_of(run, images, list(range(COUNT)), training)
        kept = copy.deepcopy(batch)
        run.built.model.train(training)
        with torch.set_grad_enabled(training):
            outputs = in_fp32(run.built.model(batch))
            _unchanged(kept, batch, "model")
            if training:
                task.loss(cfg, outputs, batch, meta)
            else:
                task.rows(cfg, outputs, batch, meta)
        _unchanged(kept, batch, "loss" if training else "rows")


def _unchanged(before: Any, after: Any, step: str) -> None:
    differs = difference(before, after)
    assert not differs, f"{step}: it changes the batch: batch{differs}; work on a copy"


def averages_its_loss(case: Case) -> None:
    """loss: the mean over the batch: the same images twice cost what they cost once."""
    with in_double():
        run = case.run()
        task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
        split = run.data.train
        assert split is not None
        model = run.built.model.train()
        for module in model.modules():  # what draws would draw otherwise for a batch of another size
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        values = []
        for ids in ([0, 1, 2, 3], [0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3] * 4):
            batch = batch_of(run, split, ids, training=True)
            found = task.loss(cfg, in_fp32(model(batch)), batch, meta)
            assert "loss" in found, f"loss: it gives {sorted(found)}; expected `loss` among them"
            assert found["loss"].ndim == 0, f"loss: `loss` has the shape {tuple(found['loss'].shape)}; expected ()"
            values.append(float(found["loss"]))
    once, twice, four = values
    if min(values) <= 0:
        return
    summed = 1.8 < twice / once < 2.2 and 3.4 < four / once < 4.6
    assert not summed, f"loss: {once:.4g} for 4 images, {twice:.4g} for them twice: take the mean over the batch"


def counts_labeled_images_alone(case: Case) -> None:
    """collate, loss: where batches state `labeled`, two batches of an update teach what one of both teaches, and each
    gives every parameter a gradient, with labels or without."""
    with in_double():
        run = case.run()
        split = run.data.train
        assert split is not None
        stated = {id: batch_of(run, split, [id]).get(LABELED) for id in range(min(FEW, len(split)))}
        numbers = {id: one for id, one in stated.items() if isinstance(one, Mapping)}
        if not numbers:
            return
        ids = sorted(numbers, key=lambda id: sum(map(float, numbers[id].values())))  # who has least comes first
        ids = [*ids[:COUNT], *ids[-COUNT:]]
        assert any(not all(numbers[id].values()) for id in ids), (
            f"data: the first {len(numbers)} images of the example have a label for every term; leave some out there, "
            "or nobody can see what happens then"
        )
        hold(run.built.model.train())
        whole, reached = gradients(run, [ids])
        for cut in (2, COUNT, len(ids) - 2):
            parts, both = gradients(run, [ids[:cut], ids[cut:]])
            missed = sorted(reached[0] - set.intersection(*both))
            assert not missed, (
                f"loss: {some(missed)} got no gradient from one of the batches; add visiontl.kit.partial.zero of what "
                "a batch gives no reason to read"
            )
            largest = max(float(one.abs().max()) for one in whole.values())
            apart = {name: float((parts[name] - one).abs().max()) for name, one in whole.items()}
            worst = max(apart, key=apart.__getitem__)
            assert apart[worst] <= ALMOST * largest, (
                f"loss: the gradient of {worst} is {apart[worst] / largest:.1e} of the largest apart between one batch "
                f"of {len(ids)} images and two of them: divide sums by batch['{LABELED}'], not by the number of images "
                "in the batch (visiontl.kit.partial.labeled_mean)"
            )


def gradients(run: Run, parts: Sequence[Sequence[int]]) -> tuple[dict[str, Tensor], list[set[str]]]:
    """What an update of these micro-batches learns: {parameter: gradient}, and whom each of them reached."""
    task, cfg, meta, model = run.resolved.task, run.resolved.cfg, run.built.meta, run.built.model
    split, total = run.data.train, sum(map(len, parts))
    assert split is not None
    learned: dict[str, Tensor] = {}
    reached: list[set[str]] = []
    group = [[tuple(ids)] for ids in parts]
    for batch in divisors((batch_of(run, split, list(ids)) for ids in parts), group):
        loss = task.loss(cfg, in_fp32(model(batch)), batch, meta)["loss"] * (len(batch["id"]) / total)
        loss.backward()
        found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
        reached.append(set(found))
        learned = {name: learned.get(name, 0) + one for name, one in found.items()} | {
            name: one for name, one in learned.items() if name not in found
        }
        model.zero_grad(set_to_none=True)
    return learned, reached


# scores


def scores_more_for_the_right_images(case: Case) -> None:
    """best: its direction is the score's: answers to the right images score better than those to each other's."""
    run = case.run("train.epochs=40", limit=LEARNING)
    fit(run)
    task, cfg, meta, split = run.resolved.task, run.resolved.cfg, run.built.meta, judged(run)[0]
    name, direction = task.best
    ids, dice = list(range(len(split))), torch.Generator().manual_seed(0)

    def measured(seen: list[int]) -> float:
        rows: list[Any] = []
        for start in range(0, len(ids), COUNT):
            batch = batch_of(run, split, ids[start : start + COUNT])
            batch["image"] = batch_of(run, split, seen[start : start + COUNT])["image"]
            with torch.no_grad():
                outputs = in_fp32(run.built.model.eval()(batch))
            rows += task.rows(cfg, outputs, batch, meta)
        value = task.score(cfg, rows, meta).get(name)
        return float(value) if is_number(value) else float("nan")

    right = measured(ids)
    wrong = torch.tensor([measured(torch.randperm(len(ids), generator=dice).tolist()) for _ in range(MIXED)])
    middle, spread = float(wrong.mean()), float(wrong.std())
    worse = middle - right if direction == "max" else right - middle
    assert not worse > max(3 * spread, 0.05 * abs(middle)), (
        f"best: {name!r} is {right:.4g} for the right images and {middle:.4g} for each other's, after {LEARNING} "
        f"updates; with {direction!r} that is worse: is the direction wrong?"
    )


def gives_scores_that_can_be_kept(case: Case) -> None:
    """score: numbers, or what JSON holds, or the report loses it; best names one of the numbers."""
    run = case.run()
    split = judged(run)[0]
    rows = [
        row for start in range(0, len(split), COUNT) for row in answers(run, range(len(split))[start : start + COUNT])
    ]
    task = run.resolved.task
    scores = task.score(run.resolved.cfg, rows, run.built.meta)
    name, _ = task.best
    assert name in scores, f"score: it gives {', '.join(scores)}; best names {name!r}, which is not among them"
    kept = json.loads(json.dumps(json_value(scores, "score")))
    for key, value in scores.items():
        told = f"score: {key!r} is a {type(value).__name__}"
        assert key in kept, f"{told}, and is lost in the report"
        assert value is None or isinstance(value, float) or kept[key] is not None, (
            f"{told}, and is nothing in the report"
        )
    assert is_number(scores[name]), f"score: {name!r} picks the best weights and is a {type(scores[name]).__name__}"


# predictions


def exported(case: Case, run: Run) -> Path:
    """The model as a run leaves it, untrained."""
    place = case.folder / "exported"
    export(place, run.built, run.built.model.state_dict())
    return place


def predicts_each_photo_by_itself(case: Case) -> None:
    """predict: the same values alone and among others, in the order of the photos."""
    with in_double():
        run = case.run()
        split, _ = judged(run)
        photos = [split.image(id) for id in range(min(3, len(split)))]
        predictor = load(exported(case, run))
        predictor.built.model.double()
        together = [dict(one) for one in predictor.predict(photos)]
        single = [dict(predictor.predict(photo)) for photo in photos]
        turned = [dict(one) for one in predictor.predict(photos[::-1])][::-1]
    differs = difference(together, turned, ALMOST)
    assert not differs, f"predict{differs} where the photos come in another order"
    differs = difference(together, single, ALMOST)
    assert not differs, f"predict{differs} among others and alone: a photo's answer must not depend on its batch"


def predicts_without_the_data(case: Case) -> None:
    """model, predict: they read no file: a model predicts where the training data is gone."""
    run = case.run()
    photo, place = judged(run)[0].image(0), exported(case, run)
    with _gone(case.folder, place):
        try:
            load(place).predict(photo)
        except (OSError, VisionTLError) as error:
            raise AssertionError(f"model: it needs the training data to predict: {error}; put it into meta") from None


@contextmanager
def _gone(folder: Path, model: Path) -> Iterator[None]:
    """Everything but the model under other names."""
    away = {path: path.with_name(path.name + ".away") for path in folder.iterdir() if path != model}
    for path, elsewhere in away.items():
        path.rename(elsewhere)
    try:
        yield
    finally:
        for path, elsewhere in away.items():
            elsewhere.rename(path)


def predicts_in_pixels_of_the_photo(case: Case) -> None:
    """predict: boxes, points and pictures are in the photo's own pixels: a photo of twice the size gets twice the
    coordinates."""
    predictor = load(exported(case, case.run()))
    small = Image.new("RGB", (96, 64), (90, 120, 150))  # of one color: every size is the same to the network
    one, two = (dict(predictor.predict(photo)) for photo in (small, small.resize((192, 128))))
    for key, value in one.items():
        if isinstance(value, Image.Image) and isinstance(two[key], Image.Image):
            _follows(key, value.size, two[key].size)
        elif isinstance(value, np.ndarray) and value.ndim == 2 and min(value.shape) > 16:
            first, second = value.shape, np.shape(two[key])
            assert first != second, f"predict: {key!r} is {first} for photos of 64 x 96 and of 128 x 192 pixels"
    for place, first in _coordinates(one):
        second = dict(_coordinates(two)).get(place, [])
        if len(first) != len(second) or max(map(abs, first), default=0) < 2:
            continue
        apart = [abs(2 * a - b) for a, b in zip(first, second, strict=True)]
        assert max(apart) <= 0.05 * max(map(abs, second)) + 2, (
            f"predict: {place} is {_short(first)} in a photo of 96 x 64 pixels and {_short(second)} in the same of "
            "192 x 128: give them in the photo's own pixels"
        )


def _follows(key: str, first: tuple[int, int], second: tuple[int, int]) -> None:
    assert second == (2 * first[0], 2 * first[1]) or first == second == (96, 64), (
        f"predict: the picture {key!r} is {first} for a photo of (96, 64) and {second} for one of (192, 128)"
    )


def _coordinates(value: Any, key: str = "") -> list[tuple[str, list[float]]]:
    """(where, its numbers) of what is called box, point and the like."""
    if isinstance(value, dict):
        return [one for name, inside in value.items() for one in _coordinates(inside, str(name))]
    if key in COORDINATES:
        numbers = torch.as_tensor(value, dtype=torch.float64).flatten().tolist() if _numeric(value) else []
        return [(repr(key), numbers)] if numbers else []
    return [one for inside in value for one in _coordinates(inside, key)] if isinstance(value, list | tuple) else []


def _numeric(value: Any) -> bool:
    try:
        torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def _short(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{one:.1f}' for one in numbers[:4])}{', ...' if len(numbers) > 4 else ''})"


CHECKS = [
    holds_the_backbone_once,
    reads_all_of_its_own_parameters,
    gives_the_backbone_its_pixels,
    has_all_parameters_from_the_start,
    keeps_its_state_in_the_module,
    changes_no_batch,
    averages_its_loss,
    counts_labeled_images_alone,
    answers_alike_twice,
    answers_each_image_by_itself,
    scores_more_for_the_right_images,
    gives_scores_that_can_be_kept,
    predicts_each_photo_by_itself,
    predicts_without_the_data,
    predicts_in_pixels_of_the_photo,
]
