"""Every installed task reads its own example by the same rules: links, names of splits, odd names, held-out sets.

No task is known by name here. An example is changed as files, whatever its layout: folders of pictures, JSON or lists
that name them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from visiontl import Data, ImageSpec, plugins
from visiontl.kit.images import is_image

# a task that is made of others leaves reading to them
TASKS = sorted(name for name, task in plugins.tasks().items() if "tasks" not in task.config.model_fields)
SPEC = ImageSpec(size=(32, 32))
ODD = "zero\u200bwidth \u202e\x07日本"


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Mapping[str, tuple[Path, Any]]:
    """task -> (a folder with its example, the value of task.data), made once and copied by each test."""
    made = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(task)
        made[task] = folder, plugins.task(task).example(folder)
    return made


@pytest.fixture(params=TASKS)
def example(request, examples, tmp_path) -> tuple[str, Path, Any]:
    """(task, a copy of its example, task.data there)"""
    folder, value = examples[request.param]
    copy = tmp_path / "set"
    shutil.copytree(folder, copy)
    return request.param, copy, moved(value, str(folder), str(copy))


def moved(value: Any, old: str, new: str) -> Any:
    """A value of task.data with its paths elsewhere."""
    if isinstance(value, Mapping):
        return {key: moved(one, old, new) for key, one in value.items()}
    if isinstance(value, list):
        return [moved(one, old, new) for one in value]
    return value.replace(old, new) if isinstance(value, str) else value


def read(task: str, value: Any) -> Data:
    offered = plugins.task(task)
    return offered.data(offered.config.model_validate({**offered.small, "data": value}), SPEC, None)


def names(data: Data) -> dict[str, list[str]]:
    return {split: [Path(name).name for name in part.names] for split, part in data.splits().items()}


def folders_of_pictures(root: Path) -> list[Path]:
    return [Path(place) for place, _, files in os.walk(root) if any(is_image(Path(file)) for file in files)]


def test_a_linked_folder_is_read_like_any_other(example):
    """The pictures of each folder are hidden away: outside of the set, or inside where files name them; a link in the
    folder, or in its place where files name them, leads there."""
    task, root, value = example
    before = names(read(task, value))
    named = any(root.rglob("*.json"))
    for place in folders_of_pictures(root):
        store = place.parent / f".{place.name}" if named else root.parent / f"store-{len(list(root.parent.iterdir()))}"
        if named:
            place.rename(store)
            place.symlink_to(store.name)
            continue
        files = [path for path in place.iterdir() if path.is_file()]
        store.mkdir()
        for file in files:
            file.rename(store / file.name)
        (place / "linked").symlink_to(store)
    data = read(task, value)
    after = names(data)
    assert {split: len(part) for split, part in after.items()} == {split: len(part) for split, part in before.items()}
    assert sorted(chain(*after.values())) == sorted(chain(*before.values()))
    for part in data.splits().values():
        assert part[0, 0]


def test_a_link_back_adds_no_photo_and_is_told(example):
    task, root, value = example
    before = names(read(task, value))
    for place in folders_of_pictures(root):
        (place / "back").symlink_to(".")
        (place / ".hidden.png").write_text("x")
        (place / "notes.txt").write_text("x")
    data = read(task, value)
    assert names(data) == before
    told = " ".join(data.notes)
    if not any(root.rglob("*.json")):  # which name the pictures, so nothing is searched
        for words in ("a link to a folder that is read: ", "hidden: ", "no picture: "):
            assert words in told


@pytest.mark.parametrize("spelled", [("training", "validation", "testing"), ("Train", "VALID", "Test")])
def test_splits_may_be_called_by_any_of_their_names(example, spelled):
    task, root, value = example
    before = names(read(task, value))
    new = dict(zip(("train", "val", "test"), spelled, strict=True))
    for path in sorted(root.rglob("*"), key=lambda one: -len(one.parts)):
        if path.stem in new:
            path.rename(path.with_name(new[path.stem] + path.suffix))
    assert names(read(task, value)) == before


def test_a_name_may_hold_any_character(example):
    task, root, value = example
    before = names(read(task, value))
    old = min(file.stem for place in folders_of_pictures(root) for file in place.iterdir() if is_image(file))
    for path in root.rglob(f"{old}.*"):
        path.rename(path.with_name(ODD + path.suffix))
    for path in root.rglob("*.json"):
        path.write_text(path.read_text().replace(f'"{old}.', f"{json.dumps(ODD)[:-1]}."))
    data = read(task, value)
    assert {split: len(part) for split, part in names(data).items()} == {
        split: len(part) for split, part in before.items()
    }
    odd = [(part, i) for part in data.splits().values() for i, name in enumerate(part.names) if ODD in str(name)]
    assert odd
    assert all(part[i, 0] for part, i in odd)


def test_held_out_photos_stay_so_when_one_is_added(example):
    """Without the folders and files of val and test, val is a share of train."""
    task, root, value = example
    for path in [path for path in root.rglob("*") if path.stem in ("val", "test")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = read(task, value).val.names
    for more in range(3):
        added(root, f"new{more}")
        after = [name for name in read(task, value).val.names if "new" not in Path(name).name]
        assert len(set(before) - set(after)) <= 1  # at the edge of a share that is rounded
        assert set(after) - set(before) == set() or len(after) == len(before) + 1


def added(root: Path, name: str) -> None:
    """One photo more: a copy of the last one, with what belongs to it."""
    place = max(folders_of_pictures(root), key=lambda one: (len(list(one.iterdir())), one))
    last = max(file.stem for file in place.iterdir() if is_image(file))
    for path in list(root.rglob(f"{last}.*")):
        if path.parent.name == place.name:
            shutil.copy(path, path.with_name(name + path.suffix))
    for path in root.rglob("*.json"):
        content = json.loads(path.read_text())
        image = next(one for one in content["images"] if Path(one["file_name"]).stem == last)
        id, boxes = 1000 + len(content["images"]), list(content["annotations"])
        file = image["file_name"].replace(last, name)
        content["images"].append({**image, "id": id, "file_name": file})
        for box in (one for one in boxes if one["image_id"] == image["id"]):
            content["annotations"].append({**box, "id": 1000 + len(content["annotations"]), "image_id": id})
        path.write_text(json.dumps(content))
