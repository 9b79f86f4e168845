"""`predict FOLDER`: what is read, how files are called, and what is left where something stops it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import visiontl
from visiontl.engine import predict as engine
from visiontl.engine.predict import Predictor, predict_files
from visiontl.runtime.written import Names, Written, append_whole, plain_name
from visiontl.testing import Case

LATIN1 = os.fsdecode(b"caf\xe9")  # as an archive of 1999 unpacks


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("trained")
    return visiontl.train(Case("brightness", folder).resolved("train.epochs=1"))["run"]


def with_drawing(monkeypatch, draw: Callable[..., Image.Image]) -> None:
    """The task of the run draws its predictions so."""
    plain = engine.load_model

    def load(run):
        built = plain(run)
        return replace(built, resolved=replace(built.resolved, task=replace(built.resolved.task, draw=draw)))

    monkeypatch.setattr(engine, "load_model", load)


def photo(path: Path, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 24, 3), level, dtype=np.uint8)).save(path)
    return path


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_folder_is_read_as_training_reads_it(tmp_path, trained, capsys):
    """Links are followed, a link back is not, hidden folders and what is no picture stay out; all is counted."""
    inside = tmp_path / "in"
    for name in ("a.jpg", "b.JFIF", "deep/er/c.webp"):
        photo(inside / name.replace("JFIF", "jpg"))
    (inside / "b.jpg").rename(inside / "b.JFIF")
    photo(tmp_path / "other/d.png")
    (inside / "linked").symlink_to(tmp_path / "other")
    (inside / "loop").symlink_to(".")
    (inside / "e.png").symlink_to(tmp_path / "other/d.png")
    photo(inside / ".ipynb_checkpoints/a-checkpoint.jpg")
    (inside / "notes.txt").write_text("x")
    predict_files(trained, [inside], out=tmp_path / "out")
    names = [os.path.relpath(one["file"], inside) for one in lines(tmp_path / "out")]
    assert names == ["a.jpg", "b.JFIF", "deep/er/c.webp", "e.png", "linked/d.png"]
    said = " ".join(capsys.readouterr().out.split())
    assert "3 names passed over: hidden: .ipynb_checkpoints/; a link to a folder that is read: loop/" in said
    assert "no picture: notes.txt" in said
    assert "1 linked folder read: linked/" in said


def test_what_a_pattern_matches_besides_pictures_is_named(tmp_path, trained, capsys):
    photo(tmp_path / "in/a.jpg")
    (tmp_path / "in/folder").mkdir()
    (tmp_path / "in/a.txt").write_text("x")
    predict_files(trained, [tmp_path / "in/*"], out=tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "2 names passed over: no picture: " in said
    assert "a folder: " in said


STEMS = ["漢" * 83 + "ab", "ж" * 125, "😀" * 62, "x" * 250, LATIN1, " . ", "café", "Straße"]


@pytest.mark.parametrize("stem", STEMS, ids=range(len(STEMS)))
def test_a_name_of_any_length_and_alphabet_in_two_folders_has_two_pictures(tmp_path, trained, stem, monkeypatch):
    with_drawing(monkeypatch, lambda image, prediction, meta: image)
    for place in "xyz":
        photo(tmp_path / "in" / place / "a.jpg").rename(tmp_path / "in" / place / f"{stem}.jpg")
    done = predict_files(trained, [tmp_path / "in"], out=tmp_path / "out")
    assert done["predicted"] == 3
    records = lines(tmp_path / "out")
    assert sorted(one["file"] for one in records) == sorted(str(tmp_path / "in" / p / f"{stem}.jpg") for p in "xyz")
    drawn = os.listdir(os.fsencode(tmp_path / "out/pictures"))
    assert len(drawn) == 3
    assert max(map(len, drawn)) <= 255


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.text(min_size=1, max_size=90), st.sampled_from(["a", "A", "a-2", "é", "é"])), max_size=12))
def test_no_two_names_collide_and_all_fit(stems):
    names = Names()
    made = [names.free(Path("somewhere") / f"{stem.replace('/', '_')}x.png") for stem in stems]
    assert len({name.casefold() for name in made}) == len(made)
    assert all(len(os.fsencode(f"{name}.safetensors")) <= 255 and Path(name).name == name for name in made)
    assert plain_name("../../etc") == "_.._etc"


def test_an_error_at_one_photo_keeps_those_before_it(tmp_path, trained, monkeypatch, capsys):
    """The task fails at the eighth photo; a batch is 4 photos."""
    with_drawing(monkeypatch, lambda image, prediction, meta: image)
    for i in range(9):
        photo(tmp_path / f"in/{i}.png", 10 * i)
    whole = Predictor.stream

    def fails(self, photos, options):
        for i, prediction in enumerate(whole(self, photos, options)):
            if i == 7:
                raise RuntimeError("no memory left")
            assert len(lines(tmp_path / "out")) == i if i else True  # each is there before the next is made
            yield prediction

    monkeypatch.setattr(Predictor, "stream", fails)
    with pytest.raises(RuntimeError, match="no memory left"):
        predict_files(trained, [tmp_path / "in"], out=tmp_path / "out")
    assert [Path(one["file"]).name for one in lines(tmp_path / "out")] == [f"{i}.png" for i in range(7)]
    assert len((tmp_path / "out/predictions.csv").read_text().splitlines()) == 8
    assert len(list((tmp_path / "out/pictures").iterdir())) == 7
    assert "7 of 9 are in" in " ".join(capsys.readouterr().out.split())


def test_an_error_while_drawing_keeps_the_answer(tmp_path, trained, monkeypatch):
    for i in range(3):
        photo(tmp_path / f"in/{i}.png")

    def draw(image, prediction, meta):
        raise RuntimeError("no font")

    with_drawing(monkeypatch, draw)
    with pytest.raises(RuntimeError, match="no font"):
        predict_files(trained, [tmp_path / "in"], out=tmp_path / "out")
    assert len(lines(tmp_path / "out")) == 1


def test_vectors_of_what_was_done_are_kept_too(tmp_path):
    written = Written(tmp_path)
    for i in range(3):
        written.add(Path(f"{i}.png"), {"code": np.full(4, i, dtype=np.float32)})
    written.finish()
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(tmp_path / "code.safetensors")["code"][:, 0], [0, 1, 2])
    assert [one["code"]["row"] for one in lines(tmp_path)] == [0, 1, 2]


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    append_whole(path, b"one\n")

    class Full:
        """A file that takes two bytes and then no more."""

        def __init__(self, file):
            self.file, self.room = file, 2

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *given):
            self.file.close()

        def write(self, content):
            if not self.room:
                raise OSError(28, "No space left on device")
            self.room, count = 0, self.file.write(content[: self.room])
            return count

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *given, **more: Full(opened(self, *given, **more)))
    with pytest.raises(OSError, match="No space left"):
        append_whole(path, b"two\n")
    monkeypatch.undo()
    assert path.read_bytes() == b"one\n"


def test_names_that_are_not_utf8_train_predict_and_are_reported(tmp_path):
    """Classes in folders and no splits: val is held out by name."""
    for label, level in (("ants", 60), ("bees", 200)):
        for i in range(8):
            made = photo(tmp_path / "d" / label / "x.jpg", level)
            made.rename(made.with_name(f"{LATIN1} {i}.jpg"))
    case = Case("classification", tmp_path, {"data": str(tmp_path / "d")})
    run = visiontl.train(case.resolved("train.epochs=1"))["run"]
    assert "caf" in (Path(run) / "splits/val.txt").read_text(encoding="utf-8")
    visiontl.evaluate(run)
    done = predict_files(run, [tmp_path / "d"], out=tmp_path / "out")
    assert done["predicted"] == 16
    assert {os.fsencode(Path(one["file"]).name) for one in lines(tmp_path / "out")} == {
        b"caf\xe9 %d.jpg" % i for i in range(8)
    }
    shutil.rmtree(tmp_path / "out")
