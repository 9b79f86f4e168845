"""`visiontl serve` by a real client: what it answers, what it refuses, and a model whose process dies."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from tests.export.conftest import graph
from tools.campaigns.uploads import KINDS, Outcome, drawn_uploads, form, megabytes, send, served
from visiontl.cli import main
from visiontl.commands.serve import run_of
from visiontl.errors import ConfigError
from visiontl.serving.app import Refused, as_picture, options_of
from visiontl.serving.limits import Limits
from visiontl.serving.line import Full, Line, Waiting
from visiontl.serving.metrics import Metrics
from visiontl.serving.server import Served, serve
from visiontl.serving.worker import Gone

LIMITS = ("--upload", "2", "--pixels", "1", "--seconds", "20", "--waiting", "40", "--threads", "1")


def of_color(color, size=(9, 5), kind="PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, kind)
    return stream.getvalue()


def post(address: str, body: bytes, query: str = "", **headers: str):
    """(status, answer, headers)"""
    headers = {"Content-Type": "image/png", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return answered(urllib.request.Request(f"{address}/predict{query}", body, headers))


def get(address: str, path: str, **headers: str):
    return answered(urllib.request.Request(address + path, headers=headers))


def answered(request):
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content, kind = answer.read(), answer.headers["Content-Type"]
            return answer.status, json.loads(content) if "json" in kind else content, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """(address, process) of a server whose model tells colors."""
    with served(str(graph(tmp_path_factory.mktemp("hidden-place"))), *LIMITS, "top_k=2") as found:
        yield found


def test_a_picture_in_the_body_or_in_a_form_is_answered(colors):
    address, _ = colors
    status, blue, _ = post(address, of_color((0, 0, 250)))
    share = np.exp(250 / 25.5) / (np.exp(250 / 25.5) + 2)
    assert (status, blue["label"], len(blue["top"])) == (200, "blue", 2)
    assert blue["probability"] == pytest.approx(share, abs=1e-6)
    assert (
        post(address, form([("a.png", of_color((0, 0, 250)))]), Content_Type="multipart/form-data; boundary=edge")[1]
        == blue
    )
    assert len(post(address, of_color((0, 0, 250)), "?top_k=1")[1]["top"]) == 1


def test_several_pictures_are_answered_in_their_order_each_by_itself(colors):
    address, _ = colors
    parts = [("up/red.jpg", of_color((200, 0, 0), kind="JPEG")), ("none.png", b"<html>"), ("g.png", of_color("lime"))]
    status, told, _ = post(address, form(parts), Content_Type="multipart/form-data; boundary=edge")
    assert status == 200
    assert [one.get("label") for one in told["predictions"]] == ["red", None, "green"]
    assert [one["file"] for one in told["predictions"]] == ["red.jpg", "none.png", "g.png"]
    assert "it is an HTML page" in told["predictions"][1]["error"]


def test_what_it_refuses_it_refuses_in_words(colors):
    address, _ = colors
    cases = {
        413: (post(address, bytes(2_100_000)), "2,100,000 bytes; at most 2,000,000"),
        415: (post(address, of_color("red"), Content_Type="text/html"), "'text/html' is not taken"),
        422: (post(address, of_color("red", (1001, 1000))), "1,001,000 pixels; this server takes up to 1,000,000"),
        400: (post(address, of_color("red"), "?tpo_k=1"), "did you mean 'top_k'"),
        406: (post(address, of_color("red"), Accept="image/png"), "holds no picture"),
        404: (get(address, "/../etc/passwd"), "nothing at this address"),
        405: (get(address, "/predict"), "no such method"),
        421: (get(address, "/", Host="attacker.example"), "localhost and 127.0.0.1 alone"),
    }
    for status, (found, words) in cases.items():
        assert found[0] == status, found
        assert words in found[1]["error"]
        assert "hidden-place" not in found[1]["error"]
    assert post(address, of_color("red"), "?top_k.a=1")[0] == 400
    field = b'--edge\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n1\r\n'
    told = post(address, field + form([("a.png", of_color("red"))]), Content_Type="multipart/form-data; boundary=edge")
    assert told[0] == 400
    assert "field 'top_k' of the form is a text; options stand behind the address" in told[1]["error"]
    many = post(address, form([("a.png", of_color("red"))] * 33), Content_Type="multipart/form-data; boundary=edge")
    assert many[0] == 400
    assert "Too many files" in many[1]["error"]


def test_it_says_what_it_is_and_how_it_fares(colors):
    address, _ = colors
    about = get(address, "/")[1]
    assert (about["classes"], about["settled"]) == (["red", "green", "blue"], {"top_k": 2})
    assert "hidden-place" not in json.dumps(about)
    assert get(address, "/health")[1] == {"status": "ready"}
    counted = numbers(address)
    post(address, of_color("red"))
    post(address, b"none")
    then = numbers(address)
    for name in ('requests_total{status="200"}', 'requests_total{status="422"}', 'pictures_total{outcome="answered"}'):
        assert then[name] - counted.get(name, 0) >= 1
    assert then["request_seconds_count"] == sum(n for name, n in then.items() if name.startswith("requests_total"))


def numbers(address: str) -> dict[str, float]:
    lines = get(address, "/metrics")[1].decode().splitlines()
    pairs = (line.removeprefix("visiontl_").rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_requests_that_wait_are_answered_together_and_as_alone(colors):
    address, _ = colors
    drawn = np.random.default_rng(0).integers(0, 256, (24, 3)).tolist()
    pictures = [of_color(tuple(color)) for color in drawn]
    alone = [post(address, picture)[1] for picture in pictures]
    before = numbers(address)
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda picture: post(address, picture)[1], pictures))
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
    after = numbers(address)
    assert after["batch_pictures_sum"] - before["batch_pictures_sum"] == 24
    assert after["batch_pictures_count"] - before["batch_pictures_count"] < 24


def test_hostile_uploads_leave_the_server_as_it_was(colors):
    """A sample of tools/campaigns/uploads.py, which sends ten thousand."""
    address, process = colors
    outcome, pids = Outcome(), {one.pid for one in process.children(recursive=True)}
    uploads = list(drawn_uploads(3 * len(KINDS), seed=1))
    hidden = ("hidden-place", "/tmp/", "Traceback", "site-packages")
    before = megabytes(process)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: send(address, one, hidden, outcome), uploads))
    assert outcome.wrong == []
    assert {one.pid for one in process.children(recursive=True)} == pids
    assert megabytes(process) < before + 60  # pictures of a few megabytes were decoded
    send(address, KINDS["a picture"](random.Random(0)), hidden, outcome)
    assert outcome.wrong == []


def test_a_model_whose_process_dies_is_replaced(colors):
    address, process = colors
    child = next(one for one in process.children(recursive=True) if "spawn_main" in " ".join(one.cmdline()))
    os.kill(child.pid, signal.SIGKILL)
    assert post(address, of_color("red"))[1]["label"] == "red"
    assert numbers(address)["worker_restarts_total"] == 1
    assert not child.is_running()


class Stub:
    """A worker whose answer is the picture's text; `poison` ends it, `slow` lets it take longer than it may."""

    def __init__(self):
        self.about, self.named, self.dead, self.seen = {"task": "stub"}, {}, False, []

    def alive(self):
        return not self.dead

    def close(self):
        self.dead = True

    def ask(self, uploads, options, seconds):
        texts = [content.decode() for _, content in uploads]
        self.seen.append(texts)
        for text in texts:
            if text in ("poison", "slow"):
                self.dead = True
                raise Gone("answering ended by signal 9" if text == "poison" else "answering took longer than 1 s")
        return [{"prediction": {"said": text, **options}} for text in texts]


