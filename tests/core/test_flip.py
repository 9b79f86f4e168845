"""flip=true and scales=...: photos, their mirror images and other sizes, looked at by evaluate and predict with one
meaning."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from torchvision.ops import batched_nms
from visiontl_segmentation.scores import unpacked

import visiontl
from visiontl import ConfigError, VisionTLError, cli, find_task
from visiontl.engine.train import fit
from visiontl.testing.case import Case
from visiontl.testing.steps import batch_of

TASKS = ("classification", "detection", "segmentation", "face")
SECTIONS = {"detection": {"score_threshold": 0.01}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{task: a finished run}"""
    folder, found = tmp_path_factory.mktemp("flip"), {}
    for task in TASKS:
        run = Case(task, folder / task, SECTIONS.get(task, {})).run("train.epochs=1", limit=1)
        fit(run)
        found[task] = run
    return found


def mirrored(run, ids):
    """(what the task's step gives, what the model gives of the images, and of the mirrored ones), and the batch."""
    task, model, split = run.resolved.task, run.built.model.eval(), run.data.val
    batch = batch_of(run, split, ids)
    image = batch["image"]
    turned = image.flip(-1) if isinstance(image, torch.Tensor) else [one.flip(-1) for one in image]
    with torch.no_grad():
        both = task.mirrored(run.resolved.cfg, model, batch, run.built.meta)
        return both, model(batch), model({**batch, "image": turned}), batch


def test_probabilities_are_averaged(runs):
    both, one, other, _ = mirrored(runs["classification"], [0, 1, 2])
    wanted = (softmax(one["logits"].double().numpy(), 1) + softmax(other["logits"].double().numpy(), 1)) / 2
    np.testing.assert_allclose(softmax(both["logits"].double().numpy(), 1), wanted, atol=1e-6)


def test_boxes_of_both_views_are_joined(runs):
    both, one, other, batch = mirrored(runs["detection"], [0, 1])
    for found, first, second, size in zip(
        *(each["detections"] for each in (both, one, other)), batch["size"].tolist(), strict=True
    ):
        back = second["boxes"].clone()
        back[:, 0], back[:, 2] = size[1] - second["boxes"][:, 2], size[1] - second["boxes"][:, 0]
        boxes = torch.cat([first["boxes"], back])
        scores, labels = (torch.cat([first[key], second[key]]) for key in ("scores", "labels"))
        kept = batched_nms(boxes, scores, labels, 0.5)[:100]
        assert len(first["boxes"])
        torch.testing.assert_close(found["boxes"], boxes[kept])
        assert torch.equal(found["labels"], labels[kept])


def test_embeddings_are_summed(runs):
    run = runs["face"]
    assert not run.built.model.flip
    both, one, other, _ = mirrored(run, [0, 1])
    total = one["embedding"] + other["embedding"]
    torch.testing.assert_close(both["embedding"], total / total.norm(dim=1, keepdim=True))
    assert not run.built.model.flip


class Looking(torch.nn.Module):
    """Says of each pixel what its own color is: the answer turns with the photo."""

    def __init__(self, model):
        super().__init__()
        self.decode = model.decode

    def forward(self, batch):
        maps = [image.float() / 32 for image in batch["image"]]
        return {"logits": maps, "extent": torch.tensor([one.shape[1:] for one in maps])}


def test_what_turns_with_the_photo_stays_as_it_is(runs):
    """Padding at the right included, which a mirrored photo has at the right too."""
    run = runs["segmentation"]
    batch = batch_of(run, run.data.val, [0, 1])
    batch["shown"] = batch["shown"] - torch.tensor([0, 5])  # as if five columns were padding
    step, model = run.resolved.task.mirrored, Looking(run.built.model)
    both = step(run.resolved.cfg, model, batch, run.built.meta)
    for found, image, (height, width) in zip(both["logits"], batch["image"], batch["shown"].tolist(), strict=True):
        wanted = softmax(image[:, :height, :width].double().numpy() / 32, 0)
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_masks_are_those_of_predict(runs):
    run = runs["segmentation"]
    task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
    batch = batch_of(run, run.data.val, [0, 1])
    with torch.no_grad():
        both = task.mirrored(cfg, run.built.model.eval(), batch, meta)
    rows = task.rows(cfg, both, batch, meta)
    model = visiontl.load(run.folder)
    for id, row in enumerate(rows):
        found = model.predict(run.data.val.image(id), flip=True)["pixels"]
        guess = unpacked(row["guess"])
        assert found == {name: int((guess == k).sum()) for k, name in enumerate(meta["classes"])}


def test_evaluate_measures_the_masks_that_predict_gives_in_several_sizes(runs, tmp_path, capsys):
    """Pixel for pixel: the accuracy that evaluate reports is that of predict's own pictures."""
    run = runs["segmentation"]
    words = ["evaluate", str(run.folder), "flip=true", "scales=0.5,1,1.5", "--split", "val", "--json"]
    assert cli.main([*words, "--out", str(tmp_path / "o")]) in (0, None)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    model, plain, right, total = visiontl.load(run.folder), 0, 0, 0
    for id in range(len(run.data.val)):
        truth = run.data.val[id, 0]["truth"].numpy()
        photo, options = run.data.val.image(id), {"flip": True, "scales": [0.5, 1.0, 1.5]}
        guess, other = (np.asarray(model.predict(photo, **given)["mask"]) for given in (options, {"flip": True}))
        right, total = right + int((guess == truth)[truth != 255].sum()), total + int((truth != 255).sum())
        plain += int((guess != other).sum())
    assert plain  # it matters
    assert report["scores"]["val"]["accuracy"] == pytest.approx(right / total, abs=1e-9)
    assert any("in several sizes (scales=0.5,1,1.5), each of them and its mirror image" in n for n in report["notes"])


