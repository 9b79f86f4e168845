"""What is exported answers as the run does, and what does not is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torchvision.ops import batched_nms

import visiontl
from tests.export.conftest import graph
from visiontl import cli, plugins
from visiontl.engine import exported as exported_model
from visiontl.engine import exporting, rounding, same
from visiontl.engine.exporting import Program, Wanted, Writer, export_run
from visiontl.engine.model import save_model
from visiontl.engine.resizing import resized
from visiontl.engine.same import of_boxes
from visiontl.errors import CheckpointError, ConfigError
from visiontl.kit.suppression import suppressed
from visiontl.runtime import description, load
from visiontl.testing.case import Case

TASKS = ("classification", "segmentation", "style")  # faces and detection are compared below


@pytest.fixture(scope="module")
def exported(untrained, tmp_path_factory):
    """task -> (its run, the folder of its ONNX export)"""
    made: dict[str, tuple[Path, Path]] = {}

    def export(task: str, **section) -> tuple[Path, Path]:
        name = "-".join([task, *map(str, section.values())])
        if name not in made:
            run = untrained(task, **section)
            folder = tmp_path_factory.mktemp("exported") / name
            export_run(run, folder, Wanted())
            made[name] = run, folder
        return made[name]

    return export


def close(ours, theirs) -> None:
    """The same answer: numbers within 1e-4 of each other, relative above 1, pictures within 1 of 255."""
    if isinstance(ours, dict):
        keys = [key for key in ours if key != "milliseconds"]
        assert keys == list(theirs)
        for key in keys:
            close(ours[key], theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            close(one, other)
    elif isinstance(ours, Image.Image):
        assert (ours.size, ours.mode, ours.getpalette()) == (theirs.size, theirs.mode, theirs.getpalette())
        apart = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)) > (1 if ours.mode == "RGB" else 0)
        assert apart.mean() < 1e-3
    elif isinstance(ours, float | np.ndarray):
        assert theirs == pytest.approx(ours, rel=1e-4, abs=1e-4)
    else:
        assert ours == theirs


@pytest.mark.parametrize("task", TASKS)
def test_an_export_answers_as_the_run_does(task, exported, photos):
    """Of pictures of other sizes than the comparison of the export itself has seen."""
    run, folder = exported(task)
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "model.json"}
    predictor, model = visiontl.load(run), load(folder, resized)
    for photo in sorted(photos.iterdir()):
        close(predictor.predict(photo), model.predict(photo))
    about = json.loads((folder / "model.json").read_text())
    assert about["compared"]["outputs"] < 1e-4
    assert about["compared"]["alike"] == about["compared"]["photos"] > 0
    assert str(run) not in json.dumps(about)


def test_several_tasks_are_one_graph_that_calls_the_backbone_once(exported, photos, tmp_path, capsys):
    run, folder = exported("multi", views={"label": "mask"})
    predictor, model = visiontl.load(run), load(folder, resized)
    for photo in sorted(photos.iterdir()):
        close(predictor.predict(photo), model.predict(photo))
        asked = model.predict(photo, **{"label.top_k": 1}), model.predict(photo, label={"top_k": 1})
        assert [len(one["label"]["top"]) for one in asked] == [1, 1]
    convolutions = {
        name: [node.op_type for node in onnx.load(str(exported(task, **section)[1] / "model.onnx")).graph.node]
        for name, task, section in [
            ("both", "multi", {"views": {"label": "mask"}}),
            ("mask", "segmentation", {"decoder": {"name": "unet", "width": 32}}),
        ]
    }
    assert convolutions["both"].count("Conv") == convolutions["mask"].count("Conv") > 10
    for words, option in {
        "no option 'label.topk'; did you mean 'top_k'": "label.topk=3",
        "no part 'lable'; did you mean 'label'": "lable.top_k=3",
        "expected an option of that part: mask.OPTION=VALUE": "mask=3",
    }.items():
        assert cli.main(["predict", str(folder / "model.onnx"), str(photos), option]) == 2
        assert words in capsys.readouterr().err
    about = json.loads((folder / "model.json").read_text())
    about["answer"]["parts"]["label"]["output"] = "elsewhere"
    assert description.unfit(about) == (
        "answer.parts.label.output: one of label.logits, mask.logits was expected; got 'elsewhere'"
    )
    about["answer"]["parts"]["label"] = {"kind": "parts", "parts": {}}
    assert str(description.unfit(about)).startswith("answer.parts.label.kind: one of classes, mask")


def test_parts_that_see_a_photo_differently_are_told_how_to_go_alone(untrained, tmp_path):
    with pytest.raises(ConfigError, match=r"label and mask are shown a photo in different ways \(view.*multi part RUN"):
        export_run(untrained("multi"), tmp_path / "out", Wanted())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("task", "section"), [("segmentation", {}), ("multi", {"views": {"label": "mask"}})])
def test_predict_writes_the_same_files_from_the_graph(task, section, exported, photos, tmp_path):
    run, folder = exported(task, **section)
    places = tmp_path / "of_run", tmp_path / "of_graph"
    for model, place in zip((run, folder / "model.onnx"), places, strict=True):
        assert cli.main(["predict", str(model), str(photos), "--out", str(place), "-q"]) == 0
    names = [sorted(str(path.relative_to(place)) for path in place.rglob("*.*")) for place in places]
    assert names[0] == names[1]
    records = [[json.loads(line) for line in (place / "predictions.jsonl").open()] for place in places]
    for one, other in zip(*records, strict=True):
        close(one, other)


@pytest.mark.parametrize("head", ["faster_rcnn", "retinanet", "fcos"])
def test_boxes_of_a_fixed_number_are_those_that_torchvision_finds(head, tmp_path):
    run = Case("detection", tmp_path, {"head": head, "fpn_width": 64, "score_threshold": 0.01}).run()
    built, split = run.built, run.data.val
    cfg, model = built.resolved.cfg, built.model.eval()
    task = plugins.task("detection")
    made = task.export(cfg, model, built.meta, task.options())
    batch = task.collate(cfg, [split[id, 0] for id in range(4)], None, built.meta)
    separated(model)
    with torch.no_grad():
        theirs = model(batch)["detections"]
        ours = made.outputs(made.module, batch)["detections"]
    assert sum(len(one["scores"]) for one in theirs) > 20
    for sides in zip(ours, theirs, strict=True):
        one, other = (
            [
                (int(a), float(b), c.numpy())
                for a, b, c in zip(side["labels"], side["scores"], side["boxes"], strict=True)
            ]
            for side in sides
        )
        assert of_boxes(one, other) < 1e-4


def test_a_graph_of_boxes_takes_any_size_and_holds_suppression_as_the_operator_of_its_format(tmp_path):
    run = Case("detection", tmp_path, {"head": "retinanet", "fpn_width": 64, "score_threshold": 0.01}).run()
    separated(run.built.model)
    model = save_model(tmp_path / "model", run.built)
    about = export_run(model.parent, tmp_path / "out", Wanted())
    assert about["compared"]["outputs"] < 1e-4
    assert about["compared"]["sizes"] == [[96, 128], [128, 128], [64, 192]]  # a level of one cell is among them
    assert about["compared"]["alike"] == about["compared"]["photos"] > 0
    nodes = onnx.load(str(tmp_path / "out/model.onnx")).graph.node
    assert [one.op_type for one in nodes].count("NonMaxSuppression") == 1


def separated(model: torch.nn.Module) -> None:
    """Weights for which no two boxes are as good as each other."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in model.parameters():
            one += 0.03 * torch.randn(one.shape, generator=generator)


