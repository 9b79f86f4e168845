"""A key below one that is written in short: `task.data: photos` and `task.data.format=voc`."""

from __future__ import annotations

from typing import Any

import pytest

from visiontl import ConfigError
from visiontl.config.resolve import resolve


def cfg_of(task: dict, *overrides: str) -> Any:
    given = {"backbone": {"name": "visiontl/tiny", "weights": "none"}, "task": task}
    return resolve(given, overrides).cfg


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("detection", "format", "voc"),
        ("segmentation", "format", "coco"),
        ("classification", "split", "stratified"),
        ("face", "val_fraction", 0.25),
        ("style", "val_fraction", 0.25),
    ],
)
def test_a_key_of_data_stands_beside_a_folder_that_is_text(name, key, value):
    task = {"name": name, "data": "photos"}
    if name == "style":
        assert cfg_of(task, "task.data.styles=paintings", "task.data.val_fraction=0.25").data.photos == ["photos"]
        return
    plain = cfg_of(task).data
    cfg = cfg_of(task, f"task.data.{key}={value}")
    assert cfg.data.model_dump() == {**plain.model_dump(), key: value}
    assert cfg_of({**task, "data": "elsewhere"}, "task.data=photos", f"task.data.{key}={value}") == cfg


def test_what_a_word_is_short_for_is_kept():
    task = {"name": "classification", "data": "photos.csv"}
    assert cfg_of(task, "task.data.separator=;").data.csv == "photos.csv"
    detection = {"name": "detection", "data": "photos", "augment": "strong", "size": 320}
    cfg = cfg_of(detection, "task.augment.flip=false", "task.size.long=640")
    assert (cfg.augment.flip, cfg.augment.zoom_out, cfg.size.short, cfg.size.long) == (False, 0.5, 320, 640)


def test_what_is_short_for_nothing_has_no_keys():
    with pytest.raises(ConfigError, match=r"task\.data is example, which has no keys"):
        cfg_of({"name": "detection", "data": "example"}, "task.data.format=voc")
    with pytest.raises(ConfigError, match=r"task\.head is fcos, which has no keys"):
        cfg_of({"name": "detection", "data": "photos", "head": "fcos"}, "task.head.width=3")
    with pytest.raises(ConfigError, match="task is detection, which has no keys"):
        resolve({"task": "detection"}, ["task.data=photos"])


def test_an_override_that_a_later_one_replaces_is_not_lost_in_silence():
    task = {"name": "detection", "data": "example"}
    with pytest.raises(ConfigError, match=r"'task.data.format=voc' is lost: override 'task.data=photos' behind it"):
        cfg_of({"name": "detection"}, "task.data.format=voc", "task.data=photos")
    assert cfg_of(task, "task.data=photos", "task.data=pictures").data.folder == "pictures"
