"""Faults planted one at a time in a third party's task, backbone, policy and package: the kit catches each, naming the
field."""

from __future__ import annotations

import copy
import random
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import visiontl_keypoints
import visiontl_keypoints_steps as steps
from PIL import Image
from pydantic import field_validator
from torch import nn
from torch.nn import functional as F

import visiontl
from tests.shared import ROOT
from visiontl import cli, plugins
from visiontl.errors import ConfigError, PolicyError, VisionTLError
from visiontl.hookspecs import hookimpl
from visiontl.kit.images import open_image
from visiontl.kit.partial import labeled_mean
from visiontl.testing import CHECKS, Case, answers, backbones, checks, packages, policies, ranks
from visiontl.testing import steps as inputs
from visiontl.testing.verdicts import verdicts

TASK = visiontl_keypoints.TASK


class Offered:
    def __init__(self, task):
        self.task = task

    @hookimpl
    def visiontl_tasks(self):
        return [self.task]


# a task's faults: (fields that are replaced, the check that must fail, how its sentence begins)


class Unread(steps.Keypoints):
    def __init__(self, cfg, backbone, meta):
        super().__init__(cfg, backbone, meta)
        self.spare = nn.Linear(4, 4)


class Copied(steps.Keypoints):
    def __init__(self, cfg, backbone, meta):
        super().__init__(cfg, backbone, meta)
        self.other = copy.deepcopy(backbone)


class Again(steps.Keypoints):
    """Mean and deviation a second time."""

    def forward(self, batch):
        images = batch["image"].float() / 255
        return super().forward({**batch, "image": (images - 0.45) / 0.2})


class Bytes(steps.Keypoints):
    """0..255 as floats."""

    def forward(self, batch):
        return super().forward({**batch, "image": batch["image"].float()})


class Inside(steps.Keypoints):
    """Past the backbone's own door: nothing is normalized."""

    def forward(self, batch):
        return {"points": self.points(self.backbone.extract(batch["image"].float() / 255, (1,), False, ()).maps[0])}


class Dropping(steps.Keypoints):
    def forward(self, batch):
        return {"points": self.points(F.dropout(self.backbone(batch["image"], maps=[1]).maps[0], 0.5))}


class BatchMates(steps.Keypoints):
    """Its answers are centered on those of the batch."""

    def forward(self, batch):
        found = super().forward(batch)["points"]
        return {"points": found - found.mean(0) + 0.5}


class Late(steps.Keypoints):
    """A layer at the first batch."""

    def forward(self, batch):
        if not hasattr(self, "late"):
            self.late = nn.Linear(2, 2)
        return {"points": self.late(super().forward(batch)["points"])}


class Lazily(steps.Keypoints):
    def __init__(self, cfg, backbone, meta):
        super().__init__(cfg, backbone, meta)
        self.late = nn.LazyLinear(2)

    def forward(self, batch):
        return {"points": self.late(super().forward(batch)["points"])}


class Remembering(steps.Keypoints):
    """A running mean that is no buffer."""

    def __init__(self, cfg, backbone, meta):
        super().__init__(cfg, backbone, meta)
        self.mean_point = torch.zeros(2, 2)

    def forward(self, batch):
        points = super().forward(batch)["points"]
        if self.training:
            self.mean_point = 0.5 * self.mean_point + 0.5 * points.detach().mean(0)
        return {"points": points + self.mean_point}


SEEN = []


class Global(steps.Keypoints):
    """What one run saw, the next remembers."""

    def forward(self, batch):
        if self.training:
            SEEN.append(1)
        return {"points": super().forward(batch)["points"] + 0.001 * len(SEEN)}


class Peeking(steps.Keypoints):
    """Reads the training data when it is built."""

    def __init__(self, cfg, backbone, meta):
        super().__init__(cfg, backbone, meta)
        assert (Path(cfg.data) / "points.json").read_bytes()


class Overwriting(steps.Keypoints):
    def forward(self, batch):
        batch["image"] = batch["image"].float().div(255)
        return super().forward(batch)


