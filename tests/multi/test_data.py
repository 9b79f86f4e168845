"""Photos of several parts: which are one, which split they belong to, and how sets of their own are mixed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from visiontl_multi.batches import Mixed, portions
from visiontl_multi.data import one_each, unbalanced
from visiontl_multi.matching import matched

from tests.multi.made import PARTS, arrows, installed, keypoints
from visiontl import plugins
from visiontl.config.resolve import resolve
from visiontl.errors import ConfigError, DataError
from visiontl.testing import Case
from visiontl.testing.steps import batch_of

BASE = {"backbone": {"name": "visiontl/tiny", "weights": "none"}}


def entries(names, lead=(), learns=True):
    found, notes = matched(names, lead, learns)
    return {split: [dict(sorted(one.items())) for one in own] for split, own in found.items()}, notes


def test_photos_are_matched_by_as_many_folders_as_tell_them_apart():
    label = {"train": ["shapes/images/train/0.png", "shapes/images/train/1.png"], "val": ["shapes/images/val/0.png"]}
    mask = {"train": ["train/1.jpg", "train/0.jpg"], "val": ["val/0.jpg"]}
    found, notes = entries({"label": label, "mask": mask})
    assert found == {
        "train": [{"label": ("train", 0), "mask": ("train", 1)}, {"label": ("train", 1), "mask": ("train", 0)}],
        "val": [{"label": ("val", 0), "mask": ("val", 0)}],
    }
    assert notes == []
    alone, _ = entries({"label": {"train": ["a/x.png", "b.png"]}, "mask": {"train": ["c/b.tif", "d.png"]}})
    assert alone["train"] == [
        {"label": ("train", 0)},
        {"label": ("train", 1), "mask": ("train", 0)},
        {"mask": ("train", 1)},
    ]


def test_a_photo_that_one_part_learns_and_another_judges_is_refused():
    names = {"label": {"train": ["a.png", "b.png"], "val": ["c.png"]}, "mask": {"train": ["c.png"], "val": ["a.png"]}}
    with pytest.raises(
        DataError, match=r"disagree about 2 photos, such as a \(train of label, val of mask\).*splits=label"
    ):
        entries(names)
    found, notes = entries(names, ["label", "mask"])
    # a is learned by both, for mask judges it no more; c is judged by label, and mask would show it augmented
    assert found == {
        "train": [{"label": ("train", 0), "mask": ("val", 0)}, {"label": ("train", 1)}],
        "val": [{"label": ("val", 0)}],
    }
    assert notes == [
        "2 photos in other splits of the parts; label leads",
        "mask: 1 label left out: the photo is in its train split, shown changed, and is now judged",
    ]
    for lead in (["label", "mask"], ["mask", "label"]):
        found, _ = entries(names, lead)
        where = {split: {place for one in own for place in one.items()} for split, own in found.items()}
        assert not where["train"] & where.get("val", set())
    assert entries(names, learns=False)[0]["val"] == [{"label": ("val", 0)}]


def test_sets_that_share_no_photo_are_told_how_to_be_mixed():
    with pytest.raises(DataError, match=r"label has a.png, b.png; mask has c.png; .*task.mix=\{label: 1, mask: 1\}"):
        entries({"label": {"train": ["a.png", "b.png"]}, "mask": {"train": ["c.png"]}})


def test_shares_of_a_batch_are_kept_and_no_part_is_left_out():
    assert portions({"a": 1, "b": 3}, 8) == {"a": 2, "b": 6}
    assert portions({"a": 1, "b": 1, "c": 1}, 8) == {"a": 3, "b": 3, "c": 2}
    assert portions({"a": 0.01, "b": 1}, 4) == {"a": 1, "b": 3}
    assert sum(portions({"a": 1, "b": 2}, 1).values()) == 1
    mixed = Mixed({"a": range(5), "b": range(5, 35)}, {"a": 1, "b": 3}, {})
    first, again, other = (mixed("train", 7, epoch, 8) for epoch in (0, 0, 1))
    assert first == again != other
    assert [len(one) for one in first] == [8] * 5 == [len(one) for one in other]
    assert all(sum(id < 5 for id in one) == 2 for one in first)
    times = Counter(id for one in first for id in one)
    assert set(times) == set(range(35))  # 30 of b, once each; 10 of a, twice each
    assert {times[id] for id in range(5)} == {2}
    assert {times[id] for id in range(5, 35)} == {1}
    own = Mixed({"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}, {"a": 1, "b": 1}, {"a": lambda *given: [[3, 2], [1, 0]]})
    assert [one[:2] for one in own("train", 0, 0, 4)] == [[3, 2], [1, 0]]


@pytest.fixture
def case(tmp_path):
    with installed(keypoints()):
        yield Case("multi", tmp_path / "case", arrows(tmp_path / "set"))


def test_sets_of_their_own_are_mixed_and_nothing_is_matched(case, tmp_path):
    shapes = plugins.task("classification").example(tmp_path / "shapes")
    data = dict(case.section["data"])
    mixed = Case("multi", tmp_path / "mixed", {**case.section, "data": {**data, "side": shapes}})
    with pytest.raises(DataError, match="the parts share no photo by its name"):
        mixed.run()
    run = mixed.run("task.mix={point: 1, side: 3}", "train.accumulate=2", limit=2)
    group = run.orders(0).group(0)
    parts = [[next(iter(run.data.train.entries[id])) for id in micro[0]] for micro in group]
    assert parts == [["point", "side", "side", "side"]] * 2
    assert len(run.data.train.names) == len(set(run.data.train.names))


def test_views_and_color_are_the_same_for_all_parts(case):
    crop = "backbone.preprocessing.crop=0.5"  # of the class's own view; the stranger's shows the whole
    run = case.run("task.views={side: point}", "task.color=1", crop)
    split = run.data.train
    both = [id for id, entry in enumerate(split.entries) if len(entry) == 2]
    plain = case.run("task.views={side: point}", crop).data.train
    assert all("image" not in part for id in both for part in split[id, 5]["parts"].values())
    assert all(torch.equal(split[id, 5]["image"], split[id, 5]["image"]) for id in both)
    assert any(not torch.equal(split[id, 5]["image"], plain[id, 5]["image"]) for id in both)
    assert torch.equal(run.data.val[0, 5]["image"], run.data.val[0, 6]["image"])  # what judges is left alone
    task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
    photo = task.sample(cfg, run.built.backbone.spec, meta)(run.data.val.image(0))  # and so in prediction
    assert torch.equal(photo["image"], run.data.val[0, 0]["image"])
    assert all("image" not in part for part in photo["parts"].values())
    apart = case.run("task.color=1").data.train
    turned = apart[both[0], 1]["parts"]["side"]["image"]  # the stranger's view is mirrored, ours is not
    assert torch.equal(turned.flip(2), apart[both[0], 1]["image"])


def test_balance_is_refused_where_no_two_parts_read_one_pass(case):
    run = case.run("task.weighting=balance")
    cfg = run.resolved.cfg
    batches = one_each(cfg, {name: run.data.train.found[name] for name in cfg.tasks})
    assert unbalanced(cfg, batches) == []
    batches["side"]["image"] = list(batches["side"]["image"])  # as a detector has it
    with pytest.raises(ConfigError, match="no other part reads that of side; use fixed or uncertainty"):
        unbalanced(cfg, batches)
    (note,) = unbalanced(cfg, {**batches, "third": batches["point"]})
    assert note.startswith("side: weighting=balance does not reach its own pass")


def test_rows_are_shared_where_pixels_are_the_same(case):
    run = case.run()
    split = run.data.train
    both = [id for id, entry in enumerate(split.entries) if len(entry) == 2][:4]
    batch = batch_of(run, split, both)
    rows = batch["parts"]["side"]["rows"].tolist()
    own = [row for row in rows if row >= 4]
    assert own == list(range(4, 4 + len(batch["more"])))
    assert [row for row in rows if row < 4] == [i for i, row in enumerate(rows) if row < 4]
    assert batch["parts"]["point"]["rows"].tolist() == [0, 1, 2, 3]


def test_predictions_are_the_parts_own(case, tmp_path):
    from visiontl import load, train
    from visiontl.engine.predict import predict_files

    run = Path(str(train(case.resolved("train.epochs=1"))["run"]))
    photo = Path(case.section["data"]["point"]) / "00.png"
    model = load(run)
    found = model.predict(photo, side={"top_k": 1})
    assert list(found) == ["point", "side"]
    assert np.shape(found["point"]["points"]) == (2, 2)
    assert len(found["side"]["top"]) == 1
    with pytest.raises(ConfigError) as raised:
        model.predict(photo, sid={"top_k": 1}, point={"x": 1})
    assert raised.value.problems == [
        "option sid: no part is called so; did you mean 'side'?",
        "option point: task keypoints takes no such options; got x",
    ]
    predict_files(run, [photo], out=tmp_path / "out")
    header = (tmp_path / "out/predictions.csv").read_text().splitlines()[0]
    assert header.startswith("file,point.points,side.label,side.probability")
    assert (tmp_path / "out/pictures/00.jpg").exists()
    assert model.explain(photo, part="side", options={"label": "left"}).words.startswith("side: class left")
    with pytest.raises(ConfigError, match=r"'point' names no number to explain; .* side"):
        model.explain(photo, part="point")


def test_arrays_within_a_part_become_files(tmp_path):
    from PIL import Image

    from visiontl.runtime.written import Written

    written = Written(tmp_path)
    for value in (1.0, 2.0):
        answer = {"who": {"vector": np.full(3, value)}, "mask": {"mask": Image.new("L", (2, 2)), "area": {"a": 1}}}
        written.add(Path("x.png"), answer)
    written.finish()
    assert written.records[1] == {
        "file": "x.png",
        "who": {"vector": {"file": "who.vector.safetensors", "row": 1}},
        "mask": {"mask": "mask.mask/x-2.png", "area": {"a": 1}},
    }
    assert (tmp_path / "who.vector.safetensors").exists()
    assert (tmp_path / "mask.mask/x.png").exists()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            {
                "tasks": {
                    "a": {"name": "clasification", "data": "x"},
                    "b": {"name": "keypoints", "data": "x", "dorpout": 1},
                }
            },
            [
                "task.tasks.a.name: no task 'clasification'; did you mean",
                "task.tasks.b.dorpout: unknown key; did you mean",
            ],
        ),
        (
            {"tasks": {"a": "classification", "b": {"name": "keypoints", "data": "x", "dropout": 2}}},
            ["task.tasks.a.data: is missing", "task.tasks.b.dropout: got 2; expected a number below 1"],
        ),
        (
            {"tasks": PARTS, "data": "x", "weights": {"sied": 1, "point": -1}, "mix": {"point": 0}, "splits": "side_"},
            [
                "task.weights.sied: 'sied' is no part; did you mean 'side'",
                "task.splits: 'side_'",
                "weights.point: -1",
                "mix.point",
            ],
        ),
        ({"tasks": PARTS, "data": {"x": "y", "side": "x"}}, ["task.tasks.point.data: is missing"]),
        ({"tasks": PARTS, "data": "x", "mix": {"point": 1}}, ["task.mix: says nothing of side"]),
        ({"tasks": {"a": {"name": "multi", "data": "x", "tasks": PARTS}}}, ["task.tasks.a.name: several tasks within"]),
        ({"tasks": {"a b": {"name": "classification", "data": "x"}}}, ["'a b' is no name of a part"]),
        ({"tasks": {}}, ["task.tasks: got {}; expected at least 1 items"]),
    ],
    ids=["names", "parts", "keys", "data", "mix", "nested", "name", "none"],
)
def test_mistakes_are_told_with_their_place_all_at_once(task, said):
    with installed(keypoints()), pytest.raises(ConfigError) as raised:
        resolve({"task": {"name": "multi", **task}, **BASE})
    for words in said:
        assert any(words in one for one in raised.value.problems), raised.value.problems
    assert len(raised.value.problems) == len(said)


def test_data_goes_to_the_parts_and_a_score_of_one_may_pick(case):
    given = {"task": {"name": "multi", "tasks": PARTS, "data": {"classification": "c.csv", "point": "p"}}, **BASE}
    resolved = resolve(given, ["train.best=point/error"])
    assert resolved.config.task["tasks"]["side"]["data"]["csv"] == "c.csv"
    assert resolved.config.task["tasks"]["point"] == {"name": "keypoints", "data": "p", "dropout": 0.1}
    again = resolve(resolved.config)
    assert again.config == resolved.config
    with pytest.raises(ConfigError, match=r"'side/acuracy' is no score .* did you mean 'side/accuracy'"):
        resolve(given, ["train.best=side/acuracy"])
