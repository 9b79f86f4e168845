"""The command under torchrun: two processes really run, and say so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import visiontl
from tests.shared import ROOT

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
CONFIG = ROOT / "tests/plugins/brightness/brightness.yaml"


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, str(ROOT / "tools/train.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    done = launch(str(CONFIG), f"run.folder={runs}", "run.name=two", "train.batch_size=2", "train.precision=fp32")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "processes: 2" in done.stdout
    assert done.stdout.count("report:") == 1, "only the main process speaks"
    return runs / "two"


def test_report_counts_the_processes(run):
    assert json.loads((run / "report.json").read_text())["environment"]["processes"] == 2


def test_one_process_scores_the_run_as_two_did(run):
    report = json.loads((run / "report.json").read_text())
    assert visiontl.evaluate(run)["scores"] == report["scores"]


def test_mistakes_are_said_once_and_end_all_processes(tmp_path):
    for arguments, words in [
        ((str(CONFIG), "optim.lrr=1"), "did you mean 'lr'"),
        ((str(CONFIG), f"task.data={tmp_path / 'nowhere'}", f"run.folder={tmp_path}"), "no .png files"),
    ]:
        done = launch(*arguments)
        assert done.returncode != 0
        assert done.stderr.count(words) == 1, done.stderr
        assert "/visiontl/" not in done.stderr, "a stack trace of ours; torchrun prints one of its own"


def test_accelerate_launch_that_starts_too_few_is_refused(tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2", "--cpu"]
    arguments = [str(ROOT / "tools/train.py"), str(CONFIG), f"run.folder={tmp_path}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    two_ran = "processes: 2" in said
    assert two_ran or "accelerate launch was asked for 2, but 1 process started" in said, said[-2000:]
