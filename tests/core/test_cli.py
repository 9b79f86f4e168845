"""The command line: what it says, where, with which exit code, and what it does not import."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BeforeValidator, Field

from tests.core.test_config import GOOD, ToyPlugin, make_task, nothing, write
from tests.shared import ROOT
from visiontl import Command, Section, cli, hookimpl, plugins
from visiontl.commands import COMMANDS
from visiontl.config import ready
from visiontl.config.resolve import resolve
from visiontl.errors import ConfigError, DataError, RankFailed, TrainingError
from visiontl.report.console import Console


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setenv("VISIONTL_PLUGINS", "")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(cli, "WAIT_FOR_RANK_0", 0.0)
    count = Command("count", "counts to N", lambda parser: parser.add_argument("n", type=int), count_to)
    plugins.reset()
    plugins.register(ToyPlugin(make_task(commands=(count,)), make_task("quiet")), "toy")
    yield
    plugins.reset()


def count_to(arguments) -> int:
    print(*range(arguments.n))
    return 3 if arguments.n > 5 else 0


REPORT = {
    "run": "runs/one",
    "status": "finished",
    "scores": {"val": {"loss": 2.5, "accuracy": 0.875, "odd": math.nan}, "test": {"names": ["x"]}},
    "training": {"best": {"score": "accuracy", "value": 0.875}},
}


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list:
    """The three heavy functions replaced by a record of how they were called."""
    made: list = []

    def stub(module: str, **functions):
        fake = types.ModuleType(f"visiontl.{module}")
        for name, function in functions.items():
            setattr(fake, name, function)
        monkeypatch.setitem(sys.modules, f"visiontl.{module}", fake)
        package, _, name = module.rpartition(".")
        monkeypatch.setattr(importlib.import_module(f"visiontl.{package}"), name, fake, raising=False)

    def train(run, dry_run):
        made.append((run.config.train.epochs, dry_run))
        print("from a library")
        return REPORT

    def evaluate(*arguments, **options):
        made.append((*arguments, options))
        return REPORT

    def predict_files(*arguments, **named):
        made.append((arguments, named))
        lines = [json.dumps({"file": name, "score": 0.5}) for name in ("a.jpg", "b\udcff.jpg")]
        folder.mkdir()
        (folder / "predictions.jsonl").write_text("\n".join(lines) + "\n")
        return {"folder": str(folder), "predicted": 2, "failed": {"c.jpg": "c.jpg: damaged"}}

    folder = tmp_path / "predicted"
    stub("engine.train", train=train)
    stub("engine.evaluate", evaluate=evaluate)
    stub("engine.predict", predict_files=predict_files)
    stub("processes.ranks", shutdown=lambda: made.append("shutdown"))
    return made


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_overrides_and_options_of_train_stand_in_any_order(capsys, calls, tmp_path):
    path = write(tmp_path, GOOD)
    assert run(capsys, "train", path, "train.epochs=3", "--dry-run", "optim.lr=1e-3") == (
        0,
        "from a library\n",
        "",
    )
    assert calls == [(3, True), "shutdown"]


def test_config_errors_come_all_at_once_without_a_trace(capsys, calls, tmp_path):
    path = write(tmp_path, GOOD + "  nme: x\n")
    code, out, err = run(capsys, "train", path, "train.epoch=3")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}: 2 errors\n")
    assert "did you mean 'name'" in err
    assert "did you mean 'epochs'" in err
    assert "Traceback" not in err
    assert calls == ["shutdown"]
    code, _, err = run(capsys, "--debug", "train", path)
    assert code == 2
    assert "Traceback" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    {
        ("trian",): "no command 'trian'; did you mean 'train' or 'rank'?",
        ("--versio",): "unknown option '--versio'",
        ("nonsense",): "no task 'nonsense'",
        ("train",): "the following arguments are required: CONFIG; see `visiontl train --help`",
        ("train", "a.yaml", "--dryrun"): "unknown argument '--dryrun'; did you mean '--dry-run'?",
        ("train", "absent.yaml"): "absent.yaml: no such file",
        ("train", "resume=runs/x"): "the run's own config comes before it: runs/x/config.yaml resume=runs/x",
        ("evaluate", "absent.yaml"): "absent.yaml: no such file",
        ("evaluate", "run", "one", "two"): "one data set was expected; got one, two",
        ("predict", "run"): "no images",
        ("predict", "run", "top_k=3"): "no images",
        ("predict", "run", "a.jpg", "top_k=[3"): "option 'top_k=[3': not valid YAML",
        ("predict", "run", "a.jpg", "--out"): "expected one argument",
        ("list",): "the following arguments are required: WHAT",
        ("list", "task"): "cannot list 'task'; did you mean 'tasks'?",
        ("list", "tasks", "tyo"): "none of the tasks matches 'tyo'; did you mean 'toy'?",
        ("config",): "no config; name a file",
        ("config", "--schema", "tyo"): "tyo: no such file",
        ("toy", "cuont"): "task 'toy' has no command 'cuont'; did you mean 'count'?",
        ("toy", "count"): "the following arguments are required: n; see `visiontl toy count --help`",
        ("toy", "count", "x"): "invalid int value: 'x'",
        ("quiet", "count"): "it has none",
    }.items(),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_named_and_end_with_code_2(capsys, calls, arguments, said):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


class Sorts(Section):
    """A task's own section: a shorthand, a switch, and names that the core has too."""

    data: Annotated[Section, BeforeValidator(lambda value: {} if isinstance(value, str) else value)] = Section()
    flip: bool = True
    mixup: float = 0.0
    name_of_head: Literal["linear", "original"] = "linear"


