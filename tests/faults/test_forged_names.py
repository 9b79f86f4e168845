"""Names of files, classes and keys cannot begin a line of ours, steer a terminal or turn its direction of writing."""

from __future__ import annotations

import json
import pickle
import shutil
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.bad_input.outcome import command
from visiontl import errors
from visiontl.report.console import Console
from visiontl.testing.case import SETTINGS

NAME = "n\nerror: forged\x1b[31m\r\u202eX\u2028error: forged"  # of a class or a person
FILE = "f\n  - forged: forged\nwarning: forged\x1b[2J\r\u202eY\u2028"
KINDS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.VisionTLError)]
STEERING = {"\u061c", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def honest(text: str) -> bool:
    """No line begins as one that a name forged would, and nothing in it steers."""
    begun = ("error: forged", "warning: forged", "forged: forged")
    forged = any(line.lstrip(" -").startswith(begun) for line in text.split("\n"))
    steers = any((unicodedata.category(c) in ("Cc", "Zl", "Zp") and c not in "\n\t") or c in STEERING for c in text)
    return not forged and not steers


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_of_an_error_is_one_line_whatever_a_name_holds(kind):
    assert honest(str(kind(f"/data/{NAME}/{FILE}.png: damaged picture")))
    assert "\n" not in str(kind(f"/data/{NAME}/{FILE}.png: damaged picture"))


@pytest.mark.parametrize("indent", ["", "  ", "    ", "  \t"])
def test_a_name_with_an_indented_line_forges_no_error(indent):
    assert honest(str(errors.DataError(f"a\n{indent}error: forged\n{indent}warning: forged")))


def test_a_name_of_any_length_leaves_an_error_that_can_be_read():
    said = str(errors.DataError(f"/data/{'n' * 50_000}.png: damaged picture", lines=[f"- {'m' * 50_000}: too"]))
    assert max(map(len, said.split("\n"))) <= 1800
    assert said.startswith("/data/nnn")
    assert "n.png: damaged picture\n  - mmm" in said
    assert said.endswith("mm: too")


def test_lines_of_our_own_stay_lines():
    error = errors.DataError("data: 2 errors", lines=["- one", f"- two{FILE}"])
    assert [line[:9] for line in str(error).split("\n")] == ["data: 2 e", "  - one", "  - twof\\"]
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), type(again)) == (str(error), errors.DataError)
    assert f"a: {error}".startswith("a: data: 2 errors: one; twof\\n  - forged")
    assert str(errors.ConfigError([f"a: {NAME}", "b: two"], "x.yaml")).count("\n") == 2


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\n\r\t\x1b\x9b\u202e\u2066\u2028 ")))
def test_whatever_is_in_a_sentence_it_stays_one(text):
    said = errors.sentence(f"{text}: no such file")
    assert "\n" not in said
    assert errors.sentence("head", [text]).count("\n") == 1
    assert honest(said.replace("error: forged", ""))
    assert errors.sentence(said) == said


def test_what_a_run_says_and_its_notes(capsys):
    console = Console()
    console.say(f"report: /runs/{NAME}/report.html", keep=True)
    console.warn(f"{FILE}.png is left out", [FILE])
    console.table(NAME, ["file", NAME], [[FILE, 1], [NAME, 2]])
    assert honest(capsys.readouterr().out)
    assert all(honest(note) for note in console.notes)


def noise(path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (36, 40, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path, "PNG")


def classification(place) -> None:
    for split in ("train", "val"):
        for number in range(4):
            noise(place / split / (NAME if number % 2 else "b") / f"{number}{FILE}{split}.png", number)


def test_commands_on_a_data_set_of_such_names(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classification(tmp_path / "data")
    section = {"name": "classification", "data": str(tmp_path / "data")}
    values = {**SETTINGS, "train": {**SETTINGS["train"], "epochs": 1, "batch_size": 2}}
    values["backbone"] = {**SETTINGS["backbone"], "image_size": 32}
    (tmp_path / "config.yaml").write_text(json.dumps({"task": section, **values}))
    noise(tmp_path / f"new/p{FILE}.png", 3)
    (tmp_path / f"new/q{FILE}.jpg").write_text("no picture")

    def run(*words, code: int = 0) -> None:
        done = command(capsys, tmp_path, *words)
        assert done.code == code, done.err
        assert honest(done.out), done.out
        assert honest(done.err), done.err

    odd = f"runs/{NAME}"
    run("doctor", "config.yaml")
    run("train", "config.yaml", "run.name=run")
    shutil.copytree("runs/run", odd)
    run("predict", odd, "new")
    run("evaluate", odd)
    run("compare", odd, "runs/run")
    run("train", "config.yaml", f"resume={odd}")
    run("predict", odd, f"new/gone{FILE}.png", code=2)
    run("evaluate", odd, "--split", NAME, code=2)
    victim = min((tmp_path / "data").rglob("val*/**/*.png"))
    victim.write_bytes(victim.read_bytes()[:60])
    run("doctor", "config.yaml", code=2)
    run("train", "config.yaml", "run.name=second", code=2)
    run("train", "config.yaml", "run.name=third", "data.on_bad=skip", "data.max_bad=0.5")
    run("train", "config.yaml", f"backbone.weights={NAME}.pth", code=2)
    for page in (tmp_path / "runs").rglob("*.html"):
        assert honest(page.read_text().replace("forged", "")), page