def test_a_program_that_takes_no_such_size_says_so():
    """torch.export writes into a program that a map is more than one cell; AssertionError is all that it raises."""

    def guarded(image):
        raise AssertionError("Guard failed: 1 + (-1 + image.size()[3]) // 128 != 1")

    program = object.__new__(Program)
    program.about, program.module = {"input": {"extent": False}, "outputs": []}, guarded
    with pytest.raises(CheckpointError, match=r"no image of 96 x 128 pixels \(Guard.*--format onnx one of any"):
        program.run(np.zeros((1, 3, 96, 128), np.float32))


def test_a_graph_of_any_size_is_compared_at_three(untrained, tmp_path):
    run = untrained("face")
    about = export_run(run, tmp_path / "out", Wanted(format="torch", dynamic=True))
    assert about["compared"]["sizes"] == [[64, 64], [96, 64], [32, 128]]
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    with torch.no_grad():
        assert program(torch.rand(3, 3, 40, 72))[0].shape == (3, about["section"]["dimension"])


def test_a_graph_that_answers_otherwise_is_refused_and_nothing_is_there(untrained, tmp_path, monkeypatch):
    run, task = untrained("classification"), plugins.task("classification")

    class Wrong(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.calls = module, 0

        def forward(self, image):
            if torch.compiler.is_exporting():
                return {"logits": self.module(image)["logits"] + 0.01}
            return self.module(image)

    def refused(words, **changes):
        def export(*given):
            made = task.export(*given)
            return dataclasses.replace(made, **{key: change(made) for key, change in changes.items()})

        monkeypatch.setattr(exporting, "load_model", load_model(dataclasses.replace(task, export=export)))
        with pytest.raises(CheckpointError, match=words):
            export_run(run, tmp_path / "out", Wanted(format="torch"))
        assert list(tmp_path.iterdir()) == []

    refused("outputs by 0.01 ", module=lambda made: Wrong(made.module))
    refused("photos of val are answered otherwise", view=lambda made: {**made.view, "crop": 0.3})


class Split(torch.nn.Module):
    """forward(image): two boxes; the first one's label hangs on whether the mean of a picture is above `at`."""

    def __init__(self, at: float):
        super().__init__()
        self.at = at

    def forward(self, image):
        mean = image.double().mean((1, 2, 3))
        boxes = image.new_tensor([[1.0, 1.0, 9.0, 9.0], [2.0, 2.0, 5.0, 5.0]]).repeat(len(image), 1, 1)
        labels = torch.stack([mean > self.at, mean > 2], 1)
        scores = image.new_tensor([[0.9, 0.4]]).repeat(len(image), 1)
        return {"boxes": boxes + mean[:, None, None].float(), "scores": scores, "labels": labels}


def test_what_rounding_decides_is_told_from_what_the_graph_does():
    """Only where a movement of the pixels, far below a step of 8 bits, changes the run's own answer as much."""
    answer = {"kind": "boxes", "boxes": "boxes", "scores": "scores", "labels": "labels"}
    image = torch.rand((1, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    mean = float(image.double().mean())
    assert rounding.decides(Split(mean * (1 + 1e-7)), (image,), answer, same.ANOTHER)
    assert not rounding.decides(Split(mean * (1 + 1e-3)), (image,), answer, same.ANOTHER)
    assert not rounding.decides(Split(mean * (1 + 1e-3)), (image,), answer, 2e-4)
    assert not rounding.decides(Split(mean), (image,), answer, float("nan"))


def load_model(task):
    from visiontl.engine.model import load_model

    def loaded(run):
        built = load_model(run)
        return dataclasses.replace(built, resolved=dataclasses.replace(built.resolved, task=task))

    return loaded


def test_fewer_bits_say_what_they_cost(untrained, tmp_path, capsys, monkeypatch):
    run = untrained("classification")
    for precision in ("fp16", "int8"):
        about = export_run(run, tmp_path / precision, Wanted(precision=precision))
        assert set(about["scores"]) == {"fp32", precision}
        assert about["scores"]["fp32"]["accuracy"] >= 0
        assert f"in fp32, {about['scores'][precision]['accuracy']:.4f} in {precision}" in capsys.readouterr().out
    half, whole = (onnx.load(str(tmp_path / name / "model.onnx")).graph for name in ("fp16", "int8"))
    assert onnx.TensorProto.FLOAT16 in {one.data_type for one in half.initializer if len(one.dims) == 4}
    assert onnx.TensorProto.INT8 in {one.data_type for one in whole.initializer if len(one.dims) == 4}
    monkeypatch.setattr(Writer, "scores_of", lambda _, exported, __: {"accuracy": 0.44 if exported else 0.9})
    with pytest.raises(CheckpointError, match=r"accuracy goes from 0.9000 to 0.4400"):
        export_run(run, tmp_path / "refused", Wanted(precision="fp16"))
    assert {path.name for path in tmp_path.iterdir()} == {"fp16", "int8"}


def test_what_a_task_cannot_draw_by_is_named(tmp_path, monkeypatch):
    task = dataclasses.replace(plugins.task("classification"), draw=lambda image, prediction, meta: meta["classes"])
    monkeypatch.setattr(exported_model, "task_of", lambda model, console: (task, None))
    path = graph(tmp_path / "model", meta={"other": 1})
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    with pytest.raises(
        CheckpointError, match=r"model\.json: its meta is not what task classification draws .*KeyError"
    ):
        exported_model.predict_exported(path, [tmp_path / "photo.png"], tmp_path / "out")


def test_what_cannot_be_exported_is_said(untrained, tmp_path, capsys):
    run = untrained("classification")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    for words, flags in {
        "one of onnx, torch, safetensors": ["--format", "tflite"],
        "height and width in pixels": ["--size", "0,4"],
        "photos are shown to this model at 64 x 64": ["--size", "96,96"],
        "at most 134,217,728 pixels": ["--size", "16384,16384"],
        "give one of them": ["--size", "64,64", "--dynamic"],
        "is for --format onnx": ["--format", "torch", "--precision", "int8"],
        "never overwritten": ["--out", str(tmp_path / "taken")],
        "inside cannot be made (Not a directory); choose another": ["--out", str(tmp_path / "taken/file/inside")],
        "did you mean 'top_k'": ["topk=3"],
    }.items():
        assert cli.main(["export", str(run), *flags]) == 2
        assert words in capsys.readouterr().err, flags
    with pytest.raises(ConfigError, match="many passes"):
        export_run(untrained("segmentation"), tmp_path / "out", Wanted(), {"windows": "always"})


def test_suppression_keeps_what_torchvision_keeps():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((2, 60, 2), generator=generator) * 50
    boxes = torch.cat([corners, corners + 5 + 20 * torch.rand((2, 60, 2), generator=generator)], 2)
    scores, labels = torch.rand((2, 60), generator=generator), torch.randint(0, 3, (2, 60), generator=generator)
    each = torch.where(labels[:, None] == torch.arange(3)[None, :, None], scores[:, None], 0.0)
    kept = suppressed(boxes, each, 0.4)
    for image in range(2):
        theirs = batched_nms(boxes[image], scores[image], labels[image], 0.4)
        assert sorted(theirs.tolist()) == torch.nonzero(kept[image].any(0))[:, 0].tolist()
        assert 10 < len(theirs) < 60