MEANT = {
    "--epochs 5": "train.epochs=5",
    "--epochs=5": "train.epochs=5",
    "--lr 0.1 --batch-size 16 --seed 1": "optim.lr=0.1 train.batch_size=16 train.seed=1",
    "--learning_rate -0.1": "optim.lr=-0.1",
    "--model resnet50 --pretrained": "backbone.name=resnet50 backbone.weights=default",
    "--pretrained false": "backbone.weights=none",
    "--data photos": "task.data=photos",
    "--output DIR": "run.folder=DIR",
    "-o DIR": "run.folder=DIR",
    "-j 4": "loader.workers=4",
    "--resume": "resume=auto",
    "--resume runs/one": "resume=runs/one",
    "--compile --dry-run": "train.compile=true --dry-run",
    "--no-flip": "task.flip=false",
    "--flip --mixup .5": "task.flip=true task.mixup=.5",
    "--fp16": "train.precision=fp16",
    "--freeze all": "freeze.policy=all",
    "--train-epochs 3": "train.epochs=3",
    "--optim.lr 1": "optim.lr=1",
    "--epchs 5": "train.epochs=5",
    "--name-of-head linear": "task.name_of_head=linear",
    "--tracker tensorboard": "run.trackers=tensorboard",
}


@pytest.mark.parametrize(("typed", "meant"), MEANT.items(), ids=MEANT)
def test_flags_of_other_programs_are_answered_with_the_line_that_is_meant(capsys, calls, tmp_path, typed, meant):
    plugins.register(ToyPlugin(make_task("sorts", config=Sorts)), "sorts")
    path = str(write(tmp_path, GOOD.replace("toy", "sorts").replace("colors: 3", "flip: true")))
    code, out, err = run(capsys, "train", path, *typed.split(), "run.name=x")
    assert (code, out) == (2, "")
    assert f"`visiontl train {path} {meant} run.name=x`" in err
    assert calls == ["shutdown"], "nothing is run by a guess"


def test_flags_without_a_right_form_are_told_why(capsys, tmp_path):
    path = write(tmp_path, GOOD)
    for flag in ("--device=cuda", "--device cuda", "--gpu 0", "--cpu"):
        code, _, err = run(capsys, "train", path, *flag.split())
        assert (code, "ACCELERATE_USE_CPU=1" in err, "CUDA_VISIBLE_DEVICES=1" in err) == (2, True, True)
    assert "--num_processes 8" in run(capsys, "train", path, "--num-gpus", "2")[2]
    _, _, err = run(capsys, "train", path, "--gpu", "0", "--epochs", "5")
    assert "write train.epochs=5" in err
    assert "the whole line" not in err
    assert "`visiontl config CONFIG` prints them all" in run(capsys, "train", path, "--nonsense", "3")[2]
    assert "CONFIG stands without a name" in run(capsys, "train", "--config", path)[2]
    assert "RUN stands without a name" in run(capsys, "predict", "--model", "runs/x", "a.jpg")[2]
    assert "IMAGE stands without a name" in run(capsys, "predict", "runs/x", "--source", "a.jpg")[2]
    assert (
        "did you mean '--out'? `visiontl predict runs/x a.jpg --out d`"
        in run(capsys, *["predict", "runs/x", "a.jpg", "--output", "d"])[2]
    )


