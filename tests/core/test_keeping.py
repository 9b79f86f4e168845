"""Old answers that are kept while new classes are learned: formulas in NumPy, and the guarantees of every run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from visiontl_classification.keeping import binary_distance, distance
from visiontl_detection.keeping import proposal_distance, region_distance

from visiontl.config.resolve import resolve
from visiontl.engine.prepare import set_up
from visiontl.engine.train import fit
from visiontl.errors import CheckpointError, ConfigError
from visiontl.testing.case import Case, same, state
from visiontl.testing.double import hold

KEEP = "method.keep_old=distill"
HEADS = {"v1": "faster_rcnn", "v2": "faster_rcnn", "retinanet": "retinanet", "fcos": "fcos"}


def test_distances_equal_their_formulas():
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=(2, 5, 3))  # (B, O) each
    given = torch.tensor(ours), torch.tensor(theirs), 2.0
    wanted = 4 * (softmax(theirs / 2, 1) * (log_softmax(theirs / 2, 1) - log_softmax(ours / 2, 1))).sum(1).mean()
    assert float(distance(*given)) == pytest.approx(wanted, rel=1e-12)
    p, q = (1 / (1 + np.exp(-one / 2)) for one in (theirs, ours))
    wanted = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert float(binary_distance(*given)) == pytest.approx(wanted, rel=1e-12)

    boxes, before = draw.normal(size=(2, 5, 3, 4))  # 5 regions, background and 2 classes
    logits = [one - one.mean(1, keepdims=True) for one in (ours, theirs)]
    wanted = (((logits[0] - logits[1]) ** 2).sum() + ((boxes - before)[:, 1:] ** 2).sum()) / (5 * 2)
    found = region_distance(*map(torch.tensor, (ours, boxes, theirs, before)))
    assert float(found) == pytest.approx(wanted, rel=1e-12)

    new, old = draw.normal(size=(2, 2, 3, 4, 5))  # (B, A, h, w) each
    sides, before = draw.normal(size=(2, 2, 12, 4, 5))
    square = ((sides - before) ** 2).reshape(2, 3, 4, 4, 5).sum(2)
    wanted = np.where(old > new, (new - old) ** 2 + np.where(old > 0, square, 0), 0).mean()
    found = proposal_distance(*([torch.tensor(one)] for one in (new, sides, old, before)))
    assert float(found) == pytest.approx(wanted, rel=1e-12)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """(a case of three classes, the run of a model that knows two of them)"""
    folder = tmp_path_factory.mktemp("shapes")
    case = Case("classification", folder, {"augment": "none"})
    pictures, few = folder / "runs/example-classification/shapes", folder / "few"
    case.resolved()
    for split in ("train", "val"):
        (few / split).mkdir(parents=True)
        for one in ("circle", "triangle"):
            (few / split / one).symlink_to(pictures / split / one)
    run = set_up(resolve(case.resolved(), [f"task.data={few}", "train.seed=5", "train.epochs=1"]), limit=2)
    fit(run)
    return case, run.folder


def kept(shapes) -> Case:
    case, first = shapes
    return Case(case.task, case.folder, case.section, (f"init={first}", KEEP, "freeze.norm_stats=fixed"))


def test_the_distance_begins_at_nothing_and_is_of_old_classes_alone(shapes):
    """At the start the rows of old classes are the old model's: nothing is to be held; the new class does not count."""
    case = kept(shapes)
    run = case.run("train.log_every=1", limit=3)
    assert run.built.meta["classes"] == ["circle", "square", "triangle"]
    hold(run.built.model)  # no drop path: the passes of both differ by nothing else at the start
    fit(run)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    found = [line["method/keep_old"] for line in lines if line["kind"] == "train"]
    assert found[0] < 1e-6 < found[-1]
    assert not any("keep" in name for name in state(run))


