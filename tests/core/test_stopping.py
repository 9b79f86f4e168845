"""Stopping and going on: signals, ranks that fail, and the run that `resume` and `init` choose."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import visiontl
from tests.shared import ROOT
from visiontl import cli, plugins
from visiontl.commands import COMMANDS
from visiontl.config.resolve import resolve
from visiontl.engine import saving
from visiontl.engine.prepare import set_up
from visiontl.errors import CheckpointError, Stopped
from visiontl.hookspecs import hookimpl
from visiontl.processes import liveness, signals
from visiontl.runs import folders, store
from visiontl.testing import Case

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SETTINGS = ["train.epochs=3", "train.evaluate_every=2 steps", "train.ema={decay: 0.9}", "run.name=run"]


class SignalAt:
    """Sends this process a signal while update `step` is under way."""

    def __init__(self, step: int, number: int):
        self.step, self.number = step, number

    @hookimpl
    def visiontl_logged(self, step, values):
        if step == self.step and any(name.startswith("train/") for name in values):
            os.kill(os.getpid(), self.number)


@pytest.fixture
def case(tmp_path):
    return Case("brightness", tmp_path)


def stopped(case: Case, step: int, number: int, *settings: str) -> Stopped:
    watcher = SignalAt(step, number)
    plugins.register(watcher, f"signal-at-{id(watcher)}")
    try:
        with pytest.raises(Stopped) as caught:
            visiontl.train(case.resolved(*SETTINGS, *settings))
    finally:
        plugins.manager().unregister(watcher)
    return caught.value


def files(folder: Path) -> dict[str, bytes]:
    """The weights of a run and its numbers, without its times."""
    last = store.step_folders(folder / "checkpoints")[0]
    found = [folder / "model/model.safetensors", *sorted(last.glob("*.safetensors"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("number", "step"),
    # 4: an evaluation is due after the update, and must be made up for
    [(signal.SIGTERM, 4), (signal.SIGUSR1, 5), (signal.SIGINT, 1)],
)
def test_a_signal_saves_at_the_step_boundary_and_resume_ends_with_the_same_bits(case, tmp_path, number, step):
    handlers = [signal.getsignal(one) for one in signals.SIGNALS]
    error = stopped(case, step, number)
    assert [signal.getsignal(one) for one in signals.SIGNALS] == handlers
    folder = tmp_path / "runs/run"
    assert f"stopped by {signal.Signals(number).name} at step {step} of 12, saved" in str(error)
    assert str(error).endswith(f"visiontl train {folder}/config.yaml resume={folder}")
    assert error.exit_code == 75
    assert store.step_folders(folder / "checkpoints")[0].name == f"step-{step:08d}"
    report = visiontl.train(folder / "config.yaml", f"resume={folder}")
    whole = visiontl.train(case.resolved(*SETTINGS, "run.name=whole"))
    assert files(folder) == files(tmp_path / "runs/whole")
    assert report["scores"] == whole["scores"]
    assert report["best"] == whole["best"]


def test_an_evaluation_that_is_made_up_for_is_kept_once(case, tmp_path):
    """Stopped at a due evaluation, resumed, and killed after it: its line is not doubled, its result is saved."""
    stopped(case, 4, signal.SIGTERM)
    folder = tmp_path / "runs/run"
    assert store.read_json(store.step_folders(folder / "checkpoints")[0], "state.json")["due"]
    metrics = folder / "metrics.jsonl"
    with metrics.open("a") as file:  # the attempt before this one came as far as the evaluation
        file.write('{"step": 4, "epoch": 1.0, "kind": "val", "mae": 9.0}\n')
    stopped(case, 5, signal.SIGTERM, f"resume={folder}")
    state = store.read_json(store.step_folders(folder / "checkpoints")[1], "state.json")
    assert (state["step"], state["due"], state["best"]["step"]) == (4, False, 4)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines].count(("val", 4)) == 1
    assert all(line.get("mae") != 9.0 for line in lines)


def test_a_resumed_run_writes_the_lists_that_a_kill_left_out(case, tmp_path):
    stopped(case, 5, signal.SIGTERM)
    folder = tmp_path / "runs/run"
    (folder / "splits/val.txt").rename(folder / "val.txt")
    config = (folder / "config.yaml").read_bytes()
    visiontl.train(case.resolved(*SETTINGS, "resume=auto"))
    assert (folder / "splits/val.txt").read_bytes() == (folder / "val.txt").read_bytes()
    assert (folder / "config.yaml").read_bytes() == config
    assert resolve(folder / "model/config.yaml").config.resume is None


def test_the_best_weights_count_as_saved_without_their_twin(case, tmp_path, monkeypatch):
    """The disk fills between `model/` and `checkpoints/best`."""

    def full(source, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "copy_folder", full)
    report = visiontl.train(case.resolved("train.epochs=2", "run.name=run"))
    assert any("alone holds the best weights" in note for note in report["notes"])
    assert not (tmp_path / "runs/run/checkpoints/best").exists()
    assert report["scores"]["val"]["mae"] == pytest.approx(report["best"]["value"])


def test_a_link_to_nothing_in_place_of_the_best_weights_is_said(case, tmp_path):
    stopped(case, 5, signal.SIGTERM)
    twin = tmp_path / "runs/run/checkpoints/best"
    shutil.rmtree(twin)
    twin.symlink_to("nowhere")
    report = visiontl.train(case.resolved(*SETTINGS, "resume=auto"))
    assert any(note.startswith(f"warning: {twin} is damaged") for note in report["notes"])
    assert not twin.is_symlink()
    assert store.damage(twin) is None


def test_the_end_of_a_run_waits_for_room(case, tmp_path, monkeypatch, capsys):
    """The disk is full when the last checkpoint and the best model are due: room comes in time, then it does not;
    continued, the run ends with the bits of one that never met a full disk."""
    real, waited = store.write_folder, []
    monkeypatch.setattr(saving, "PAUSE", 0.0)
    monkeypatch.setattr(saving.time, "sleep", lambda seconds: waited.append(seconds))
    room = 2

    def full_at_the_end(folder, files):
        if (folder.name == "step-00000012" or "visiontl.json" in files) and len(waited) < room:
            raise OSError(28, "No space left on device")
        real(folder, files)

    settings = ["train.epochs=3", "train.evaluate_every=3 epochs"]
    whole = visiontl.train(case.resolved(*settings, "run.name=whole"))
    monkeypatch.setattr(store, "write_folder", full_at_the_end)
    visiontl.train(case.resolved(*settings, "run.name=late"))
    assert len(waited) == room
    room = 1000
    with pytest.raises(
        CheckpointError, match=r"the end of the run could not be saved; make room and continue it: .*visiontl train"
    ):
        visiontl.train(case.resolved(*settings, "run.name=run"))
    assert folders.ended(tmp_path / "runs/run") is None
    room = 0
    report = visiontl.train(case.resolved(*settings, "run.name=run", "resume=auto"))
    assert files(tmp_path / "runs/run") == files(tmp_path / "runs/late") == files(tmp_path / "runs/whole")
    assert report["best"] == whole["best"]


def test_a_report_that_cannot_be_written_is_made_when_the_run_goes_on(case, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("visiontl.report.page.write_report", full)
        with pytest.raises(
            CheckpointError, match=r"the report cannot be written .*No space.*make room, then .*visiontl train"
        ):
            visiontl.train(case.resolved("train.epochs=1", "run.name=run"))
    report = visiontl.train(case.resolved("train.epochs=1", "run.name=run", "resume=auto"))
    assert report["status"] == "finished"
    assert (tmp_path / "runs/run/report.html").is_file()
    capsys.readouterr()
    assert visiontl.train(case.resolved("train.epochs=1", "run.name=run", "resume=auto")) == report
    best = f"best mae {report['best']['value']:.4f}"
    assert f"runs/run is finished after {report['steps']} updates; {best}: nothing to resume" in capsys.readouterr().out


def test_too_small_a_disk_is_said_before_the_first_update(case, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5_400_000, "total": 10**9}))
    report = visiontl.train(case.resolved("train.epochs=1", "run.name=run"))
    said = next(note for note in report["notes"] if "make room" in note)
    assert "the disk has 5.4 MB free, and checkpoints and the best model take up to " in said


@pytest.mark.parametrize("policy", ["none", "all"])
def test_a_run_goes_on_without_what_it_began_with(case, tmp_path, policy):
    """The run that `init` named is gone; with `all` the cached features come from the backbone, too."""
    first = visiontl.train(case.resolved("train.epochs=1", "run.name=first"))
    settings = [*SETTINGS, f"init={first['run']}", f"freeze.policy={policy}"]
    settings += ["features.views=2", "features.cache=memory"]
    whole = visiontl.train(case.resolved(*settings, "run.name=whole"))
    assert bool(whole["cached_features"]) == (policy == "all")
    stopped(case, 5, signal.SIGTERM, *settings)
    Path(first["run"]).rename(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"init: .*first: no such run folder"):
        visiontl.train(case.resolved(*settings, "run.name=new"))
    report = visiontl.train(case.resolved(*settings, "resume=auto"))
    assert any("what the run began with cannot be read (init:" in note for note in report["notes"])
    assert files(tmp_path / "runs/run") == files(tmp_path / "runs/whole")
    assert report["scores"] == whole["scores"]


def test_lists_of_a_run_without_a_checkpoint_are_those_of_its_new_beginning(case, tmp_path):
    set_up(case.resolved("train.epochs=1", "run.name=run"))
    lists = tmp_path / "runs/run/splits/train.txt"
    names = lists.read_text()
    lists.write_text(names.partition("\n")[2])  # since then a file has come
    visiontl.train(case.resolved("train.epochs=1", "run.name=run", "resume=auto"))
    assert lists.read_text() == names


def test_the_command_exits_with_its_own_code(case, tmp_path, monkeypatch, capsys):
    def train(arguments):
        raise Stopped("stopped by SIGTERM at step 3 of 12, saved; to continue: visiontl train x resume=x")

    monkeypatch.setitem(COMMANDS, "train", replace(COMMANDS["train"], run=train))
    assert cli.main(["train", "x.yaml"]) == 75
    assert capsys.readouterr().err.startswith("stopped by SIGTERM at step 3")


def test_a_second_interrupt_ends_at_once():
    with signals.requests() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.signal == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_auto_continues_the_newest_unfinished_run_of_the_same_config(case, tmp_path):
    stopped(case, 5, signal.SIGTERM)
    other = visiontl.train(case.resolved(*SETTINGS, "run.name=null", "optim.lr=0.02", "resume=auto"))
    assert other["run"] != str(tmp_path / "runs/run"), "another config starts a run of its own"
    report = visiontl.train(case.resolved(*SETTINGS, "run.name=null", "loader.workers=1", "resume=auto"))
    assert report["run"] == str(tmp_path / "runs/run")
    assert report["steps"] == 12
    assert any("continues" in note and "loader.workers: 0 -> 1" in note for note in report["notes"])


def test_a_finished_run_says_so_and_is_left_alone(case, tmp_path, capsys):
    first = visiontl.train(case.resolved("train.epochs=1", "run.name=run", "resume=auto"))
    assert any("a new one starts" in note for note in first["notes"])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/run").rglob("*")}
    capsys.readouterr()
    for wanted in ("auto", str(tmp_path / "runs/run")):
        again = visiontl.train(case.resolved("train.epochs=1", "run.name=run", f"resume={wanted}"))
        assert "run is finished after 4 updates; best mae" in capsys.readouterr().out
        assert again["scores"] == first["scores"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/run").rglob("*")} == before


def test_what_may_not_change_is_listed_and_refused(case, tmp_path):
    stopped(case, 5, signal.SIGTERM)
    changed = ["optim.lr=0.5", "train.seed=3", "loader.workers=1"]
    for wanted in ("auto", str(tmp_path / "runs/run")):
        with pytest.raises(CheckpointError, match="another config") as caught:
            visiontl.train(case.resolved(*SETTINGS, *changed, f"resume={wanted}"))
        assert "optim.lr: 0.01 -> 0.5, train.seed: 0 -> 3" in str(caught.value)
        assert "loader.workers" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "problem"), [("runz", "is no run folder; .* holds empty, .*run"), ("empty", "no config.yaml")]
)
def test_resume_needs_a_run_folder(case, tmp_path, name, problem):
    for made in ("run", "empty"):
        (tmp_path / "runs" / made).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=problem):
        visiontl.train(case.resolved(f"resume={tmp_path / 'runs' / name}"))


@pytest.mark.parametrize("left", ["nothing", "its config"])
def test_a_run_that_ended_before_its_first_checkpoint_starts_anew_in_its_folder(case, tmp_path, left):
    folder = tmp_path / "runs/run"
    if left == "nothing":
        folder.mkdir(parents=True)
    else:
        set_up(case.resolved("train.epochs=1", "run.name=run"))
    report = visiontl.train(case.resolved("train.epochs=1", "run.name=run", "resume=auto"))
    assert report["run"] == str(folder)
    assert report["steps"] == 4


def test_a_run_that_another_process_trains_is_not_touched(case, tmp_path):
    stopped(case, 5, signal.SIGTERM)
    folder = tmp_path / "runs/run"
    hold = "import sys; from pathlib import Path; from visiontl.runs.folders import lock"
    command = [sys.executable, "-c", f"{hold}\nlock(Path(sys.argv[1])); print(1, flush=True); input()", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        for wanted in ("auto", str(folder)):
            with pytest.raises(CheckpointError, match="another process is training"):
                visiontl.train(case.resolved(*SETTINGS, f"resume={wanted}"))
        other.communicate("\n")
    assert visiontl.train(case.resolved(*SETTINGS, "resume=auto"))["steps"] == 12


def test_a_kill_between_two_renames_leaves_the_old_folder(tmp_path):
    store.write_folder(tmp_path / "model", {"a.txt": "old"})
    (tmp_path / "model").rename(tmp_path / ".old-model")
    (tmp_path / ".writing-model").mkdir()
    (tmp_path / ".writing-report.json").write_text("{")
    store.recover(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model/a.txt").read_text() == "old"


def test_no_room_is_known_before_anything_is_written(tmp_path, monkeypatch):
    store.write_folder(tmp_path / "step", {"a.txt": "old"})
    usage = type("Usage", (), {"free": 5_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"9\.0 MB are needed, the disk has 5\.0 MB free"):
        store.write_folder(tmp_path / "step", {"w.safetensors": {"w": torch.zeros(1_987_000)}})
    assert (tmp_path / "step/a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_init_starts_a_new_run_from_another_ones_weights(case, tmp_path):
    first = visiontl.train(case.resolved("train.epochs=1", "run.name=first"))
    warm = set_up(case.resolved("run.name=warm", f"init={first['run']}", "train.seed=9"))
    given = store.read_tensors(Path(first["run"]) / "model", "model.safetensors")
    own = warm.built.model.state_dict()
    assert given.keys() == own.keys()
    assert all(torch.equal(given[name], own[name]) for name in given)
    said = f"a new run from the weights of {first['run']}/model: {len(given)} of {len(given)} tensors"
    assert any(said in note for note in warm.console.notes)
    assert not any("random weights" in note for note in warm.console.notes)


def test_init_keeps_the_rows_of_classes_of_the_same_name(tmp_path):
    """Three shapes, then two: the head has another shape; then one of another name, which comes last: rows move."""
    case = Case("classification", tmp_path)
    first = visiontl.train(case.resolved("train.epochs=1", "run.name=first"))
    pictures = tmp_path / "runs/example-classification/shapes/train"
    for removed, renamed in ((1, {}), (0, {"circle": "ring"})):
        data = tmp_path / f"other-{removed}"
        data.mkdir()
        for folder in sorted(p for p in pictures.iterdir() if p.is_dir())[removed:]:
            (data / renamed.get(folder.name, folder.name)).symlink_to(folder)
        config = resolve(case.resolved(f"init={first['run']}"), [f"task.data={data}"])
        warm = set_up(config)
        given = store.read_tensors(Path(first["run"]) / "model", "model.safetensors")
        own = warm.built.model.state_dict()
        head = {name for name in own if not name.startswith("backbone.")}
        assert all(torch.equal(given[name], own[name]) for name in own if name not in head)
        before, now = first_classes(first), warm.built.meta["classes"]
        weight, bias = (next(name for name in head if name.endswith(kind)) for kind in ("weight", "bias"))
        for row, name in enumerate(now):
            same = name in before and torch.equal(own[weight][row], given[weight][before.index(name)])
            assert same == (name in before)
            assert name not in before or own[bias][row] == given[bias][before.index(name)]
        kept = [name for name in now if name in before]
        assert any(f"kept by name {len(kept)} ({', '.join(kept)})" in note for note in warm.console.notes)


def first_classes(result) -> list[str]:
    return store.read_json(Path(result["run"]) / "model", "meta.json")["classes"]


def test_old_and_new_classes_are_scored_apart(tmp_path):
    """Two shapes first, then a third: the means of the per-class scores of both groups, by hand."""
    case = Case("classification", tmp_path)
    whole = case.resolved("run.name=all")
    pictures = tmp_path / "runs/example-classification/shapes/train"
    few = tmp_path / "few"
    few.mkdir()
    for folder in sorted(p for p in pictures.iterdir() if p.is_dir())[:2]:
        (few / folder.name).symlink_to(folder)
    first = visiontl.train(resolve(case.resolved("train.epochs=1", "run.name=few"), [f"task.data={few}"]))
    second = visiontl.train(resolve(whole, [f"init={first['run']}", "train.epochs=1"]))
    scores, old = second["scores"]["val"], first_classes(first)
    assert len(old) == 2
    groups = {"old_classes": [], "new_classes": []}
    for name, value in scores["per_class"].items():
        groups["old_classes" if name in old else "new_classes"].append(value)
    for name, values in groups.items():
        assert scores[name] == pytest.approx(sum(values) / len(values)), name
    assert "old_classes" not in first["scores"]["val"]


def test_init_refuses_another_backbone_and_a_folder_without_a_model(case, tmp_path):
    first = visiontl.train(case.resolved("train.epochs=0", "run.name=first"))
    with pytest.raises(CheckpointError, match="has the backbone visiontl/tiny, the config timm/resnet18"):
        set_up(case.resolved(f"init={first['run']}", "backbone.name=resnet18"))
    with pytest.raises(CheckpointError, match="do not fit, such as"):
        set_up(case.resolved(f"init={first['run']}", "backbone.in_channels=4"))
    with pytest.raises(CheckpointError, match="no such run folder"):
        set_up(case.resolved(f"init={tmp_path / 'nothing'}"))


def test_resume_command_of_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("visiontl.processes.ranks.world", lambda: 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    for begun, target in (("tools/train.py", "tools/train.py"), ("/env/visiontl/__main__.py", "-m visiontl train")):
        monkeypatch.setattr(sys, "argv", [begun, "x.yaml"])
        command = f"torchrun --nproc_per_node 4 {target} runs/a/config.yaml resume=runs/a"
        assert folders.resume_command(Path("runs/a")) == command
    monkeypatch.setattr("visiontl.processes.ranks.world", lambda: 1)
    assert folders.resume_command(Path("a b")) == "python -m visiontl train 'a b/config.yaml' 'resume=a b'"
    monkeypatch.setattr(sys, "argv", ["/env/bin/visiontl", "train"])
    assert folders.resume_command(Path("runs/a")) == "visiontl train runs/a/config.yaml resume=runs/a"


def test_a_rank_that_fails_dies_or_is_stopped_ends_all_and_the_run_resumes(tmp_path):
    """Four starts of one run on two processes, each going on where the one before ended."""

    def launch(how: str) -> subprocess.CompletedProcess[str]:
        command = [*TORCHRUN, str(ROOT / "tests/core/failing_rank.py"), how, str(tmp_path), "brightness"]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ['PYTHONPATH']}"}
        return subprocess.run(
            [*command, "run.name=run", "resume=auto"], capture_output=True, text=True, timeout=300, env=environment
        )

    folder = tmp_path / "runs/run"
    again = f"to go on from the last checkpoint: torchrun --nproc_per_node 2 -m visiontl train {folder}/config.yaml"
    raised = launch("raise")
    assert raised.returncode == 1
    assert "error: rank 1 failed: ValueError: a shape nobody expected" in raised.stderr
    assert again in raised.stderr
    done = store.step_folders(folder / "checkpoints")[0].name

    killed = launch("kill")
    assert f"resumed from {folder}/checkpoints/{done}" in killed.stdout
    assert "error: rank 1 ended without a word" in killed.stderr
    assert again in killed.stderr

    killed = launch("kill the first")
    assert "rank 1: error: rank 0 ended without a word" in killed.stderr
    assert again in killed.stderr

    ended = launch("stop")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for rank in (0, 1):
        assert f"rank {rank}: stopped by SIGUSR1 at step " in ended.stdout
    assert f"saved; to continue: torchrun --nproc_per_node 2 -m visiontl train {folder}/config.yaml" in ended.stdout
    assert "the same weights" in ended.stdout


def test_a_rank_that_a_signal_stopped_is_noticed_and_one_that_goes_on_is_not(monkeypatch):
    """SIGSTOP closes no connection: the state of the process tells. A moment of it is none of anybody's business."""
    monkeypatch.setattr(liveness, "LOOK", 0.05)
    monkeypatch.setattr(liveness, "STILL", 8)
    failures: list[tuple[int, str]] = []
    monkeypatch.setattr(liveness.Links, "_failed", lambda links, rank, cause: failures.append((rank, cause)))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        links = liveness.Links({}, {1: other.pid})
        links.start()
        try:
            other.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
            other.send_signal(signal.SIGCONT)
            time.sleep(1)
            assert not failures
            other.send_signal(signal.SIGSTOP)
            deadline = time.monotonic() + 30
            while not failures and time.monotonic() < deadline:
                time.sleep(0.05)
            assert failures == [(1, liveness.STANDS)]
        finally:
            links.over.set()
            other.kill()