def summed(cfg, outputs, batch, meta):
    return {"loss": (outputs["points"] - batch["points"]).square().sum()}


def each(cfg, outputs, batch, meta):
    return {"loss": (outputs["points"] - batch["points"]).square().mean((1, 2))}


def nameless(cfg, outputs, batch, meta):
    return {"mse": (outputs["points"] - batch["points"]).square().mean()}


def scaling_loss(cfg, outputs, batch, meta):
    batch["points"] *= 2
    return steps.loss(cfg, outputs, batch, meta)


def scaling_rows(cfg, outputs, batch, meta):
    batch["points"] *= 2
    return steps.rows(cfg, outputs, batch, meta)


def sorted_rows(cfg, outputs, batch, meta):
    return sorted(steps.rows(cfg, outputs, batch, meta), key=lambda row: row["true"])


def relative_rows(cfg, outputs, batch, meta):
    made = steps.rows(cfg, outputs, batch, meta)
    middle = np.mean([row["found"] for row in made], 0)
    return [{**row, "found": (np.array(row["found"]) - middle).tolist()} for row in made]


def nested_score(cfg, rows, meta):
    return {**steps.score(cfg, rows, meta), "error": None}


def other_score(cfg, rows, meta):
    return {"distance": steps.score(cfg, rows, meta)["error"]}


def resized_pixels(cfg, model, batches, meta, options):
    for batch in batches:
        height, width = batch["image"].shape[2:]
        yield from ({"points": one} for one in (model(batch)["points"] * torch.tensor([width, height])).tolist())


def ranked(cfg, model, batches, meta, options):
    found = [one for batch in batches for one in model(batch)["points"].tolist()]
    yield from ({"points": one} for one in sorted(found))


def among_others(cfg, model, batches, meta, options):
    for batch in batches:
        found = model(batch)["points"]
        yield from ({"points": one} for one in (found - found.mean(0) * 0.5).tolist())


def unlike_val(cfg, spec, meta):
    def prepare(image):
        made = steps.prepared(image, spec)
        return {**made, "image": made["image"].flip(1)}

    return prepare


def width_first(image, spec):
    made = KEPT(image, spec)
    return {**made, "size": made["size"][::-1]}


def normalized(image, spec):
    made = KEPT(image, spec)
    return {**made, "image": (made["image"].float() / 255 - 0.45) / 0.2}


def as_floats(image, spec):
    made = KEPT(image, spec)
    return {**made, "image": made["image"].float()}


KEPT = steps.prepared


def with_data(**changes):
    def data(cfg, spec, meta=None):
        return replace(steps.data(cfg, spec, meta), **changes)

    return data


def with_splits(change):
    def data(cfg, spec, meta=None):
        found = steps.data(cfg, spec, meta)
        return replace(found, **{name: change(split) for name, split in found.splits().items()})

    return data


class Raw(steps.Arrows):
    """Photos as they are stored."""

    def image(self, id):
        return Image.open(self.folder / self.names[id]).convert("RGB")


class Drawing(steps.Arrows):
    """Augmented by the global generators."""

    def __getitem__(self, key):
        made = super().__getitem__(key)
        if self.train and random.random() < 0.5:
            made["image"] = made["image"].flip(2)
        return made


def of_class(kind, **more):
    def change(split):
        made = copy.copy(split)
        made.__class__ = kind
        for name, value in more.items():
            setattr(made, name, value)
        return made

    return change


def twice(split):
    made = copy.copy(split)
    made.names = [*split.names, split.names[0]]
    return made


def in_every_split(cfg, spec, meta=None):
    found = steps.data(cfg, spec, meta)
    found.val.names = [*found.val.names, found.train.names[0]] if found.train else found.test.names
    return found


def drawn_collate(cfg, samples, generator, meta):
    batch = steps.collate(cfg, samples, generator, meta)
    return {**batch, "points": batch["points"] + torch.rand(1) * 0.01} if generator else batch


class Partly(steps.Arrows):
    """A third of the photos has no points."""

    def __getitem__(self, key):
        made = super().__getitem__(key)
        return {**made, "known": key[0] % 3 > 0, "points": made["points"] * (key[0] % 3 > 0)}


