"""A sample of the fuzz campaign (tools/campaigns/fuzz.py): what is almost right is read, or refused in words."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from visiontl_segmentation.masks import open_mask

from tests.shared import shared
from tools.campaigns.fuzz import campaign, shares, table
from tools.campaigns.fuzzing import readers, workers
from tools.campaigns.fuzzing.mutations import mutate
from tools.campaigns.fuzzing.readers import READERS, Reader
from tools.campaigns.fuzzing.workers import Place, attempt
from visiontl.errors import DataError
from visiontl.kit.images import open_image

QUICK = (
    *("config", "yolo", "voc", "coco-boxes", "coco-masks", "masks", "pairs", "weights", "hub"),
    *("gallery", "images", "metrics", "manifest", "state"),
)
EACH = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made: dict[str, Place] = {}

    def of(name: str) -> Place:
        if name not in made:
            made[name] = Place(READERS[name], tmp_path_factory.mktemp(name))
        return made[name]

    return of


@pytest.mark.parametrize("name", QUICK)
def test_inputs_that_are_almost_right(place, name):
    found = [attempt(place(name), 2, number) for number in range(EACH)]
    assert not [one for one in found if one.failed and not one.kind.startswith("takes")]
    assert {one.kind for one in found} & {"refused", "read"}


@pytest.mark.parametrize("name", ["state", "gallery", "hub"])
@given(dice=st.randoms(use_true_random=False))
@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_inputs_that_hypothesis_makes(place, name, dice):
    file = place(name).files[0]
    whole = (place(name).whole / file).read_bytes()
    kind, said = place(name).read(file, mutate(file.name, whole, dice))
    assert kind in ("read", "refused"), said


def broken(folder):
    text = (folder / "a.txt").read_text(errors="replace")
    if text.count("1") == 1:
        raise DataError(f"{folder / 'a.txt'}: no number")
    if len(text) < 4:
        raise IndexError("list index out of range")
    if len(text) > 200:
        os.kill(os.getpid(), signal.SIGKILL)
    return float("nan") if "\0" in text else text


def test_the_campaign_finds_what_it_looks_for_and_goes_on_where_it_was(tmp_path, monkeypatch):
    one = Reader("broken", lambda folder: (folder / "a.txt").write_text("11,22,33\n44,55,66\n"), ("a.txt",), broken)
    monkeypatch.setitem(READERS, "broken", one)
    lines = campaign(tmp_path, ["broken"], 150, seed=3)
    kinds = {line["kind"] for line in lines if "begin" not in line}
    assert any(kind.startswith("IndexError at ") for kind in kinds), kinds
    assert "the process ended (-9)" in kinds
    assert sum(line["inputs"] for line in lines if "begin" in line) == 150
    assert campaign(tmp_path, ["broken"], 150, seed=3) == lines
    assert "| broken | 150 |" in table(lines)
    assert sum(shares(list(READERS), 20_000).values()) == pytest.approx(20_000, abs=30)


@pytest.mark.parametrize(
    ("name", "file", "case"),
    [
        *(("gallery", "gallery", f"gallery/{one}") for one in ("bf16", "deep", "dims", "f8", "images-inf")),
        *(("state", "state.json", f"state/{one}.json") for one in ("float", "best-str", "nan", "str", "neg", "huge")),
        *(("weights", "w.pth", f"fuzz-pth/{number}-w.pth") for number in range(1, 9)),
        *(("weights", "w.safetensors", f"fuzz-pth/{number}-w.safetensors") for number in range(1, 9)),
        ("images", "photos/a/a.png", "fuzz-image/1-i.png"),
    ],
)
def test_what_ended_in_an_internal_error_once(place, name, file, case):
    copy, given = place(name).copy, shared(f"cases/faults/{case}")
    try:
        (copy / "CHANGED").write_text(file)
        shutil.rmtree(copy / file) if (copy / file).is_dir() else (copy / file).unlink()
        if given.is_dir():
            shutil.copytree(given, copy / file, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(given, copy / file)
        kind, said = workers.judged(place(name).reader, copy)
        assert kind in ("read", "refused"), said
    finally:
        place(name).restore()


def test_two_verdicts_on_one_picture_are_a_failure(tmp_path, monkeypatch):
    place = Place(READERS["images"], tmp_path)
    monkeypatch.setattr(readers, "verdict_of_predict", lambda file: f"{file}: damaged")
    assert workers.judged(place.reader, place.copy)[0] == "Disagreement"


def test_what_a_header_says_of_frames_that_nobody_reads_is_no_verdict(tmp_path, monkeypatch):
    place = Place(READERS["images"], tmp_path)
    monkeypatch.setattr(readers.scan, "how_stored", lambda file: (_ for _ in ()).throw(IndexError("no frame")))
    assert workers.judged(place.reader, place.copy) == ("read", "")


def test_nothing_is_warned_of_a_picture_in_any_thread(tmp_path):
    """PNG whose chunk of an animation is wrong and lies behind the pixels, where Pillow meets it in decoding."""
    photo = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(photo)
    content, body = photo.read_bytes(), b"acTL" + bytes(8)
    wrong = struct.pack(">I", 8) + body + struct.pack(">I", zlib.crc32(body))
    photo.write_bytes(content[:-12] + wrong + content[-12:])
    with pytest.warns(UserWarning, match="Invalid APNG"):
        Image.open(photo).load()
    with warnings.catch_warnings(record=True) as said, ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        found = [*pool.map(open_image, [photo] * 40), *pool.map(open_mask, [photo] * 40)]
        assert list(warnings.filters) == before
    assert {one.size for one in found} == {(8, 8)}
    assert said == []
