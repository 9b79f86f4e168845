"""What a person meets in Python and in a notebook: displays, the live line, names. IPython is stood in for."""

from __future__ import annotations

import copy
import html.parser
import inspect
import io
import json
import pickle
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiontl
from visiontl.config.overrides import in_words
from visiontl.errors import VisionTLError
from visiontl.report import inline, live
from visiontl.report.console import Console
from visiontl.testing import Case


class Pages(html.parser.HTMLParser):
    """Refuses what notebooks strip or a page must not do, and elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images = 0
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "style", "svg", "link", "object", "embed"), tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name != "src" or str(value).startswith("data:image/"), value
            assert name != "href" or not re.match("https?:|javascript:|//", str(value)), value
        self.images += tag == "img"
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def page(shown: Any) -> Pages:
    """What a notebook shows, checked."""
    markup = shown._repr_html_()
    found = Pages()
    found.feed(markup)
    assert found.open == []
    assert not re.search(r"\bnan\b|\binf\b|None", found.words)
    assert not re.search(r"(?<!-)color: ?(#000|black|#fff|white)", markup)  # one of light and dark could not show it
    return found


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return Case("classification", tmp_path_factory.mktemp("notebook"))


@pytest.fixture(scope="module")
def result(case) -> visiontl.Result:
    return visiontl.train(case.resolved("train.epochs=2", "run.name=photos"))


def test_a_result_is_the_report_and_more(result, case):
    written = json.loads((Path(result["run"]) / "report.json").read_text())
    assert isinstance(result, dict)
    assert result == written
    assert json.loads(json.dumps(result)) == written
    for other in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert type(other) is visiontl.Result
        assert other == written
        assert other.run == Path(written["run"])
    assert result.scores == written["scores"]
    assert {**result} == written
    line = repr(result)
    assert str(result) == line
    assert "\n" not in line
    assert len(line) < 200
    for said in ("photos", "finished", "val accuracy", "test accuracy"):
        assert said in line
    measured = visiontl.evaluate(result, splits=["val"], overrides={"loader.workers": 0})
    assert isinstance(measured, visiontl.Result)
    assert measured.scores["val"] == result.scores["val"]
    assert page(measured).words


def test_a_notebook_shows_scores_curves_and_a_link(result, monkeypatch):
    monkeypatch.chdir(result.run.parent.parent)
    found = page(result)
    assert found.images == 2  # loss and accuracy
    for said in ("photos", "classification, finished", "val accuracy", "best weights", "test 0.", "test", "report"):
        assert said in found.words, said
    assert f"{result.scores['val']['accuracy']:.4f}" in found.words
    markup = result._repr_html_()
    assert 'href="runs/photos/report.html"' in markup
    assert len(markup) < 20_000
    monkeypatch.chdir(result.run)
    assert 'href="report.html"' in result._repr_html_()
    monkeypatch.chdir("/")
    address = result.page.as_uri()
    assert f'href="{address}"' in result._repr_html_() or f'href="{address.removeprefix("file:///")}"' in (
        result._repr_html_()
    )


def test_what_is_shown_is_escaped_and_survives_odd_values(tmp_path):
    odd = visiontl.Result(
        run=str(tmp_path / "<b>run"),
        task="<script>alert(1)</script>",
        status='"finished"',
        scores={"val<": {"acc<uracy": None, "x": float("nan"), "y": 0.5}},
        notes=["warning: <img src=x onerror=alert(1)>", "a \x1b[2J note"],
        best={"score": "y", "value": 0.5, "step": 1, "epoch": 1.0},
        data={"train": 3},
        backbone={"name": "<i>", "weights": "none"},
    )
    found = page(odd)
    assert "<script>alert(1)</script>" in found.words
    assert "<img src=x onerror=alert(1)>" in found.words
    assert "\x1b" not in found.words
    assert "nothing was kept" in found.words
    assert page(visiontl.Result(run=str(tmp_path / "nowhere"))).words
    with pytest.raises(VisionTLError, match="is not there"):
        odd.show()


def test_what_to_try_next_is_shown_with_its_command(result):
    command = "visiontl train a.yaml train.epochs=9"
    tried = {"what": "Train <longer>.", "why": "The loss still fell.", "command": command}
    other = visiontl.Result({**result, "suggestions": [tried, {**tried, "what": "Or wait.", "command": ""}]})
    words = page(other).words
    assert "Try next" in words
    for said in ("Train <longer>.", "The loss still fell.", command, "Or wait."):
        assert said in words
    assert "Try next" not in page(visiontl.Result({**result, "suggestions": []})).words


def test_predictions_show_the_photo_and_stay_dicts_and_lists(result, tmp_path):
    model = visiontl.load(result)
    photos = [np.full((30, 40, 3), 30 * i, dtype=np.uint8) for i in range(7)]
    for i, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / f"a<b> {i}.png")
    one, several = model.predict(tmp_path / "a<b> 0.png"), model.predict(tmp_path)
    assert type(one).__mro__[1] is dict
    assert type(several).__mro__[1] is list
    assert several[0]["probabilities"] == pytest.approx(one["probabilities"], rel=1e-4)
    assert json.loads(json.dumps(one)) == one
    assert json.loads(json.dumps(several)) == several
    assert several == [dict(each) for each in several]
    for kind in (one, several):
        again = pickle.loads(pickle.dumps(kind))
        assert type(again) is type(kind)
        assert again == kind
        assert page(again).images == 0  # the values alone travel
    assert page(one).images == 1
    assert "a<b> 0.png" in page(one).words
    assert "probabilities" in page(one).words
    assert page(several).images == 7
    assert page(several[:2]).images == 2
    assert page(model.predict(photos)).images == 7
    assert re.fullmatch(r"Prediction\(label='\w+', probability=[\d.]+, top=\[.*\], probabilities=\{.*\}\)", repr(one))
    assert repr(several).startswith("7 predictions\n  a<b> 0.png: label ")
    (tmp_path / "a<b> 0.png").unlink()
    assert "no picture: " in page(one).words
    assert page(model.predict([photos[0]] * 70)).words.endswith("and 46 more")


def test_a_model_shows_what_it_is_and_draws_what_it_says(result):
    model = visiontl.load(result)
    assert re.fullmatch(r"Predictor\(classification, visiontl/tiny, 3 classes, val accuracy [\d.]+\)", repr(model))
    words = page(model).words
    for said in ("classification model", "visiontl/tiny", "64 x 64 pixels", "3 classes", "val accuracy"):
        assert said in words
    photo = np.full((200, 300, 3), 90, dtype=np.uint8)
    alone = model.show(photo)
    assert alone.size == (300, 200)
    assert (np.asarray(alone) != photo).any()  # the answer is written on it
    assert model.show([photo] * 5).width > 3 * 300
    with pytest.raises(visiontl.DataError, match="at most 48 photos"):
        model.show([photo] * 49)


def test_a_task_that_draws_nothing_is_shown_with_words(tmp_path):
    model = visiontl.load(visiontl.train(Case("brightness", tmp_path).resolved("train.epochs=1")))
    if model.built.resolved.task.draw is not None:
        pytest.skip("it draws")
    photo = np.full((200, 300, 3), 90, dtype=np.uint8)
    drawn = np.asarray(model.show(photo))
    assert drawn.shape == photo.shape
    assert (drawn != photo).any()


# --------------------------------------------------------------------------------------------------- the live line


class Notebook:
    """What stands in for IPython: modules of its names, whose display keeps what it was shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kernel: bool = True):
        self.displays: list[list[Any]] = []
        self.broken = False
        shell = SimpleNamespace(kernel=object()) if kernel else SimpleNamespace()
        package = SimpleNamespace(get_ipython=lambda: shell)
        monkeypatch.setitem(sys.modules, "IPython", package)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=self.display))  # type: ignore[arg-type]

    def display(self, value: Any, display_id: bool = False) -> Any:
        if self.broken:
            raise OSError("the socket is closed")
        self.displays.append([value])
        return SimpleNamespace(update=self.displays[-1].append) if display_id else None


