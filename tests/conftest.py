"""Installs the tests' own third-party plugins the way pip would: modules and their metadata on the path. With `-n 2`, a
file's tests stay together, because they share runs, and what takes longest comes first."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).resolve().parent
LONGEST = ("tests/core/test_processes.py", "tests/test_tasks.py")


class ByFile(LoadScopeScheduling):
    """A file's tests on one process; of the conformance suite, a task's tests."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        return file + name.partition("-")[0] if file == "tests/test_tasks.py" else file


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False  # which would begin with the files of many tests, not with the long ones
    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # a process of xdist: the site of the one that started it leads PYTHONPATH
        sys.path.insert(0, os.environ["PYTHONPATH"].split(os.pathsep)[0])
        return
    threads = 1 if config.getoption("numprocesses") else min(2, os.cpu_count() or 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    site = Path(tempfile.mkdtemp(prefix="visiontl-site-"))
    config._visiontl_site = site
    os.environ["VISIONTL_FEATURES"] = str(site / "features")  # not the user's own
    for name in ("brightness", "hello", "pebbles"):
        for module in (HERE / "plugins" / name).glob(f"visiontl_{name}*.py"):
            shutil.copy(module, site)
        info = site / f"visiontl_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: visiontl-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[visiontl]\n{name} = visiontl_{name}\n")
    own = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"visiontl-{own['version']}.dist-info"  # the clone's own tasks, whenever it was installed
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: visiontl\nVersion: {own['version']}\n")
    points = "".join(f"{name} = {module}\n" for name, module in own["entry-points"]["visiontl"].items())
    (info / "entry_points.txt").write_text(f"[visiontl]\n{points}")
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))


LEFT = 10  # trainings whose garbage may lie until it is collected: looking for it walks all imported modules
unfreeze = gc.unfreeze


class Frozen:
    """What stands is left out of collections, because the engine collects garbage at each phase edge: walking all
    imported modules there took half of the suite's time. A whole training unfreezes what stood before it, which is
    noted: to count what is frozen would take as long as to collect it."""

    thaws, thawed = 0, True

    def thaw(self) -> None:
        self.thawed = True
        unfreeze()

    def restore(self) -> None:
        if not self.thawed:
            return
        if self.thaws % LEFT == 0:
            gc.collect()
        self.thaws, self.thawed = self.thaws + 1, False
        gc.freeze()


frozen = Frozen()
gc.unfreeze = frozen.thaw


@pytest.fixture(autouse=True, scope="module")
def new_modules_stand():
    frozen.thawed = True


@pytest.fixture(autouse=True)
def what_stands_is_not_searched(new_modules_stand):
    frozen.restore()


@pytest.fixture
def double():
    """Float64 for the whole test: where two ways to compute the same are compared, rounding decides nothing."""
    from visiontl.testing.double import in_double

    with in_double():
        yield


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config._visiontl_site, ignore_errors=True)
