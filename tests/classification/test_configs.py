from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from visiontl_classification.config import ClassificationConfig

FILES = sorted((Path(__file__).resolve().parents[2] / "configs/classification").glob("*.yaml"))


def test_there_is_a_config_for_each_of_the_ways():
    assert len(FILES) >= 9
    assert "quickstart.yaml" in {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_task_section_is_valid_and_the_header_states_the_command(file):
    text = file.read_text()
    task = yaml.safe_load(text)["task"]
    assert task.pop("name") == "classification"
    ClassificationConfig.model_validate(task)
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"configs/classification/{file.name}" in line for line in header)
