"""`visiontl quickstart`, and the command that a finished run prints for going on."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Drawing
from PIL import Image

from visiontl import cli, plugins
from visiontl.commands import quickstart
from visiontl.config import ready
from visiontl.config.resolve import resolve
from visiontl.engine import train as training
from visiontl.engine.onward import next_command
from visiontl.errors import Stopped, WeightsError
from visiontl.task import Data

QUICK = [name.partition("/")[0] for name in ready.runs() if name.endswith("/quickstart")]
SMALL = ("task.data=example", "backbone.image_size=64", "train.epochs=2")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Figures of reports cost more than these runs; tests of reports draw them."""
    drawn = Drawing.savefig

    def unless_inline(self, out, **options):
        out.write("<svg></svg>") if isinstance(out, io.StringIO) else drawn(self, out, **options)

    monkeypatch.setattr(Drawing, "savefig", unless_inline)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained(monkeypatch):
    """Runs that only say that they ran: task -> what comes of it. What was asked for is listed."""
    asked = []

    def setting(outcomes, rulers=None):
        def train(config, *overrides):
            asked.append((config, overrides))
            came = outcomes[config.partition("/")[0]]
            if callable(came):
                came = came("backbone.weights=none" in overrides)
            if isinstance(came, BaseException):
                raise came
            scores = {"best": {"score": "accuracy"}, "scores": {"val": {"accuracy": came}}, "run": "runs/x"}
            return (
                scores if rulers is None else scores | {"trivial": {"val": {"answer": "a", "value": rulers(overrides)}}}
            )

        monkeypatch.setattr(training, "train", train)
        return asked

    return setting


def cells(out: str, task: str) -> list[str]:
    line = next(line for line in out.splitlines() if re.match(rf"\s+{task}\s\s", line))
    return re.split(r"\s{2,}", line.strip())


def test_a_quick_start_and_random_weights_stand_side_by_side(capsys):
    assert cli.main(["quickstart", "classification", *SMALL]) == 0
    out = capsys.readouterr().out
    task, score, reached, random, seconds, page = cells(out, "classification")
    assert (task, score) == ("classification", "accuracy (test)")
    folder = Path(page).parent
    beside = folder.with_name(folder.name.replace("classification-", "classification-random-"))
    found = [json.loads((run / "report.json").read_text())["scores"]["test"]["accuracy"] for run in (folder, beside)]
    assert [float(reached), float(random)] == pytest.approx(found, abs=1e-4)
    assert "weights: none" in (beside / "config.yaml").read_text()
    assert "weights: package" in (folder / "config.yaml").read_text()
    assert int(seconds) >= 0
    assert Path(page).is_file()
    shown = re.findall(r"^next: +visiontl (.*)$", out, re.MULTILINE)
    assert shown[0] == f"predict {folder} runs/example-classification/shapes/test"
    assert cli.main(shlex.split(shown[0])) == 0
    assert "45 predicted" in capsys.readouterr().out


@pytest.mark.parametrize("task", QUICK)
def test_each_quick_start_trains_reports_and_says_what_comes_next(task, capsys):
    """As shipped, but for an epoch on the example and with the sizes that the task itself calls small."""
    small = [f"task.{key}={json.dumps(value)}" for key, value in plugins.task(task).small.items()]
    report = training.train(f"{task}/quickstart", *small, "train.epochs=1", *SMALL[:2])
    assert report["backbone"]["weights"] == "package"
    assert report["backbone"]["loaded"]["values"]["matched"] == report["backbone"]["loaded"]["values"]["total"]
    assert (Path(report["run"]) / "report.html").is_file()
    (going_on,) = re.findall(r"^next: +visiontl (predict .*)$", capsys.readouterr().out, re.MULTILINE)
    assert cli.main(shlex.split(going_on)) == 0
    assert "0 predicted" not in capsys.readouterr().out


@pytest.mark.parametrize("task", QUICK)
def test_a_quick_start_is_made_of_samples_and_embedded_weights(task):
    file = ready.runs()[f"{task}/quickstart"]
    resolved = resolve(f"{task}/quickstart")
    assert resolved.made == "samples"
    assert (resolved.config.backbone.name, resolved.config.backbone.weights) == ("tf_efficientnet_lite0", "package")
    header = file.read_text(encoding="utf-8").partition("\ntask:")[0]
    assert f"#   visiontl train {task}/quickstart" in header
    measured = " ".join(header.partition("Measured: ")[2].replace("#", " ").split())
    assert re.search(
        r"\d\.\d+ on (test|val).* random weights .*\d+ s of CPU.* seed 0, .*cores of .*, 20\d\d-\d\d-\d\d\.$",
        measured,
    )


