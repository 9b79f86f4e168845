"""Steps of a task that give what nobody can use: each is refused with task, step, what was found and what was
expected, before anything goes on with it."""

from __future__ import annotations

import importlib.util
import pickle
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import visiontl_keypoints
import visiontl_keypoints_steps as steps
from PIL import Image
from torch import nn

from tests.contract.test_faults import Offered
from tests.shared import ROOT
from visiontl import Data, Table, cli, plugins
from visiontl.config.guarded import GUARDS, Guarded, guarded, openers
from visiontl.engine.train import fit
from visiontl.errors import PluginError
from visiontl.testing import Case

TASK = visiontl_keypoints.TASK
META = {"points": ["tail", "head"]}
PHOTO = Image.new("RGB", (8, 6))
IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
BATCH = {"image": IMAGES, "id": torch.tensor([0, 1])}
ROWS = [{"found": 1}, {"found": 2}]


class Split:
    """Of two images, or as `more` has it."""

    def __init__(self, **more):
        self.__dict__.update({"names": ["a", "b"], "image": lambda id: PHOTO, "length": 2, **more})

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        return {"image": IMAGES[0]}


class Nameless:
    def __len__(self):
        return 2

    def __getitem__(self, key):
        return {}

    def image(self, id):
        return PHOTO


class Wide(Split):
    def __len__(self):
        return 2.0


def batches():
    yield BATCH


GIVEN = {
    "data": (None, None, None),
    "sample": (None, None, META),
    "collate": (None, [{"image": IMAGES[0]}, {"image": IMAGES[1]}], None, META),
    "model": (None, nn.Linear(1, 1), META),
    "export": (None, nn.Linear(1, 1), META, None),
    "loss": (None, {"points": IMAGES}, BATCH, META),
    "rows": (None, {"points": IMAGES}, BATCH, META),
    "score": (None, ROWS, META),
    "trivial": (None, ROWS, META),
    "draw": (PHOTO, {}, META),
    "files": (None, [], META),
    "report": (None, ROWS, META, None),
    "preview": (None, ROWS, META, None),
    "mistakes": (None, ROWS, META),
    "check": (None, None, META, None),
    "refuse": (None, "all"),
    "example": (Path("nowhere"),),
}

