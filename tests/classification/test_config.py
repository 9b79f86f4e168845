from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from tests.classification.helpers import config


def test_the_plugin_is_described_and_its_config_checked_without_torch():
    code = (
        "import sys, visiontl_classification as c\n"
        "assert c.visiontl_tasks()[0].name == 'classification'\n"
        "cfg = c.ClassificationConfig.model_validate({'data': {'torchvision': 'CIFAR10'}})\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_function_of_the_task_is_found():
    from visiontl_classification import TASK

    from visiontl import lazy

    places = [value for value in vars(TASK).values() if isinstance(value, lazy)]
    assert len(places) > 15
    for place in places:
        assert callable(place.resolve())


def test_a_path_is_short_for_a_folder_or_a_table():
    assert config("photos").data.folder == "photos"
    assert config("list.CSV").data.csv == "list.CSV"
    assert config({"folder": "x.csv"}).data.folder == "x.csv"
    assert config(head="original").head.kind == "original"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"data": {"folder": "a", "csv": "b"}},
            "exactly one of folder, csv and torchvision, such as task.data=FOLDER; got folder and csv",
        ),
        ({"data": {}}, "got none"),
        ({"data": {"torchvision": "CIFAR1O"}}, "did you mean 'CIFAR10'"),
        ({"data": {"folder": "a", "val_fraction": 0.6, "test_fraction": 0.5}}, "leave nothing to train on"),
        ({"labels": "multi"}, "labels: multi reads a .csv"),
        ({"labels": "multi", "data": "a.csv", "sampler": "balanced"}, "balanced is for labels: single"),
        ({"labels": "multi", "data": "a.csv", "head": "original"}, "use labels: single"),
        ({"class_weights": "balanced", "sampler": "balanced"}, "twice"),
        ({"class_weights": [1.0, -1.0]}, "weights must be 0 or more"),
        ({"head": {"kind": "original", "dropout": 0.5}}, "has its own layers"),
        ({"augment": "hard"}, "'none', 'light', 'standard'"),
        ({"smoothing": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_told_in_words(keys, words):
    with pytest.raises(ValidationError) as error:
        config(**{"data": "photos", **keys})
    assert words in str(error.value)


def test_every_key_is_described():
    from visiontl_classification.config import ClassificationConfig, DataConfig, HeadConfig, PredictOptions

    for section in (ClassificationConfig, DataConfig, HeadConfig, PredictOptions):
        for name, field in section.model_fields.items():
            assert field.description, (section.__name__, name)