def stating(cfg, samples, generator, meta):
    batch = steps.collate(cfg, samples, generator, meta)
    known = torch.tensor([one.get("known", True) for one in samples])
    return {**batch, "known": known, "labeled": {"points": int(known.sum())}}


def distances(outputs, batch):
    return (outputs["points"] - batch["points"])[batch["known"]].square().mean((1, 2))  # (N,)


def partial_loss(cfg, outputs, batch, meta):
    return {"loss": labeled_mean(distances(outputs, batch), batch, "points")}


def mean_of_the_batch(cfg, outputs, batch, meta):
    return {"loss": distances(outputs, batch).sum() / max(1, int(batch["known"].sum()))}


def nothing_without_labels(cfg, outputs, batch, meta):
    if not batch["known"].any():
        return {"loss": torch.zeros((), requires_grad=True)}
    return partial_loss(cfg, outputs, batch, meta)


class Looking(visiontl_keypoints.KeypointsConfig):
    @field_validator("data")
    @classmethod
    def there(cls, value):
        if not Path(value).is_dir():
            raise ValueError(f"{value} is no folder")
        return value


class Peering(visiontl_keypoints.KeypointsConfig):
    @field_validator("data")
    @classmethod
    def seen(cls, value):
        Path(value).exists()
        return value


def half(split, seed, epoch, batch_size):
    return [list(range(batch_size))] * 3


def beyond(split, seed, epoch, batch_size):
    return [[10_000 + i for i in range(batch_size)]]


def uneven(split, seed, epoch, batch_size):
    return [list(range(batch_size))] * (2 + epoch % 2)


def words(cfg, rows, meta, image):
    return "all is well"


def failing_figure(cfg, rows, meta, image):
    return [visiontl.Figure("Errors", lambda axes: axes.plot(rows["error"]))]


def ragged_table(cfg, rows, meta, image):
    return [visiontl.Table("Errors", ["photo", "error"], [["a.png"]])]


def sorting_report(cfg, rows, meta, image):
    rows.sort(key=lambda row: row["found"])
    return []


class Arrays(steps.Arrows):
    """For reports and `visiontl doctor` it gives what its samples are not made of."""

    def image(self, id):
        photo = super().image(id)
        return photo if sys._getframe(1).f_code.co_name == "__getitem__" else np.asarray(photo)


def upside_down(cfg, file):
    return open_image(file).rotate(180)