def test_every_task_with_a_quick_start_runs_and_what_fails_is_a_row(trained, capsys):
    every = [task for task in plugins.tasks() if task in QUICK]
    assert len(every) == 6
    asked = trained({**dict.fromkeys(every, 0.5), every[1]: WeightsError("the file is damaged\nsecond line")})
    assert cli.main(["quickstart", "--no-random"]) == 1
    said = capsys.readouterr()
    assert [config for config, _ in asked] == [f"{task}/quickstart" for task in every]
    assert "failed: the file is damaged" in cells(said.out, every[1])[1]
    assert f"error: {every[1]}: the file is damaged" in said.err
    assert "0.5000" in cells(said.out, every[2])
    assert not any("backbone.weights=none" in overrides for _, overrides in asked)
    assert "random weights" not in said.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("stop", "code"), [(KeyboardInterrupt(), 130), (Stopped("stopped and saved: resume=runs/x goes on"), 75)]
)
def test_what_is_done_is_kept_when_one_stops(trained, capsys, stop, code):
    asked = trained({"classification": lambda random: 0.25 if random else 0.75, "face": lambda random: stop})
    assert cli.main(["quickstart", "classification", "face", "style"]) == code
    out = capsys.readouterr().out
    assert cells(out, "classification")[2:4] == ["0.7500", "0.2500"]
    assert cells(out, "face")[1] == "stopped"
    assert "not run: style" in out
    assert (str(stop) or "interrupted") in out
    assert len(asked) == 3


def test_the_table_is_json_for_scripts_and_one_line_where_it_is_to_be_quiet(trained, capsys):
    trained({"face": lambda random: 0.25 if random else 0.75})
    assert cli.main(["quickstart", "face", "--json"]) == 0
    said = capsys.readouterr()
    (row,) = json.loads(said.out)
    assert [row[name] for name in ("task", "score", "reached", "random weights")] == [
        "face",
        "accuracy (val)",
        0.75,
        0.25,
    ]
    assert row["report"] == "runs/x/report.html"
    assert "== visiontl train face/quickstart" in said.err
    assert cli.main(["quickstart", "face", "-q"]) == 0
    assert capsys.readouterr().out == "face accuracy (val) 0.7500, 0.2500 with random weights\n"


def test_what_the_backbone_itself_measures_is_not_put_beside_what_random_weights_measure(trained, capsys):
    trained({"style": 2.0}, lambda overrides: 4.0 if "backbone.weights=none" in overrides else 3.0)
    assert cli.main(["quickstart", "style"]) == 0
    out = capsys.readouterr().out
    assert cells(out, "style")[2:4] == ["2.000", "-"]
    assert "style: the backbone itself measures this score" in out
    assert "worth 3.000 here, 4.000 there" in out
    trained({"style": 2.0}, lambda overrides: 3.0)
    assert cli.main(["quickstart", "style"]) == 0
    assert cells(capsys.readouterr().out, "style")[2:4] == ["2.000", "2.000"]


def test_a_stop_of_the_run_with_random_weights_keeps_the_first(trained, capsys):
    trained({"face": lambda random: KeyboardInterrupt() if random else 0.75})
    assert cli.main(["quickstart", "face"]) == 130
    assert cells(capsys.readouterr().out, "face")[2:4] == ["0.7500", "-"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clasification"], "no quick start 'clasification'; did you mean 'classification'?"),
        (["face", "train.epoch=3"], "train.epoch: unknown key; did you mean 'epochs'"),
        (["face", "--random"], "unknown argument '--random'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(trained, capsys, words, said):
    asked = trained({})
    assert cli.main(["quickstart", *words]) == 2
    assert said in capsys.readouterr().err
    assert asked == []


def test_a_launcher_is_sent_elsewhere(trained, capsys, monkeypatch):
    asked = trained({})
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert cli.main(["quickstart", "face"]) == 2
    assert "quickstart runs on one process" in capsys.readouterr().err
    assert asked == []


def test_the_better_way_is_said_where_less_is_better():
    assert quickstart.better("classification", [], "nll") == ", less is better"
    assert quickstart.better("classification", [], "accuracy") == ""


class Split:
    def __init__(self, *names):
        self.names = names

    def __len__(self):
        return len(self.names)


def going_on(data, folder="runs/x", **splits):
    config = {
        "task": {"name": "classification", "data": data},
        "backbone": {"name": "visiontl/tiny", "weights": "none"},
    }
    return next_command(resolve(config), Path(folder), Data(**splits).splits())


def photos(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(name)


def test_the_next_command_predicts_what_was_held_out():
    photos("my photos/test/a/1.jpg", "my photos/test/b/2.jpg", "my photos/train/a/3.jpg")
    train = Split("train/a/3.jpg")
    test = Split("test/a/1.jpg", "test/b/2.jpg")
    assert going_on("my photos", train=train, test=test) == "visiontl predict runs/x 'my photos/test'"
    assert going_on("my photos", train=train, val=test) == "visiontl predict runs/x 'my photos/test'"
    mixed = Split("test/b/2.jpg")
    said = going_on("my photos", train=Split("test/a/1.jpg"), val=mixed)
    assert said == "visiontl predict runs/x 'my photos/test/b'"
    said = going_on("my photos", train=Split("test/b/9.jpg"), val=mixed)
    assert said == "visiontl predict runs/x 'my photos/test/b/2.jpg'"
    assert going_on("my photos", train=train) == "visiontl predict runs/x PHOTOS"
    assert going_on("my photos", train=train, val=Split("CIFAR10 test 1")) == "visiontl predict runs/x PHOTOS"
    assert going_on("nowhere", "/r/x", train=train, test=test) == "visiontl predict /r/x PHOTOS"


def test_samples_have_new_photos_for_it():
    photos("runs/samples-classification/new/1.jpg", "runs/samples-classification/photos/test/a/2.jpg")
    said = going_on("runs/samples-classification/photos", train=Split("train/a/1.jpg"), test=Split("test/a/2.jpg"))
    assert said == "visiontl predict runs/x runs/samples-classification/new"