SCALAR = torch.zeros(())
LISTS = "expected lists of ids, each one process's batch"
FIRST = "expected (B, 3, H, W): channels first"
PAIR = "expected (the answer in words, rows)"
# name: (step, what it gives, what is said behind `task 'faulty': STEP: `)
WRONG = {
    "nothing as data": ("data", None, "it gave None; expected a visiontl.Data"),
    "splits in a dict": ("data", {"train": Split()}, "it gave a dict with train; expected a visiontl.Data"),
    "meta as a list": ("data", Data(Split(), meta=["a"]), "meta is a list of 1; expected a mapping of JSON values"),
    "tensors in meta": ("data", Data(Split(), meta={"center": SCALAR}), "'center' of meta is no JSON (Object of type"),
    "NaN in meta": ("data", Data(Split(), meta={"mean": float("nan")}), "'mean' of meta is no JSON (Out of range"),
    "one note": ("data", Data(Split(), notes="two were left out"), "notes is a str, 'two were left out'; expected a"),
    "a split as a list": ("data", Data([1, 2]), "train lacks `image`: it is a list of 2; expected len(split), split["),
    "a split without names": ("data", Data(Nameless()), "train lacks `names`: it is a Nameless; expected len(split)"),
    "names too short": (
        "data",
        Data(Split(), Split(names=["a"])),
        "names of val is a list of 1; expected a name for each of its 2 images",
    ),
    "a fraction as length": ("data", Data(Wide()), "the length of train is a float, 2.0; expected a whole number"),
    "an empty split": ("data", Data(Split(), Split(length=0, names=[])), "val has no image; leave a split out (None)"),
    "another still": (
        "data",
        Data(Split(), still=Split(length=1, names=["a"])),
        "the length of still is an int, 1; expected as many images as train has",
    ),
    "no function for photos": ("sample", None, "it gave None; expected a function: (PIL image) -> sample"),
    "a list as batch": ("collate", [IMAGES], "it gave a list of 1; expected a dict with `image` of shape (B, 3, H,"),
    "a tensor as batch": ("collate", IMAGES, "it gave a Tensor of shape (2, 3, 8, 8); expected a dict with `image`"),
    "no image in the batch": ("collate", {"pixels": IMAGES}, "it gave a dict with pixels; expected a dict with `image"),
    "arrays as images": ("collate", {"image": IMAGES.numpy()}, "`image` is a ndarray of shape (2, 3, 8, 8); expected"),
    "channels last": (
        "collate",
        {"image": IMAGES.permute(0, 2, 3, 1)},
        f"`image` is a Tensor of shape (2, 8, 8, 3); {FIRST}",
    ),
    "one image for two": (
        "collate",
        {"image": IMAGES[:1]},
        "`image` is a Tensor of shape (1, 3, 8, 8); expected one im",
    ),
    "an image too flat": (
        "collate",
        {"image": [IMAGES[0], IMAGES[0, 0]]},
        "an item of `image` is a Tensor of shape (8",
    ),
    "numbers as keys": ("collate", {"image": IMAGES, 3: 4}, "a key of it is an int, 3; expected a text"),
    "a function as model": ("model", len, "it gave a builtin_function_or_method; expected an nn.Module that holds"),
    "a model without backbone": ("model", nn.Linear(2, 2), "it gave a Linear; expected self.backbone = backbone in it"),
    "a tensor as loss": ("loss", SCALAR, "it gave a Tensor of shape (); expected {'loss': a tensor of shape ()}"),
    "no loss": ("loss", None, "it gave None; expected {'loss': a tensor of shape ()}"),
    "a float as loss": ("loss", {"loss": 0.5}, "`loss` in it is a float, 0.5; expected a tensor of shape ()"),
    "words in the loss": ("loss", {"loss": SCALAR, "kind": "mse"}, "'kind' in it is a str, 'mse'; expected a tensor"),
    "a part for each image": (
        "loss",
        {"loss": SCALAR, "mse": IMAGES},
        "'mse' in it is a Tensor of shape (2, 3, 8, 8); ex",
    ),
    "no rows": ("rows", None, "it gave None; expected a list with one record for each image"),
    "rows as a generator": ("rows", (one for one in ROWS), "it gave a generator; expected a list with one record"),
    "rows as columns": ("rows", {"found": [1, 2]}, "it gave a dict with found; expected a list with one record"),
    "a float as scores": ("score", 0.5, "it gave a float, 0.5; expected a dict of scores: {'accuracy': 0.93, ...}"),
    "no scores": ("score", None, "it gave None; expected a dict of scores"),
    "rows without words": ("trivial", ROWS, f"it gave a list of 2; {PAIR}"),
    "no picture": ("draw", None, "it gave None; expected a PIL image"),
    "an array as picture": ("draw", np.zeros((6, 8, 3)), "it gave a ndarray of shape (6, 8, 3); expected a PIL image"),
    "names without texts": ("files", ["coco.json"], "it gave a list of 1; expected {name of a file: its text}"),
    "bytes as text": ("files", {"a.json": b"{}"}, "'a.json' in it is a bytes; expected its text"),
    "a report in words": ("report", "all is well", "it gave a str, 'all is well'; expected a list of visiontl.Figure"),
    "a table alone": ("report", Table("t", ["a"], [[1]]), "it gave a Table; expected a list of visiontl.Figure, Table"),
    "a dict as table": ("report", [{"title": "t"}], "an item of it is a dict with title; expected a visiontl.Figure"),
    "a list as preview": ("preview", [PHOTO], "it gave a list of 1; expected visiontl.Pictures"),
    "ids as mistakes": ("mistakes", [0, 1], "an item of it is an int, 0; expected (id, words)"),
    "words as findings": ("check", ["too dark"], "an item of it is a str, 'too dark'; expected a visiontl.Finding or"),
    "a bare refusal": ("refuse", True, "it gave True; expected the reason in words, or None"),
    "no export": ("export", None, "it gave None; expected a visiontl.Export"),
    "no example": ("example", None, "it gave None; expected the value of task.data that reads it"),
}


def wrong(**steps):
    return guarded(
        replace(TASK, name="faulty", **{step: lambda *given, made=made: made for step, made in steps.items()})
    )