class Shapes(torch.nn.Module):
    """Says of each pixel of a view how wide the view is: means over views are means of known numbers."""

    def __init__(self, model):
        super().__init__()
        self.decode, self.weight = model.decode, torch.nn.Parameter(torch.zeros(1))

    def small(self, images):
        height, width = images.shape[2:]
        logits = torch.stack([torch.full((height, width), float(width) / 16), torch.zeros(height, width)])
        return logits[None], (height, width)


def test_each_size_counts_alike(runs):
    run = runs["segmentation"]
    task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
    photo = Image.new("RGB", (128, 64))
    sample = task.sample(cfg, run.built.backbone.spec, meta)(photo)
    batch = task.collate(cfg, [sample], None, meta)
    options = task.options.model_validate({"scales": "0.5, 1", "flip": True})
    with torch.no_grad():
        found = task.scaled(cfg, Shapes(run.built.model), batch, meta, options)
    shown = batch["shown"][0].tolist()
    canvas = tuple(sample["image"].shape[1:])
    assert list(found["logits"][0].shape[1:]) == shown
    assert found["extent"].tolist() == [shown]
    half = -(-round(shown[1] / 2) // 32) * 32  # padded to the stride
    wanted = np.mean([softmax([width / 16, 0])[0] for width in (half, canvas[1])])
    np.testing.assert_allclose(found["logits"][0][0].numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_evaluate_takes_the_word(task, runs, tmp_path, capsys):
    """Through the command; scores are those of rows made of the step's outputs."""
    run = runs[task]
    words = ["evaluate", str(run.folder), "flip=true", "--split", "val", "--out", str(tmp_path / "o"), "--json"]
    assert cli.main(words) in (0, None)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    model = visiontl.load(run.folder).built.model
    rows = []
    with torch.no_grad():
        for first in range(0, len(run.data.val), run.built.batch_size):
            batch = batch_of(run, run.data.val, list(range(first, min(first + 4, len(run.data.val)))))
            outputs = run.resolved.task.mirrored(run.resolved.cfg, model, batch, run.built.meta)
            rows += run.resolved.task.rows(run.resolved.cfg, outputs, batch, run.built.meta)
    wanted = run.resolved.task.score(run.resolved.cfg, rows, run.built.meta)
    name = run.resolved.task.best[0]
    assert report["scores"]["val"][name] == pytest.approx(wanted[name], abs=1e-6)
    assert any("flip=true" in note for note in report["notes"])


def test_several_tasks_are_each_looked_at_so(tmp_path):
    run = Case("multi", tmp_path).run("train.epochs=1", limit=1)
    fit(run)
    batch = batch_of(run, run.data.val, [0, 1])
    with torch.no_grad():
        both = find_task("multi").mirrored(run.resolved.cfg, run.built.model.eval(), batch, run.built.meta)
        plain = run.built.model(batch)
    assert both["parts"].keys() == plain["parts"].keys()
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    model = visiontl.load(run.folder)
    part = next(name for name, one in run.resolved.cfg.tasks.items() if one.name == "classification")
    one, other = (model.predict(photo, **given)[part] for given in ({"flip": True}, {part: {"flip": True}}))
    assert one == other != model.predict(photo)[part]


def test_what_has_no_mean_is_refused(tmp_path, runs, capsys):
    style = Case("style", tmp_path).run("train.epochs=1", limit=1)
    fit(style)
    with pytest.raises(ConfigError, match="their mean is a blur"):
        visiontl.evaluate(style.folder, flip=True)
    with pytest.raises(VisionTLError, match="their mean is a blur"):
        visiontl.load(style.folder).predict(Image.new("RGB", (64, 64)), flip=True)
    other = Case("brightness", tmp_path / "b").run("train.epochs=1", limit=1)
    fit(other)
    with pytest.raises(ConfigError, match="brightness has no mean of what it says of a photo and of its mirror"):
        visiontl.evaluate(other.folder, flip=True)
    for words, said in (("flip=maybe", "flip"), ("scale=1,1.5", "no option 'scale'; did you mean 'scales'?")):
        assert cli.main(["evaluate", str(runs["face"].folder), words]) == 2
        assert said in capsys.readouterr().err
    for run in (style, other, runs["classification"]):
        with pytest.raises(ConfigError, match="is shown a photo in one size"):
            visiontl.evaluate(run.folder, scales=[0.5, 1.0])
    with pytest.raises(ConfigError, match=r"scales must lie between 0\.25 and 4"):
        visiontl.evaluate(runs["segmentation"].folder, scales=[9.0])
    for words, said in (("1,1,1.5", "would weigh twice"), ([], "at least 1"), ("nan", "expected a finite number")):
        with pytest.raises(ConfigError, match=said):
            visiontl.evaluate(runs["segmentation"].folder, scales=words)
    with pytest.raises(ConfigError, match="option flap: evaluate has flip and scales; did you mean"):
        visiontl.evaluate(runs["segmentation"].folder, flap=True)
