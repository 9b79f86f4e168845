"""Packages of third parties, installed as pip installs them: sounds, noisy photos, points, and one with a backbone, a
policy, a command and a tracker. They are found, hold the contract, learn, predict and report."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visiontl
from tests.contract.test_new import SETTINGS
from tests.shared import ROOT, shared
from visiontl import cli, plugins
from visiontl.config.yaml_text import parse_text
from visiontl.testing import Case, checks
from visiontl.testing.verdicts import verdicts

PACKAGES = ("keypoints", "restoration", "sound", "workshop")
LEAST = {"sound": ("accuracy", 0.8), "restoration": ("gain", 3.0)}  # on val; chance is 0.2, and 0 decibels


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """All of them by one call of pip."""
    site = tmp_path_factory.mktemp("outside") / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    folders = [str(ROOT / "tests/plugins" / name) for name in PACKAGES]
    done = subprocess.run([*pip, "--target", str(site), *folders], capture_output=True, text=True, env=SETTINGS)
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    plugins.reset()
    yield
    sys.path.remove(str(site))
    plugins.reset()


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """{task: its run, by its own config on its example}"""
    folder = tmp_path_factory.mktemp("learned")

    def train(name):
        file = ROOT / f"tests/plugins/{name}/{name}.yaml"
        epochs = {"sound": 6, "restoration": 9}[name]
        changes = {"run.folder": str(folder), "train.epochs": epochs, "train.evaluate_every": "3 epochs"}
        return visiontl.train(file, changes)

    return {name: train(name) for name in LEAST}


def test_they_are_listed_with_what_they_offer(capsys):
    assert cli.main(["list", "plugins", "--json"]) == 0
    found = {one["plugin"]: one for one in json.loads(capsys.readouterr().out)}
    offers = {name: found[name]["offers"] for name in PACKAGES}
    assert offers == {
        "keypoints": "tasks: keypoints",
        "restoration": "tasks: restoration",
        "sound": "tasks: sound",
        "workshop": "backbones: workshop/ladder; commands: stages; policies: upward; tracker",
    }
    assert {found[name]["package"] for name in PACKAGES} == {f"visiontl-{name}" for name in PACKAGES}
    assert {(found[name]["version"], found[name]["contract"], found[name]["error"]) for name in PACKAGES} == {
        ("1.0", "1", "")
    }


@pytest.mark.parametrize("name", ["restoration", "sound", "workshop"])
def test_no_check_is_a_false_alarm(name):
    said = {(one.of, one.check): one.said for one in verdicts(name, quick=True)}
    assert len(said) > (15 if name == "workshop" else 30)
    assert {check: words for check, words in said.items() if words} == {}


@pytest.mark.parametrize("name", ["keypoints", "restoration", "sound"])
def test_a_run_that_was_cut_off_ends_with_the_bits_of_one_that_was_not(name, tmp_path):
    """As conformance holds it for our tasks, of one cut: weights, averaged weights, metrics."""
    checks.resumes(Case(name, tmp_path), (3,), "optim.name=sgd", "train.channels_last=true")


@pytest.mark.parametrize("name", LEAST)
def test_they_learn_their_example(name, learned):
    score, least = LEAST[name]
    assert learned[name]["scores"]["val"][score] >= least
    page = learned[name].page.read_text()
    assert "could not be drawn" not in page
    assert {"sound": "Recordings (val)", "restoration": "Photos (val)"}[name] in page


def test_recordings_are_predicted_and_explained_as_photos_are(learned, tmp_path, capsys):
    recordings = learned["sound"].run.parent / "example-sound" / "recordings"
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("tone", "noise"):
        (mixed / f"{name}.WAV").write_bytes((recordings / name / "001.wav").read_bytes())
    (mixed / "notes.txt").write_text("heard at night")
    (mixed / "cut.wav").write_bytes(b"RIFF")
    run = str(learned["sound"].run)
    assert cli.main(["predict", run, str(mixed), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "cut.wav: is no WAV file that can be read" in printed.out
    assert "notes.txt" in printed.out
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [(Path(line["file"]).name, line["label"]) for line in lines] == [
        ("noise.WAV", "noise"),
        ("tone.WAV", "tone"),
    ]
    with Image.open(tmp_path / "out/pictures/tone.jpg") as drawn:
        assert drawn.width > drawn.height
    model = visiontl.load(run)
    assert model.predict(mixed / "tone.WAV") == model.predict([mixed / "tone.WAV"])[0]
    assert cli.main(["explain", run, str(mixed / "tone.WAV"), "--out", str(tmp_path / "why")]) == 0
    assert "class tone" in (tmp_path / "why/explanations.jsonl").read_text()


def test_a_spectrogram_has_its_tone_at_its_height(tmp_path):
    """By hand: 1,000 hertz, at 8,000 a second, in the band that holds it."""
    cfg = plugins.task("sound").config(data="x")
    for rate, width in ((8000, 2), (16000, 2), (8000, 1)):
        time = np.arange(rate) / rate
        values = np.sin(2 * np.pi * 1000 * time)
        file = tmp_path / f"{rate}-{width}.wav"
        with wave.open(str(file), "wb") as opened:
            opened.setparams((1, width, rate, 0, "NONE", "none"))
            scaled = values * 20000 if width == 2 else values * 100 + 128
            opened.writeframes(scaled.astype("<i2" if width == 2 else "u1").tobytes())
        picture = np.asarray(plugins.task("sound").opens[".wav"](cfg, file).convert("L"))
        assert picture.shape == (64, 126)
        top = 2595 * np.log10(1 + 4000 / 700)
        band = 2595 * np.log10(1 + 1000 / 700) / top * 65 - 1  # of 64 with 65 gaps, from below
        assert abs(63 - picture[:, 60].argmax() - band) < 1.5


def test_noise_is_taken_out_of_real_photos(learned, tmp_path):
    """A photo of another size than the model's windows, with noise of 25 levels; PSNR by hand."""
    photos = sorted(shared("data/classification/hymenoptera").rglob("*.jpg"))[:3]
    model = visiontl.load(learned["restoration"])
    for file in photos:
        with Image.open(file) as opened:
            clean = opened.convert("RGB").resize((150, 110))
        noise = np.random.default_rng(0).normal(0, 25, (110, 150, 3))
        noisy = Image.fromarray((np.asarray(clean) + noise).clip(0, 255).astype(np.uint8))
        answer = model.predict(noisy)
        assert answer["restored"].size == (150, 110)
        before, after = (
            10 * np.log10(255**2 / np.mean((np.asarray(one, dtype=float) - np.asarray(clean)) ** 2))
            for one in (noisy, answer["restored"])
        )
        assert after > before + 2
        assert model.predict(noisy, strength=0)["restored"].tobytes() == noisy.tobytes()
    sheet = model.show(noisy)
    assert sheet.width > 2 * 150