def test_training_in_a_notebook_is_one_display_that_changes(case, monkeypatch, capsys):
    notebook = Notebook(monkeypatch)
    monkeypatch.setattr(live, "EVERY", 0.0)
    visiontl.train(case.resolved("train.epochs=2"))
    out = capsys.readouterr().out
    assert "  step " not in out  # no line per update
    assert "epoch 2  val  accuracy" in out  # what is said else is printed
    [shown] = notebook.displays
    assert len(shown) > 5
    counts = [int(found[1]) for one in shown if (found := re.search(r"step (\d+)/", page(one).words))]
    assert counts == sorted(counts)
    last = page(shown[-1]).words
    assert re.search(r"epoch 2/2\s+step (\d+)/\1", last)
    assert "loss" in last
    assert any("val" in page(one).words for one in shown[:-1])  # an evaluation shows a line of its own
    assert len(repr(shown[-1]).splitlines()) == 1


@pytest.mark.parametrize("where", ["a script", "IPython in a terminal"])
def test_elsewhere_the_lines_stay(where, monkeypatch):
    notebook = Notebook(monkeypatch, kernel=False) if where != "a script" else None
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with Console().progress(total=20, every=10) as bar:
        for step in range(1, 21):
            bar.update(step, images=1)
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()] == ["step 10/20", "step 20/20"]
    assert notebook is None or notebook.displays == []


