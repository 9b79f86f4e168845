"""Completion: what may follow, what it costs, and what bash makes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.shared import ROOT
from visiontl import cli, plugins
from visiontl.commands.candidates import candidates
from visiontl.commands.completion import SCRIPTS


@pytest.fixture(autouse=True)
def everything(monkeypatch, tmp_path):
    monkeypatch.delenv("VISIONTL_PLUGINS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "run.yaml").write_text("task: {name: face, data: x}\nbackbone: {name: resnet18}\n")
    plugins.reset()
    yield
    plugins.reset()


LINES = {
    "tra": {"train"},
    "hel": {"hello"},
    "fa": {"face"},
    "face en": {"enroll"},
    "list b": {"backbones"},
    "completion f": {"fish"},
    "train classification/q": {"classification/quickstart"},
    "train r": {"run.yaml"},
    "train ph": {"photos/"},
    "train --dr": {"--dry-run"},
    "doctor run.yaml --json r": {"run.yaml"},
    "train run.yaml train.epo": {"train.epochs="},
    "train run.yaml train.epochs=1 optim.na": {"optim.name="},
    "train run.yaml optim.name=": {"optim.name=adamw", "optim.name=adamw8bit", "optim.name=sgd"},
    "train run.yaml train.compile=": {"train.compile=false", "train.compile=true"},
    "train run.yaml task.neck.dr": {"task.neck.dropout="},
    "train style/quickstart task.way=": {"task.way=feed_forward", "task.way=adain"},
    "train run.yaml task.data.folder=ph": {"task.data.folder=photos/"},
    "train run.yaml backbone.name=resnet10": {"backbone.name=resnet101", "backbone.name=resnet10t"},
    "train run.yaml backbone.name=visiontl/": {"backbone.name=visiontl/tiny"},
    "face compare RUN a.jpg b.jpg thr": {"threshold="},
    "style optimize a.jpg out optimizer=a": {"optimizer=adam"},
    "hello ann ti": {"times="},
    "configs ": {"cp"},
    "configs cp accelerate/o": {"accelerate/one_cpu"},
    "nonsense x": set(),
    "train 'ph": {"photos/"},
}


@pytest.mark.parametrize("line", LINES)
def test_what_may_follow(line):
    found = set(candidates(f"visiontl {line}"))
    assert LINES[line] <= found
    if "backbone" not in line:
        assert found == LINES[line]


def test_all_commands_are_offered():
    assert {*cli.COMMANDS, "hello", "face", "style", "--help"} <= set(candidates("visiontl "))
    assert "classification" not in candidates("visiontl "), "a task without commands of its own"


def test_a_run_says_what_its_task_can_be_asked(tmp_path):
    (tmp_path / "run/model").mkdir(parents=True)
    shutil.copy("run.yaml", tmp_path / "run/model/config.yaml")
    assert candidates("visiontl predict run photos fl") == ["flip="]


PROBE = """
import json, sys
from visiontl.commands.candidates import candidates
lines = ("visiontl t", "visiontl train classification/quickstart task.", "visiontl style ")
found = [candidates(line) for line in lines]
print(json.dumps([all(found), sorted({"torch", "torchvision", "timm", "accelerate", "matplotlib"} & set(sys.modules))]))
print(candidates("visiontl train classification/quickstart backbone.name=resnet1")[:1], "torch" in sys.modules)
"""


def test_no_torch_is_imported():
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert json.loads(first) == [True, []]
    assert second == "['backbone.name=resnet101'] False"


BASH = """
visiontl() { %s -m visiontl "$@"; }
source <(visiontl completion bash)
compopt() { :; }
complete_line() {
    COMP_LINE="$1" COMP_POINT=${#1} COMPREPLY=()
    COMP_WORDS=(visiontl) COMP_CWORD=0
    _visiontl
    echo "${COMPREPLY[*]}"
}
complete -p visiontl
complete_line 'visiontl lis'
complete_line 'visiontl train run.yaml optim.name=s'
complete_line 'visiontl face compare R a b far'
"""


def test_bash_completes():
    """Of a word with = bash replaces what follows the sign alone."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        ["bash", "-c", BASH % sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.stdout.splitlines() == ["complete -F _visiontl visiontl", "list", "sgd", "far="], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_their_script(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=SCRIPTS[shell], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_script_for_each_shell(capsys):
    for shell, script in SCRIPTS.items():
        assert cli.main(["completion", shell]) == 0
        assert capsys.readouterr().out == script
        assert "completion --line" in script
    assert cli.main(["completion", "bsh"]) == 2
    assert "did you mean 'bash'" in capsys.readouterr().err
