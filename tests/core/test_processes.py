"""The command under torchrun: two processes really run, and say so."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import visiontl
from tests.shared import ROOT
from visiontl import plugins
from visiontl.freezing import policies
from visiontl.testing import ranks
from visiontl.testing.checks import POLICIES

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
CONFIG = ROOT / "tests/plugins/brightness/brightness.yaml"
# their losses are means over samples: no case is n/a, but for a policy that the task refuses
MEANS = ("brightness", "classification", "face", "segmentation", "style")
# what a third process adds is a split of uneven shares, which is the engine's; one task with batches of its own
ON_THREE = ("brightness", "classification", "face")


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return processes(2, str(ROOT / "tools/train.py"), *arguments)


def processes(count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TORCHRUN, str(count), *arguments], capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    done = launch(str(CONFIG), "task.data=example", f"run.folder={runs}", "run.name=two", "train.precision=fp32")
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
        (
            (str(CONFIG), f"task.data={tmp_path / 'nowhere'}", f"run.folder={tmp_path}"),
            "nowhere: no such file or folder",
        ),
    ]:
        done = launch(*arguments)
        assert done.returncode != 0
        # where the launcher ends the other one late, that one says which rank failed, and of what
        told = [line for line in done.stderr.splitlines() if words in line and "rank 0 failed: " not in line]
        assert len(told) == 1, done.stderr
        assert 'cli.py", line' not in done.stderr, "a stack trace of ours; torchrun prints one of its own"


def test_accelerate_launch_that_starts_too_few_is_refused(tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2", "--cpu"]
    arguments = [str(ROOT / "tools/train.py"), str(CONFIG), f"run.folder={tmp_path}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    two_ran = "processes: 2" in said
    assert two_ran or "accelerate launch was asked for 2, but 1 process started" in said, said[-2000:]


@pytest.fixture(scope="module")
def contract(tmp_path_factory) -> dict[int, list[str]]:
    """{processes: the lines of visiontl.testing.ranks}, on one folder, so that weights are compared."""
    folder, said = str(tmp_path_factory.mktemp("ranks")), io.StringIO()
    with contextlib.redirect_stdout(said):
        ranks.main([folder, "--only", "weights", "evaluation", "merging"])
    outputs = {1: said.getvalue()}
    for count, tasks, only in ((2, (), [""]), (3, ON_THREE, ["weights", "evaluation", "merging"])):
        done = processes(count, "-m", "visiontl.testing.ranks", folder, *tasks, "--only", *only)
        assert done.returncode == 0, done.stdout + done.stderr[-2000:]
        outputs[count] = done.stdout
    return {
        count: [line for line in output.splitlines() if line.startswith(("ok", "n/a", "FAILED"))]
        for count, output in outputs.items()
    }


def test_every_task_holds_on_one_two_and_three_processes(contract):
    tasks = len(plugins.tasks())
    lines = {count: len(found) for count, found in contract.items()}
    assert lines == {1: 3 * tasks, 2: len(ranks.CHECKS) * tasks, 3: 3 * len(ON_THREE)}
    for count, lines in contract.items():
        assert not [line for line in lines if line.startswith("FAILED")]
        for task in MEANS if count < 3 else ON_THREE:
            own = [line for line in lines if line.split("  ")[2] == task]
            assert own, f"{task} was not checked on {count} processes"
            own = [line for line in own if "the task refuses this policy" not in line]
            assert all(line.startswith(f"ok  {count} processes") for line in own), own


def test_every_built_in_policy_is_among_the_cases():
    names = {value.strip("{").split(":")[0] for value in POLICIES}
    assert names == set(policies.FACTORIES)


def test_an_engine_that_is_broken_is_seen(tmp_path):
    """Wrapped only once, statistics not exchanged, a micro-batch lost ...: each check must be able to fail."""
    done = processes(2, str(ROOT / "tests/core/broken_engine.py"), str(tmp_path))
    lines = [line for line in done.stdout.splitlines() if line.startswith(("caught", "missed"))]
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == 8, done.stdout[-2000:]
    assert all(line.startswith("caught") for line in lines), lines


def test_weights_that_are_a_little_off_are_seen():
    weights = {"a": torch.ones(100).double(), "b": torch.zeros(3).double()}
    assert ranks.too_far(weights, weights, "x") == []
    off = {**weights, "a": weights["a"] * (1 + 2e-9)}
    assert ranks.too_far(off, weights, "x") == ["x: a is apart by 2.0e-09"]
    assert ranks.too_far({**weights, "b": torch.full((3,), 1e-12)}, weights, "x") == ["x: b is apart by inf"]