TASKS = {
    "a layer that the loss never reads": (
        {"model": Unread},
        answers.reads_all_of_its_own_parameters,
        "model: ",
    ),
    "a second copy of the backbone": ({"model": Copied}, answers.holds_the_backbone_once, "model: other"),
    "mean and deviation twice, in the model": (
        {"model": Again},
        answers.gives_the_backbone_its_pixels,
        "model: it ",
    ),
    "mean and deviation never": (
        {"model": Inside},
        answers.gives_the_backbone_its_pixels,
        "model: its",
    ),
    "0..255 as floats, in the model": ({"model": Bytes}, answers.gives_the_backbone_its_pixels, "model: it "),
    "dropout in evaluation": ({"model": Dropping}, answers.answers_alike_twice, "model: rows"),
    "answers that depend on the batch": ({"model": BatchMates}, answers.answers_each_image_by_itself, "rows"),
    "a layer made at the first batch": ({"model": Late}, answers.has_all_parameters_from_the_start, "model: late"),
    "a lazy layer": ({"model": Lazily}, answers.has_all_parameters_from_the_start, "model: late"),
    "state beside the buffers": ({"model": Remembering}, answers.keeps_its_state_in_the_module, "model: rows"),
    "state of the whole process": ({"model": Global}, answers.keeps_its_state_in_the_module, "model: "),
    "a model that reads training data": ({"model": Peeking}, answers.predicts_without_the_data, "model: it needs"),
    "a forward that changes the batch": ({"model": Overwriting}, answers.changes_no_batch, "model: it changes"),
    "a loss that changes the batch": ({"loss": scaling_loss}, answers.changes_no_batch, "loss: it changes"),
    "rows that change the batch": ({"rows": scaling_rows}, answers.changes_no_batch, "rows: it changes"),
    "a summed loss": ({"loss": summed}, answers.averages_its_loss, "loss: .* twice"),
    "a loss per image": ({"loss": each}, answers.averages_its_loss, "task 'faulty': loss: 'loss' in it"),
    "a mean over the labels of the batch alone": (
        {"data": with_splits(of_class(Partly)), "collate": stating, "loss": mean_of_the_batch},
        answers.counts_labeled_images_alone,
        "loss: the gradient of",
    ),
    "no gradient without labels": (
        {"data": with_splits(of_class(Partly)), "collate": stating, "loss": nothing_without_labels},
        answers.counts_labeled_images_alone,
        "loss: .* got no gradient",
    ),
    "a loss without a name": (
        {"loss": nameless},
        answers.averages_its_loss,
        "task 'faulty': loss: `loss` in it is None",
    ),
    "rows in another order": ({"rows": sorted_rows}, answers.answers_each_image_by_itself, "rows"),
    "rows that depend on batch mates": ({"rows": relative_rows}, answers.answers_each_image_by_itself, "rows"),
    "a wrong direction": ({"best": ("error", "max")}, answers.scores_more_for_the_right_images, "best: 'error'"),
    "best names no score": ({"score": other_score}, answers.gives_scores_that_can_be_kept, "score: it gives distance"),
    "a best score that is nothing": ({"score": nested_score}, answers.gives_scores_that_can_be_kept, "score: 'error'"),
    "points in resized pixels": (
        {"predict": resized_pixels},
        answers.predicts_in_pixels_of_the_photo,
        "predict: ",
    ),
    "predictions in another order": ({"predict": ranked}, answers.predicts_each_photo_by_itself, "predict"),
    "predictions that depend on others": ({"predict": among_others}, answers.predicts_each_photo_by_itself, "predict"),
    "sample unlike val": ({"sample": unlike_val}, checks.sees_photos_alike_in_prediction_and_validation, "sample"),
    "size as (W, H)": ({"prepared": width_first}, inputs.states_height_before_width, "sample: `size`"),
    "normalized samples": ({"prepared": normalized}, inputs.gives_pixels_as_they_are, "collate: `image` of a black"),
    "0..255 as floats": ({"prepared": as_floats}, inputs.gives_pixels_as_they_are, "collate: float `image`"),
    "EXIF ignored": ({"data": with_splits(of_class(Raw))}, inputs.turns_photos_by_exif, "data: .* ignores"),
    "an image twice": ({"data": with_splits(twice)}, inputs.names_each_image_once, "data: train names"),
    "an image of train in val": ({"data": in_every_split}, inputs.names_each_image_once, "data: .* of val is"),
    "images never shown": (
        {"data": with_data(batches=half)},
        inputs.serves_every_image_of_train,
        "data: batches",
    ),
    "ids of nobody": (
        {"data": with_data(batches=beyond)},
        inputs.serves_every_image_of_train,
        "the task's batches name image 10000",
    ),
    "epochs of unequal length": (
        {"data": with_data(batches=uneven)},
        inputs.serves_every_image_of_train,
        "data: batches",
    ),
    "meta with numbers as keys": (
        {"data": with_data(meta={"points": ["a", "b"], "names": {0: "tail"}})},
        inputs.keeps_its_meta_through_json,
        "data: meta",
    ),
    "meta that is no JSON": (
        {"data": with_data(meta={"points": ["a", "b"], "spread": float("nan")})},
        inputs.keeps_its_meta_through_json,
        "task 'faulty': data: 'spread' of meta is no JSON",
    ),
    "global generators in a data set": (
        {"data": with_splits(of_class(Drawing))},
        checks.gives_the_same_sample_for_the_same_seed,
        "data: train",
    ),
    "global generators in collate": (
        {"collate": drawn_collate},
        checks.collates_as_a_function_of_its_generator,
        "collate",
    ),
    "an array as photo": (
        {"data": with_splits(of_class(Arrays))},
        inputs.names_each_image_once,
        "data: train.image gives",
    ),
    "a file opened otherwise than by the split": (
        {"opens": {".png": upside_down}},
        inputs.opens_files_as_its_splits_show_them,
        "opens: no .png file of the example",
    ),
    "an error that nobody foresaw for a bad file": (
        {"opens": {".png": lambda cfg, file: Image.open(file).convert("RGB")}},
        inputs.opens_files_as_its_splits_show_them,
        "opens: UnidentifiedImageError for an empty file",
    ),
    "a report in words": ({"report": words}, checks.shows_its_answers, "task 'faulty': report: it gave a str"),
    "a figure that cannot be drawn": (
        {"report": failing_figure},
        checks.shows_its_answers,
        "report: figure 'Errors' ends in TypeError",
    ),
    "a table with a short row": ({"report": ragged_table}, checks.shows_its_answers, "report: table 'Errors': a row"),
    "a report that sorts the rows": ({"report": sorting_report}, checks.shows_its_answers, "report: it changes"),
    "a drawing that is none": (
        {"draw": lambda image, prediction, meta: None},
        checks.shows_its_answers,
        "task 'faulty': draw: it gave None",
    ),
    "splits that cannot be pickled": (
        {"data": with_splits(of_class(steps.Arrows, opened=lambda: None))},
        checks.describes_itself,
        "data: train cannot be pickled",
    ),
    "labels for a probe that are no numbers": (
        {"probe": lambda cfg, sample, meta: {"labels": 0.5}},
        inputs.says_what_features_should_tell,
        "probe: labels are float64",
    ),
    "boxes for a probe outside of the image": (
        {"probe": lambda cfg, sample, meta: {"labels": [1], "boxes": [[0, 0, 5000, 10]]}},
        inputs.says_what_features_should_tell,
        "probe: a box of .* lies outside",
    ),
    "pixels for a probe of another size": (
        {"probe": lambda cfg, sample, meta: {"labels": torch.zeros(3, 5, dtype=torch.int64)}},
        inputs.says_what_features_should_tell,
        "probe: labels are .3, 5.",
    ),
    "a probe without a label": (
        {"probe": lambda cfg, sample, meta: {"labels": -1}},
        inputs.says_what_features_should_tell,
        "probe: no image",
    ),
    "a validator that needs the disk": ({"config": Looking}, inputs.validates_without_the_disk, "mapping: task.data"),
    "a validator that looks at the disk": (
        {"config": Peering},
        inputs.validates_without_the_disk,
        "config: a validator",
    ),
}


