"""`visiontl rank`: the probe against scikit-learn, LogME against its definition, what is asked of each task, which
backbones take part, and when no winner is named."""

from __future__ import annotations

import gc
import io
import json
import math
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Drawing

from visiontl import cli, plugins
from visiontl.backbone import Features
from visiontl.config.resolve import resolve
from visiontl.engine import wanted as feature_source
from visiontl.engine.example import with_example
from visiontl.engine.parts import Part as ImagesOf
from visiontl.engine.start import pretrained_backbone
from visiontl.entry import BackboneEntry, Weights
from visiontl.errors import ConfigError, DataError
from visiontl.report.console import Console
from visiontl.search import candidates as choosing
from visiontl.search import ranking as ranks_of
from visiontl.search import settling
from visiontl.search.candidates import Candidate, Wanted, candidates
from visiontl.search.features import Gathered, background, box_rows, by_class, fold_names, pixel_rows, table_of
from visiontl.search.probing import (
    Table,
    evidence,
    kendall,
    logistic,
    logme,
    mean_average_precision,
    neighbor_score,
    probe_scores,
    standardized,
)
from visiontl.search.ranking import Ranked, Ranking, judge
from visiontl.search.sweep import Sweep
from visiontl.search.trials import Part

CONFIG = """task: {name: classification, data: example, augment: light}
backbone: {name: visiontl/tiny, weights: none}
train: {epochs: 4, batch_size: 16}
loader: {workers: 0}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    drawn = Drawing.savefig

    def unless_inline(self, out, **options):
        out.write("<svg></svg>") if isinstance(out, io.StringIO) else drawn(self, out, **options)

    monkeypatch.setattr(Drawing, "savefig", unless_inline)
    monkeypatch.setenv("VISIONTL_FEATURES", str(tmp_path / "features"))
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)


def table(x, y, folds=5, **more) -> Table:
    count = torch.arange(len(y))
    return Table(torch.as_tensor(x).float(), torch.as_tensor(y), count, count % folds, **more)


def blobs(count=120, width=6, classes=3, spread=1.5, seed=0):
    draw = np.random.default_rng(seed)
    y = draw.integers(classes, size=count)
    return draw.normal(size=(classes, width))[y] * 2 + spread * draw.normal(size=(count, width)), y


# -------------------------------------------------------------------------------------------------------------- probes


@pytest.mark.parametrize("width", [6, 200])
def test_the_probe_is_scikit_learns(width):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = blobs(width=width)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=5000)).fit(x, y)
    scaled = theirs[0].transform(x).astype(np.float32)
    weight, bias = logistic(torch.tensor(scaled), torch.tensor(y), 3)
    logits = scaled @ weight.T.numpy() + bias.numpy()
    ours = torch.softmax(torch.tensor(logits), 1).numpy()
    assert ours == pytest.approx(theirs.predict_proba(x), abs=2e-3)
    found, right = probe_scores(table(x, y))
    assert found == pytest.approx(cross_val_score(theirs, x, y, cv=PredefinedSplit(np.arange(len(y)) % 5)).tolist())
    assert float(right.mean()) == pytest.approx(np.mean(found))


def test_several_labels_and_rare_classes_are_scored_as_they_should():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score, balanced_accuracy_score

    x, y = blobs(200)
    both = np.stack([y == 0, y > 0, np.arange(200) % 7 == 0], 1).astype(np.int64)
    scaled, _ = standardized(torch.tensor(x).float(), torch.tensor(x).float())
    weight, bias = logistic(scaled, torch.tensor(both), 3)
    logits = (scaled @ weight.T + bias).numpy()
    for k in range(3):
        theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(scaled.numpy(), both[:, k])
        assert logits[:, k] == pytest.approx(theirs.decision_function(scaled.numpy()), abs=2e-2)
    expected = np.mean([average_precision_score(both[:, k], logits[:, k]) for k in range(3)])
    assert mean_average_precision(logits, both) == pytest.approx(expected)

    x, y = blobs(200, classes=2, spread=4)
    keep = (y == 0) | (np.arange(200) % 9 == 0)
    asked = table(x[keep], y[keep], mean_recall=True)
    fold = asked.fold == 0
    a, b = standardized(asked.x[~fold], asked.x[fold])
    weight, bias = logistic(a, asked.y[~fold], 2)
    expected = balanced_accuracy_score(asked.y[fold], (b @ weight.T + bias).argmax(1))
    assert probe_scores(asked)[0][0] == pytest.approx(expected)


def test_small_features_are_as_good_as_large_ones():
    x, y = blobs(100)
    large, small = (probe_scores(table(x * scale, y)) for scale in (1.0, 1e-9))
    assert large[0] == pytest.approx(small[0])
    assert float(standardized(torch.full((9, 2), 1e-9), torch.ones(1, 2))[1].abs().max()) == 0, (
        "constant ones say nothing"
    )


def test_neighbors_vote_by_likeness():
    from sklearn.neighbors import KNeighborsClassifier

    x, y = blobs(150, spread=5)
    centered = x - x.mean(0)
    found = []
    for fold in range(5):
        out = np.arange(150) % 5 == fold
        theirs = KNeighborsClassifier(5, metric="cosine", weights=lambda d: 2 - d).fit(centered[~out], y[~out])
        found.append(theirs.score(centered[out], y[out]))
    assert neighbor_score(table(x, y)) == pytest.approx(np.mean(found), abs=1e-6)


@pytest.mark.parametrize(("count", "width"), [(12, 4), (7, 11)])
def test_logme_is_the_largest_evidence_of_its_definition(count, width):
    """The logarithm of N(y; 0, 1/beta I + 1/alpha F F^T), by its determinant and inverse, searched over a grid."""
    draw = np.random.default_rng(count)
    x, y = draw.normal(size=(count, width)), draw.integers(2, size=count)

    def density(alpha: float, beta: float, target: np.ndarray) -> float:
        covariance = np.eye(count) / beta + x @ x.T / alpha
        sign, determinant = np.linalg.slogdet(2 * math.pi * covariance)
        assert sign == 1
        return -(determinant + target @ np.linalg.solve(covariance, target)) / 2

    u, s, _ = np.linalg.svd(x, full_matrices=False)
    targets = np.eye(2)[y].T
    for target in targets:
        for alpha, beta in ((1, 1), (0.3, 7), (20, 0.5)):
            ours = evidence(alpha, beta, u.T @ target, s, float(target @ target), x.shape)
            assert ours == pytest.approx(density(alpha, beta, target))
    grid = np.exp(np.linspace(-8, 14, 111))
    best = [max(density(alpha, beta, target) for alpha in grid for beta in grid[:80]) for target in targets]
    assert logme(x, y) == pytest.approx(np.mean(best) / count, abs=0.02)
    assert logme(x, y) >= np.mean(best) / count - 0.02


def test_kendalls_tau_is_scipys():
    from scipy.stats import kendalltau

    draw = np.random.default_rng(0)
    for _ in range(5):
        one, other = draw.integers(5, size=(2, 9))
        assert kendall(one.tolist(), other.tolist()) == pytest.approx(kendalltau(one, other).statistic)
    assert math.isnan(kendall([1, 1], [1, 2]))


# ------------------------------------------------------------------------------------------------------------ features


def test_boxes_and_pixels_are_read_where_they_are():
    """Maps whose values are their own places: what is read of a box is its middle, of a pixel its place."""
    stride, size = 8, (64, 96)
    rows, columns = torch.meshgrid(
        *(torch.arange(side // stride) * stride + stride / 2 for side in size), indexing="ij"
    )
    maps = [torch.stack([columns, rows])[None]]
    boxes = torch.tensor([[16.0, 16.0, 32.0, 48.0], [40.0, 24.0, 72.0, 40.0], [0.0, 0.0, 8.0, 8.0]])
    asked = {"labels": torch.tensor([1, 0, -1]), "boxes": boxes}
    x, y = box_rows(maps, asked, size, size, 5)
    assert y[:2].tolist() == [2, 1]
    assert x[:2].numpy() == pytest.approx(np.array([[24.0, 32.0], [56.0, 32.0]]), abs=0.6)
    assert y[2:].tolist() == [0] * (len(y) - 2)
    empty = background(boxes, size, 5)
    assert torch.equal(empty, background(boxes, size, 5))
    for one in empty:
        inside = (torch.minimum(one[2:], boxes[:, 2:]) - torch.maximum(one[:2], boxes[:, :2])).clamp(min=0).prod(1)
        assert float(inside.sum()) <= 0.1 * float((one[2:] - one[:2]).prod()) + 1e-3

    labels = torch.full(size, -1)
    labels[20:40, 30:60], labels[22:24, 32:34] = 0, 1
    x, y = pixel_rows(maps, {"labels": labels}, size, size, 3)
    assert set(y.tolist()) == {0, 1}
    assert 10 < int((y == 1).sum()) < 25  # of 64: half of the half where classes come alike
    near = (x[:, 0] >= 29) & (x[:, 0] <= 61) & (x[:, 1] >= 19) & (x[:, 1] <= 41)
    assert bool(near.all())


class Named:
    def __init__(self, groups):
        self.names, self.groups = [f"{i}.jpg" for i in range(len(groups))], groups


def test_images_of_a_group_are_left_out_together_unless_groups_are_the_classes():
    scenes = Named([f"scene {i % 6}" for i in range(24)])
    y, owner = torch.arange(24) % 2, torch.arange(24)
    assert fold_names(scenes, y, owner) == scenes.groups
    people = Named([f"person {i % 6}" for i in range(24)])
    assert fold_names(people, torch.arange(24) % 6, owner) == people.names


@pytest.mark.parametrize(("unread", "advice"), [(0, "these are all of train"), (7, "raise --images: 7 more are there")])
def test_too_few_labels_are_counted_and_advice_fits(unread, advice):
    few = Gathered([torch.rand(2, 3)], [torch.tensor([0, 1])], [torch.arange(2)], "image")
    with pytest.raises(DataError, match=f"2 images with 2 labels are too few .* 10 labels or more .*; {advice}$"):
        table_of(few, ["a.png", "b.png"], "fp32", unread)  # type: ignore[arg-type]


def test_each_class_is_dealt_out_over_the_folds_by_names_alone():
    y, owner = torch.tensor([0] * 31 + [1] * 17 + [2] * 5), torch.arange(53)
    names = [f"{i}.jpg" for i in range(53)]
    place = by_class(names, y, owner)
    for label in range(3):
        counts = torch.bincount(place[y == label], minlength=5)
        assert int(counts.max() - counts.min()) <= 1
    mixed = torch.randperm(53, generator=torch.Generator().manual_seed(0))
    again = by_class([names[i] for i in mixed.tolist()], y[mixed], owner)
    assert torch.equal(again, place[mixed])


# ---------------------------------------------------------------------------------------------------------- candidates


@pytest.fixture
def offered(monkeypatch):
    """Backbones on offer; those of the second kind lie on this machine."""
    tiny = plugins.backbones()["visiontl/tiny"]

    def entry(name, **weights):
        return BackboneEntry(name, tiny.build, [Weights(tag, "url", license) for tag, license in weights.items()])

    made = {
        one.name: one
        for one in (
            tiny,
            entry("lab/far_a", old="mit"),
            entry("lab/near_b", new="mit", here="apache-2.0"),
            entry("lab/near_c", here="cc-by-nc-4.0"),
        )
    }
    monkeypatch.setattr(plugins, "backbones", lambda: made)
    monkeypatch.setattr(plugins, "backbone_entry", lambda name: (made[name], None))
    monkeypatch.setattr(choosing, "on_disk", lambda entry, tag: tag == "here")
    return made


def titles(*given, **more):
    found, notes = candidates(resolve("c.yaml"), Wanted(*given, **more))
    return [f"{one.name}={one.weights}" for one in found], notes


def test_what_is_on_this_machine_takes_part_and_random_weights_always(offered):
    assert titles() == (["lab/near_b=here", "lab/near_c=here", "visiontl/tiny=none"], [])
    found, notes = titles(["lab/*"], licenses=["Apache-2.0"])
    assert found == ["lab/near_b=here", "visiontl/tiny=none"]
    assert "lab/far_a; --fetch downloads" in notes[0]
    assert "near_c (here) (cc-by-nc-4.0)" in notes[1]
    assert titles(["far"], fetch=True)[0] == ["lab/far_a=old", "visiontl/tiny=none"]
    assert titles(["lab/near_b=new", "near_b"], fetch=True)[0] == [
        "lab/near_b=new",
        "lab/near_b=here",
        "visiontl/tiny=none",
    ]
    assert titles(["lab/near_b=weights/mine.pth"])[0][0] == "lab/near_b=weights/mine.pth"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("nothing", "none matches 'nothing'"),
        ("lab/far_a=old", "--fetch downloads them"),
        ("lab/far_a=older", "no weights 'older'"),
    ],
)
def test_what_cannot_take_part_is_told_in_words(offered, pattern, said):
    with pytest.raises(ConfigError, match=said):
        titles([pattern])


# ------------------------------------------------------------------------------------------------------------- verdicts


def row(title: str, right, **more) -> Ranked:
    values = np.array(right, dtype=float)
    return Ranked(Candidate(f"lab/{title}", "tag"), [float(values.mean())] * 5, right=values, ms=1.0, **more)


def test_no_winner_is_named_where_images_do_not_tell():
    draw = np.random.default_rng(0)
    best = np.ones(200)
    near, far = best.copy(), best.copy()
    near[:4], far[draw.permutation(200)[:60]] = 0, 0
    rows = [row("a", best), row("b", near), row("c", far)]
    judge(rows)
    assert [one.verdict for one in rows] == ["the best", "within noise", "worse"]
    found = Ranking(rows, "accuracy", "image", 200, 200, {"LogME": 1.0})
    from visiontl.search import ranked

    words = ranked.verdict(found, [])
    assert words[0].startswith("Too close to call by features: a (tag) leads")
    assert "b (tag)" in words[0]
    assert "c (tag)" not in words[0]
    assert "LogME (agrees, Kendall's tau 1.00)" in words[1]


def test_rounds_halve_and_end_with_the_budget(monkeypatch):
    asked = []

    def one_run(sweep, trial, part, source, console):
        asked.append((trial.name, dict(word.split("=", 1) for word in trial.words)["train.epochs"]))
        trial.values[part.label] = {"a": 0.6, "b": 0.9, "c": 0.5, "d": 0.7}[trial.name[3]]

    monkeypatch.setattr(settling, "one_run", one_run)
    monkeypatch.setattr(settling, "against_the_best", lambda sweep, trials: {})
    rows = [row(name, [1.0, 1.0]) for name in "abcd"]
    sweep = Sweep("c.yaml", (), (Part(0),), Path("runs/x"), "accuracy", "max")
    console = Console(stream=io.StringIO())
    found, notes = settling.settle(sweep, resolve("c.yaml", ["train.epochs=8"]), rows, math.inf, console)
    assert [name[:4] for name, _ in asked] == ["r1-a", "r1-b", "r1-c", "r1-d", "r2-b", "r2-d"]
    assert [epochs for _, epochs in asked] == ["2"] * 4 + ["8"] * 2
    assert [one.row.candidate.name for one in found] == ["lab/b", "lab/d", "lab/a", "lab/c"]
    assert notes == []
    asked.clear()
    found, notes = settling.settle(sweep, resolve("c.yaml", ["train.epochs=8"]), rows, 0.0, console)
    assert len(asked) == 4
    assert "the budget ends after round 1 of 2" in notes[0]


# ------------------------------------------------------------------------------------------------------------- command


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "face"])
def test_each_task_is_ranked_by_its_own_labels(task, capsys):
    small = {**plugins.task(task).small, "name": task, "data": "example"}
    Path("t.yaml").write_text(json.dumps({"task": small, "backbone": {"name": "visiontl/tiny", "weights": "none"},
                                          "loader": {"workers": 0}, "train": {"batch_size": 4}}))  # fmt: skip
    extra = ["--settle", "0", "--images", "24", "--json", "--backbones", "visiontl/tiny=none", "features.cache=memory"]
    assert cli.main(["rank", "t.yaml", *extra]) == 0
    found = json.loads(capsys.readouterr().out)
    kinds = {"classification": "image", "detection": "box", "segmentation": "pixel", "face": "image"}
    assert found["kind"] == kinds[task]
    [one] = found["backbones"]
    assert len(one["folds"]) == 5
    assert all(0 <= value <= 1 for value in [*one["folds"], one["neighbors"]])
    assert one["parameters"] == 14608
    assert "Random weights lie within" in " ".join(found["verdict"])
    assert Path(found["page"]).is_file()


@pytest.mark.parametrize(("task", "one_size"), [("classification", True), ("segmentation", True), ("detection", False)])
def test_stored_features_give_the_numbers_of_fresh_ones(task, one_size, tmp_path, monkeypatch):
    """Per image, per pixel and per box; the second ranking runs no image of one size through the backbone again."""
    small = {**plugins.task(task).small, "name": task, "data": "example"}
    given = {"task": small, "backbone": {"name": "visiontl/tiny", "weights": "none"}, "train": {"batch_size": 4},
             "loader": {"workers": 0}}  # fmt: skip
    passes: list[int] = []
    forward = feature_source.Source.forward

    def counted(self, images, ask):
        if len(images) > 1:  # one alone tells how much room they take
            passes.append(len(images))
        return forward(self, images, ask)

    monkeypatch.setattr(feature_source.Source, "forward", counted)
    found = []
    for cache in ("off", "disk", "disk"):
        passes.clear()
        row = Ranked(Candidate("visiontl/tiny", "none"))
        asked = resolve(given, [f"features.cache={cache}", f"features.folder={tmp_path / 'kept'}"])
        resolved = with_example(asked, Console(stream=io.StringIO()))
        facts = ranks_of.probe(resolved, row, 18, "tiny", Console(stream=io.StringIO()))
        found.append((row.folds, row.neighbors, row.logme, row.right.tolist(), facts, len(passes)))
    assert [one[:-1] for one in found[1:]] == [found[0][:-1]] * 2
    assert [one[-1] for one in found] == [0, 5 if one_size else 0, 0]


def test_boxes_of_images_of_one_size_are_read_from_the_store(tmp_path):
    small = {**plugins.task("detection").small, "name": "detection", "data": "example"}
    given = {"task": small, "backbone": {"name": "visiontl/tiny", "weights": "none"}, "train": {"batch_size": 2},
             "loader": {"workers": 0}}  # fmt: skip
    console, found = Console(stream=io.StringIO()), []
    for cache in ("off", "disk", "disk"):
        asked = resolve(given, [f"features.cache={cache}", f"features.folder={tmp_path / 'kept'}"])
        one = ranks_of.opened(with_example(asked, console), Candidate("visiontl/tiny", "none"))
        split = ranks_of.still_train(one.data)
        sizes = [tuple(split[id, 0]["image"].shape) for id in range(len(split))]
        ids = [id for id, size in enumerate(sizes) if size == sizes[0]]
        assert len(ids) > 1
        found.append(ranks_of.gather(one, ImagesOf(split, ids), "tiny", console))
    assert len(list((tmp_path / "kept" / "rows").iterdir())) == len(one.reader.levels)
    for other in found[1:]:
        assert other.kind == found[0].kind == "box"
        for part in ("x", "y", "owner"):
            assert torch.equal(torch.cat(getattr(other, part)), torch.cat(getattr(found[0], part)))


def test_a_backbone_is_gone_before_the_next_one_is_built(offered, monkeypatch):
    """Also one that fails: what ranking takes does not grow with the number of backbones."""
    built, alive = [], []

    def pretrained(resolved, console):
        gc.collect()
        alive.append([name for name, one in built if one() is not None])
        made = pretrained_backbone(resolved, console)
        built.append((resolved.config.backbone.name, weakref.ref(made[0])))
        return made

    def probe_scores(table):
        if len(built) == 5:
            raise RuntimeError("no kernel for this")
        return measured(table)

    measured = ranks_of.probe_scores
    monkeypatch.setattr(ranks_of, "pretrained_backbone", pretrained)
    monkeypatch.setattr(ranks_of, "probe_scores", probe_scores)
    tiny = offered["visiontl/tiny"]
    for name in ("lab/near_b", "lab/near_c"):
        offered[name] = replace(offered[name], state=lambda tag: tiny.build().state_dict())
    assert cli.main(["rank", "c.yaml", "--settle", "0", "--images", "20"]) == 0
    assert len(built) == 6  # each for its cost, and for its features
    assert alive == [[]] * 6


def test_one_that_fails_is_named_and_the_others_go_on(offered, monkeypatch, capsys):
    def failing(self, x, maps, pooled, layers) -> Features:
        raise RuntimeError("no kernel for this")

    tiny = offered["visiontl/tiny"]

    def build(**wishes):
        made = tiny.build(**wishes)
        made.extract = failing.__get__(made)
        return made

    offered["lab/near_b"] = replace(offered["lab/near_b"], build=build, state=lambda tag: tiny.build().state_dict())
    offered["lab/near_c"] = replace(offered["lab/near_c"], state=lambda tag: tiny.build().state_dict())
    assert cli.main(["rank", "c.yaml", "--settle", "0", "--images", "20"]) == 0
    out, err = capsys.readouterr()
    assert "near_b (here) failed: RuntimeError: no kernel for this" in out + err
    assert "near_c (here)" in out


def test_a_task_without_labels_is_refused_in_words(capsys):
    Path("s.yaml").write_text("task: {name: style, data: example}\nbackbone: {name: visiontl/tiny, weights: none}\n")
    assert cli.main(["rank", "s.yaml"]) == 2
    assert "does not say which labels its images have" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "soon"], "is no time"),
        (["--budget", "-3m"], "'-3m' is no time"),
        (["--backbones", ""], "a pattern is empty"),
        (["--licenses", "apache-2"], "did you mean 'apache-2.0'"),
        (["run.folder=c.yaml"], "is no folder"),
        (["--settle", "-1"], "whole number"),
    ],
)
def test_flags_are_refused_in_words(words, said, capsys):
    assert cli.main(["rank", "c.yaml", *words]) == 2
    assert said in capsys.readouterr().err


def test_an_interrupted_ranking_ends_with_130(monkeypatch, capsys):
    def cost(resolved, row):
        raise KeyboardInterrupt

    monkeypatch.setattr(ranks_of, "cost", cost)
    assert cli.main(["rank", "c.yaml"]) == 130
    assert not list(Path("runs").glob("rank-*"))


def test_nothing_but_failures_is_an_error(monkeypatch, capsys):
    def cost(resolved, row):
        raise DataError("a photo is damaged")

    monkeypatch.setattr(ranks_of, "cost", cost)
    assert cli.main(["rank", "c.yaml"]) == 2
    assert "a photo is damaged" in capsys.readouterr().err
