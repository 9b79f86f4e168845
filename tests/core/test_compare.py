"""`visiontl compare`: what differs, what is noise, what cannot be compared, and a page that harms nothing."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.core.test_html import EVIL, Page
from visiontl import cli
from visiontl.errors import CheckpointError, ConfigError
from visiontl.report import compared, comparison, noise
from visiontl.runs.comparing import read_runs
from visiontl.runs.images import measures, read_images, write_images

CONFIG = """task: {{name: {task}, data: example}}
backbone: {{name: visiontl/tiny, weights: none}}
optim: {{lr: {lr}}}
train: {{seed: {seed}, epochs: {epochs}}}
run: {{name: {name}, folder: runs}}
"""


def made_run(folder: Path, right: dict[str, list[int]] | None = None, **config: Any) -> Path:
    """A finished run; right: per split whether each image is right, which is also its accuracy."""
    folder.mkdir(parents=True)
    settings = {"task": "classification", "lr": 0.001, "seed": 1, "epochs": 2, "name": folder.name, **config}
    text = CONFIG.format(**settings)
    (folder / "config.yaml").write_text(text)
    answers = right or {}
    report = {
        "visiontl": "0.1.0", "run": str(folder), "task": settings["task"], "status": "finished", "started": "2026",
        "command": "visiontl train", "seed": settings["seed"], "environment": {"device": settings.get("device", "CPU")},
        "data": {split: len(values) for split, values in answers.items()}, "seconds": 12.5, "config": text,
        "backbone": {"name": "visiontl/tiny", "weights": "none", "parameters": 1000}, "policy": "all", "steps": 20,
        "trainability": [{"epoch": 0, "rows": [
            {"stage": "head", "mode": "train", "parameters": 5000, "trainable": 30, "lr": 0.1},
        ]}],
        "best": {"score": "accuracy", "value": 0.5, "step": 20, "epoch": 2},
        "scores": {split: {"accuracy": float(np.mean(values)), "macro_f1": 0.4} for split, values in answers.items()},
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    for split, values in answers.items():
        write_images(folder, split, [f"{i}.jpg" for i in range(len(values))], [{"right": bool(one)} for one in values])
    lines = [
        {"step": s, "epoch": s / 10, "kind": "train", "loss": 1 / s, "images_per_second": 90 + s, "memory": 10 * s}
        for s in range(1, 21)
    ]
    lines += [{"step": s, "epoch": s / 10, "kind": "val", "accuracy": s / 40} for s in (10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder


def answers(right: int, of: int) -> list[int]:
    return [1] * right + [0] * (of - right)


def binomial(smaller: int, number: int) -> float:
    """Two-sided p of a fair coin, by counting."""
    return min(1.0, 2 * sum(math.comb(number, k) for k in range(smaller + 1)) / 2**number)


# --------------------------------------------------------------------------------------------------------------- noise


def test_shares_of_images_are_compared_image_by_image(tmp_path):
    """100 images: a is right on 12 that b is not, b on 2 that a is not. McNemar's test knows of these 14 alone."""
    a = answers(80, 100)
    b = [0] * 12 + a[12:]
    b[-2:] = [1, 1]
    runs, _ = read_runs([made_run(tmp_path / "a", {"test": a}), made_run(tmp_path / "b", {"test": b})])
    first, second = compared.verdicts(runs, "test", "accuracy")
    assert (first.words, first.test) == ("the best here", None)
    assert second.test is not None
    assert second.test.p == pytest.approx(binomial(2, 14))  # 0.0129
    assert second.test.difference == pytest.approx(-0.10)
    assert second.words == "worse, beyond noise (p 0.013)"
    assert first.interval is not None
    centre, half = (0.8 + 1.96**2 / 200) / (1 + 1.96**2 / 100), math.sqrt(0.16 / 100 + 1.96**2 / 40000)
    half *= 1.96 / (1 + 1.96**2 / 100)
    assert (first.interval.low, first.interval.high) == pytest.approx(
        (centre - half, centre + half), abs=1e-4
    )  # Wilson
    c = [0, 0, 0, *a[3:]]
    runs, _ = read_runs([made_run(tmp_path / "c", {"test": c}), tmp_path / "a"])
    assert compared.verdicts(runs, "test", "accuracy")[0].words == "within noise (p 0.250)"  # 2 * (1/2)^3