@pytest.mark.parametrize("fault", TASKS)
def test_a_fault_in_a_task_is_caught(fault, tmp_path, monkeypatch):
    changes, check, words = TASKS[fault]
    prepared = changes.get("prepared")
    if prepared:
        monkeypatch.setattr(steps, "prepared", prepared)
    task = replace(TASK, name="faulty", **{name: value for name, value in changes.items() if name != "prepared"})
    plugin = Offered(task)
    plugins.register(plugin, "faulty")
    try:
        with pytest.raises((AssertionError, VisionTLError)) as raised:
            check(Case("faulty", tmp_path))
    finally:
        plugins.manager().unregister(plugin)
        plugins._registry().offered.clear()
    assert re.match(words, str(raised.value)), str(raised.value)


# a backbone's faults


def tiny(change=None, facts=None):
    entry = plugins.backbones()["visiontl/tiny"]

    def build(**wishes):
        made = entry.build(**wishes)
        if change:
            change(made)
        return made

    return replace(entry, build=build, facts={**entry.facts, **(facts or {})})


def body(made, function):
    """Its extract with the images that `function` makes of the normalized ones."""
    kept = made.extract
    made.extract = lambda x, *rest: kept(function(x), *rest)


def with_noise(made):
    made.register_buffer("calls", torch.zeros(()))
    made.stage_of = {**made.stage_of, "calls": made.stages[0]}

    def counted(x):
        made.calls += 1
        return x

    body(made, counted)


