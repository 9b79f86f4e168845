"""Starts that are not what they seem: a launcher's count that does not run, an environment that says what cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

import visiontl
from visiontl.processes import launch
from visiontl.runs.environment import check_processes

FILE = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nnum_processes: 2\nuse_cpu: true\n"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No launcher, and no file of `accelerate config`."""
    for name in (*launch.COUNTS, *launch.OWN, "LOCAL_RANK", "MASTER_PORT", "ACCELERATE_NUM_PROCESSES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


@pytest.fixture
def started_by(monkeypatch, tmp_path):
    def start(*words: str) -> None:
        parent = SimpleNamespace(cmdline=lambda: list(words), cwd=lambda: str(tmp_path))
        monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(parent=lambda: parent))

    return start


ACCELERATE = ["python", "/venv/bin/accelerate", "launch"]


@pytest.mark.parametrize(
    "words",
    [
        [*ACCELERATE, "--config_file", "two files/a.yaml", "train.py", "x.yaml"],
        [*ACCELERATE, "--config-file=two files/a.yaml", "-m", "visiontl", "train", "x.yaml"],
        ["python", "/venv/bin/accelerate-launch", "--config_file", "two files/a.yaml", "train.py"],
        ["python", "-m", "accelerate.commands.launch", "--config_file", "two files/a.json", "train.py"],
        [*ACCELERATE, "--num_processes", "2", "train.py"],
        [*ACCELERATE, "--num-processes=2", "--config_file", "one.yaml", "train.py"],
    ],
)
def test_a_launchers_count_that_does_not_run_is_refused(tmp_path, started_by, words):
    (tmp_path / "two files").mkdir()
    (tmp_path / "two files/a.yaml").write_text(FILE)
    (tmp_path / "two files/a.json").write_text('{"num_processes": 2, "distributed_type": "MULTI_CPU"}')
    (tmp_path / "one.yaml").write_text(FILE.replace("2", "1"))
    started_by(*words)
    with pytest.raises(visiontl.ConfigError, match=r"accelerate launch was asked .*for 2, but 1 process started"):
        check_processes(None)


def test_nodes_that_mpi_counts_are_no_processes_beside_those_of_torchrun(started_by, monkeypatch):
    """srun or mpirun starts one torchrun a node, whose children inherit the count of nodes."""
    started_by("python", "-m", "torch.distributed.run")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert launch.asked() == (2, "PMI_SIZE=2 in the environment says")
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert launch.asked() is None


def test_the_file_that_holds_for_all_launches_counts_too(tmp_path, started_by):
    place = tmp_path / "cache/accelerate/default_config.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(FILE)
    started_by(*ACCELERATE, "train.py", "x.yaml")
    with pytest.raises(visiontl.ConfigError, match=r"default_config\.yaml for 2, but 1 process started"):
        check_processes(None)
    started_by(*ACCELERATE, "--cpu", "train.py")  # with which Accelerate does not read it
    check_processes(None)
    started_by("bash")
    check_processes(None)


@pytest.mark.parametrize("content", ["num_processes: 1\n", "num_processes: -1\n", "rubbish: [", "- 3\n", "", None])
def test_a_file_that_asks_for_what_runs_or_for_nothing_is_no_hindrance(tmp_path, started_by, content):
    if content is not None:
        (tmp_path / "a.yaml").write_text(content)
    started_by(*ACCELERATE, "--config_file", "a.yaml", "train.py")
    check_processes(None)


@pytest.mark.parametrize("name", ["ACCELERATE_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_a_count_in_the_environment_that_does_not_run_is_refused(monkeypatch, name):
    monkeypatch.setenv(name, "4")
    with pytest.raises(visiontl.ConfigError, match=f"{name}=4 .* 4, but 1 process started"):
        check_processes(None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' in the environment: expected a whole number, 1 or more"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
        ({"WORLD_SIZE": "2.0", "RANK": "0"}, r"WORLD_SIZE='2\.0'"),
        ({"WORLD_SIZE": "2", "RANK": "x"}, "RANK='x' in the environment: expected a whole number, 0 or more"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 and WORLD_SIZE=2 in the environment: a rank is below"),
        ({"WORLD_SIZE": "2"}, "no RANK that says which of them this is"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "http"}, "MASTER_PORT='http'"),
    ],
)
def test_an_environment_that_cannot_be_is_refused_in_words(monkeypatch, given, words):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(visiontl.ConfigError, match=words):
        launch.world_size()
    with pytest.raises(visiontl.ConfigError, match=words):
        visiontl.train({"task": {"name": "classification", "data": "example"}, "backbone": {"name": "visiontl/tiny"}})


def test_partners_that_do_not_come_are_told_of_and_given_up():
    code = (
        "import time\nfrom visiontl.processes import launch\nlaunch.PATIENCE, launch.LIMIT = 0.2, 0.6\n"
        "with launch.waited_for():\n    time.sleep(60)"
    )
    given = {**os.environ, "WORLD_SIZE": "2", "RANK": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, timeout=30)
    warned, ended = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert warned.startswith("warning: rank 1 waits for the rest of 2 processes (WORLD_SIZE=2) at localhost:29500")
    assert ended.startswith("error: rank 1 waits")
    assert "unset WORLD_SIZE for one process, or start all with torchrun --nproc_per_node 2" in ended


def test_partners_that_come_at_once_are_not_told_of(monkeypatch, capfd):
    monkeypatch.setattr(launch, "PATIENCE", 0.05)
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with launch.waited_for():
        pass
    assert capfd.readouterr().err == ""
