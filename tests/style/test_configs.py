from __future__ import annotations

import pytest
import yaml
from visiontl_style.config import StyleConfig

from tests.shared import ROOT

FILES = sorted((ROOT / "configs/style").glob("*.yaml"))


def test_there_is_a_config_for_each_of_the_ways():
    sections = [yaml.safe_load(file.read_text()) for file in FILES]
    assert {section["task"].get("way", "feed_forward") for section in sections} == {"feed_forward", "adain"}
    assert "torchvision/vgg16" in {section["backbone"]["name"] for section in sections}
    assert "quickstart.yaml" in {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_task_section_is_valid_and_the_header_states_the_command(file):
    text = file.read_text()
    task = yaml.safe_load(text)["task"]
    assert task.pop("name") == "style"
    StyleConfig.model_validate(task)
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"configs/style/{file.name}" in line for line in header)