def test_numbers_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for count in (2, 5, 200):
        a, b = rng.normal(size=count), rng.normal(0.3, 2, size=count + 3)
        assert noise.paired(a, b[:count]).p == pytest.approx(stats.ttest_rel(a, b[:count]).pvalue, rel=1e-9)
        assert noise.unpaired(a, b).p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)
        assert noise.student_quantile(count - 1) == pytest.approx(stats.t.ppf(0.975, count - 1), rel=1e-9)
    for one, other in ((0, 1), (5, 5), (3, 9), (100, 150)):
        assert noise.mcnemar(one, other) == pytest.approx(stats.binomtest(one, one + other).pvalue)
    many = noise.EXACT // 2
    assert noise.mcnemar(many, many + 200) == pytest.approx(stats.binomtest(many, 2 * many + 200).pvalue, rel=5e-3)


def test_known_values_without_another_library():
    assert noise.student_quantile(1) == pytest.approx(12.7062, abs=1e-4)  # tables of Student's t
    assert noise.student_quantile(10) == pytest.approx(2.2281, abs=1e-4)
    assert noise.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 * 0.01, 2 * 0.03, then its maximum
    assert noise.mcnemar(0, 0) == 1
    perfect = noise.interval(np.ones(20))
    assert perfect is not None
    assert perfect.low < 0.85 < 1 == perfect.high  # twenty of twenty is no certainty
    assert noise.interval(np.ones(1)) is None
    assert noise.paired(np.zeros(5) + 0.5, np.zeros(5) + 0.5).p == 1


def test_several_runs_need_more_to_differ_than_two(tmp_path):
    """Against the best, p 0.03125 alone (6 of 6); with a second run of the same, Holm doubles it."""
    best, worse = answers(60, 60), [0] * 6 + [1] * 54
    for name, right in {"best": best, "b": worse, "c": worse}.items():
        made_run(tmp_path / name, {"val": right})
    two, _ = read_runs([tmp_path / "best", tmp_path / "b"])
    three, _ = read_runs([tmp_path / "best", tmp_path / "b", tmp_path / "c"])
    assert [v.words for v in compared.verdicts(two, "val", "accuracy")][1] == "worse, beyond noise (p 0.031)"
    assert [v.words for v in compared.verdicts(three, "val", "accuracy")][1:] == ["within noise (p 0.062)"] * 2


def test_seeds_of_one_config_are_a_group_with_mean_and_deviation(tmp_path):
    rights = {"a1": 70, "a2": 74, "a3": 72, "b1": 50, "b2": 53, "c": 90}
    for i, (name, right) in enumerate(rights.items()):
        made_run(tmp_path / name, {"test": answers(right, 100)}, seed=i, lr={"a": 0.1, "b": 0.2, "c": 0.3}[name[0]])
    made_run(tmp_path / "a3 again", {"test": answers(72, 100)}, seed=2, lr=0.1)  # the same seed is no second one
    runs, _ = read_runs([*(tmp_path / name for name in rights), tmp_path / "a3 again"])
    groups = compared.seeds(runs, "test", "accuracy")
    assert [[runs[place].name for place in group.places] for group in groups] == [
        ["a1", "a2", "a3"],
        ["b1", "b2"],
        ["c"],
    ]
    assert groups[0].mean == pytest.approx(0.72)
    assert groups[0].deviation == pytest.approx(0.02)  # of 70, 72, 74 with n - 1
    assert groups[2].deviation is None
    assert groups[1].words == "not known: one seed alone says nothing of seeds"  # the best has one
    runs, _ = read_runs([tmp_path / name for name in ("a1", "a2", "a3", "b1", "b2")])
    assert compared.seeds(runs, "test", "accuracy")[1].words.startswith("worse, beyond noise (p 0.0")
    runs, _ = read_runs([tmp_path / name for name in ("a1", "b1")])
    assert compared.seeds(runs, "test", "accuracy") == []


def test_what_is_not_known_is_said(tmp_path):
    plain = made_run(tmp_path / "plain", {"test": answers(3, 10)})
    old = made_run(tmp_path / "old", {"test": answers(8, 10)})
    (old / "images-test.csv").unlink()
    runs, _ = read_runs([plain, old])
    assert compared.verdicts(runs, "test", "accuracy")[0].words == "not known: old kept no numbers per image"
    other = made_run(tmp_path / "other", {"test": answers(8, 10)})
    runs, _ = read_runs([plain, other])  # macro F1 is no mean over images
    assert compared.verdicts(runs, "test", "macro_f1")[1].words.startswith(
        "not known: this score is no mean over images"
    )
    (other / "images-test.csv").write_text("file,right\n" + "".join(f"new{i}.jpg,{int(i < 8)}\n" for i in range(10)))
    runs, _ = read_runs([plain, other])
    test = compared.verdicts(runs, "test", "accuracy")[0].test
    assert test is not None
    assert (test.how, test.count) == ("Welch's t-test", 20)  # other images: unpaired
    (other / "images-test.csv").write_text("file,right\n1.jpg\n")
    runs, _ = read_runs([plain, other])
    assert any("images-test.csv is damaged and not used" in note for note in runs[1].notes)