def asked(line: Line, *texts: str, **options) -> list[Waiting]:
    waiting = [Waiting("", text.encode(), options, time.monotonic() + 20) for text in texts]
    for one in waiting:
        line.put(one)
    return waiting


def test_a_picture_that_ends_its_process_spoils_no_other_answer():
    line = Line(Stub, Limits(gather=0.2), Metrics())  # type: ignore[arg-type]
    try:
        answers = [one.answer.result(20) for one in asked(line, "a", "poison", "b", "slow")]
        assert [one.get("prediction", {}).get("said") for one in answers] == ["a", None, "b", None]
        assert "ended the model's process" in answers[1]["error"]
        assert answers[3]["kind"] == "late"
        assert line.metrics.restarts >= 2
        late = Waiting("", b"c", {}, time.monotonic() - 1)
        line.put(late)
        assert late.answer.result(20)["kind"] == "late"
    finally:
        line.close()


def test_pictures_of_other_options_are_no_batch_and_too_many_are_sent_away():
    held = threading.Event()

    class Held(Stub):
        def ask(self, uploads, options, seconds):
            held.wait(20)
            return super().ask(uploads, options, seconds)

    line = Line(Held, Limits(batch=3, waiting=5, gather=0), Metrics())  # type: ignore[arg-type]
    try:
        first = asked(line, "first")
        deadline = time.monotonic() + 20
        while line.waiting() and time.monotonic() < deadline:
            time.sleep(0.01)
        others = [*asked(line, "a", k=1), *asked(line, "b", k=True), *asked(line, "c", "d", "e", k=1)]
        with pytest.raises(Full):
            asked(line, "f")
        held.set()
        assert [one.answer.result(20)["prediction"]["said"] for one in first + others] == ["first", *"abcde"]
        assert line.worker.seen == [["first"], ["a", "c", "d"], ["b"], ["e"]]  # type: ignore[union-attr]
    finally:
        held.set()
        line.close()