def refused(call):
    with pytest.raises(PluginError) as raised:
        call()
    return str(raised.value)


@pytest.mark.parametrize("fault", WRONG)
def test_what_a_step_must_not_give_is_refused_in_words(fault):
    step, made, words = WRONG[fault]
    assert refused(lambda: getattr(wrong(**{step: made}), step)(*GIVEN[step])).startswith(
        f"task 'faulty': {step}: {words}"
    )


def test_the_table_of_faults_is_current():
    """Each with the clause that catches it (docs/results/contract_faults.md)."""
    spec = importlib.util.spec_from_file_location("document_faults", ROOT / "tools" / "document_faults.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.page() == made.PAGE.read_text(encoding="utf-8"), "run `python tools/document_faults.py`"


def test_every_step_that_gives_something_is_looked_at():
    elsewhere = {"batches", "predict", "samples", "opens"}  # the tests below
    assert {step for step, _, _ in WRONG.values()} == GIVEN.keys() == GUARDS.keys() - elsewhere


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, f"it gave None; {LISTS}"),
        ([0, 1, 2], f"an item of it is an int, 0; {LISTS}"),
        ([[0.0, 1.0]], "an id of it is a float, 0.0; expected a whole number"),
        ([[], [0]], "a batch of it is a list of 0; expected at least one id"),
    ],
)
def test_batches_that_are_no_lists_of_ids(made, words):
    found = wrong(data=Data(Split(), batches=lambda split, seed, epoch, size: made)).data(None, None, None)
    assert refused(lambda: found.batches("train", 0, 0, 2)) == f"task 'faulty': batches: {words}"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "it gave None; expected an iterator of dicts, one for each photo"),
        ({"points": 1}, "it gave a dict with points; expected an iterator"),
        ([{"points": 1}], "it gave 1 dict for 2 photos; expected one for each"),
        ([{"points": 1}] * 3, "it gave 3 dicts for 2 photos; expected one for each"),
        ([[1], [2]], "it gave a list of 1; expected a dict for each photo"),
        ([{"points": object()}] * 2, "'points' in it is an object; expected JSON values, NumPy arrays or PIL images"),
    ],
)
def test_predictions_that_are_no_dicts_of_photos(made, words):
    def predict(cfg, model, batches, meta, options):
        list(batches)
        return made

    task = guarded(replace(TASK, name="faulty", predict=predict))
    assert refused(lambda: list(task.predict(None, None, batches(), META, None))).startswith(
        f"task 'faulty': predict: {words}"
    )


def test_what_comes_in_is_looked_at_too():
    """A sample is what a split gave, and outputs are what the model gave: both are told as theirs."""
    task = guarded(replace(TASK, name="faulty"))
    assert "collate: a sample that it gets is a tuple of 2; expected a dict from `split[id, seed]`" in refused(
        lambda: task.collate(None, [(IMAGES[0], 1)], None, META)
    )
    for step in (task.loss, task.rows):
        assert refused(lambda step=step: step(None, None, BATCH, META)) == (
            "task 'faulty': model: its forward gave None; expected outputs: a dict, list or tensor"
        )
    prepare = wrong(sample=lambda photo: (photo, 1)).sample(None, None, META)
    assert "what its function gives for a photo is a tuple of 2" in refused(lambda: prepare(PHOTO))
    formats = guarded(replace(TASK, name="faulty", samples={"plain": lambda folder: None})).samples
    assert refused(lambda: formats["plain"](Path("there"))).startswith(
        "task 'faulty': samples: it gave None; expected keys"
    )


def test_files_that_a_task_opens_are_pictures():
    def opener(opens):
        return openers(replace(TASK, name="faulty", opens=opens), "config")

    blank = opener({".wav": lambda cfg, file: np.zeros((6, 8))})
    words = "task 'faulty': opens: it gave a ndarray of shape (6, 8); expected an RGB PIL image"
    assert refused(lambda: blank[".wav"](None, Path("a.wav"))).startswith(words)
    for opens in ({".wav": lambda cfg, file: PHOTO}, lambda cfg: {f".{cfg}": lambda cfg, file: PHOTO}):
        ((suffix, open_file),) = opener(opens).items()
        assert suffix == (".wav" if isinstance(opens, dict) else ".config")
        assert open_file(None, Path("a.wav")) is PHOTO
    assert "opens: it gave a list of 1; expected {suffix" in refused(lambda: opener(lambda cfg: [".wav"]))
    with pytest.raises(
        PluginError, match=r"opens\['.wav'\] is lambda\(file\) at .*; expected opens\['.wav'\]\(cfg, file\)"
    ):
        replace(TASK, opens={".wav": lambda file: PHOTO})
    with pytest.raises(PluginError, match=r"opens is lambda\(\) at .*; expected opens\(cfg\)"):
        replace(TASK, opens=lambda: {})