def test_backbone_policy_command_and_tracker_of_one_package(tmp_path, capsys):
    report = visiontl.train(
        ROOT / "tests/plugins/sound/sound.yaml",
        {
            "backbone.name": "workshop/ladder",
            "backbone.weights": "default",
            "freeze.policy": {"upward": {"last": 2, "all_from": 1}},
            "train.epochs": 2,
            "run.folder": str(tmp_path),
        },
    )
    phases = [{row["stage"]: row["mode"] for row in phase["rows"]} for phase in report["trainability"]]
    assert [phase["rung0"] for phase in phases] == ["frozen", "train"]
    assert [phase["rung2"] for phase in phases] == ["train", "train"]
    lines = [line.split("\t") for line in (report.run / "workshop.tsv").read_text().splitlines()]
    kept = [json.loads(line) for line in (report.run / "metrics.jsonl").read_text().splitlines()]
    assert len({line[0] for line in lines}) == len({line["step"] for line in kept})
    capsys.readouterr()
    assert cli.main(["stages", "workshop/ladder", "image_size=32"]) == 0
    assert "rung2" in capsys.readouterr().out
    assert cli.main(["stages", "workshop/laddr"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_configs_of_packages_are_whole():
    for name in LEAST:
        text = (ROOT / f"tests/plugins/{name}/{name}.yaml").read_text()
        assert parse_text(text, name).values["task"] == {"name": name, "data": "example"}