# ------------------------------------------------------------------------------------------------- what a run keeps


def test_a_run_keeps_what_each_image_adds(tmp_path):
    rows = [
        {"true": 3, "right": np.bool_(True), "nll": np.float32(0.5), "other": [0.5], "far": math.inf},
        {"nll": 1.5},
    ]
    assert measures(rows[0]) == {"right": 1, "nll": 0.5}
    assert measures([1.0]) == {}
    write_images(tmp_path, "val", ["a,\n.jpg", "b\u2028.jpg"], rows)
    with (tmp_path / "images-val.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["file", "right", "nll"],
            ["a,\n.jpg", "1", "0.5"],
            ["b\u2028.jpg", "", "1.5"],
        ]
    found = read_images(tmp_path, "val")
    assert found is not None
    assert list(found.files) == ["a,\n.jpg", "b\u2028.jpg"]
    assert np.isnan(found.columns["right"]).tolist() == [False, True]
    assert read_images(tmp_path, "test") is None
    write_images(tmp_path, "none", ["a"], [{"count": 3}])
    assert not (tmp_path / "images-none.csv").exists()


# ------------------------------------------------------------------------------------------------------------ settings


def test_settings_that_differ_key_by_key(tmp_path):
    a = made_run(tmp_path / "a", {"val": [1, 0]}, lr=0.1)
    b = made_run(tmp_path / "b", {"val": [1, 0]}, lr=0.2, epochs=5)
    text = (b / "config.yaml").read_text().replace("data: example", "data: {folder: photos}")
    (b / "config.yaml").write_text(text)
    runs, _ = read_runs([a, b])
    assert dict(compared.differences(runs)) == {
        "optim.lr": [0.1, 0.2], "train.epochs": [2, 5],
        "task.data": ["example", None], "task.data.folder": [None, "photos"],
    }  # fmt: skip
    grid = comparison.settings_grid(runs)
    assert grid is not None
    assert ["optim.lr", "0.1", "0.2"] in grid.rows
    assert ["train.epochs", "2", "5"] in grid.rows


def test_time_and_cost(tmp_path):
    runs, _ = read_runs(
        [made_run(tmp_path / "a", {"val": [1, 0]}), made_run(tmp_path / "b", {"val": [1, 0]}, device="GPU")]
    )
    row = dict(zip(comparison.cost_grid(runs).columns, comparison.cost_grid(runs).rows[0], strict=True))
    assert row["images/s"] == "100.5"  # the median of 91 to 110
    assert row["memory"] == "0.2000 GB"  # the most of 10 to 200 megabytes
    assert (row["updates"], row["parameters trained"], row["of"], row["time"]) == ("20", "30", "5 k", "12.5 s")
    assert "the runs are of 2 different machines, so their times do not compare" in comparison.remarks(runs)


# ----------------------------------------------------------------------------------------- the command and its page


def test_the_command_prints_a_table_and_writes_a_page(tmp_path, capsys):
    a = made_run(tmp_path / "a", {"val": answers(9, 10), "test": answers(80, 100)})
    b = made_run(tmp_path / "b", {"val": answers(5, 10), "test": [0] * 60 + [1] * 40}, lr=0.5)
    assert cli.main(["compare", str(a), str(b)]) == 0
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.split()[:1] == ["b"])
    assert row.split() == [
        "b",
        "0.5000",
        "0.4000",
        "worse,",
        "beyond",
        "noise",
        "(p",
        "<",
        "0.001)",
        "12.5",
        "s",
        "100.5",
    ]
    assert "settings that differ: optim.lr" in said
    text = (tmp_path / "compare.html").read_text()
    page = Page(text)
    assert "optim.lr 0.001 0.5" in " ".join(page.text["settings"].split())
    assert "McNemar, paired, 100 images" in page.text["noise"]
    assert "http" not in text.replace("http://www.w3.org", "")  # nothing is fetched
    assert text.count("Training loss") >= 1
    assert text.count('class="swatch"') >= 2


