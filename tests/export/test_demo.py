"""`visiontl demo`: controls from options, what the page shows of a photo, and the page itself where gradio is."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from pydantic import ConfigDict, Field

from tests.export.conftest import ABOUT, graph
from visiontl import Section
from visiontl.errors import ConfigError
from visiontl.serving.answering import ready
from visiontl.serving.controls import DEFAULT, NO, UPLOAD, controls_of, require_no_files, values_of
from visiontl.serving.demonstration import Demonstration
from visiontl.serving.limits import Limits
from visiontl.serving.line import Line
from visiontl.serving.metrics import Metrics
from visiontl.serving.showing import facts_of, shown_each
from visiontl.serving.worker import Gone

GRADIO = importlib.util.find_spec("gradio") is not None


class Inner(Section):
    label: str | int | None = Field(None, json_schema_extra={"choices": "classes"})


class Options(Section):
    top: int = Field(5, ge=1, description="how many; null: all")
    share: float = Field(0.5, ge=0, le=1)
    flip: bool = False
    mirror: bool | None = None
    way: Literal["fast", "exact"] = "fast"
    method: Literal["a", "b"] | None = None
    classes: list[str] | None = Field(None, json_schema_extra={"choices": "classes"})
    picture: str | None = Field(None, json_schema_extra={"choices": "styles", "file": True})
    scales: list[float] = Field([1.0])
    size: int | Literal["fit"] | None = None
    anything: Any = None
    most: int | None = Field(None, ge=1)
    refused: bool = Field(False, json_schema_extra={"control": False})
    part: Inner = Field(default_factory=Inner, json_schema_extra={"meta": "parts.part"})


META = {"classes": ["ant", "bee"], "styles": [{"name": "night"}], "parts": {"part": {"classes": ["x"]}}}


class Inside:
    """A worker without a process of its own."""

    def __init__(self, model):
        self.model = ready(str(model), 0)
        self.about, self.named = facts_of(self.model), self.model.named()

    def alive(self):
        return True

    def close(self):
        pass

    def ask(self, uploads, options, seconds):
        if uploads[0][1] == b"slow":
            raise Gone("answering took longer than 1 s")
        return json.loads(json.dumps(shown_each(self.model, uploads, options, 40_000), allow_nan=False))


@pytest.fixture
def demonstration(tmp_path):
    lines: list[Line] = []

    def of(model) -> Demonstration:
        lines.append(Line(lambda: Inside(model), Limits(upload=200_000, gather=0), Metrics()))  # type: ignore[arg-type]
        (tmp_path / "answers").mkdir(exist_ok=True)
        return Demonstration(lines[-1], tmp_path / "answers")

    yield of
    for line in lines:
        line.close()


def test_each_option_has_the_control_of_its_kind():
    controls = {(one.name, one.kind): one for one in controls_of(Options, META)}
    assert [*controls] == [
        ("top", "whole"), ("share", "number"), ("flip", "switch"), ("mirror", "maybe"), ("way", "choice"),
        ("method", "choice"), ("classes", "several"), ("picture", "choice"), ("picture", "picture"),
        ("scales", "words"), ("size", "words"), ("anything", "words"), ("most", "words"), ("part.label", "choice"),
    ]  # fmt: skip
    assert (controls["top", "whole"].low, controls["share", "number"].high) == (1, 1)
    assert controls["method", "choice"].choosable == [DEFAULT, "a", "b"]
    assert controls["classes", "several"].choosable == ["ant", "bee"]
    assert controls["part.label", "choice"].choosable == [DEFAULT, "x"]
    assert controls["part.label", "choice"].group == "part"


def test_what_is_set_becomes_the_options_that_differ():
    controls = controls_of(Options, META)
    start = [one.start for one in controls]
    assert values_of(controls, start) == {}
    given = [3, 0.5, True, NO, "exact", "b", ["ant"], DEFAULT, b"png", "[1.0, 2]", "fit", "{a: 1}", "7", "x"]
    found = values_of(controls, given)
    assert found.pop("picture") == {UPLOAD: "cG5n"}
    assert found == {
        "top": 3, "flip": True, "mirror": False, "way": "exact", "method": "b", "classes": ["ant"],
        "scales": [1.0, 2], "size": "fit", "anything": {"a": 1}, "most": 7, "part": {"label": "x"},
    }  # fmt: skip
    assert Options.model_validate(found).part.label == "x"
    with pytest.raises(ConfigError, match="option scales: "):
        values_of(controls, [*start[:9], "[1.0", *start[10:]])


def test_options_that_no_schema_names_are_written_as_on_the_command_line():
    class Open(Section):
        model_config = ConfigDict(extra="allow")

    controls = controls_of(Open, {})
    assert [one.kind for one in controls] == ["rest"]
    assert values_of(controls, ["label.top_k=2 mask.flip=true"]) == {"label": {"top_k": 2}, "mask": {"flip": True}}
    with pytest.raises(ConfigError, match="other options: No closing quotation; name=value was expected"):
        values_of(controls, ["a='"])


def test_no_option_opens_a_file_of_the_server():
    for value in ("/etc/passwd", ["night", "/etc/passwd"], {"/etc/passwd": 1.0}):
        with pytest.raises(ConfigError, match=r"'/etc/passwd' is none that the model has \(night\)"):
            require_no_files({"style": value}, {"style": ["night"]})
    require_no_files({"style": ["night"], "size": 3, "a": {"style": "b"}}, {"style": ["night"]})


def photo(folder: Path, name: str = "a.png") -> str:
    coarse = np.random.default_rng(3).integers(0, 256, (7, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC).save(folder / name)
    return str(folder / name)


def set_to(shown: Demonstration, **values: Any) -> list[Any]:
    """What stands at each control, those of an explanation as explain_NAME, a picture as NAME_picture."""
    own = len(shown.controls)
    names = [
        f"{'explain_' * (i >= own)}{one.name}{'_picture' * (one.kind == 'picture')}" for i, one in enumerate(shown.all)
    ]
    assert set(values) <= set(names), names
    return [values.get(name, one.start) for name, one in zip(names, shown.all, strict=True)]


def test_a_photo_is_answered_by_a_picture_a_table_an_explanation_and_files(demonstration, untrained, tmp_path):
    import visiontl

    run, file = untrained("classification"), photo(tmp_path)
    shown = demonstration(run)
    assert shown.title.startswith("classification: ")
    made = shown.answer(file, True, set_to(shown, top_k=2))
    wanted = visiontl.load(run).predict(file, top_k=2)
    told = json.loads(Path(made.files[0]).read_text())
    assert told["label"] == wanted["label"]
    assert [one["label"] for one in told["top"]] == [one["label"] for one in wanted["top"]]
    assert wanted["label"] in made.values
    assert made.words.startswith(f"class {wanted['label']}")
    for picture in (made.picture, made.explained):
        assert Image.open(str(picture)).width > 90  # a small photo is enlarged
    other = next(name for name in shown.controls and told["probabilities"] if name != wanted["label"])
    assert shown.answer(file, True, set_to(shown, explain_label=other)).words.startswith(f"class {other}")
    quiet = shown.answer(file, False, set_to(shown))
    assert (quiet.explained, quiet.words) == (None, "")
    hidden = [str(run), str(tmp_path), "Traceback"]
    (tmp_path / "junk.jpg").write_bytes(b"<html>none</html>")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "large.png").write_bytes(bytes(200_001))
    (tmp_path / "slow.png").write_bytes(b"slow")
    Image.new("RGB", (300, 200)).save(tmp_path / "wide.png")
    for name, words in {
        "junk.jpg": "it is an HTML page", "empty.png": "empty", "large.png": "200,001 bytes; at most 200,000",
        "wide.png": "60,000 pixels", "slow.png": "no answer within",
    }.items():  # fmt: skip
        junk = shown.answer(str(tmp_path / name), True, set_to(shown))
        assert words in junk.values, (name, junk.values)
        assert (junk.picture, junk.files) == (None, [])
        assert not any(one in junk.values for one in hidden)
    assert "choose it again" in shown.answer(str(tmp_path / "gone.png"), True, set_to(shown)).values
    assert "choose a photo" in shown.answer(None, True, set_to(shown)).values
    assert "stage" in shown.answer(file, True, set_to(shown, explain_stage="nine")).words
    assert "expected a number of at least 1" in shown.answer(file, False, set_to(shown, top_k=0)).values


def test_parts_have_their_own_controls_and_pictures_in_an_answer_are_files(demonstration, untrained, tmp_path):
    shown = demonstration(untrained("multi"))
    parts = {one.group for one in shown.controls}
    assert parts == {"label", "mask"}
    names = next(one.choices for one in shown.controls if one.name == "mask.classes")
    made = shown.answer(
        photo(tmp_path), True, set_to(shown, **{"label.top_k": 1, "mask.classes": [names[0]], "explain_part": "mask"})
    )
    told = json.loads(Path(made.files[0]).read_text())
    assert (len(told["label"]["top"]), list(told["mask"]["area"])) == (1, [names[0]])
    assert [Path(one).name for one in made.files] == ["prediction.json", "mask.mask.png"]
    assert Image.open(made.files[1]).size == (90, 70)
    assert made.words.startswith("mask: ")
    assert "keys}" not in made.values


def test_two_photos_are_compared(demonstration, untrained, tmp_path):
    shown = demonstration(untrained("face"))
    file = photo(tmp_path)
    alone = shown.answer(file, True, set_to(shown))
    assert alone.picture is not None
    assert "name a second photo" in alone.words
    both = shown.answer(file, True, set_to(shown, explain_other_picture=file))
    assert "1.00" in both.words
    junk = tmp_path / "junk.jpg"
    junk.write_bytes(b"none")
    assert "other: " in shown.answer(file, True, set_to(shown, explain_other_picture=str(junk))).values


def test_an_exported_model_is_shown_without_torch_and_explains_nothing(demonstration, tmp_path):
    shown = demonstration(graph(tmp_path / "hidden-place"))
    assert shown.explains is None
    assert [(one.name, one.start) for one in shown.controls] == [
        ("top_k", 2),
        ("threshold", 0.5),
        ("probabilities", True),
    ]
    made = shown.answer(photo(tmp_path), True, set_to(shown, top_k=1))
    assert len(json.loads(Path(made.files[0]).read_text())["top"]) == 1
    assert "an exported model has no gradients" in shown.why
    several = {"kind": "parts", "parts": {"a": ABOUT["answer"]}}
    parts = ready(str(graph(tmp_path / "parts", answer=several)), 0)
    assert parts.about()["options"] == ["a.probabilities", "a.threshold", "a.top_k"]


def test_a_model_without_anything_to_look_at_is_refused(untrained):
    with pytest.raises(ConfigError, match=r"nothing to look at: what task ssl says .* \(embedding: float32 array"):
        facts_of(ready(str(untrained("ssl")), 0))


def test_what_is_missing_is_told_before_torch_is_there(tmp_path):
    script = (
        "import sys, importlib.util as u; from visiontl.cli import main; seen = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'gradio' else seen(name, *more)\n"
        "print(main(['demo', sys.argv[1]]), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2", "False"]
    assert "`visiontl demo` needs gradio: pip install 'visiontl[demo]'" in done.stderr


@pytest.mark.skipif(not GRADIO, reason="gradio is not installed: pip install 'visiontl[demo]' (it keeps Pillow at 12)")
def test_the_page_answers_a_program_that_calls_it(demonstration, untrained, tmp_path):
    import httpx
    import uvicorn
    from gradio_client import Client, handle_file

    from visiontl.serving.page import app_of
    from visiontl.serving.server import bound

    shown = demonstration(untrained("classification"))
    with bound("127.0.0.1", 0) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app_of(shown), log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        client = Client(address, verbose=False, analytics_enabled=False, download_files=str(tmp_path / "got"))
        picture, values, heat, words, files = client.predict(handle_file(photo(tmp_path)), top_k=2, api_name="/answer")
        told = json.loads(Path(files["value"][0]).read_text())
        assert len(told["top"]) == 2
        assert told["label"] in values
        assert words.startswith("class ")
        assert all(Image.open(one).width >= 90 for one in (picture, heat))
        (tmp_path / "junk.png").write_bytes(b"<html>")
        junk = client.predict(handle_file(tmp_path / "junk.png"), api_name="/answer")
        assert "it is an HTML page" in junk[1]
        assert httpx.get(address, headers={"Host": "attacker.example"}).status_code == 421
        assert "default-src 'self'" in httpx.get(address).headers["content-security-policy"]
        assert httpx.get(f"{address}/gradio_api/file=/etc/passwd").status_code == 403
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()
