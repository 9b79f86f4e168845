"""visiontl doctor on a stranger's task: every planted defect is found, named and nothing else is made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visiontl
from visiontl import cli
from visiontl.config.resolve import resolve
from visiontl.doctor import diagnose as doctor
from visiontl.doctor import duplicates
from visiontl.doctor.diagnose import Diagnosis, diagnose
from visiontl.engine.scan import look
from visiontl.errors import DataError
from visiontl.kit.words import refusal
from visiontl.report.console import Console
from visiontl.report.items import Finding, Table


def photo(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """A smooth picture like no other, (width, height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def album(folder: Path, count: int = 16) -> Path:
    """Of 16 the brightness task takes 1, 2, 6, 11 for val and 7, 8, 12, 14 for test."""
    folder.mkdir(parents=True)
    for i in range(count):
        photo(i).save(folder / f"{i:02}.png")
    return folder


def config(folder: Path, **sections) -> dict:
    return {
        "task": {"name": "brightness", "data": str(folder)},
        "backbone": {"name": "visiontl/tiny", "weights": "none", "image_size": 32},
        "train": {"batch_size": 4},
        **sections,
    }


def examined(folder: Path, **sections) -> Diagnosis:
    return diagnose(resolve(config(folder, **sections)), Console(main=False))


def found(diagnosis: Diagnosis, *words: str) -> Finding:
    """The one finding that says all of the words."""
    matching = [one for one in diagnosis.findings if all(word in one.what for word in words)]
    assert len(matching) == 1, f"{words}: {[one.what for one in diagnosis.findings]}"
    return matching[0]


def table(diagnosis: Diagnosis, title: str) -> Table:
    return next(one for one in diagnosis.tables if one.title == title)


def test_sound_data_is_called_sound(tmp_path):
    diagnosis = examined(album(tmp_path / "photos"))
    assert [one.what for one in diagnosis.findings] == ["the lowest picture has 60 rows"]  # the task's own word
    assert diagnosis.exit_code == 0
    assert diagnosis.images == 16
    assert table(diagnosis, "images").rows == [
        ["train", 8, 0, "80", "60"],
        ["val", 4, 0, "80", "60"],
        ["test", 4, 0, "80", "60"],
    ]
    assert table(diagnosis, "stored as").rows == [["PNG RGB", 16, "as it is"]]
    assert any("2 updates of 4 images an epoch, 20 in 10 epochs" in fact for fact in diagnosis.facts)


def test_copies_are_found_within_and_between_splits(tmp_path):
    folder = album(tmp_path / "photos")
    photo(0).save(folder / "02.png", compress_level=0)  # val: the pixels of 00, train; other bytes
    photo(0).save(folder / "03.png")  # train, twice
    photo(6).save(folder / "07.png")  # test: 06 of val
    photo(4, (800, 600)).resize((400, 300)).save(tmp_path / "resized.jpg", quality=70)
    Image.open(tmp_path / "resized.jpg").save(folder / "11.png")  # val: like 04 of train
    diagnosis = examined(folder)
    leak = found(diagnosis, "val", "also in train")
    assert (leak.level, leak.names) == ("warning", ["02.png = 00.png"])
    assert "trained on" in leak.consequence
    assert found(diagnosis, "test", "also in val").names == ["07.png = 06.png"]
    assert found(diagnosis, "train", "copy of another").names == ["00.png = 03.png"]
    assert found(diagnosis, "val", "almost like one in train").names == ["11.png ~ 04.png"]
    assert diagnosis.exit_code == 0


def test_odd_pictures_are_named(tmp_path):
    folder = album(tmp_path / "photos")
    Image.new("RGB", (70, 50), "white").save(folder / "01.png")
    photo(101, (9, 40)).save(folder / "02.png")
    photo(102, (400, 40)).save(folder / "03.png")
    photo(103).save(folder / "04.png", format="JPEG")
    photo(104).convert("L").save(folder / "05.png")
    photo(105).convert("P").save(folder / "06.png")
    photo(106).convert("RGBA").save(folder / "07.png")
    photo(107).convert("CMYK").save(folder / "08.png", format="JPEG")
    sixteen = np.asarray(photo(108).convert("L"), dtype=np.uint16) * 257
    Image.fromarray(sixteen).save(folder / "09.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(109).save(folder / "10.png", exif=exif)
    photo(110).save(folder / "11.png", save_all=True, append_images=[photo(111)], format="GIF")
    photo(112).save(folder / "12 \n<b>'\".png")
    diagnosis = examined(folder)
    assert found(diagnosis, "one color").names == ["01.png"]
    assert found(diagnosis, "less than 16 pixels").names == ["02.png"]
    assert sorted(found(diagnosis, "times as long").names) == ["02.png", "03.png"]
    assert sorted(found(diagnosis, "another format").names) == ["04.png (JPEG)", "08.png (JPEG)", "11.png (GIF)"]
    assert found(diagnosis, "line breaks").names == ["12 \n<b>'\".png"]
    assert found(diagnosis, "smaller than the input of 32 x 32").level == "note"
    stored = {row[0]: row[1] for row in table(diagnosis, "stored as").rows}
    assert stored == {
        "PNG RGB": 11, "JPEG RGB": 1, "PNG gray": 1, "PNG palette": 1, "JPEG CMYK": 1, "PNG 16-bit gray": 1,
        "GIF palette": 1, "of these turned by EXIF": 1, "of these with several frames": 1,
        "of these with transparency": 1, "of these with more than 8 bits": 1,
    }  # fmt: skip
    assert diagnosis.exit_code == 0


def test_unreadable_images_are_errors_or_left_out_as_the_config_says(tmp_path):
    folder = album(tmp_path / "photos")
    (folder / "04.png").write_text("<html>")
    (folder / "06.png").write_bytes(b"")
    stops = examined(folder)
    assert found(stops, "train: 1 image of 8 cannot be read").names[0].startswith(str(folder / "04.png"))
    assert "data.on_bad=skip and data.max_bad=0.125" in found(stops, "train: 1 image of 8").consequence
    assert found(stops, "val: 1 image of 4 cannot be read").level == "error"
    assert stops.exit_code == 2
    skips = examined(folder, data={"on_bad": "skip", "max_bad": 0.25})
    assert found(skips, "train: 1 image of 8 cannot be read").level == "warning"
    assert skips.exit_code == 0
    assert any("2 updates of 4 images" in fact for fact in skips.facts)  # of 7 images
    strict = examined(folder, data={"on_bad": "skip", "max_bad": 0.2})
    assert [one.level for one in strict.findings if "cannot be read" in one.what] == ["warning", "error"]


@pytest.mark.parametrize("error", [DataError("photos: no such folder"), ValueError("bad line 3"), KeyError("classes")])
def test_data_that_cannot_be_read_at_all_is_an_error_and_no_crash(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    resolved = resolve(config(tmp_path))
    diagnosis = diagnose(replace(resolved, task=replace(resolved.task, data=fail)), Console(main=False))
    assert diagnosis.exit_code == 2
    assert str(error) in diagnosis.findings[0].what


def test_a_check_that_fails_stops_nothing(tmp_path):
    def fail(*_):
        raise IndexError("list index out of range")

    resolved = resolve(config(album(tmp_path / "photos")))
    diagnosis = diagnose(replace(resolved, task=replace(resolved.task, check=fail)), Console(main=False))
    assert found(diagnosis, "IndexError: list index").level == "error"
    assert table(diagnosis, "images").rows


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ({"name": "torchvision/squeezenet1_1", "weights": "nowhere/x.pth"}, "nowhere/x.pth"),
        ({"name": "torchvision/squeezenet1_1", "weights": "imagenet9k"}, "imagenet9k"),
        ({"name": "torchvision/squeezenet1_7"}, "squeezenet1_1"),
    ],
)
def test_backbones_and_weights_that_do_not_exist_are_errors_beside_the_data(tmp_path, backbone, words):
    diagnosis = examined(album(tmp_path / "photos"), backbone=backbone)
    assert diagnosis.exit_code == 2
    assert words in diagnosis.findings[0].what
    assert diagnosis.images == 16


def test_a_start_from_another_run_is_looked_at(tmp_path):
    files = str(album(tmp_path / "files"))
    run = visiontl.train(config(Path(files), run={"folder": str(tmp_path / "runs")}, train={"epochs": 1}))["run"]
    diagnosis = examined(Path(files), init=run)
    assert not diagnosis.count("error")
    assert any(f"weights of the run {run}" in fact for fact in diagnosis.facts)
    diagnosis = examined(Path(files), init=f"{run}x")
    assert found(diagnosis, f"{run}x: no such run folder").level == "error"


def test_what_would_need_a_download_is_not_checked_and_said(tmp_path):
    diagnosis = examined(album(tmp_path / "photos"), backbone={"name": "torchvision/squeezenet1_1"})
    assert diagnosis.exit_code == 0
    assert "no download was made" in diagnosis.unchecked[0]
    assert any("input 224 x 224" in fact for fact in diagnosis.facts)


def test_the_command_prints_writes_and_exits(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = album(tmp_path / "photos")
    photo(0).save(folder / "02.png")
    Path("run.yaml").write_text(json.dumps(config(folder)))
    assert cli.main(["doctor", "run.yaml", "--json", "all.json"]) == 0
    out = capsys.readouterr().out
    assert "warning: val: 1 image is also in train, pixel for pixel\n  -> val scores count it" in out
    assert "0 errors, 1 warning, 1 note; 16 images read" in out
    told = json.loads(Path("all.json").read_text())
    assert told["counts"] == {"error": 0, "warning": 1, "note": 1}
    assert told["findings"][0]["names"] == ["02.png = 00.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "photos", "run.yaml"]

    (folder / "03.png").write_text("")
    assert cli.main(["doctor", "run.yaml"]) == 2
    assert "the file is empty" in capsys.readouterr().out
    assert cli.main(["doctor", "run.yaml", "train.epoch=3"]) == 2
    assert "did you mean 'epochs'" in capsys.readouterr().err
    monkeypatch.setattr(doctor, "diagnose", lambda *_: pytest.fail("read images before looking at --json"))
    assert cli.main(["doctor", "run.yaml", "--json", "nowhere/all.json"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_tables_and_names_are_cut_on_the_console_only(capsys):
    rows = [[f"class {i}", i] for i in range(1000)]
    names = [f"{i}.png" for i in range(9)] + ["x" * 5000]
    finding = Finding("note", "a b\nc", "so", names)
    doctor.show(Diagnosis([finding], [Table("classes", ["class", "images"], rows)]), Console())
    out = capsys.readouterr().out
    assert "class 9 " in out
    assert "class 500" not in out
    assert "... 980 more" in out
    assert "class 999" in out
    assert "and 7 more (--json FILE holds all)" in out
    assert "a b\\nc" in out
    assert max(map(len, doctor.in_lines(Finding("note", "", "", ["x" * 5000])).splitlines())) < 250


def test_alike_finds_the_pairs_that_comparing_all_with_all_finds():
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, (300, 128), dtype=np.uint8)
    for copy in range(60):  # planted: 0 to 11 bits away from another one
        bits[copy] = bits[copy + 100]
        bits[copy, random.choice(128, copy % 12, replace=False)] ^= 1
    hashes = [np.packbits(row).tobytes() for row in bits]
    hashes[250] = b""
    apart = (bits[:, None] != bits[None]).sum(2)
    expected = [
        (a, b)
        for a in range(300)
        for b in range(a + 1, 300)
        if apart[a, b] <= duplicates.BITS_APART and 250 not in (a, b)
    ]
    assert len(expected) == 40
    assert duplicates.alike(hashes) == expected
    assert duplicates.alike([]) == []
    assert duplicates.equal([b"a", b"b", b"", b"a", b"", b"b", b"a"]) == [[0, 3, 6], [1, 5]]


def test_a_picture_without_structure_has_no_look():
    assert look(Image.new("RGB", (50, 50), "white")) == b""
    assert len(look(photo(1))) == 16


def test_doctor_builds_no_model(tmp_path, monkeypatch):
    resolved = resolve(config(album(tmp_path / "photos")))
    silent = replace(resolved.task, model=lambda *_: pytest.fail("a model was built"))
    assert diagnose(replace(resolved, task=silent), Console(main=False)).exit_code == 0


def test_an_error_with_several_mistakes_is_one_finding():
    found = doctor.failure(refusal("x.json", ["image 3 is twice there", "image 7 has no name"]), "the run stops here")
    assert found.what == "x.json: 2 errors: image 3 is twice there; image 7 has no name"
    assert doctor.failure(ValueError("a\nb"), "").what == "ValueError: a: b"
