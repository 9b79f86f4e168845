"""A small data set, a run trained on it, and a place that is watched, for every bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.sources import sound
from visiontl import cli, plugins

CONFIG = """\
task:
  name: classification
  data: {data}
backbone: {{name: visiontl/tiny, weights: none, image_size: 32}}
train: {{epochs: 1, batch_size: 64, precision: fp32, channels_last: false}}
loader: {{workers: 0}}
run: {{folder: runs, name: run}}
"""


@pytest.fixture(autouse=True, scope="module")
def classification():
    """One task, whatever else is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONTL_PLUGINS", "classification")
        patch.delenv("RANK", raising=False)
        plugins.reset()
        yield
    plugins.reset()


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder that is the working folder too: what a command writes shows there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A finished run of classes a and b."""
    folder = tmp_path_factory.mktemp("trained")
    sound(folder / "photos")
    (folder / "config.yaml").write_text(CONFIG.format(data=folder / "photos"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONTL_PLUGINS", "classification")
        plugins.reset()
        assert cli.main(["train", str(folder / "config.yaml"), f"run.folder={folder / 'runs'}"]) == 0
    return folder / "runs" / "run"
