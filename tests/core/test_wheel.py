"""The wheel, unpacked into a folder with nothing of the clone beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.shared import ROOT

pytest.importorskip("hatchling", reason="builds the wheel; pip install -e '.[test]'")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def visiontl(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("VISIONTL_PLUGINS", None)
    return subprocess.run(
        [sys.executable, "-m", "visiontl", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_wheel_holds_the_ready_configs_and_runs_one_by_name(unpacked, tmp_path):
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    package = unpacked / "visiontl"
    assert {str(path.relative_to(package)) for path in (package / "configs").rglob("*.yaml")} == ours
    listed = visiontl(unpacked, tmp_path, "configs")
    assert listed.returncode == 0, listed.stderr
    assert "classification/quickstart " in listed.stdout
    small = ["task.data=example", "backbone.image_size=64"]
    done = visiontl(unpacked, tmp_path, "train", "classification/quickstart", *small, "--dry-run", "--debug")
    assert done.returncode == 0, done.stderr
    assert "config classification/quickstart of the package" in done.stderr
    traces = visiontl(unpacked, tmp_path, "list", "plugins")
    assert "classification" in traces.stdout
    assert not (unpacked / "tools").exists()