def test_keys_without_their_section_are_answered_with_the_whole_key(capsys, tmp_path):
    path = write(tmp_path, GOOD)
    answers = {
        "epochs=5": "did you mean 'train.epochs'?",
        "lr=0.1": "did you mean 'optim.lr'?",
        "batch=16": "did you mean 'train.batch_size'?",
        "model=resnet50": "did you mean 'backbone.name'?",
        "train.workers=3": "did you mean 'loader.workers'?",
        "backbone.pretrained=true": "did you mean 'backbone.weights'?",
        "optimizer=sgd": "did you mean 'optim.name'?",
        "optimizer.lr=0.1": "did you mean 'optim'?",
        "freeze=all": "did you mean freeze.policy=all?",
        "data=photos": "did you mean task.data=photos?",
        "device=cuda": "ACCELERATE_USE_CPU=1",
        "train.device=cpu": "ACCELERATE_USE_CPU=1",
        "run.gpus=2": "--num_processes 8",
    }
    for override, said in answers.items():
        code, _, err = run(capsys, "train", path, override)
        assert (code, said in err) == (2, True), (override, err)


def test_a_tracker_may_be_a_word(tmp_path):
    for value, trackers in {"tensorboard": ["tensorboard"], "a, b": ["a", "b"], "[a]": ["a"], "[]": []}.items():
        resolved = resolve(write(tmp_path, GOOD), [f"run.trackers={value}"])
        assert resolved.config.run.trackers == trackers


def test_runs_and_configs_in_the_place_of_the_other_are_told_apart(capsys, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, GOOD, "photos.yaml")
    assert (
        "no run of it is in runs: `visiontl train photos.yaml` makes one" in run(capsys, "predict", path.name, "a")[2]
    )
    for number, name in enumerate(("photos-1", "renamed", "other", "untrained")):
        (folder := tmp_path / "runs" / name / "model").mkdir(parents=True)
        write(folder.parent, GOOD + ("  seed: 7\n" if name == "other" else ""), "config.yaml")
        os.utime(folder.parent / "config.yaml", (number, number))
    (tmp_path / "runs" / "untrained" / "model").rmdir()
    line = "its newest run: `visiontl predict runs/renamed a.jpg top_k=3`; before it runs/photos-1\n"
    assert run(capsys, "predict", "photos.yaml", "a.jpg", "top_k=3")[2].endswith(line)
    for command in ("predict", "evaluate"):
        assert "did you mean 'runs/renamed'?" in run(capsys, command, "runs/renamd", "x")[2]
        assert "newest runs in runs are untrained, other, renamed and 1 more" in run(capsys, command, "runs/z", "x")[2]
    _, _, err = run(capsys, "train", "runs/renamed")
    assert "it is a run, made of the config runs/renamed/config.yaml: with resume=runs/renamed behind it" in err
    assert "task.data=runs" in run(capsys, "train", "runs")[2]
    for name in ("report.html", "model/model.safetensors"):
        (tmp_path / "runs" / "renamed" / name).write_text("<!doctype html>")
        line = f"runs/renamed/{name}: is a file of the run runs/renamed, not a config; name the run's folder"
        assert line in run(capsys, "evaluate", f"runs/renamed/{name}")[2]


def test_words_of_other_programs_for_commands(capsys, tmp_path):
    for word, meant in {"Train": "train", "fit": "train", "eval": "evaluate", "ls": "list", "infer": "predict"}.items():
        assert f"no command {word!r}; did you mean {meant!r}?" in run(capsys, word, "x")[2]
    assert "to train that config: visiontl train a.yaml" in run(capsys, "a.yaml")[2]
    assert run(capsys, "help", "train") == run(capsys, "train", "--help") == run(capsys, "train", "x", "-h")
    assert run(capsys, "help", "toy", "count") == run(capsys, "toy", "count", "--help")
    assert run(capsys, "-V") == run(capsys, "--version")
    assert "flags stand behind the command: visiontl train ... --dry-run" in run(capsys, "--dry-run", "train", "x")[2]