def test_a_thousand_updates_are_few_drawings_and_a_dead_front_end_ends_nothing(monkeypatch):
    notebook, now = Notebook(monkeypatch), [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    console = Console()
    with console.progress(total=1000) as bar:
        for step in range(1, 1001):
            now[0] += 0.01
            bar.update(step, images=1, values={"a<b": 0.5, "loss": float("nan")})
    [shown] = notebook.displays
    assert 40 <= len(shown) <= 45  # 10 seconds, 4 a second
    assert "step 1000/1000" in repr(shown[-1])
    assert "<b" not in shown[-1]._repr_html_().replace("<br", "")
    notebook.broken = True
    other = Console()
    with other.progress(total=3) as bar:
        for step in (1, 2, 3):
            now[0] += 1
            bar.update(step)
    assert other.notes == ["warning: some of what the run said could not be printed (the socket is closed)"]


def test_the_whole_report_is_shown_in_the_cell(result, monkeypatch):
    notebook = Notebook(monkeypatch)
    result.show()
    [[shown]] = notebook.displays
    frame = shown._repr_html_()
    source = re.search(r'srcdoc="([^"]*)"', frame)
    assert source
    assert html.unescape(source[1]) == result.page.read_text(encoding="utf-8")


def test_an_error_in_a_notebook_is_its_sentence():
    """IPython asks an exception for its lines."""
    error = visiontl.DataError("photo.jpg: no such file")
    assert error._render_traceback_() == ["DataError: photo.jpg: no such file"]


# ----------------------------------------------------------------------------------------------------------- names


def test_dir_lists_public_names_alone():
    assert visiontl.train
    assert {"config", "engine", "Any"} <= set(vars(visiontl))  # what is imported by then
    names = [name for name in dir(visiontl) if not (name.startswith("__") and name.endswith("__"))]
    assert sorted(names) == sorted(visiontl.__all__)
    assert "__version__" in dir(visiontl)


@pytest.mark.parametrize(("name", "meant"), [("trian", "train"), ("laod", "load"), ("Predicton", "Prediction")])
def test_an_unknown_name_gives_the_closest(name, meant):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; did you mean '{meant}'"):
        getattr(visiontl, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from visiontl import {name}")
    assert not hasattr(visiontl, "quite_something_else")


def test_help_is_readable():
    text = pydoc.plain(pydoc.render_doc(visiontl))
    assert "model.predict" in text.split("CLASSES")[0]
    assert not re.search(r"^    (TYPE_CHECKING|Any|importlib|annotations) = ", text, re.MULTILINE)
    signature = inspect.signature(visiontl.train)
    assert list(signature.parameters) == ["config", "overrides", "dry_run"]
    assert signature.return_annotation == "Result"
    assert "Path" in str(signature.parameters["config"].annotation)


def test_names_cost_no_torch():
    code = (
        "import sys, visiontl; dir(visiontl); hasattr(visiontl, 'nothing');"
        "assert not {'torch', 'IPython'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# ------------------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"train.epochs": 7}, 7),
        ("train.epochs=7", 7),
        ({"train.epochs": np.int64(7).item()}, 7),
    ],
)
def test_overrides_from_python(case, given, value):
    from visiontl.config.resolve import resolve

    assert resolve(case.resolved(), [given]).config.train.epochs == value


ODD = ["photos", " photos", "5", "true", "null", "1e3", "[a", "a: b", "#x", "C:\\photos", 'say "x"', "ü", "*.jpg", ""]


@pytest.mark.parametrize("value", [*ODD, 5, 0.1, 1e-12, True, None, [1, "2", None], {"a": {"b": [0.5]}}, ("x",)])
def test_a_value_from_python_arrives_as_it_is(value):
    from visiontl.config.yaml_text import parse_value

    [word] = in_words([{"a.b": value}])
    key, _, text = word.partition("=")
    assert key == "a.b"
    assert parse_value(text) == (list(value) if isinstance(value, tuple) else value)
    assert in_words(["a=1", {"b": value}, "c=2"])[::2] == ["a=1", "c=2"]


def test_a_path_is_an_override_too(tmp_path):
    assert in_words({"task.data": tmp_path / "my photos"}) == [f"task.data={tmp_path / 'my photos'}"]


# -------------------------------------------------------------------------------------------------------- elements


def test_a_chart_is_placed_by_its_values():
    box = (0.0, 10.0, -1.0, 1.0)
    left, top = inline.LEFT, inline.TOP
    right, bottom = inline.CHART[0] - inline.RIGHT, inline.CHART[1] - inline.BOTTOM
    assert inline.placed(([0, 10, 5], [-1, 1, 0]), box) == [
        (left, bottom),
        (right, top),
        ((left + right) / 2, (top + bottom) / 2),
    ]
    assert inline.placed(([3.0], [2.0]), (3, 3, 2, 2)) == [((left + right) / 2, (top + bottom) / 2)]
    assert inline.chart("loss", {"train": ([1], [2.0])}) == ""
