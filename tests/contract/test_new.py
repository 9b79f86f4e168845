"""`visiontl new`: packages that install, train and pass their own tests as they are written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.shared import ROOT
from visiontl import cli, testing
from visiontl.commands.new import KINDS, files

SETTINGS = {**os.environ, "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def test_packages_install_and_pass_their_own_tests(tmp_path, monkeypatch, capsys):
    """All kinds in one installation and one run of pytest; the long checks have other tasks to show them."""
    monkeypatch.chdir(tmp_path)
    for kind in KINDS:
        assert cli.main(["new", kind, f"own_{kind}"]) == 0
    assert "next: cd visiontl-own_tracker && pip install -e '.[test]'" in capsys.readouterr().out
    folders = [f"visiontl-own_{kind}" for kind in KINDS]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--target", "site", *(f"./{folder}" for folder in folders)], capture_output=True, text=True, env=SETTINGS
    )
    assert done.returncode == 0, done.stderr
    paths = os.pathsep.join([str(tmp_path / "site"), str(ROOT), str(ROOT / "plugins")])
    long = " or ".join(check.__name__ for check in testing.LONG)
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-k"]
    done = subprocess.run(
        [*command, f"not ({long})", *(f"../{folder}/tests" for folder in folders)],
        capture_output=True, text=True, cwd=tmp_path / folders[0], env={**SETTINGS, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_task_is_short():
    code = [content for path, content in files("task", "own") if path.endswith(".py") and "tests" not in path]
    assert sum(len(content.splitlines()) for content in code) < 150


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tusk", "own"], "cannot make a new 'tusk'; did you mean 'task'?"),
        (["task", "Own-Task"], "'Own-Task' is no name for a package"),
        (["task", "class"], "'class' is no name for a package"),
        (["task", "detection"], "'detection' is installed already"),
        (["policy", "gradual"], "'gradual' is installed already"),
        (["task", "own", "there"], "there is there already; nothing is overwritten"),
        (["task", "own", "file/inside"], "file/inside cannot be made"),
    ],
)
def test_what_cannot_be_made_is_said(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    assert cli.main(["new", *words]) == 2
    assert said in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"there", "file"}
