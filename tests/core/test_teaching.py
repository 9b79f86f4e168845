"""Distillation and co-tuning: formulas in NumPy, what a teacher must be, and the guarantees of every run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from tests.shared import shared
from visiontl.engine.train import fit
from visiontl.errors import CheckpointError, ConfigError
from visiontl.methods.cotuning import CoTuning, expected, soft_cross_entropy
from visiontl.methods.teaching import attention_distance, distance
from visiontl.testing.case import Case, same, state

TASKS = ("classification", "segmentation", "face")


def test_distances_equal_their_formulas():
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=(2, 2, 3, 4))  # (B, K, n) each: 4 places of 2 images, 3 classes
    valid = np.array([[True, True, False, True], [False, False, False, False]])
    per_place = 9 * (softmax(theirs / 3, 1) * (log_softmax(theirs / 3, 1) - log_softmax(ours / 3, 1))).sum(1)
    given = (torch.tensor(ours), torch.tensor(theirs), 3.0)
    assert float(distance("logits", *given, {})) == pytest.approx(per_place.mean(), rel=1e-12)
    masked = (per_place[0, valid[0]].mean() + 0) / 2  # an image where nothing counts is 0
    assert float(distance("logits", *given, {"valid": torch.tensor(valid)})) == pytest.approx(masked, rel=1e-12)

    p, q = (1 / (1 + np.exp(-one / 3)) for one in (theirs, ours))
    pairs = 9 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    assert float(distance("binary", *given, {})) == pytest.approx(pairs.mean(), rel=1e-12)

    a, b = ours[:, :, 0], theirs[:, :, 0]
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    given = (torch.tensor(a), torch.tensor(b), 3.0)
    assert float(distance("embedding", *given, {})) == pytest.approx((1 - cosines).mean(), rel=1e-12)


def test_attention_maps_may_have_other_widths_and_sizes():
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=(2, 3, 2, 2)), draw.normal(size=(2, 5, 4, 4))
    small = (theirs**2).mean(1).reshape(2, 2, 2, 2, 2).mean((2, 4))  # of 2 x 2 places each
    flat = [
        one.reshape(2, 4) / np.linalg.norm(one.reshape(2, 4), axis=1, keepdims=True)
        for one in ((ours**2).mean(1), small)
    ]
    wanted = 0.5 * ((flat[0] - flat[1]) ** 2).sum(1).mean()
    assert float(attention_distance(torch.tensor(ours), torch.tensor(theirs))) == pytest.approx(wanted, rel=1e-12)


def test_co_tuning_equals_its_formula():
    draw = np.random.default_rng(0)
    logits, relation = draw.normal(size=(3, 4)), softmax(draw.normal(size=(2, 4)), 1)
    label, shares = np.array([1, 0, 1]), np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    for given, target in ((torch.tensor(label), relation[label]), (torch.tensor(shares), shares @ relation)):
        wanted = -(target * log_softmax(logits, 1)).sum(1).mean()
        found = soft_cross_entropy(torch.tensor(logits), expected(given, torch.tensor(relation)))
        assert float(found) == pytest.approx(wanted, rel=1e-12)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """{task: a finished run}"""
    folder = tmp_path_factory.mktemp("teachers")
    found = {}
    for task in TASKS:
        run = Case(task, folder / task).run("train.epochs=1", "train.seed=5", limit=1)
        fit(run)
        found[task] = run.folder
    return found


@pytest.mark.parametrize("task", TASKS)
def test_a_student_learns_from_a_run(task, teachers, tmp_path):
    run = Case(task, tmp_path, {}, (f"method.teacher={{model: {teachers[task]}, maps: 1.0}}",)).run(limit=1)
    fit(run)
    assert "method/teacher" in (run.folder / "metrics.jsonl").read_text()
    assert not any("teacher" in name for name in state(run))


def test_a_taught_run_resumes_and_takes_no_other_teacher(teachers, tmp_path):
    settings = ("train.checkpoint_every=1 step", "optim.schedule=constant")
    case = Case("classification", tmp_path, {}, (*settings, f"method.teacher.model={teachers['classification']}"))
    whole, broken = case.run(limit=3), case.run(limit=2)
    fit(whole)
    fit(broken)
    resumed = case.run(f"resume={broken.folder}", limit=3)
    resumed.method, own = case.run(f"method.teacher.model={whole.folder}").method, resumed.method
    with pytest.raises(CheckpointError, match=r"method\.teacher began with other weights"):
        fit(resumed)
    resumed.method = own
    fit(resumed)
    assert not same(state(whole), state(resumed))


def test_a_backbone_teaches_maps(tmp_path):
    case = Case(
        "detection", tmp_path, {}, ("method.teacher={model: visiontl/tiny, weights: none, answers: 0, maps: 1}",)
    )
    run = case.run(limit=1)
    assert any("has random weights" in note for note in run.console.notes)
    fit(run)


@pytest.mark.parametrize(
    ("task", "settings", "why"),
    [
        ("classification", {"model": "visiontl/tiny"}, "is no folder; name that of a run; of a bare backbone"),
        (
            "classification",
            {"model": "visiontl/tiny", "answers": 0, "maps": 1},
            "method.teacher: .* set method.teacher.weights to none",
        ),
        ("classification", {"model": "no/such", "answers": 0, "maps": 1}, "no folder of that name"),
        ("classification", {"answers": 0}, "both 0"),
        ("segmentation", {}, "is a run of the task classification; a run of segmentation was expected"),
        ("classification", {"answers": 0, "maps": 1, "levels": [9]}, "levels: 9 is none"),
    ],
)
def test_teachers_that_cannot_be_are_refused(task, settings, why, teachers, tmp_path):
    given = {"model": teachers["classification"], **settings}
    case = Case(task, tmp_path, {}, tuple(f"method.teacher.{key}={value}" for key, value in given.items()))
    with pytest.raises(ConfigError, match=why):
        case.run()


def test_detection_has_no_answers_to_teach(teachers, tmp_path):
    run = Case("detection", tmp_path / "teacher").run("train.epochs=1", limit=1)
    fit(run)
    with pytest.raises(ConfigError, match="has no answers to teach: set answers to 0, and maps"):
        Case("detection", tmp_path).run(f"method.teacher.model={run.folder}")


def test_co_tuning_needs_a_classifier(tmp_path):
    with pytest.raises(ConfigError, match="it needs the classifier that the weights came with"):
        Case("classification", tmp_path).run("method.co_tuning={}")
    with pytest.raises(ConfigError, match="the whole backbone is frozen"):
        Case("classification", tmp_path).run("method.co_tuning={}", "freeze.policy=all")


def test_co_tuning_holds_on_to_what_the_classifier_said(tmp_path):
    file = shared("weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth")
    settings = ("backbone.name=torchvision/mobilenet_v2", f"backbone.weights={file}", "backbone.image_size=32")
    more = ("method.co_tuning={}", "train.checkpoint_every=1 step", "train.precision=bf16")
    case = Case("classification", tmp_path, {}, (*settings, *more))
    run = case.run(limit=1)
    (term,) = run.method.terms
    assert isinstance(term, CoTuning)
    assert term.relation.shape == (len(run.built.meta["classes"]), 1000)
    assert torch.allclose(term.relation.sum(1), torch.ones(1))
    fit(run)
    assert "method/co_tuning" in (run.folder / "metrics.jsonl").read_text()
    resumed = case.run(f"resume={run.folder}", limit=2)
    assert resumed.method.started == run.method.started
    fit(resumed)
