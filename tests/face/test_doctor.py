"""What `visiontl doctor` says of faces."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.face import made
from visiontl import cli


@pytest.fixture
def examine(tmp_path, capsys):
    """Runs doctor on tmp_path/faces; gives {what: finding} and the tables by title."""

    def run(*overrides: str):
        config = tmp_path / "face.yaml"
        config.write_text(
            f"task: {{name: face, data: {tmp_path / 'faces'}}}\n"
            "backbone: {name: visiontl/tiny, weights: none, image_size: 32}\n"
            f"train: {{batch_size: 4}}\nrun: {{folder: {tmp_path / 'runs'}}}\n"
        )
        code = cli.main(["doctor", str(config), *overrides, "--json", str(tmp_path / "found.json")])
        found = json.loads((tmp_path / "found.json").read_text())
        capsys.readouterr()
        return code, {one["what"]: one for one in found["findings"]}, {one["title"]: one for one in found["tables"]}

    made.splits(tmp_path / "faces")
    return run


def test_a_sound_set_has_tables_and_no_warnings(examine):
    code, findings, tables = examine()
    assert code == 0
    assert not [what for what, one in findings.items() if one["level"] != "note"]
    assert tables["identities"]["rows"][0] == ["train", 5, 15, 3, "3", 3]
    assert tables["verification pairs"]["rows"] == [
        ["val", "all its images", 6, 9, "none"],
        ["test", "all its images", 6, 9, "none"],
    ]


def test_what_is_wrong_is_named(examine, tmp_path):
    faces = tmp_path / "faces"
    shutil.copytree(faces / "train/p0", faces / "test/p0")  # a person, and pictures, in two splits
    shutil.copy(faces / "train/p1/0.png", faces / "train/p2/copy.png")  # under two identities
    made.picture(faces / "val/lonely/0.png", 30, 0)
    for name, size in (("wide.png", (144, 72)), ("large.png", (500, 500))):
        picture = made.portrait_of(31)
        picture.resize(size).save(faces / "train/p3" / name)
    code, findings, _ = examine()
    assert code == 0
    told = "\n".join(f"{one['level']}: {what}: {one['names']}" for what, one in findings.items())
    for words in (
        "warning: 1 identity is in train and in test: ['p0']",
        "there under two identities",
        "note: val: 1 identity with one image: ['lonely']",
        "warning: train: 1 image wider than a face is: ['train/p3/wide.png']",
        "warning: train: 1 image of another size than most (72 pixels): ['train/p3/large.png']",
        "warning: train: 1 image of more than 400 pixels",
        "warning: train: 1 image of another shape than most: ['train/p3/wide.png']",
    ):
        assert words in told, told


def test_batches_of_more_people_than_there_are_stop_it(examine):
    code, findings, _ = examine("task.sampler=identities", "task.images_per_identity=2", "train.batch_size=12")
    assert code == 2
    assert any("wants 6 people in a batch, and train has 5" in what for what in findings)
