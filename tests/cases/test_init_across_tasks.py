"""A run of any task starts from the backbone of a run of any other, and weights that are no numbers answer nothing."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from visiontl.engine.init import warm_start
from visiontl.engine.model import export, load_model
from visiontl.engine.prepare import begin
from visiontl.errors import CheckpointError
from visiontl.freezing.layout import backbone_prefix
from visiontl.report.console import Console
from visiontl.runs.store import require_finite
from visiontl.testing import Case

TASKS = ("classification", "detection", "segmentation", "face", "style", "brightness")


class Heard(Console):
    def __init__(self):
        super().__init__(main=False)
        self.lines = []

    def _print(self, text, style):
        self.lines.append(text)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """{task: (its model on the tiny backbone, the folder it was exported to)}; every tensor has values of its own."""
    found = {}
    for number, task in enumerate(TASKS):
        folder = tmp_path_factory.mktemp(task)
        built, _, _ = begin(Case(task, folder).resolved(), Console(main=False))
        values = torch.Generator().manual_seed(number)
        for tensor in built.model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=values) + 0.5)
        export(folder / "model", built, built.model.state_dict())
        found[task] = built, folder / "model"
    return found


def from_run(built, folder):
    config = built.resolved.config.model_copy(update={"init": str(folder)})
    return dataclasses.replace(built, resolved=dataclasses.replace(built.resolved, config=config))


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(TASKS, 2)))
def test_the_backbone_is_taken_whole_and_nothing_of_the_head(exported, old, new):
    (source, folder), (built, _) = exported[old], exported[new]
    before = {k: v.clone() for k, v in built.model.state_dict().items()}
    console = Heard()
    try:
        assert warm_start(from_run(built, folder), console) is False
        theirs = source.backbone.state_dict()
        prefix = backbone_prefix(built.model, built.backbone)
        cut = [name for name in built.backbone.state_dict() if name not in theirs]
        for name, tensor in built.backbone.state_dict().items():
            if name not in cut and name not in ("mean", "std"):
                assert torch.equal(tensor, theirs[name]), name
        for name, tensor in built.model.state_dict().items():
            assert name.startswith(prefix) or torch.equal(tensor, before[name]), name
        assert f"the run is of the task {old}" in console.lines[0]
        assert bool(cut) == (old == "style")  # it keeps what its layers read
        assert any(f"cut {len(cut)} tensors off" in line for line in console.lines) == bool(cut)
    finally:
        built.model.load_state_dict(before)


def test_what_no_file_gives_follows_the_seed(exported):
    """Style cut layers off; the tiny backbone's own start stands for them, the same in every process."""
    (_, folder), (built, _) = exported["style"], exported["classification"]
    before = {k: v.clone() for k, v in built.model.state_dict().items()}
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        warm_start(from_run(built, folder), Console(main=False))
        found.append({k: v.clone() for k, v in built.model.state_dict().items()})
    built.model.load_state_dict(before)
    assert all(torch.equal(v, found[1][k]) for k, v in found[0].items())


def test_the_head_comes_along_within_a_task(exported):
    built, folder = exported["detection"]
    before = {k: v.clone() for k, v in built.model.state_dict().items()}
    for tensor in built.model.state_dict().values():
        tensor.zero_()
    assert warm_start(from_run(built, folder), Console(main=False)) is True
    assert all(
        torch.equal(v, before[k]) for k, v in built.model.state_dict().items() if not k.endswith((".mean", ".std"))
    )


def test_another_backbone_is_refused(exported, tmp_path):
    source, _ = exported["face"]
    state = {k: v[..., :1] if v.dim() == 4 else v for k, v in source.model.state_dict().items()}
    export(tmp_path / "model", source, state)
    with pytest.raises(CheckpointError, match=r"tensors of its backbone do not fit, such as .*\(8, 3, 3, 1\) there"):
        warm_start(from_run(exported["segmentation"][0], tmp_path / "model"), Console(main=False))


@pytest.mark.parametrize(("task", "value"), [("classification", "nan"), ("face", "inf"), ("style", "-inf")])
def test_weights_that_are_no_numbers_are_refused(exported, tmp_path, task, value):
    """By whatever predicts or evaluates, and as the start of another run."""
    built, _ = exported[task]
    prefix = backbone_prefix(built.model, built.backbone)
    name = next(k for k, p in built.model.named_parameters() if p.dim() > 1 and k.startswith(prefix))
    state = {k: v.clone() for k, v in built.model.state_dict().items()}
    state[name].view(-1)[0] = float(value)
    export(tmp_path / "model", built, state)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: 1 of its \d+ tensors hold values that are no finite"
    ):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match=name.removeprefix(prefix).replace(".", r"\.")):
        warm_start(from_run(exported["detection"][0], tmp_path / "model"), Console(main=False))


def test_an_infinity_in_a_mask_is_no_damage(exported, tmp_path):
    """Statistics of batch norm are no masks: with an infinity, or a variance below 0, every answer is NaN."""
    built, _ = exported["brightness"]
    mask = {"mask": torch.tensor([0.0, float("-inf")])}
    require_finite(tmp_path, mask, ())
    with pytest.raises(CheckpointError, match="such as mask"):
        require_finite(tmp_path, mask, ("mask",))
    for kind, value in (("running_mean", float("inf")), ("running_var", -0.1)):
        name = next(k for k, _ in built.model.named_buffers() if k.endswith(kind))
        state = {k: v.clone() for k, v in built.model.state_dict().items()}
        state[name][0] = value
        export(tmp_path / "model", built, state)
        with pytest.raises(CheckpointError, match=name):
            load_model(tmp_path)