def test_evaluate_tells_data_from_overrides(capsys, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a=b", "folder"):
        (tmp_path / name).mkdir()
    words = ("a=b", "train.eval_batch_size=4", "flip=true", "--split", "val", "--split", "test")
    run(capsys, "evaluate", "folder", *words)
    assert calls[0] == ("folder", "a=b", ["val", "test"], ["train.eval_batch_size=4"], None, {"flip": True})
    run(capsys, "evaluate", write(tmp_path, GOOD), "train.epochs=7")
    resolved, data, splits, overrides, *_ = calls[2]
    assert (resolved.config.train.epochs, data, splits, overrides) == (7, None, None, [])


def test_predict_tells_images_from_options(capsys, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x=1.jpg").touch()
    (tmp_path / "run").mkdir()
    run(
        capsys,
        "predict",
        "run",
        "*.jpg",
        "top_k=3",
        "x=1.jpg",
        "--no-pictures",
        "label=[a, b]",
        "--out",
        "o",
        "d/k=2.png",
    )
    assert calls[0] == (
        ("run", ["*.jpg", "x=1.jpg", "d/k=2.png"]),
        {"out": "o", "options": {"top_k": 3, "label": ["a", "b"]}, "pictures": False},
    )


class ToyOptions(Section):
    threshold: float = Field(0.5, ge=0, le=1, description="what is shown")


def test_help_of_predict_lists_the_options_of_the_run(capsys, calls, tmp_path):
    plugins.register(ToyPlugin(make_task("asked", options=ToyOptions)), "asked")
    (tmp_path / "model").mkdir()
    write(tmp_path / "model", GOOD.replace("toy", "asked"), "config.yaml")
    code, out, _ = run(capsys, "predict", tmp_path, "--help")
    assert code == 0
    assert out.startswith("usage: visiontl predict")
    assert "options of task asked (name=value):\n  threshold=0.5  what is shown" in out
    assert "lists the options of that run" in run(capsys, "predict", "--help")[1]
    code, _, err = run(capsys, "predict", tmp_path, "x.jpg", "threshold=2", "treshold=0.5")
    assert code == 2
    assert "option threshold=2: threshold: got 2; expected a number of at most 1" in err
    assert "option treshold=0.5: treshold: unknown key; did you mean 'threshold'?" in err
    assert calls == ["shutdown"] * 3, "refused before anything heavy was imported"


def test_help_names_every_command_and_option(capsys):
    code, out, err = run(capsys, "--help")
    assert (code, err) == (0, "")
    assert out == run(capsys)[1]
    column = out.index(COMMANDS["train"].help) - out.index("  train ")
    for name, command in COMMANDS.items():
        assert f"  {name:<{column - 2}}{command.help}\n" in out
        code, own, _ = run(capsys, name, "--help")
        assert code == 0
        assert own.startswith(f"usage: visiontl {name}")
    assert "--dry-run" in run(capsys, "train", "-h")[1]
    assert run(capsys, "--version")[1].startswith("visiontl ")


def test_tasks_bring_their_own_commands(capsys):
    assert run(capsys, "toy", "count", "4") == (0, "0 1 2 3\n", "")
    assert run(capsys, "toy", "count", "6")[0] == 3
    assert "count  counts to N" in run(capsys, "toy")[1]
    assert "no commands of its own" in run(capsys, "quiet", "--help")[1]
    code, out, _ = run(capsys, "toy", "count", "--help")
    assert code == 0
    assert "usage: visiontl toy count" in out


def test_a_command_from_outside_is_one_like_ours(capsys, monkeypatch):
    monkeypatch.setenv("VISIONTL_PLUGINS", "hello")
    plugins.reset()
    assert "installed plugins: " in (overview := run(capsys, "--help")[1])
    assert "hello" in overview
    assert "commands: hello" in run(capsys, "list", "plugins")[1]
    assert "greet somebody" in run(capsys, "list", "commands", "hello")[1]
    assert run(capsys, "hello", "ann", "--loud", "bob") == (0, "HELLO, ANN\nHELLO, BOB\n", "")
    assert run(capsys, "hello", "times=2", "ann") == (0, "hello, ann and ann\n", "")
    assert "  times=1  how often" in run(capsys, "hello", "--help")[1]
    assert "option times=0: times: got 0; expected a number of at least 1" in run(capsys, "hello", "ann", "times=0")[2]
    assert "'--times'; it is an option: times=VALUE" in run(capsys, "hello", "ann", "--times", "2")[2]
    assert (
        "write train.epochs=2: `visiontl train x.yaml train.epochs=2`"
        in run(capsys, "train", "x.yaml", "--train.epochs", "2")[2]
    )
    assert run(capsys, "hello", "--help")[1].startswith("usage: visiontl hello")
    assert run(capsys, "hello", "4") == (2, "", "error: '4' is no name; letters were expected\n")
    code, _, err = run(capsys, "hello")
    assert (code, err) == (
        2,
        "error: the following arguments are required: NAME; see `visiontl hello --help`\n",
    )
    assert "unknown argument '--lout'; did you mean '--loud'?" in run(capsys, "hello", "ann", "--lout")[2]
    assert "no command 'helo'; did you mean 'hello'?" in run(capsys, "helo")[2]


def offering(*commands: object) -> object:
    class Offers:
        @hookimpl
        def visiontl_commands(self):
            return list(commands)

    return Offers()


def test_commands_that_clash_or_cannot_be_called_are_named_and_stop_nobody(capsys, calls, tmp_path):
    def said(given) -> None:
        print("done")

    plugins.register(offering(Command("both", "", nothing, said), Command("one", "", nothing, said)), "first")
    plugins.register(offering(Command("both", "", nothing, said), Command("Odd name", "", nothing, said)), "second")
    assert run(capsys, "one")[:2] == (0, "done\n")
    both = "command 'both' is offered by plugin 'first' and by plugin 'second'"
    odd = "command 'Odd name': a name of small letters, digits and hyphens was expected"
    code, _, err = run(capsys, "both")
    assert code == 2
    assert both in err
    assert "a name of small letters" in run(capsys, "Odd name")[2]
    code, _, err = run(capsys, "train", write(tmp_path, GOOD))
    assert code == 0
    assert both in err
    assert odd in err
    plugins.register(offering(Command("list", "", nothing, said)), "third")
    code, out, err = run(capsys, "list", "policies")
    assert (code, "gradual" in out) == (0, True), "ours stays where another of its name is installed"
    assert "command 'list' is offered by plugin 'visiontl.commands' (visiontl 0.1.0) and by plugin 'third'" in err


def test_ready_configs_are_listed_and_copied_but_nothing_is_overwritten(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "configs")
    assert code == 0
    assert "  classification/quickstart " in out
    assert "Six kinds of drawn creatures told apart by a linear layer" in out
    assert all(line.count("(") == line.count(")") for line in out.splitlines()), "a sentence cut off in a bracket"
    assert run(capsys, "configs", "cp", "face/quickstart") == (0, "quickstart.yaml\n", "")
    assert (tmp_path / "quickstart.yaml").read_text() == ready.configs()["face/quickstart"].read_text()
    assert run(capsys, "configs", "cp", "accelerate/one_cpu", "mine.yaml")[0] == 0
    for arguments, said in {
        ("cp", "style/quickstart"): "quickstart.yaml is there already; nothing is overwritten",
        ("cp", "style/quikstart"): "no ready config 'style/quikstart'; did you mean 'style/quickstart'",
        ("cp",): "which one?",
        ("mv", "style/quickstart"): "cannot 'mv' a config",
    }.items():
        code, _, err = run(capsys, "configs", *arguments)
        assert (code, said in err) == (2, True), err


def test_a_config_of_the_package_is_named(capsys, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ready.configs(), "toys/one", write(tmp_path, GOOD, "elsewhere.yaml"))
    for command in ("train", "evaluate"):
        assert run(capsys, command, "toys/one", "train.epochs=3")[::2] == (0, "config toys/one of the package\n")
    assert calls[0] == (3, False)
    assert calls[2][0].source == "package:toys/one.yaml"
    assert "toys/one" not in run(capsys, "config", "toys/one")[1]


def test_lists(capsys):
    code, out, _ = run(capsys, "list", "tasks")
    assert code == 0
    assert "Sorts drawings" in out
    assert "quiet" not in run(capsys, "list", "tasks", "t*")[1]
    _, out, _ = run(capsys, "list", "policies")
    for name in plugins.policies():
        assert f"  {name} " in out
    assert "gradual" in run(capsys, "list", "policies", "radu")[1]
    assert "tasks: quiet, toy" in run(capsys, "list", "plugins")[1].replace("toy, quiet", "quiet, toy")
    _, out, _ = run(capsys, "list", "backbones", "tiny")
    assert "visiontl/tiny" in out
    assert "embed width" in out


def test_config_prints_the_whole_file_and_the_schema(capsys, tmp_path):
    path = write(tmp_path, GOOD)
    code, out, _ = run(capsys, "config", path, "train.epochs=4")
    assert code == 0
    assert "  epochs: 4 " in out
    again = write(tmp_path, out, "again.yaml")
    assert run(capsys, "config", again)[1] == out
    for arguments in ([], ["toy"], [path]):
        code, out, _ = run(capsys, "config", "--schema", *arguments)
        assert code == 0
        task = json.loads(out)["properties"]["task"]
        assert ("properties" in task) == bool(arguments)


def test_failures_are_one_line_with_their_own_code(capsys, monkeypatch, calls, tmp_path):
    path = write(tmp_path, GOOD)

    def failing(error):
        def train(*_, **__):
            raise error

        monkeypatch.setattr(sys.modules["visiontl.engine.train"], "train", train)
        return run(capsys, "train", path)

    assert failing(TrainingError("the loss is nan"))[::2] == (1, "error: the loss is nan\n")
    assert failing(DataError("x.jpg: damaged"))[::2] == (2, "error: x.jpg: damaged\n")
    assert failing(KeyboardInterrupt())[::2] == (130, "interrupted\n")
    code, _, err = failing(ValueError("a\nb"))
    assert code == 1
    assert err.startswith("error: ValueError: a b (test_cli.py:")
    assert err.endswith("run again with --debug for the trace\n")
    code, _, err = failing(DataError("bad \udcff name"))
    assert "\\udcff" in err
    full = OSError(28, "No space left on device", "runs/a/x.json")
    advice = "make room on that disk, then run it again"
    assert failing(full)[::2] == (2, f"error: runs/a/x.json: No space left on device; {advice}\n")
    assert failing(RankFailed("rank 0 ended", said=True))[::2] == (1, "")
    assert calls.count("shutdown") == 7


def test_other_ranks_say_who_they_are(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    code, _, err = run(capsys, "train", "absent.yaml")
    assert code == 2
    assert err.startswith("rank 3: error: absent.yaml")


def test_broken_plugins_are_warned_of_and_do_not_stop_others(capsys, calls, tmp_path):
    plugins.register(ToyPlugin(make_task("ancient", contract=0)), "ancient")
    path = write(tmp_path, GOOD)
    code, _, err = run(capsys, "train", path)
    assert code == 0
    assert err.startswith("warning: plugin 'ancient' is broken: task 'ancient' was written for contract 0")


def test_a_closed_pipe_is_no_error(tmp_path):
    command = f"{sys.executable} -c 'import sys; from visiontl.cli import main; sys.exit(main())'"
    script = f"{command} config --schema | head -1"
    done = subprocess.run(script, shell=True, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=300)
    assert done.stdout == "{\n"
    assert done.stderr == ""


def environment(**more: str) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


LIGHT = """
import contextlib, io, json, sys, time
from visiontl.cli import main
out = {}
for arguments in json.loads(sys.argv[1]):
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = main(arguments)
    heavy = sorted({"torch", "torchvision", "timm", "accelerate", "matplotlib", "rich"} & set(sys.modules))
    out[" ".join(arguments)] = [code, stdout.getvalue(), stderr.getvalue(), heavy]
print(json.dumps(out))
"""


def test_help_config_errors_and_lists_import_no_torch(tmp_path):
    """With every installed plugin loaded, the built-in ones included."""
    tasks = built_in_tasks()
    files = {
        name: str(write(tmp_path, f"task: {{name: {name}, nonsense: 1}}\nbackbone: {{name: 5}}\n", f"{name}.yaml"))
        for name in tasks
    }
    commands = [["--help"], ["train", "--help"], ["list", "tasks"], ["list", "policies"], ["list", "plugins"]]
    commands += [["list", "backbones", "resnet*"], ["list", "backbones", "tiny"]]
    commands += [["train", path] for path in files.values()] + [["evaluate", path] for path in files.values()]
    commands += [["config", "--schema", name] for name in tasks]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={k: v for k, v in environment().items() if k not in ("VISIONTL_PLUGINS", "RANK")},
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for command, (code, _, err, heavy) in answers.items():
        assert heavy == [], command
        assert code == (2 if ".yaml" in command else 0), (command, err)
    for name, path in files.items():
        assert "task.nonsense: unknown key" in answers[f"train {path}"][2]
        assert "backbone.name: got 5; expected text" in answers[f"train {path}"][2]
        assert json.loads(answers[f"config --schema {name}"][1])


def built_in_tasks() -> list[str]:
    """The tasks whose packages lie in plugins/ and are installed."""
    from importlib.metadata import entry_points

    here = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    return sorted(point.name for point in entry_points(group="visiontl") if point.value.partition(":")[0] in here)


@pytest.mark.parametrize("tool", ["train", "evaluate", "predict"])
def test_the_launch_targets_are_the_same_commands(tool):
    arguments = {"train": ["absent.yaml"], "evaluate": ["absent.yaml"], "predict": ["absent"]}[tool]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(VISIONTL_PLUGINS=""),
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "__main__" in (ROOT / "tools" / f"{tool}.py").read_text()


def test_user_errors_are_printed_without_a_trace_even_if_they_are_config_errors_of_plugins(capsys, calls, tmp_path):
    def careless(arguments):
        raise ConfigError(["one", "two"], "file")

    command = Command("fail", "fails", nothing, careless)
    plugins.register(ToyPlugin(make_task("failing", commands=(command,))), "failing")
    code, _, err = run(capsys, "failing", "fail")
    assert code == 2
    assert err == "error: file: 2 errors\n  - one\n  - two\n"
    assert Path(cli.__file__).exists()


def test_json_is_one_document_on_stdout_and_all_else_on_stderr(capsys, calls, tmp_path):
    path = write(tmp_path, GOOD)
    (tmp_path / "run").mkdir()
    for command in (["train", path], ["evaluate", path], ["evaluate", tmp_path / "run"]):
        code, out, _ = run(capsys, *command, "--json")
        assert code == 0
        assert json.loads(out)["scores"]["val"] == {"loss": 2.5, "accuracy": 0.875, "odd": None}
        assert out.count("\n") == 1
    assert "from a library" in run(capsys, "train", "--json", path)[2]
    code, out, _ = run(capsys, "predict", tmp_path / "run", "*.jpg", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"file": "a.jpg", "score": 0.5},
        {"file": "b\udcff.jpg", "score": 0.5},
        {"file": "c.jpg", "error": "c.jpg: damaged"},
    ]
    assert out.isascii()
    assert code == 0
    values = json.loads(run(capsys, "config", path, "train.epochs=7", "--json")[1])
    assert (values["task"]["name"], values["train"]["epochs"]) == ("toy", 7)
    found = json.loads(run(capsys, "list", "tasks", "--json")[1])
    assert [row["task"] for row in found] == ["quiet", "toy"]
    assert "classification/quickstart" in [row["config"] for row in json.loads(run(capsys, "configs", "--json")[1])]


@pytest.mark.parametrize(
    "words",
    [
        *("train absent.yaml --json", "train --json", "trian --json", "list tasks nosuch --json", "evaluate no --json"),
        *("predict no a.jpg --json", "train x --epochs 5 --json", "doctor no.yaml --json", "doctor --json no.yaml"),
    ],
)
def test_json_is_valid_on_errors_too(capsys, calls, words):
    code, out, err = run(capsys, *words.split())
    assert (code, json.loads(out)["exit_code"]) == (2, 2)
    assert err == f"error: {json.loads(out)['error']}\n"


def test_json_of_a_failure_has_its_exit_code(capsys, calls, tmp_path, monkeypatch):
    errors: list[BaseException] = []

    def train(*_, **__):
        print("before")
        raise errors.pop()

    monkeypatch.setattr(sys.modules["visiontl.engine.train"], "train", train)
    path = write(tmp_path, GOOD)
    for error, code, said in (
        (TrainingError("the loss is nan"), 1, "the loss is nan"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RankFailed("rank 1 ended", said=True), 1, "rank 1 ended"),
    ):
        errors.append(error)
        assert run(capsys, "train", path, "--json")[:2] == (code, json.dumps({"error": said, "exit_code": code}) + "\n")
    monkeypatch.setenv("RANK", "1")
    errors.append(TrainingError("x"))
    assert run(capsys, "train", path, "--json")[1] == "", "the main process alone answers"


def test_where_the_json_of_doctor_goes(capsys, monkeypatch):
    seen = []
    command = COMMANDS["doctor"]
    monkeypatch.setitem(
        COMMANDS,
        "doctor",
        Command("doctor", "", command.arguments, lambda given: seen.append((given.config, given.json))),
    )
    for words in ("x.yaml --json", "--json x.yaml", "--json x.yaml a.b=c", "x.yaml --json a.b=c", "x.yaml --json -h"):
        run(capsys, "doctor", *words.replace(" -h", "").split())
        assert seen.pop() == ("x.yaml", "-"), words
    for words in ("x.yaml --json f.json", "--json f.json x.yaml", "x.yaml a.b=c --json f.json", "x.yaml --json=f.json"):
        run(capsys, "doctor", *words.split())
        assert seen.pop() == ("x.yaml", "f.json"), words
    run(capsys, "doctor", "x.yaml", "--json", "found")
    assert seen.pop() == ("x.yaml", "found")


def test_quiet_leaves_warnings_and_one_line(capsys, calls, tmp_path, monkeypatch):
    def train(run, dry_run):
        console = Console()
        console.say("said", keep=True)
        console.table("t", ["a"], [[1]])
        console.write("written")
        with console.progress(total=2) as bar:
            bar.update(1)
            bar.update(2)
        console.warn("careful")
        return REPORT

    monkeypatch.setattr(sys.modules["visiontl.engine.train"], "train", train)
    monkeypatch.setitem(ready.configs(), "toys/one", write(tmp_path, GOOD, "elsewhere.yaml"))
    line = "val accuracy 0.8750; finished: runs/one\n"
    for flag in ("-q", "--quiet"):
        assert run(capsys, "train", flag, "toys/one") == (0, f"warning: careful\n{line}", "")
    assert "said\n" in run(capsys, "train", "toys/one")[1]
    assert run(capsys, "train", "toys/one", "-q", "--json")[2] == "warning: careful\n"
    (tmp_path / "run").mkdir()
    said = f"2 predicted, 1 could not be read; {tmp_path / 'predicted'}\n"
    assert run(capsys, "predict", tmp_path / "run", "x.jpg", "-q") == (0, said, "")


def test_verbose_shows_the_config_and_the_trace(capsys, calls, tmp_path, monkeypatch):
    path = write(tmp_path, GOOD)
    _, out, err = run(capsys, "train", path, "-v")
    assert "\n  epochs: 10\n" in err
    assert "epochs" not in out

    def failing(*_, **__):
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(sys.modules["visiontl.engine.train"], "train", failing)
    assert "Traceback" in run(capsys, "train", path, "--verbose")[2]


def test_a_warning_of_a_library_is_one_line_and_said_once(capsys, monkeypatch):
    def warning(given):
        for number in range(3):
            exec(compile(f"import warnings\nwarnings.warn('old\\n name')\n# {number}", f"lib{number}.py", "exec"))
        warnings.warn("another", DeprecationWarning, stacklevel=1)  # which Python shows to nobody

    plugins.register(offering(Command("noisy", "", nothing, warning)), "noisy")
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore", DeprecationWarning)
        code, out, err = run(capsys, "noisy")
        assert (code, out, err) == (0, "", "warning: old name (UserWarning of lib0.py:2)\n")
        monkeypatch.setenv("RANK", "1")
        assert run(capsys, "noisy")[2] == ""
