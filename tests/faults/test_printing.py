"""What cannot be printed ends no run, whatever is wrong with the place it goes to."""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import visiontl
from tests.shared import ROOT
from visiontl import cli
from visiontl.config.write import to_yaml
from visiontl.outlet import Outlet, guarded, say
from visiontl.task import Command
from visiontl.testing.case import Case

FULL = "No space left on device"


def full():
    return open("/dev/full", "w", encoding="utf-8")


def unread():
    """A pipe whose reader has gone, as under `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def narrow():
    """An encoding that has no arrow and no surrogate."""
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


PLACES = {"a full disk": full, "a pipe that nobody reads": unread, "closed": closed, "none": lambda: None}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a config, a run of it, and photos."""
    folder = tmp_path_factory.mktemp("printing")
    case = Case("brightness", folder)
    resolved = case.resolved("train.epochs=1")
    (folder / "c.yaml").write_text(to_yaml(resolved, comments=False))
    visiontl.train(case.resolved("train.epochs=1", "run.name=first"))
    shutil.copytree(folder / "runs/first", folder / "runs/second")
    (folder / "photos").mkdir()
    picture = next((folder / "runs").rglob("*.png"))
    (folder / "photos" / "a.png").write_bytes(picture.read_bytes())
    return folder


RUNS = {
    "evaluate": ["evaluate", "runs/first", "--out", "NAME"],
    "predict": ["predict", "runs/first", "photos", "--out", "NAME"],
    "compare": ["compare", "runs/first", "runs/second", "--out", "NAME"],
}
ANSWERS = {
    "list": ["list", "backbones", "tiny"],
    "config": ["config", "--schema"],
    "configs": ["configs"],
    "completion": ["completion", "bash"],
    "doctor": ["doctor", "c.yaml"],
    "doctor --json": ["doctor", "c.yaml", "--json"],
    "evaluate --json": ["evaluate", "runs/first", "--json"],
    "help": ["train", "--help"],
    "version": ["--version"],
}


def called(words, out, err, monkeypatch) -> int:
    """`visiontl WORDS` with these streams in the place of stdout and stderr."""
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    try:
        return cli.main(words)
    finally:
        assert (sys.stdout, sys.stderr) == (out, err)
        monkeypatch.undo()
        for stream in (out, err):
            if stream is not None and not isinstance(stream, io.StringIO):
                stream.close()  # would raise if anything were left in it


@pytest.mark.parametrize(
    ("name", "where"),
    [*(("train", where) for where in PLACES if where != "closed"), *((name, "a full disk") for name in RUNS)],
)
def test_a_command_that_writes_files_goes_on_to_its_end(place, name, where, monkeypatch):
    made = f"{name}-{where}".replace(" ", "-")
    words = [word.replace("NAME", made) for word in RUNS.get(name, ["train", "c.yaml", "run.name=NAME"])]
    err = io.StringIO()
    monkeypatch.chdir(place)
    assert called(words, PLACES[where](), err, monkeypatch) == 0
    folder = place / ("runs" if name.startswith("train") else "") / made
    assert folder.is_file() or any(folder.iterdir())
    said = [line for line in err.getvalue().splitlines() if "could not be printed" in line]
    spoke = where != "none"
    assert len(said) == spoke, err.getvalue()
    assert not spoke or where != "a full disk" or FULL in said[0]
    if name == "train":
        report = json.loads((folder / "report.json").read_text())
        assert report["status"] == "finished"
        assert any("could not be printed" in note for note in report["notes"]) == spoke


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_command_whose_words_are_lost_says_so_and_fails(place, name, where, monkeypatch):
    err = io.StringIO()
    monkeypatch.chdir(place)
    code = called(ANSWERS[name], PLACES[where](), err, monkeypatch)
    assert code == {"none": 0, "a pipe that nobody reads": cli.NO_READER}.get(where, 1)
    assert "Traceback" not in err.getvalue()
    assert ("error: what was asked for could not be printed" in err.getvalue()) == (code == 1)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("words", [["train", "absent.yaml"], ["train", "absent.yaml", "--debug"], ["predict"]])
def test_an_error_that_cannot_be_printed_keeps_its_exit_code(place, words, where, monkeypatch):
    monkeypatch.chdir(place)
    assert called(words, PLACES[where](), PLACES[where](), monkeypatch) == 2


def test_what_is_lost_on_stderr_is_said_on_stdout(place, monkeypatch):
    out = io.StringIO()
    command = Command("x", "say x on stderr", lambda parser: None, lambda given: say("x", sys.stderr))
    monkeypatch.setattr(cli, "parse", lambda argv: (command, argparse.Namespace()))
    assert called([], out, full(), monkeypatch) == 0
    assert out.getvalue().splitlines() == [f"warning: some of what was said could not be printed ([Errno 28] {FULL})"]


def test_what_libraries_print_is_guarded_too():
    out, err = sys.stdout, sys.stderr
    stream = full()
    try:
        sys.stdout = sys.stderr = stream
        with guarded():
            for _ in range(3000):
                print("from a library", flush=False)
            print("at once", file=sys.stderr, flush=True)
    finally:
        sys.stdout, sys.stderr = out, err
    stream.close()


def test_what_an_encoding_cannot_hold_is_written_out():
    stream = narrow()
    say("→ \udcff", Outlet(stream))
    assert stream.buffer.getvalue() == b"\\u2192 \\udcff\n"  # type: ignore[attr-defined]


def test_a_run_without_any_handles_writes_its_files_and_nothing_into_them(place):
    """`>&- 2>&- <&-`: the numbers 0, 1 and 2 would be those of the next files that are opened."""
    script = (
        "import os, sys; from visiontl.cli import main; code = main(sys.argv[1:]); os.system('echo x'); sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "train", "c.yaml", "run.name=shut", "loader.workers=1"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ['PYTHONPATH']}"}
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    assert subprocess.run([*shell, *command], cwd=place, env=environment, timeout=300).returncode == 0
    report = json.loads((place / "runs/shut/report.json").read_text())
    assert report["status"] == "finished"
    assert report["scores"] == json.loads((place / "runs/first/report.json").read_text())["scores"]
