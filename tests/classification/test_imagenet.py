"""ImageNet's folder layout, readable names, and networks measured with their own head."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from visiontl_classification import TASK

from tests.classification.helpers import StubBackbone, config, folders, one_batch, read
from tests.shared import shared
from visiontl import BackboneError, DataError, OriginalHead

TENCH, GOLDFISH, CRANE_BIRD, CRANE_MACHINE = "n01440764", "n01443537", "n02012849", "n03126707"


def test_wnid_folders_get_readable_names(tmp_path):
    folders(tmp_path, {f"train/{wnid}": 2 for wnid in (TENCH, GOLDFISH, CRANE_BIRD, CRANE_MACHINE)})
    folders(tmp_path, {f"val/{wnid}": 1 for wnid in (TENCH, GOLDFISH)})
    data = read(tmp_path)
    assert data.meta["ids"] == [TENCH, GOLDFISH, CRANE_BIRD, CRANE_MACHINE]
    assert data.meta["classes"][:2] == ["tench", "goldfish"]
    assert len(set(data.meta["classes"])) == 4
    assert data.meta["counts"] == [2, 2, 2, 2]


def test_names_from_a_file(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text(f"{TENCH} tench, Tinca tinca\n{CRANE_BIRD} crane\n{CRANE_MACHINE}\tcrane\nspare other\n")
    photos = folders(tmp_path / "photos", {TENCH: 3, CRANE_BIRD: 3, CRANE_MACHINE: 3})
    source = {"folder": str(photos), "class_names": str(names)}
    data = read(source)
    assert data.meta["classes"] == ["tench", f"crane ({CRANE_BIRD})", f"crane ({CRANE_MACHINE})"]
    elsewhere = folders(tmp_path / "elsewhere", {"tench": 2, CRANE_MACHINE: 1})
    assert read(elsewhere, data.meta).test.targets.tolist() == [2, 0, 0]
    folders(elsewhere, {TENCH: 1})
    with pytest.raises(DataError, match=f"{TENCH} and tench are the same class"):
        read(elsewhere, data.meta)
    folders(photos, {GOLDFISH: 3})
    with pytest.raises(DataError, match=f"no line for 1 class: {GOLDFISH}"):
        read(source)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no line"),
        ("lonely\n", "line 1 is 'lonely'"),
        ("a one\na two\n", "line 2 names a a second time"),
    ],
)
def test_files_of_names_that_cannot_be_used(tmp_path, text, words):
    (tmp_path / "names.txt").write_text(text)
    photos = folders(tmp_path / "photos", {"a": 3, "b": 3})
    with pytest.raises(DataError, match=words):
        read({"folder": str(photos), "class_names": str(tmp_path / "names.txt")})


def test_the_given_file_of_words_names_all_thousand(tmp_path):
    words = shared("labels/imagenet_synset_words.txt")
    photos = folders(tmp_path, {TENCH: 2, CRANE_MACHINE: 1})
    source = {"folder": str(photos), "class_names": str(words)}
    data = read(source, head="original")
    assert len(set(data.meta["classes"])) == 1000
    lines = [line.split()[0] for line in words.read_text().splitlines()]
    assert data.meta["ids"] == lines == read(photos, head="original").meta["ids"]
    assert data.test.targets.tolist() == [0, 0, lines.index(CRANE_MACHINE)]


def test_some_of_the_classes_are_scored_among_all_of_them(tmp_path):
    data = read(folders(tmp_path / "bare", {GOLDFISH: 2, TENCH: 1}), head="original")
    assert set(data.splits()) == {"test"}
    assert data.test.targets.tolist() == [0, 1, 1]
    assert any("no image of 998 classes" in note for note in data.notes)
    splits = folders(tmp_path / "splits", {f"train/{TENCH}": 1, f"val/{TENCH}": 2, f"val/{GOLDFISH}": 1})
    assert read(splits, head="original").val.targets.tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="1 folder of no ImageNet-1k class: n99999999"):
        read(folders(tmp_path / "bare", {"n99999999": 1}), head="original")

    cfg = config(tmp_path / "bare", head="original")
    head = OriginalHead(nn.Linear(6, 1000), "pooled", 1000)
    outputs = TASK.model(cfg, StubBackbone(head=head), data.meta).eval()(one_batch(data, cfg, "test", 3))
    assert outputs["logits"].shape == (3, 1000)
    rows = TASK.rows(cfg, outputs, one_batch(data, cfg, "test", 3), data.meta)
    scores = TASK.score(cfg, rows, data.meta)
    assert set(scores["per_class"]) == {"tench", "goldfish"}
    assert "confusion" not in scores


def test_heads_that_read_maps_and_heads_that_do_not_fit(tmp_path):
    data = read(folders(tmp_path, {"0": 4, "1": 4}), head="original")
    assert any("0 to 1 are taken for the numbers of the original head's classes" in note for note in data.notes)
    cfg = config(tmp_path, head="original")
    batch = one_batch(data, cfg, "test")
    conv = nn.Sequential(nn.Conv2d(6, 2, 1), nn.AdaptiveAvgPool2d(1))
    backbone = StubBackbone(head=OriginalHead(conv, "map", 2))
    model = TASK.model(cfg, backbone, data.meta).eval()
    expected = conv(backbone(batch["image"], maps=(0,)).maps[0]).flatten(1)
    assert torch.equal(model(batch)["logits"], expected)
    with pytest.raises(BackboneError, match="has 1,000 classes, the data 2; use head: linear"):
        TASK.model(cfg, StubBackbone(head=OriginalHead(nn.Linear(6, 1000), "pooled", 1000)), data.meta)
    with pytest.raises(BackboneError, match="no classification head"):
        TASK.model(cfg, StubBackbone(), data.meta)
