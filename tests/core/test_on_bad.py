"""data.on_bad: what cannot be read stops the run, or is left out, counted and named, everywhere alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import visiontl
from tests.shared import ROOT
from visiontl import cli
from visiontl.config.resolve import resolve
from visiontl.config.schema import DataConfig
from visiontl.engine import scan
from visiontl.engine.loader import Remaining
from visiontl.engine.prepare import set_up
from visiontl.engine.saving import fingerprint
from visiontl.engine.train import fit, train
from visiontl.errors import CheckpointError, DataError
from visiontl.report.console import Console
from visiontl.report.items import Finding

HTML = "<html>not found</html>"


def pictures(folder: Path, count: int = 24, bad: tuple[int, ...] = ()) -> Path:
    """folder/00.png ...; those of `bad` are web pages. Of 24 the brightness task takes 1, 2, 6, 11, 14, 19 for val
    and 7, 8, 20 to 23 for test."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(0, 256, (24, 20, 3), dtype=np.uint8)
        path = folder / f"{i:02}.png"
        path.write_text(HTML) if i in bad else Image.fromarray(pixels).save(path)
    return folder


def config(folder: Path, runs: Path, **data) -> dict:
    return {
        "task": {"name": "brightness", "data": str(folder)},
        "backbone": {"name": "visiontl/tiny", "weights": "none", "image_size": 32},
        "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "channels_last": False},
        "features": {"cache": "off"},
        "loader": {"workers": 0},
        "data": data,
        "run": {"folder": str(runs)},
    }


def test_an_error_names_the_file_and_the_way_out(tmp_path):
    with pytest.raises(DataError, match=r"05\.png: not a picture.*HTML.*data\.on_bad=skip"):
        train(config(pictures(tmp_path / "photos", bad=(5,)), tmp_path / "runs"))


def test_what_is_left_out_is_counted_named_and_missed_by_nobody(tmp_path, capsys):
    photos = pictures(tmp_path / "photos", bad=(2, 5, 20))
    report = train(config(photos, tmp_path / "runs", on_bad="skip", max_bad=0.2))
    run = Path(report["run"])
    assert report["data"] == {"train": 11, "val": 5, "test": 5}
    listed = [json.loads(line) for line in (run / "splits/unreadable.txt").read_text().splitlines()]
    assert [(one["split"], one["name"]) for one in listed] == [
        ("train", "05.png"),
        ("val", "02.png"),
        ("test", "20.png"),
    ]
    assert all("HTML" in one["why"] for one in listed)
    assert "train: 1 of 12 images cannot be read and are left out" in capsys.readouterr().out
    assert any("05.png" in note for note in report["notes"])
    assert "05.png" not in (run / "splits/train.txt").read_text()

    whole = resolve(config(photos, tmp_path / "runs", on_bad="skip", max_bad=0.2))
    found = set_up(whole).data
    assert [len(split) for split in found.splits().values()] == [11, 5, 5]
    assert found.train is not None
    assert found.train[4, 3]["truth"] == pytest.approx(brightness(photos / found.train.names[4]), abs=0.02)
    assert np.array_equal(np.asarray(found.train.image(4)), np.asarray(Image.open(photos / found.train.names[4])))

    capsys.readouterr()
    again = visiontl.evaluate(run)
    assert again["scores"] == report["scores"]
    assert "has changed since training" not in capsys.readouterr().out
    assert "02.png" in (Path(again["run"]) / "unreadable.txt").read_text()

    other = visiontl.evaluate(run, pictures(tmp_path / "new", 8, bad=(3,)))
    assert other["data"] == {"test": 7}
    with pytest.raises(DataError, match=r"03\.png"):
        visiontl.evaluate(run, tmp_path / "new", overrides=["data.on_bad=error"])


