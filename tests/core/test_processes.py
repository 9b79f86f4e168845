"""The command under torchrun: two processes really run, and say so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import visiontl
from tests.shared import ROOT
from visiontl import checkpoint

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
CONFIG = ROOT / "tests/plugins/brightness/brightness.yaml"


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, str(ROOT / "tools/train.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def photos(folder: Path) -> None:
    """25 pictures, 13 of them for training: 8 in the first update of an epoch and 5 in the last, 3 and 2 a rank."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(25):
        pixels = random.normal(random.uniform(40, 215), 25, (40, 48, 3)).clip(0, 255).astype(np.uint8)  # (H, W, 3)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")


def settings(runs: Path) -> list[str]:
    """Nothing is drawn by rank, and plain SGD is used, which unlike Adam shows a gradient that is off by a factor."""
    return [
        f"run.folder={runs}",
        f"task.data={runs / 'photos'}",
        "task.dropout=0",
        "freeze.policy=all",
        "train.cache=false",
        "train.precision=fp32",
        "optim={name: sgd, momentum: 0.0, lr: 0.5, weight_decay: 0.0}",
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    photos(runs / "photos")
    done = launch(str(CONFIG), *settings(runs), "run.name=two", "train.batch_size=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "processes: 2" in done.stdout
    assert done.stdout.count("report:") == 1, "only the main process speaks"
    return runs / "two"


def test_report_counts_the_processes(run):
    assert json.loads((run / "report.json").read_text())["environment"]["processes"] == 2


def test_one_process_scores_the_run_as_two_did(run):
    report = json.loads((run / "report.json").read_text())
    assert visiontl.evaluate(run)["scores"] == report["scores"]


def test_one_process_trains_what_two_did(run):
    """The gradient is the mean over the samples of both ranks, also where one has more of them."""
    report = visiontl.train(CONFIG, *settings(run.parent), "run.name=one", "train.batch_size=8")
    one, two = (checkpoint.read_tensors(Path(place) / "model", "model.safetensors") for place in (report["run"], run))
    assert not torch.equal(one["head.1.bias"], torch.zeros(1))
    for name, tensor in one.items():
        assert torch.allclose(tensor.float(), two[name].float(), rtol=1e-3, atol=1e-5), name


def test_mistakes_are_said_once_and_end_all_processes(tmp_path):
    for arguments, words in [
        ((str(CONFIG), "optim.lrr=1"), "did you mean 'lr'"),
        ((str(CONFIG), f"task.data={tmp_path / 'nowhere'}", f"run.folder={tmp_path}"), "no .png files"),
    ]:
        done = launch(*arguments)
        assert done.returncode != 0
        assert done.stderr.count(words) == 1, done.stderr
        assert 'cli.py", line' not in done.stderr, "a stack trace of ours; torchrun prints one of its own"


def test_accelerate_launch_that_starts_too_few_is_refused(tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2", "--cpu"]
    arguments = [str(ROOT / "tools/train.py"), str(CONFIG), f"run.folder={tmp_path}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    two_ran = "processes: 2" in said
    assert two_ran or "accelerate launch was asked for 2, but 1 process started" in said, said[-2000:]
