"""`visiontl explain`, `load(run).explain` and the report, on small trained runs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import visiontl
from tests.explain.made import ramp
from visiontl import cli, plugins
from visiontl.engine import explain as explaining
from visiontl.engine.explain import TITLE, Explainer, explained_mistakes
from visiontl.engine.reporting import Photos
from visiontl.engine.rows import gather_rows
from visiontl.testing import Case

EXPLAINED = [name for name, task in plugins.tasks().items() if task.explain is not None]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """One epoch of a classifier, in bf16: it gets some of val wrong."""
    case = Case("classification", tmp_path_factory.mktemp("run"))
    return Path(visiontl.train(case.resolved("train.epochs=1", "train.precision=bf16"))["run"])


def test_the_command_writes_pictures_heat_maps_and_lines_and_names_what_it_cannot_read(run, tmp_path, capsys):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    ramp(90, 40).save(photos / "wide.png")
    ramp(40, 90).save(photos / "more/wide.png")
    (photos / "no.jpg").write_text("no picture")
    assert cli.main(["explain", str(run), str(photos), "label=TRIANGLE", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "2 explained, 1 image not" in said.out + said.err
    assert "no.jpg" in said.out + said.err
    lines = [json.loads(line) for line in (tmp_path / "out/explanations.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [str(photos / "more/wide.png"), str(photos / "wide.png")]
    for line, size in zip(lines, ((40, 90), (90, 40)), strict=True):
        assert line["explained"] == f"class triangle, {line['score']:.2f}"
        heat = Image.open(tmp_path / "out" / line["heat"])
        assert (heat.size, heat.mode) == (size, "L")
        assert line["empty"] or np.asarray(heat).max() == 255
        assert np.load(tmp_path / "out" / line["map"]).shape == (4, 4)
        assert Image.open(tmp_path / "out" / line["picture"]).width > 2 * size[0]
        predicted = visiontl.load(run).predict(line["file"])["probabilities"]["triangle"]
        assert line["score"] == pytest.approx(predicted, abs=1e-5)  # both in bf16
    assert list(json.loads((tmp_path / "out/not_explained.json").read_text())) == [str(photos / "no.jpg")]
    assert cli.main(["explain", str(run), str(photos), "--out", str(tmp_path / "out")]) != 0  # never overwrites
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["label=tringle"], "option label: the model knows no 'tringle'; did you mean 'triangle'?"),
        (["lable=circle"], "did you mean 'label'?"),
        (["stage=stage4"], "no map of visiontl/tiny is from 'stage4'; did you mean"),
        (["method=gradcm"], "method"),
    ],
)
def test_what_cannot_be_asked_is_answered_with_the_nearest(run, tmp_path, capsys, words, said):
    ramp(40, 40).save(tmp_path / "a.png")
    assert cli.main(["explain", str(run), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err


def test_explanations_are_lines_of_json_for_scripts(run, tmp_path, capsys):
    ramp(40, 40).save(tmp_path / "a.png")
    (tmp_path / "no.png").write_text("no picture")
    images = [str(tmp_path / "a.png"), str(tmp_path / "no.png")]
    assert cli.main(["explain", str(run), *images, "--json", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    first, second = (json.loads(line) for line in said.out.splitlines())
    assert first == json.loads((tmp_path / "out/explanations.jsonl").read_text())
    assert second["file"] == images[1]
    assert "no.png" in second["error"]
    assert cli.main(["explain", str(run), images[0], "-q", "--out", str(tmp_path / "quiet")]) == 0
    assert capsys.readouterr().out == f"1 explained; {tmp_path / 'quiet'}\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("classification/quickstart", "is a config, not a run"),
        ("runs/nothere", "no such run folder"),
    ],
)
def test_what_is_no_run_is_answered_with_what_is(tmp_path, monkeypatch, capsys, given, said):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", given, "a.png"]) == 2
    assert said in capsys.readouterr().err


def test_a_task_without_a_number_says_so_before_anything_is_read(tmp_path, capsys):
    done = visiontl.train(Case("brightness", tmp_path).resolved("train.epochs=1"))["run"]
    ramp(40, 40).save(tmp_path / "a.png")
    assert cli.main(["explain", done, str(tmp_path / "a.png")]) == 2
    assert "task brightness names no number that an explanation could be of" in capsys.readouterr().err
    with pytest.raises(visiontl.ConfigError, match="names no number"):
        visiontl.load(done).explain(tmp_path / "a.png")
    assert plugins.task("style").explain is None


def test_from_python_it_shows_itself(run):
    found = visiontl.load(run).explain(ramp(50, 30), label="circle")
    assert found.words.startswith("class circle, ")
    assert found.heat.shape == (30, 50)
    assert found.picture.size == (50, 30)
    assert found.method == "gradcam"
    assert found.stages == ("stage3",)
    assert repr(found) == f"Explanation({found.words})"
    array = visiontl.load(run).explain(np.asarray(ramp(50, 30)), label="circle")
    np.testing.assert_array_equal(array.heat, found.heat)
    assert found._repr_png_().startswith(b"\x89PNG")


def drawn() -> tuple[str, str, str]:
    """The states of all global generators."""
    return str(torch.get_rng_state().tolist()), repr(np.random.get_state()), repr(random.getstate())


@pytest.mark.parametrize("task", EXPLAINED)
def test_mistakes_are_explained_in_the_report_and_nothing_is_left_changed(tmp_path, task):
    """Of an untrained model, which is often wrong: the mistakes are images of the split, each explained."""
    run = Case(task, tmp_path).run()
    built, split = run.built, run.data.val
    assert split is not None
    built.model.train()
    rows = gather_rows(run.accelerator, built, split, run.console, "val")
    chosen = built.resolved.task.mistakes(built.resolved.cfg, rows, built.meta)  # type: ignore[misc]
    assert {id for id, _ in chosen} <= set(range(len(split)))
    assert all(isinstance(words, str) and words for _, words in chosen)
    built.model.train()
    wanting = [parameter.requires_grad for parameter in built.model.parameters()]
    before = drawn()
    items = explained_mistakes(built, run.accelerator, rows, split, Photos(split))
    assert drawn() == before
    assert [parameter.requires_grad for parameter in built.model.parameters()] == wanting
    assert all(parameter.grad is None for parameter in built.model.parameters())
    assert built.model.training
    [item] = items
    assert item.title == TITLE
    assert "could not be explained" not in item.caption
    assert len(item.items) == min(6, len(chosen))
    for (words, picture), (id, said) in zip(item.items, chosen, strict=False):
        assert words == f"{split.names[id]}: {said}"
        assert picture.width > picture.height / 3


def test_an_explanation_that_fails_is_a_note_of_the_report(tmp_path, monkeypatch):
    def fail(self, *given, **named):
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(explaining.Explainer, "explain", fail)
    report = visiontl.train(Case("classification", tmp_path).resolved("train.epochs=1"))
    assert report["status"] == "finished"
    page = (Path(report["run"]) / "report.html").read_text()
    assert "on purpose" in page
    assert TITLE in page


def test_the_report_shows_where_the_model_looked(run):
    assert TITLE in (run / "report.html").read_text()
    assert list((run / "pictures").glob("where-the-model-looked*.png"))


def test_two_faces_are_explained_by_each_other_and_one_alone_is_refused(tmp_path, capsys):
    done = visiontl.train(Case("face", tmp_path).resolved("train.epochs=0"))["run"]
    files = [str(tmp_path / f"{name}.png") for name in "ab"]
    for file, size in zip(files, ((40, 50), (50, 40)), strict=True):
        ramp(*size).save(file)
    assert cli.main(["explain", done, *files, "--out", str(tmp_path / "out")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out/explanations.jsonl").read_text().splitlines()]
    embeddings = [one["embedding"] for one in visiontl.load(done).predict(files)]
    similarity = float(embeddings[0] @ embeddings[1])
    assert [line["score"] for line in lines] == pytest.approx([similarity] * 2, abs=1e-4)
    assert [line["explained"] for line in lines] == [f"similarity with {x}.png, {similarity:.2f}" for x in "ba"]
    assert cli.main(["explain", done, files[0], "--out", str(tmp_path / "alone")]) == 2
    assert "a face alone has no similarity to explain" in capsys.readouterr().err
    found = visiontl.load(done).explain(files[0], other=Image.open(files[1]))
    assert found.words == f"similarity with the other photo, {similarity:.2f}"


def test_boxes_and_regions_are_chosen_by_number_and_name(tmp_path):
    built = Case("detection", tmp_path).run().built
    explainer = Explainer(built)
    photo = ramp(100, 80)
    first, second = (explainer.explain(photo, explainer.parse({"box": n})) for n in (1, 2))
    assert first.method == "hirescam"
    assert first.score >= second.score
    assert first.words.startswith("box 1: ")
    assert first.box != second.box
    name = built.meta["classes"][0]
    assert explainer.explain(photo, explainer.parse({"label": name})).words.startswith(f"box 1: {name} ")
    with pytest.raises(visiontl.DataError, match="so no box 5000"):
        explainer.explain(photo, explainer.parse({"box": 5000}))
    built = Case("segmentation", tmp_path / "masks").run().built
    explainer = Explainer(built)
    found = explainer.explain(photo, explainer.parse({}))
    assert found.words.startswith("region ")
    for name in built.meta["classes"]:
        try:
            explained = explainer.explain(photo, explainer.parse({"label": name}))
            assert explained.words.startswith(f"region {name}, ")
        except visiontl.DataError as error:
            assert f"there is no region {name} in the answer; there are " in str(error)  # noqa: PT017