def test_looking_at_sound_images_changes_no_bit_of_the_run(tmp_path):
    photos = pictures(tmp_path / "photos")
    weights = []
    for on_bad in ("error", "skip"):
        run = set_up(resolve(config(photos, tmp_path / "runs", on_bad=on_bad)))
        fit(run)
        weights.append(run.built.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_run_is_that_of_the_remaining_images_alone(tmp_path):
    sound = pictures(tmp_path / "sound")
    more = pictures(tmp_path / "more", 28, bad=(24, 25, 26, 27))  # which leaves the others where they were
    weights = []
    for photos in (sound, more):
        run = set_up(resolve(config(photos, tmp_path / "runs", on_bad="skip", max_bad=0.2)))
        assert [len(split) for split in run.data.splits().values()] == [12, 6, 6]
        fit(run)
        weights.append(run.built.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def brightness(path: Path) -> float:
    return float(np.asarray(Image.open(path)).mean()) / 255


def test_a_resumed_run_needs_the_same_outcome(tmp_path):
    photos = pictures(tmp_path / "photos", bad=(5,))
    run = set_up(resolve(config(photos, tmp_path / "runs", on_bad="skip", max_bad=0.2)))
    fit(run)
    marks = fingerprint(run.data)
    resumed = resolve(config(photos, tmp_path / "runs", on_bad="skip", max_bad=0.2), [f"resume={run.folder}"])
    again = set_up(resumed)
    assert fingerprint(again.data) == marks
    fit(again)
    (photos / "09.png").write_text(HTML)
    with pytest.raises(CheckpointError, match="data has changed"):
        fit(set_up(resumed))


@pytest.mark.parametrize(("most", "words"), [(0.1, "data.max_bad=0.167 would allow it"), (1.0, None)])
def test_more_than_the_maximum_is_an_error(tmp_path, most, words):
    photos = pictures(tmp_path / "photos", bad=(0, 4))
    wanted = resolve(config(photos, tmp_path / "runs", on_bad="skip", max_bad=most))
    if words is None:
        assert len(set_up(wanted).data.splits()["train"]) == 10
        return
    with pytest.raises(DataError, match=words) as raised:
        set_up(wanted)
    assert "train: 2 of 12 images cannot be read" in str(raised.value)
    assert not (tmp_path / "runs").exists()


def test_the_share_that_an_error_advises_is_enough():
    for whole in range(1, 400, 7):
        for bad in range(1, whole, 3):
            data = visiontl.Data(train=Numbers(whole))
            (problem,) = scan.too_many(DataConfig(max_bad=0), data, {"train": dict.fromkeys(range(bad), "why")})
            advised = float(problem.partition("data.max_bad=")[2].split()[0])
            assert not scan.too_many(DataConfig(max_bad=advised), data, {"train": dict.fromkeys(range(bad), "why")})


class Numbers:
    """Images that are their own ids. `damaged` raise what a stranger's data set may raise."""

    def __init__(self, count: int, damaged: tuple[int, ...] = (), masks: tuple[int, ...] = ()):
        self.names, self.damaged, self.masks = [f"image {i}" for i in range(count)], damaged, masks

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key):
        if key[0] in self.masks:
            raise DataError("mask.png: damaged")
        return {"id": key[0], "seed": key[1]}

    def image(self, id):
        if id in self.damaged:
            raise RuntimeError("no such record")
        return Image.new("RGB", (4, 3))


def skip(data: visiontl.Data, most: float = 1.0, check=None, only=None) -> visiontl.Data:
    class Task:
        pass

    task = Task()
    task.check = check
    section = DataConfig(on_bad="skip", max_bad=most)
    return scan.readable_data(section, task, None, data, Console(main=False), only)  # type: ignore[arg-type]


def test_ids_are_renumbered_and_other_damage_counts_too():
    whole = visiontl.Data(train=Numbers(6, damaged=(0,), masks=(3,)), val=Numbers(2))
    data = skip(whole)
    assert isinstance(data.train, Remaining)
    assert data.train.names == ["image 1", "image 2", "image 4", "image 5"]
    assert [data.train[i, 9] for i in range(4)] == [{"id": i, "seed": 9} for i in (1, 2, 4, 5)]
    assert data.train.bad == {0: "image 0: RuntimeError: no such record", 3: "image 3: mask.png: damaged"}
    assert skip(whole, only=["val"]).train is None


def test_many_images_are_read_by_processes_in_order():
    data = skip(visiontl.Data(train=Numbers(150, damaged=(0, 70, 149))))
    assert isinstance(data.train, Remaining)
    assert sorted(data.train.bad) == [0, 70, 149]
    assert len(data.train) == 147


def test_a_tasks_own_batches_keep_their_number():
    given = {0: [[0, 1], [2, 3], [4, 5]], 1: [[5, 3], [1, 0], [4, 2]]}
    whole = visiontl.Data(train=Numbers(6, damaged=(2, 3)), batches=lambda split, seed, epoch, batch_size: given[epoch])
    data = skip(whole)
    assert data.batches is not None
    # what remains of the ids 0, 1, 4, 5 is now 0, 1, 2, 3
    assert data.batches("train", 0, 1, 2) == [[3], [1, 0], [2]]
    first = data.batches("train", 0, 0, 2)
    assert first[0] == [0, 1]
    assert first[2] == [2, 3]
    assert first[1] in ([0, 1], [2, 3])


def test_a_split_without_any_readable_image_is_refused():
    with pytest.raises(DataError, match="3 of 3 images cannot be read"):
        skip(visiontl.Data(train=Numbers(5), val=Numbers(3, damaged=(0, 1, 2))))


def test_a_task_that_cannot_do_with_what_remains_says_so():
    def check(cfg, data, meta, seen):
        assert seen.sizes == {"train": [(3, 4), None, (3, 4)]}
        return [Finding("note", "small"), Finding("error", "no image of ants", "nothing is learned")]

    with pytest.raises(DataError, match="no image of ants"):
        skip(visiontl.Data(train=Numbers(3, damaged=(1,))), check=check)
    assert skip(visiontl.Data(train=Numbers(3)), check=check).train is not None  # nothing is left out: nobody asks


def test_a_dry_run_and_prediction_serve_what_can_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos = pictures(tmp_path / "photos", bad=(3,))
    made = config(photos, tmp_path / "runs", on_bad="skip", max_bad=0.1)
    (tmp_path / "run.yaml").write_text(json.dumps(made))
    assert cli.main(["train", "run.yaml", "--dry-run"]) == 0
    assert "1 of 12 images cannot be read" in capsys.readouterr().out


def test_two_processes_leave_out_the_same_images(tmp_path):
    photos = pictures(tmp_path / "photos", bad=(2, 5))
    (tmp_path / "run.yaml").write_text(json.dumps(config(photos, tmp_path / "runs", on_bad="skip", max_bad=0.2)))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*start, "tools/train.py", str(tmp_path / "run.yaml"), "train.epochs=1"],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("1 of 12 images cannot be read") == 1
    (report,) = (tmp_path / "runs").glob("*/report.json")
    assert json.loads(report.read_text())["data"] == {"train": 11, "val": 5, "test": 6}
