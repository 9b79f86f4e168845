"""Installs the tests' own third-party task the way pip would: a module and its metadata on the path."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def pytest_configure(config):
    os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    site = Path(tempfile.mkdtemp(prefix="visiontl-site-"))
    config._visiontl_site = site
    shutil.copy(HERE / "plugins/brightness/visiontl_brightness.py", site)
    info = site / "visiontl_brightness-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: visiontl-brightness\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[visiontl]\nbrightness = visiontl_brightness\n")
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))


def pytest_unconfigure(config):
    shutil.rmtree(config._visiontl_site, ignore_errors=True)