def test_a_resumed_run_holds_the_same_old_answers(shapes):
    case, settings = kept(shapes), ("train.checkpoint_every=1 step", "optim.schedule=constant", "train.ema={}")
    whole, broken = case.run(*settings, limit=3), case.run(*settings, limit=2)
    fit(whole)
    fit(broken)
    resumed = case.run(*settings, f"resume={broken.folder}", limit=3)
    resumed.method, own = case.run(*settings, f"init={whole.folder}").method, resumed.method
    with pytest.raises(CheckpointError, match=r"method\.keep_old began with other weights"):
        fit(resumed)
    resumed.method = own
    fit(resumed)
    assert not same(state(whole), state(resumed))


def test_an_update_can_be_shared_out(shapes):
    """Two micro-batches of 4 end where one of 8 does, up to rounding."""
    ends = []
    for size, parts in ((8, 1), (4, 2)):
        ways = (f"train.batch_size={size}", f"train.accumulate={parts}", "method.keep_old.weight=10")
        run = kept(shapes).run(*ways, "optim.name=sgd", "optim.lr=0.05", limit=3)
        hold(run.built.model)
        fit(run)
        ends.append(state(run))
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_a_detector_holds_its_old_boxes(kind, tmp_path):
    """Each head: from two classes to three in another order; the distance begins at nothing, and pulls back. That of
    four images is the mean of that of two and two, so that micro-batches and processes share an update."""
    section = {"head": HEADS[kind], "augment": "none", "size": 64} | ({"design": "v2"} if kind == "v2" else {})
    case = Case("detection", tmp_path, section, ("freeze.norm_stats=fixed",))
    first = case.run("train.epochs=1", "train.seed=5", limit=2)
    fit(first)
    for file in sorted((tmp_path / "runs/example-detection/objects/annotations").glob("*.json")):
        found = json.loads(file.read_text())
        names = [one["name"] for one in found["categories"]]
        found["categories"] = [{"id": i, "name": name} for i, name in enumerate(["added", *names[::-1]])]
        for i, one in enumerate(found["annotations"]):
            one["category_id"] = 0 if i % 2 else len(names) + 1 - one["category_id"]
        file.write_text(json.dumps(found))
    run = case.run(f"init={first.folder}", KEEP, "method.keep_old.weight=100", "train.ema={}", limit=3)
    assert "added" in run.built.meta["classes"]
    hold(run.built.model)
    fit(run)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    found = [line["method/keep_old"] / 100 for line in lines if line["kind"] == "train"]
    assert found[0] < 1e-6 < found[1]
    assert run.data.train is not None
    model, task, cfg = run.built.model.train(), run.resolved.task, run.resolved.cfg
    for module in model.modules():
        module.training &= not isinstance(module, torch.nn.BatchNorm2d)  # its statistics are fixed
    samples = [sample for sample in (run.data.train[i, 0] for i in range(12)) if 64 < sample["image"].shape[1] <= 96]
    distances = []
    for chosen in (samples[:4], samples[:2], samples[2:4]):
        batch = task.collate(cfg, chosen, None, run.built.meta)
        distances.append(float(model({**batch, "id": torch.arange(len(chosen)), "step": 3, "progress": 1.0})["kept"]))
    assert distances[0] == pytest.approx((distances[1] + distances[2]) / 2, rel=1e-4)
    assert distances[1] != pytest.approx(distances[2], rel=1e-2)


@pytest.mark.parametrize(
    ("task", "settings", "why"),
    [
        ("classification", (), "init names no model to begin from"),
        ("segmentation", (), "task segmentation keeps no old answers"),
        ("classification", ("train.compile=true",), "train.compile"),
    ],
)
def test_what_cannot_be_is_refused(task, settings, why, shapes, tmp_path):
    init = (f"init={shapes[1]}",) if settings else ()
    with pytest.raises(ConfigError, match=why):
        Case(task, tmp_path).run(KEEP, *init, *settings)


def test_models_with_nothing_in_common_are_refused(shapes, tmp_path):
    case, first = shapes
    other = tmp_path / "others"
    other.mkdir()
    for name, one in (("a", "circle"), ("b", "square")):
        (other / name).symlink_to(case.folder / "runs/example-classification/shapes/train" / one)
    with pytest.raises(ConfigError, match="the old model knows none of the 2 classes"):
        set_up(resolve(case.resolved(), [f"task.data={other}", f"init={first}", KEEP]))
