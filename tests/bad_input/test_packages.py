"""Broken plugins: each is named with its package, and none keeps the others from working."""

from __future__ import annotations

import importlib
import sys

import pytest

from tests.bad_input.conftest import CONFIG
from tests.bad_input.outcome import check_written, command
from tests.bad_input.packages import PACKAGES
from tests.bad_input.sources import sound
from visiontl import plugins


@pytest.fixture
def installed(tmp_path_factory, monkeypatch):
    """A function that puts a package on the path as pip would."""
    site = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(str(site))
    names: list[str] = []

    def install(name: str, source: str) -> None:
        (site / f"{name}_module.py").write_text(source)
        info = site / f"{name}_package-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[visiontl]\n{name} = {name}_module\n")
        names.append(f"{name}_module")
        monkeypatch.setenv("VISIONTL_PLUGINS", f"classification,{name}")
        importlib.invalidate_caches()
        plugins.reset()

    yield install
    for name in names:
        sys.modules.pop(name, None)
    plugins.reset()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda one: one.name)
def test_packages(capsys, place, installed, package):
    installed(package.name, package.source)
    sound(place / "photos")
    (place / "config.yaml").write_text(CONFIG.format(data="photos"))
    if not package.ask:
        done = command(capsys, place, "config", "config.yaml")
        assert done.code == 0, done.err
        said = done.err
        assert f"warning: plugin '{package.name}' ({package.name}-package 1.2) is broken: " in said
    else:
        overrides = [one for one in package.ask if one != "x"]
        done = command(capsys, place, "train", "config.yaml", *overrides)
        assert done.code == package.code, (done.code, done.err)
        said = done.err
        assert "error: " in said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 12
    for word in package.words:
        assert word in said
    check_written(done, ["runs"] if package.ask else [])
    assert "\x1b" not in said


def test_a_run_beside_broken_packages(capsys, place, installed):
    for package in PACKAGES:
        if not package.ask:
            installed(package.name, package.source)
    sound(place / "photos")
    (place / "config.yaml").write_text(CONFIG.format(data="photos"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VISIONTL_PLUGINS")
        plugins.reset()
        done = command(capsys, place, "train", "config.yaml")
    assert done.code == 0, done.err
    check_written(done, ["runs/run"])
    for package in PACKAGES:
        assert package.ask or f"warning: plugin '{package.name}'" in done.err
