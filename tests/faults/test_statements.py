"""What a file says of preprocessing is right, or refused in words before an image is blamed for it."""

from __future__ import annotations

import json
import math

import pytest

from visiontl.backbones import downloads
from visiontl.config.resolve import resolve
from visiontl.engine.model import read_spec
from visiontl.errors import CheckpointError, ConfigError, WeightsError
from visiontl.kit.statements import sound
from visiontl.spec import ImageSpec

GOOD = ImageSpec().to_json()
WRONG = {
    "size": [[0, 224], [224], [224, 224, 3], ["224", 224], [224.5, 224], 224, None, [10**6, 224], [True, 224]],
    "mean": [[], [math.nan, 0, 0], [math.inf, 0, 0], "0.5", 0.5, [None, 0, 0], [[0], 0, 0], [10**400, 0, 0]],
    "std": [[0, 1, 1], [-1, 1, 1], [math.nan, 1, 1], [1, 1], [], 1.0, ["1", 1, 1]],
    "interpolation": ["area", None, 3, ["bilinear"]],
    "crop": [0, -1, 1.01, math.nan, "1", None, True],
    "value_range": [[1, 0], [0, 0], [0], [math.nan, 1], 1, [0, math.inf]],
    "pad_to": [0, 1.5, -32, "32", 10**9],
    "sizing": ["some", None, 3],
}
CASES = [(key, value) for key, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("key", "value"), CASES)
def test_a_model_with_other_preprocessing_is_refused_naming_it(tmp_path, key, value):
    (tmp_path / "preprocessing.json").write_text(json.dumps({**GOOD, key: value}))
    with pytest.raises(CheckpointError, match=r"preprocessing\.json"):
        read_spec(tmp_path)


def test_right_preprocessing_is_taken_as_it_is(tmp_path):
    (tmp_path / "preprocessing.json").write_text(json.dumps(GOOD))
    assert read_spec(tmp_path) == ImageSpec()
    assert sound(ImageSpec(size=(32, 40), mean=(0,), std=(1,), crop=1)).size == (32, 40)


HUB = {"input_size": [3, 224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
HUB_WRONG = [
    *({"input_size": value} for value in ([3, 0, 224], [224, 224], 224, "224", [3, None, 1], [3, 10**400, 1])),
    *({"mean": value} for value in ([math.nan, 0, 0], 0.5, "x", [], {})),
    *({"std": value} for value in ([0, 1, 1], [1], [math.inf, 1, 1], None)),
    *({"crop_pct": value} for value in (math.nan, 7, -1, "0.9", [1])),
]


def hub(tmp_path, monkeypatch, text: str):
    (tmp_path / "config.json").write_text(text)
    monkeypatch.setattr(downloads, "hub_state", lambda repository: {})
    monkeypatch.setattr(downloads, "hub_file", lambda repository, name: tmp_path / name)
    return downloads.downloaded("owner/name")[1]


@pytest.mark.parametrize("change", HUB_WRONG, ids=str)
@pytest.mark.parametrize("inside", [True, False])
def test_a_hubs_config_is_refused_in_words(tmp_path, monkeypatch, change, inside):
    stated, key = {**HUB, **change}, next(iter(change)).removesuffix("_pct").removeprefix("input_")
    with pytest.raises(WeightsError, match=rf"config.json .*: (input_)?{key}"):
        hub(tmp_path, monkeypatch, json.dumps({"pretrained_cfg": stated} if inside else stated))


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "[" * 100_000, '{"mean": 1e999, "std"'])
def test_a_hubs_config_that_is_none_is_refused_in_words(tmp_path, monkeypatch, text):
    with pytest.raises(WeightsError, match=r"hf-hub:owner/name: its config.json"):
        hub(tmp_path, monkeypatch, text)


@pytest.mark.parametrize("text", ["{}", '{"pretrained_cfg": null}', '{"pretrained_cfg": {"mean": [1]}}', '{"a": [1]}'])
def test_a_hubs_config_may_state_nothing(tmp_path, monkeypatch, text):
    assert hub(tmp_path, monkeypatch, text) is None


def test_a_hubs_config_is_read(tmp_path, monkeypatch):
    found = hub(tmp_path, monkeypatch, json.dumps({"pretrained_cfg": {**HUB, "interpolation": "bilinear"}}))
    assert found == ImageSpec((224, 224), (0.5,) * 3, (0.5,) * 3, "bilinear")


@pytest.mark.parametrize("value", ["mean=[.nan,0,0]", "std=[.nan,1,1]", "std=[.inf,1,1]", "mean=[.inf,0,0]"])
def test_a_configs_own_preprocessing_is_finite(value):
    config = {"task": {"name": "classification", "data": "photos"}, "backbone": {"name": "visiontl/tiny"}}
    with pytest.raises(ConfigError, match=r"backbone.preprocessing.(mean|std)"):
        resolve(config, [f"backbone.preprocessing.{value}"])