def always_moving(made):
    """Batch norm with the batch's statistics, eval mode or not."""
    norm = next(module for module in made.modules() if isinstance(module, nn.BatchNorm2d))
    norm.forward = lambda x: F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True)


def forget(made):
    name = next(iter(name for name, _ in made.named_parameters()))
    made.stage_of = {key: stage for key, stage in made.stage_of.items() if key != name}


def swap(made):
    made.stages = (*made.stages[2:3], *made.stages[1:2], *made.stages[:1], *made.stages[3:])


def hide_modules(made):
    """Tensors have stages, modules have none: a frozen stage's batch norm goes on."""
    tensors = set(made.state_dict())
    made.stage_of = {name: stage for name, stage in made.stage_of.items() if name in tensors}


def attribute(name, value):
    return lambda made: setattr(made, name, value(getattr(made, name)))


BACKBONES = {
    "wrong channels": (tiny(attribute("channels", lambda c: (*c[:-1], c[-1] + 1))), "channels: level"),
    "wrong strides": (tiny(attribute("strides", lambda s: tuple(2 * one for one in s))), "strides: level"),
    "strides that are missing": (tiny(attribute("strides", lambda s: s[:-1])), "channels: "),
    "a wrong embed_dim": (tiny(attribute("embed_dim", lambda n: n + 1)), "embed_dim: pooled"),
    "a parameter in no stage": (tiny(forget), "stage_of: "),
    "a stage that nobody named": (tiny(attribute("stage_of", lambda s: dict.fromkeys(s, "trunk"))), "stage_of: trunk"),
    "a stage twice": (tiny(attribute("stages", lambda s: (*s, s[0]))), "stages: "),
    "stages out of order": (tiny(swap), "stages: "),
    "a buffer that a forward writes": (tiny(with_noise), "extract: a pass in eval mode changes calls"),
    "statistics that move in eval mode": (tiny(always_moving), "extract: a pass in eval mode changes"),
    "modules in no stage": (tiny(hide_modules), "stage_of: .* moves while"),
    "normalized twice": (tiny(lambda made: body(made, made.normalize)), "extract: pixels"),
    "image_size ignored": (
        replace(tiny(), build=lambda image_size=None, **wishes: tiny().build(**wishes)),
        "build: image_size",
    ),
    "spec ignored": (replace(tiny(), build=lambda spec=None, **wishes: tiny().build(**wishes)), "build: spec"),
    "wrong facts": (tiny(facts={"embed_dim": 7}), "facts: embed_dim"),
}


@pytest.mark.parametrize("fault", BACKBONES)
def test_a_fault_in_a_backbone_is_caught(fault):
    entry, words = BACKBONES[fault]
    said = []
    for check in backbones.CHECKS:
        try:
            check(entry)
        except AssertionError as error:
            said.append(str(error))
        except Exception:  # once the place is named, others may stumble over the same fault
            assert said
    assert any(re.match(words, one) for one in said), said


# a policy's faults


