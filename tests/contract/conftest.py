"""The keypoint task as one finds it that was installed, for these tests alone: others need not train it too."""

import importlib
import sys

import pytest

from tests.shared import ROOT
from visiontl import plugins

sys.path.append(str(ROOT / "tests/plugins/keypoints"))


@pytest.fixture
def keypoints():
    module = importlib.import_module("visiontl_keypoints")
    plugins.register(module, "keypoints")
    yield
    plugins.manager().unregister(module)
    plugins._registry().offered.clear()