def test_scripts_read_numbers(tmp_path, capsys):
    a = made_run(tmp_path / "a", {"test": answers(80, 100)})
    b = made_run(tmp_path / "b", {"test": [0] * 60 + [1] * 40}, lr=0.5)
    assert cli.main(["compare", str(a), str(b), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["task"], found["score"]) == ("classification", "accuracy")
    assert found["differences"] == {"optim.lr": {"a": 0.001, "b": 0.5}}
    assert [run["scores"] for run in found["runs"]] == [{"test": 0.8}, {"test": 0.4}]
    against = found["runs"][1]["against_best"]["test"]
    assert against["difference"] == pytest.approx(-0.4)
    assert against["p"] == pytest.approx(binomial(20, 80))  # a alone is right on 60, b alone on 20
    assert Path(found["page"]).is_file()


def test_a_file_of_others_is_not_overwritten(tmp_path, capsys):
    runs = [str(made_run(tmp_path / name, {"val": [1, 0]})) for name in "ab"]
    place = tmp_path / "compare.html"
    place.write_text("mine")
    assert cli.main(["compare", *runs]) == 2
    assert "is no page of `visiontl compare`" in capsys.readouterr().err
    assert place.read_text() == "mine"
    assert cli.main(["compare", *runs, "--out", str(tmp_path / "new.html")]) == 0
    assert cli.main(["compare", *runs, "--out", str(tmp_path / "new.html")]) == 0  # its own page it renews
    assert "replacing the one before" in capsys.readouterr().out
    for wrong in (tmp_path, tmp_path / "none" / "x.html"):
        assert cli.main(["compare", *runs, "--out", str(wrong)]) == 2


def test_what_cannot_be_compared_is_said_and_the_rest_goes_on(tmp_path, capsys):
    good = [made_run(tmp_path / name, {"val": [1, 0, 1]}) for name in ("a", "b")]
    other = made_run(tmp_path / "other", {"val": [1]}, task="detection")
    broken = made_run(tmp_path / "broken", {"val": [1]})
    (broken / "report.json").write_text("{")
    empty = tmp_path / "empty"
    empty.mkdir()
    going = made_run(tmp_path / "going")
    (going / "report.json").unlink()
    evaluation = made_run(tmp_path / "evaluation", {"val": [1, 1, 1]})
    values = json.loads((evaluation / "report.json").read_text())
    values = {key: value for key, value in values.items() if key not in ("policy", "trainability", "best", "steps")}
    (evaluation / "report.json").write_text(json.dumps(values | {"status": "evaluated"}))
    (evaluation / "config.yaml").unlink()
    (evaluation / "metrics.jsonl").unlink()
    folders = [*good, other, broken, empty, going, evaluation, tmp_path / "nowhere", good[0]]
    assert cli.main(["compare", *map(str, folders)]) == 0
    said = capsys.readouterr().out
    for sentence in (
        "1 of the folders stand twice",
        "other is left out: its task is detection, that of a classification",
        "broken is left out: ",
        "empty is left out: ",
        "nowhere is left out: ",
        "going is not finished: its settings and curves are shown, it has no scores yet",
        "evaluation is an evaluation: it has scores, and no training",
    ):
        assert sentence in said
    rows = [line.split()[0] for line in said.splitlines() if line.startswith("  ")]
    assert rows[2:] == ["a", "b", "going", "evaluation"]


def test_too_few_runs_are_an_error_in_words(tmp_path, capsys):
    one = made_run(tmp_path / "a", {"val": [1, 0]})
    with pytest.raises(ConfigError, match="1 run folder was given; 2 to 20"):
        read_runs([one])
    with pytest.raises(CheckpointError, match="1 of the 2 folders can be compared"):
        read_runs([one, tmp_path / "none"])
    with pytest.raises(ConfigError, match="21 run folders"):
        read_runs([one] * 21)
    assert cli.main(["compare", str(one)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_names_are_escaped_and_told_apart(tmp_path):
    evil = made_run(tmp_path / "x" / EVIL.replace("/", "_"), {"val": [1, 0]})
    same = [made_run(tmp_path / place / "run", {"val": [1, 0]}) for place in ("one", "two")]
    runs, left_out = read_runs([evil, *same])
    assert [run.name for run in runs][1:] == ["one/run", "two/run"]
    text = comparison.page(runs, [*left_out, EVIL], EVIL)
    assert "<script>alert" not in text
    Page(text)


def test_comparing_needs_no_torch(tmp_path):
    runs = [str(made_run(tmp_path / name, {"val": [1, 0]})) for name in "ab"]
    code = f"import sys; from visiontl import cli; cli.main(['compare', *{runs!r}]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