class Counting:
    """Thaws a stage each time it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, epoch, stages):
        self.asked += 1
        return {stage: "train" if i < self.asked else "frozen" for i, stage in enumerate(stages)}


def popping(epoch, stages):
    stages.pop()
    return dict.fromkeys(stages, "train")


def known(argument=None):
    if argument is not None:
        raise PolicyError("no argument")
    return lambda epoch, stages: {"stem": "frozen", "layer4": "train"}


POLICIES = {
    "it remembers": (lambda argument=None: Counting(), "faulty: .* epoch"),
    "it changes the stages": (lambda argument=None: popping, "faulty: "),
    "it names stages of its own": (known, "faulty: None in epoch 0: it names layer4"),
    "a mode of its own": (
        lambda argument=None: lambda epoch, stages: dict.fromkeys(stages, "half"),
        "faulty: .*'half' is no mode",
    ),
    "it leaves stages out": (
        lambda argument=None: lambda epoch, stages: {stages[0]: "train"},
        "faulty: .* says nothing of",
    ),
    "a bare TypeError": (lambda argument=None: [][argument], "faulty: .* ends in TypeError"),
}


@pytest.mark.parametrize("fault", POLICIES)
def test_a_fault_in_a_policy_is_caught(fault):
    factory, words = POLICIES[fault]
    said = []
    for check in policies.CHECKS:
        try:
            check("faulty", factory)
        except AssertionError as error:
            said.append(str(error))
        except Exception:
            continue
    assert any(re.match(words, one) for one in said), said


# a package's faults


OF_PACKAGES = {  # each with the check that must catch it, in the tests below
    "a watcher that raises": "watches_without_a_word",
    "a watcher that changes what it is told": "watches_without_a_word",
    "a module that imports torch": "is_found_without_torch",
}


class Watcher:
    def __init__(self, act):
        self.act = act

    @hookimpl
    def visiontl_logged(self, step, values):
        self.act(values)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda values: values["missing"], "visiontl_logged: it raises KeyError"),
        (lambda values: values.clear(), "visiontl_logged: it changes what it is told"),
    ],
)
def test_a_watcher_that_raises_or_meddles_is_caught(act, words):
    plugin = Watcher(act)
    plugins.register(plugin, "faulty")
    try:
        with pytest.raises(AssertionError, match=words):
            packages.watches_without_a_word("faulty")
    finally:
        plugins.manager().unregister(plugin)


def test_a_module_that_imports_torch_is_caught(tmp_path, monkeypatch):
    (tmp_path / "visiontl_heavy.py").write_text("import torch\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(packages, "module_of", lambda name: "visiontl_heavy")
    with pytest.raises(AssertionError, match="visiontl_heavy: it imports torch"):
        packages.is_found_without_torch("heavy")
    sys.modules.pop("visiontl_heavy", None)


def test_without_a_fault_all_holds(keypoints, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/plugins/keypoints"))
    said = [(one.check, one.said) for one in verdicts("keypoints", quick=True)]
    assert len(said) > 30
    assert [one for one in said if one[1]] == []


def test_a_task_with_partial_labels_holds_what_it_must(tmp_path):
    data = with_splits(of_class(Partly))
    plugin = Offered(replace(TASK, name="partial", data=data, collate=stating, loss=partial_loss))
    plugins.register(plugin, "partial")
    try:
        for check in (answers.counts_labeled_images_alone, answers.averages_its_loss, answers.changes_no_batch):
            check(Case("partial", tmp_path / check.__name__))
        assert ranks.check_weights(Case("partial", tmp_path)) == []  # one batch, and two of half its size
    finally:
        plugins.manager().unregister(plugin)
        plugins._registry().offered.clear()


def test_every_check_says_its_clause():
    for check in (*CHECKS, *backbones.CHECKS, *policies.CHECKS, *packages.CHECKS):
        assert check.__doc__, check.__name__


def test_the_command_says_what_holds_and_what_fails(capsys):
    """A plugin with two faults: both are said with their clause, the rest holds."""
    plugin = Offered(replace(TASK, name="faulty", loss=summed, rows=sorted_rows))
    plugins.register(plugin, "faulty")
    try:
        found = {one.check: one for one in verdicts("faulty", quick=True)}
        with pytest.raises(ConfigError, match="'faultyy' is no plugin, task, policy or command; did you mean 'faulty'"):
            list(verdicts("faultyy"))
        assert cli.main(["check", "gradual", "norm_and_bias", "gradual"]) == 0
        assert cli.main(["check", "gradul", "gradual", "norm_and_bia"]) == 2
    finally:
        plugins.manager().unregister(plugin)
        plugins._registry().offered.clear()
    failed = {name for name, one in found.items() if one.said}
    assert failed == {"averages its loss", "answers each image by itself", "is found without torch"}, found
    assert "averages its loss" in failed
    assert found["averages its loss"].clause.startswith("loss: the mean over the batch")
    said = capsys.readouterr()
    assert "6 checks of gradual, norm_and_bias, 0 failed" in said.out
    assert "did you mean 'gradual'" in said.err
    assert "did you mean 'norm_and_bias'" in said.err