def test_a_run_gives_pictures_too(untrained):
    """A mask, in JSON and by itself, the same as predict's."""
    run = untrained("segmentation")
    coarse = np.random.default_rng(0).integers(0, 256, (7, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC).save(stream, "PNG")
    import visiontl

    wanted = visiontl.load(run).predict(Image.open(stream))
    with served(str(run), "--threads", "1", "--no-options") as (address, _):
        status, told, _ = post(address, stream.getvalue())
        assert status == 200
        assert told["area"] == wanted["area"]
        mask = Image.open(io.BytesIO(base64.b64decode(told["mask"]["png"])))
        assert (np.asarray(mask) == np.asarray(wanted["mask"])).all()
        status, alone, headers = post(address, stream.getvalue(), Accept="image/png")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert (np.asarray(Image.open(io.BytesIO(alone))) == np.asarray(mask)).all()
        assert post(address, stream.getvalue(), "?flip=true")[1] == {"error": "this server takes no options"}


def test_no_request_opens_a_file_of_the_server_and_parts_have_options_and_pictures():
    def options(query: bytes):
        return options_of(Request({"type": "http", "query_string": query, "headers": []}), False, {"style": ["night"]})

    assert options(b"style=night&mask.flip=true") == {"style": "night", "mask": {"flip": True}}
    several = {"label": {"label": "ant"}, "mask": {"mask": {"png": "cG5n", "width": 1, "height": 1}}}
    assert as_picture(several).body == b"png"
    for query in (b"style=/etc/passwd", b'style=["night","/etc/passwd"]'):
        with pytest.raises(Refused, match=r"'/etc/passwd' is none that the model has \(night\)"):
            options(query)


def test_what_cannot_be_served_is_told_before_anything_listens(tmp_path, colors, capsys):
    address, _ = colors
    taken = int(address.rpartition(":")[2])
    path = str(graph(tmp_path))
    with pytest.raises(ConfigError, match=r"cannot be listened at \(Address already in use\); --port 0"):
        serve(Served(path, port=taken), print)
    with pytest.raises(ConfigError, match="no option 'flip'"):
        serve(Served(path, {"flip": True}, port=0), print)
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"photo.jpg is a file; a run folder, hf-hub:owner/name or an exported model"):
        run_of(Namespace(run=str(tmp_path / "photo.jpg"), port=0))
    with pytest.raises(ConfigError, match="seconds of a server: a number above 0"):
        Limits(seconds=float("nan"))
    for flag in ("--upload", "--pixels", "--seconds", "--gather", "--batch", "--waiting", "--threads"):
        for text in ("nan", "inf", "-1", "1e30", "many"):
            assert main(["serve", path, f"{flag}={text}"]) == 2
            said = capsys.readouterr().err
            assert f"argument {flag}: a " in said
            assert f"was expected; got '{text}'" in said
    assert main(["serve", path, "--host", ""]) == 2
    assert "--host: got nothing" in capsys.readouterr().err
