from __future__ import annotations

import pytest
from visiontl_face.config import FaceConfig

from tests.shared import ROOT
from visiontl.config.resolve import resolve

FILES = sorted((ROOT / "configs/face").glob("*.yaml"))


def test_there_is_a_config_for_each_of_the_ways():
    assert {file.stem for file in FILES} == {
        "quickstart",
        "folder_mobilenetv2_arcface",
        "orl_mobilenetv2_projection",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_is_valid_and_its_header_states_the_command(file):
    resolved = resolve(file)
    assert isinstance(resolved.cfg, FaceConfig)
    assert resolved.config.train.evaluate_start, "the task prefers it"
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert any(f"visiontl train configs/face/{file.name}" in line for line in header)