def test_what_is_right_passes_as_it_is():
    task = guarded(TASK)
    rows = steps.rows(
        None,
        *(made := ({"points": torch.zeros(2, 2, 2)}, {"points": torch.ones(2, 2, 2), "size": torch.ones(2, 2)})),
        META,
    )
    assert task.rows(None, *made, META) == rows
    assert task.score(None, rows, META) == steps.score(None, rows, META)
    found = task.data
    assert pickle.loads(pickle.dumps(task.collate)) == task.collate
    assert isinstance(found, Guarded)
    assert task.draw is None
    assert replace(task, name="again").loss == task.loss


def test_an_error_of_a_step_says_whose_it_is():
    def loss(cfg, outputs, batch, meta):
        return outputs["nothing"]

    with pytest.raises(KeyError) as raised:
        guarded(replace(TASK, name="faulty", loss=loss)).loss(None, {}, BATCH, META)
    message, code = cli.explained(raised.value)
    assert re.search(r"KeyError: 'nothing' \(test_returns.py:\d+, in `loss` of task 'faulty'\)", message)
    assert code == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": 5}, "returned Task whose name is 5; a text was expected"),
        ({"config": {"data": str}}, "config is {'data': <class 'str'>} (dict); expected a pydantic model"),
        ({"options": {"threshold": 0.5}}, "options is {'threshold': 0.5} (dict); expected a pydantic model"),
        ({"options": SimpleNamespace}, "options is <class 'types.SimpleNamespace'> (type); expected a pydantic model"),
        ({"explain_options": 3}, "explain_options is 3 (int); expected a pydantic model"),
        ({"small": ["size"]}, "small is ['size'] (list); expected a mapping"),
        ({"defaults": ["freeze"]}, "defaults is ['freeze'] (list); expected a mapping"),
        ({"commands": ["align"]}, "commands is ['align'] (list); expected a list of visiontl.Command"),
    ],
)
def test_fields_that_are_no_functions_are_looked_at_when_they_are_offered(changes, words):
    plugin = Offered(replace(TASK, **{"name": "faulty", **changes}))
    plugins.register(plugin, "faulty")
    try:
        assert words in " ".join(plugins.warnings())
        assert "faulty" not in plugins.tasks()
    finally:
        plugins.manager().unregister(plugin)
        plugins._registry().offered.clear()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"best": None}, "task 'keypoints': best is None; expected (score, 'max') or (score, 'min')"),
        ({"best": ("error", "up")}, "task 'keypoints': best is ('error', 'up'); expected"),
        ({"samples": ["plain"]}, "task 'keypoints': samples is a list; expected a mapping from names to functions"),
        ({"modell": len}, "task 'keypoints': no field 'modell'; did you mean 'model'?"),
    ],
)
def test_fields_that_cannot_be_are_said_when_the_task_is_made(changes, words):
    assert refused(lambda: replace(TASK, **changes)).startswith(words)


def test_a_report_or_preview_that_fails_ends_no_run(tmp_path):
    """What cannot be shown is said; the run keeps what it learned."""
    failing = {"report": lambda *given: "all is well", "preview": lambda *given: 1 / 0}
    plugin = Offered(replace(TASK, name="faulty", **failing))
    plugins.register(plugin, "faulty")
    try:
        from visiontl.engine.train import finish

        run = Case("faulty", tmp_path).run("train.epochs=1")
        report = finish(run, fit(run))
    finally:
        plugins.manager().unregister(plugin)
        plugins._registry().offered.clear()
    assert report["status"] == "finished"
    assert any("there is no preview of step" in note for note in report["notes"])
    assert "report: it gave a str, &#39;all is well&#39;" in (run.folder / "report.html").read_text()
