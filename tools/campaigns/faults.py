"""What the world does to a run: full disks, too few files, vanished folders, stopped ranks.

    python -m tools.campaigns.faults FOLDER [--number N] [--task NAME ...] [--family NAME ...]

Each fault hits one tiny run of one task, in a process forked from this one, through the command line. Either the run
goes on to its end, or it ends within a minute in words, with its exit code and without a trace; what had been written
before the fault is still there; and what is resumed once the fault is mended ends with the bits of a run that met none.
Going on in the same FOLDER continues an earlier campaign. Exits with 1 where a fault did otherwise.

Full and read-only disks are small ones that are mounted for the purpose, which takes root on Linux; elsewhere the
system's refusal is raised where the run opens its files, and what needs a disk or a /dev/shm of its own is skipped.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import errno
import importlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from tools.campaigns import kills
from visiontl import plugins
from visiontl.config.write import to_yaml
from visiontl.runs import store
from visiontl.runs.files import read_lines
from visiontl.testing.case import Case

LIMIT = 60.0  # seconds in which a run that does not go on has ended, on a machine that does nothing else
DISK = 32  # MB of the disk that a run is given
SETTINGS = ["train.epochs=2", "train.checkpoint_every=1 step", "train.evaluate_every=1 epoch"]
INTERNAL = ("Traceback (most recent call last)", "run again with --debug for the trace")
USUAL = ("the best weights are those of the start", "never beat the trivial answer")  # of runs as short as these
ERROR = re.compile(r"(rank \d+: )?error: |\d+ errors$")
NEVER = "the fault never came"
TIMED = ("full disk", "refusal", "read-only", "vanishes", "pictures", "clock")  # families that come at a moment
# What a run writes, by a part of the path: the moment at which it begins to
WRITES = {
    "its start": ("started.json", 1),
    "its config": ("config.yaml", 1),
    "the lists of its splits": ("splits", 1),
    "its numbers": ("metrics.jsonl", 1),
    "its first checkpoint": (".writing-step-", 1),
    "a later checkpoint": ("step-00000003", 1),
    "the best weights": (".writing-model", 1),
    "the twin of the best weights": (".writing-best", 1),
    "the scores of each image": (".writing-images-", 1),
    "the pictures of its report": ("pictures", 1),
    "its report": (".report.html", 1),
    "the end of its report": (".writing-report.json", 1),
    "its numbers as a table": ("metrics.csv", 1),
}

Plant = Callable[["Scene", int], None]  # (scene, rank): called in each process before the command


@dataclass(frozen=True)
class Scene:
    """Where a fault happens. disk: the folder of the run, on a disk of its own where one is mounted. marker: what stood
    when the fault came."""

    case: Case
    folder: Path
    disk: Path
    mounted: bool

    @property
    def run(self) -> Path:
        return self.disk / "runs/run"

    @property
    def marker(self) -> Path:
        return self.folder / "stood.json"

    def pictures(self) -> list[Path]:
        """Pictures of the data, those of the train split where a folder or a list says so."""
        found = sorted((self.case.folder / "runs").glob("example-*/**/*"))
        found = [one for one in found if one.suffix in (".png", ".jpg") and "mask" not in str(one)]
        return [one for one in found if "train" in str(one)] or found


@dataclass(frozen=True)
class Fault:
    """family: of which kind; what: in words. plant: brings it about. mend: takes it away before the run is resumed.
    needs: "disk", "shm" or nothing. same: whether a run that goes on ends with the bits of one without a fault. words:
    more of the command line; command: what is run in the place of training."""

    family: str
    what: str
    task: str
    plant: Plant
    mend: Callable[[Scene], None] = lambda scene: None
    processes: int = 1
    workers: int = 0
    needs: str = ""
    same: bool = True
    command: str = "train"
    twice: bool = False  # two processes begin at once
    begun: bool = False  # the run has been killed on its way before

    @property
    def name(self) -> str:
        return f"{self.family}: {self.what} ({self.task}, {self.processes} and {self.workers}, {self.command})"


@dataclass
class Result:
    """ended: the words in which the run ended, or that it went on; resumed: how it ended once the fault was mended."""

    fault: str
    family: str
    what: str
    task: str
    command: str
    processes: int
    code: int | None = None
    seconds: float = 0.0
    ended: str = ""
    resumed: str = ""
    problems: list[str] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------------ when it comes


def stood(scene: Scene) -> None:
    """Note what is there as the fault comes."""
    whole = [path.name for path in store.step_folders(scene.run / "checkpoints") if store.damage(path) is None]
    scene.marker.write_text(json.dumps({"checkpoints": whole, "lines": len(read_lines(scene.run)[0])}))


def at_write(scene: Scene, word: str, do: Callable[[], object], nth: int = 1) -> None:
    """Call `do` as this process is about to make, open for writing, link or rename something with that word in its
    path, for the nth time. What it raises is what the system answers."""
    count, busy = 0, False

    def heard(event: str, arguments: Any) -> None:
        nonlocal count, busy
        path = written_path(event, arguments)
        if busy or path is None or word not in path or not path.startswith(str(scene.disk)):
            return
        busy, count = True, count + 1
        try:
            if count == nth:
                stood(scene)
                do()
        finally:
            busy = False

    sys.addaudithook(heard)


def written_path(event: str, arguments: Any) -> str | None:
    """The path that an audit event of Python tells is about to be written to."""
    if event == "open":
        path, _, flags = arguments
        writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return os.fsdecode(path) if writing and isinstance(path, str | bytes) else None
    if event == "os.mkdir":
        return os.fsdecode(arguments[0])
    return os.fsdecode(arguments[1]) if event in ("os.rename", "os.link") else None


def at_update(scene: Scene, number: int, do: Callable[[], object]) -> None:
    """Call `do` at an update of training, counted in this process from 1."""
    train = importlib.import_module("visiontl.engine.train")
    real, count = train.set_lr, itertools.count(1)

    def call(*arguments: Any) -> None:
        if next(count) == number:
            stood(scene)
            do()
        real(*arguments)

    train.set_lr = call  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------- what happens


def fill(scene: Scene) -> None:
    """Take all room of the mounted disk."""
    with contextlib.suppress(OSError), (scene.disk / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    with contextlib.suppress(OSError), (scene.disk / "ballast").open("ab", buffering=0) as file:
        file.write(bytes(1))


def make_room(scene: Scene) -> None:
    (scene.disk / "ballast").unlink(missing_ok=True)


def refuse_from_here(scene: Scene, number: int) -> None:
    """The system refuses whatever this process opens for writing below the disk: no disk is needed."""

    def heard(event: str, arguments: Any) -> None:
        path = written_path(event, arguments)
        if path is not None and path.startswith(str(scene.disk)):
            raise OSError(number, os.strerror(number), path)

    sys.addaudithook(heard)


def refuse_all(scene: Scene) -> None:
    refuse_from_here(scene, errno.ENOSPC)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse_once(scene: Scene) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_at(word: str, nth: int, mounted: bool) -> Plant:
    def plant(scene: Scene, rank: int) -> None:
        if rank == 0:
            at_write(scene, word, lambda: fill(scene) if mounted else refuse_all(scene), nth)

    return plant


def full_now(scene: Scene, rank: int) -> None:
    stood(scene)
    fill(scene)


def refused_once(word: str, nth: int) -> Plant:
    return lambda scene, rank: at_write(scene, word, lambda: refuse_once(scene), nth)


def read_only_at(update: int) -> Plant:
    """As a disk is after an error of its own; `mount -o remount,ro` refuses while a file is open."""
    return lambda scene, rank: at_update(scene, update, lambda: refuse_from_here(scene, errno.EROFS))


def limited(name: str, value: int, beyond: bool = False) -> Plant:
    """`ulimit`. beyond: on top of what the process has already."""

    def plant(scene: Scene, rank: int) -> None:
        import resource

        kind = getattr(resource, f"RLIMIT_{name}")
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if beyond else 0
        if name == "FSIZE":  # what is said goes through a pipe, or the limit would be its own
            speaker = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=1, start_new_session=True)
            assert speaker.stdin is not None
            os.dup2(speaker.stdin.fileno(), 1)
            os.dup2(speaker.stdin.fileno(), 2)
        resource.setrlimit(kind, (now + value, now + value))

    return plant


def own_shm(megabytes: float) -> Plant:
    """A /dev/shm of this process and its children alone."""

    def plant(scene: Scene, rank: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x00020000):  # CLONE_NEWNS
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        size = f"size={int(megabytes * 1024)}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", "/dev/shm"], check=True)

    return plant


def moved(path: Callable[[Scene], Path], update: int) -> tuple[Plant, Callable[[Scene], None]]:
    """A folder vanishes at an update, and comes back."""

    def plant(scene: Scene, rank: int) -> None:
        if rank == 0:
            at_update(scene, update, lambda: path(scene).rename(path(scene).with_name("gone")))

    def mend(scene: Scene) -> None:
        gone = path(scene).with_name("gone")
        if gone.exists():
            shutil.rmtree(path(scene), ignore_errors=True)
            gone.rename(path(scene))

    return plant, mend


def changed_picture(kind: str, update: int) -> tuple[Plant, Callable[[Scene], None]]:
    """All pictures but the first become something else after an update; they come back."""

    def keep(scene: Scene) -> Path:
        return scene.folder / "kept"

    def change(scene: Scene) -> None:
        keep(scene).mkdir()
        for number, picture in enumerate(others(scene)):
            shutil.copy2(picture, keep(scene) / str(number))
            picture.unlink()
            if kind == "garbage":
                picture.write_bytes(os.urandom(5000))
            elif kind == "of 100 megapixels":
                Image.new("1", (10_000, 10_000)).save(picture, "PNG")
            elif kind == "cut short":
                picture.write_bytes((keep(scene) / str(number)).read_bytes()[:200])
            elif kind == "a pipe":
                os.mkfifo(picture)
            if kind in ("of 100 megapixels", "a pipe"):  # one is enough
                break

    def plant(scene: Scene, rank: int) -> None:
        if rank == 0:
            at_update(scene, update, lambda: change(scene))

    def mend(scene: Scene) -> None:
        for number, picture in enumerate(others(scene)):
            if (keep(scene) / str(number)).exists():
                picture.unlink(missing_ok=True)
                shutil.copy2(keep(scene) / str(number), picture)

    return plant, mend


def others(scene: Scene) -> list[Path]:
    """The pictures but the first, also those that are gone."""
    return [Path(line) for line in (scene.folder / "pictures.txt").read_text().splitlines()][1:]


def clock_back(scene: Scene, rank: int) -> None:
    """An hour back at the third update, and again later."""
    real, steps = time.time, [0.0]
    time.time = lambda: real() - steps[0]
    for update in (3, 5):
        at_update(scene, update, lambda: steps.__setitem__(0, steps[0] + 3600))


def stopped_rank(seconds: float | None) -> Plant:
    """The second rank stands still: for some seconds, or until it is killed after them."""

    def plant(scene: Scene, rank: int) -> None:
        if rank != 1:
            return

        def stand() -> None:
            pid = os.getpid()
            send = "CONT" if seconds is not None else "KILL"
            wait = seconds if seconds is not None else 4.0
            subprocess.Popen(["sh", "-c", f"sleep {wait}; kill -{send} {pid}"], start_new_session=True)
            os.kill(pid, signal.SIGSTOP)

        at_update(scene, 3, stand)

    return plant


def slow_rank(scene: Scene, rank: int) -> None:
    if rank == 1:
        os.nice(19)


def nowhere_to_speak(kind: str) -> Plant:
    """stdout and stderr refuse what is printed."""

    def plant(scene: Scene, rank: int) -> None:
        if kind == "closed":
            os.close(1)
            os.close(2)
            sys.stdout = sys.stderr = None  # type: ignore[assignment]
            return
        if kind == "a full disk":
            target = os.open("/dev/full", os.O_WRONLY)
        elif kind == "a log file on a disk that fills":
            target = os.open(scene.disk / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            at_update(scene, 2, lambda: fill(scene))
            at_update(scene, 4, lambda: make_room(scene))
        else:
            reader, target = os.pipe()
            os.close(reader)
        os.dup2(target, 1)
        if kind != "a pipe that nobody reads":
            os.dup2(target, 2)

    return plant


def killed_at(update: int) -> Plant:
    return lambda scene, rank: at_update(scene, update, lambda: os.kill(os.getpid(), signal.SIGKILL))


def nothing(scene: Scene, rank: int) -> None:
    """No fault."""


# --------------------------------------------------------------------------------------------------------- the faults


def faults(tasks: Sequence[str]) -> list[Fault]:
    """All of them: each kind of fault in turn on another task, and a full disk at whatever a run of any task writes."""
    turn = itertools.cycle(tasks)
    found = [*of_the_system(turn), *of_folders(turn), *of_processes(turn), *of_writes(turn)]
    for task, (what, (word, nth)) in itertools.product(tasks, WRITES.items()):
        found.append(Fault("full disk", f"at {what}", task, full_at(word, nth, True), make_room, needs="disk"))
    return found


def of_writes(turn: Iterator[str]) -> list[Fault]:
    found: list[Fault] = []
    for what, (word, nth) in WRITES.items():
        found.append(Fault("refusal", f"from {what} on", next(turn), full_at(word, nth, False)))
    for what in ("its first checkpoint", "the best weights", "its report", "its numbers"):
        word, nth = WRITES[what]
        found.append(Fault("refusal", f"once, at {what}", next(turn), refused_once(word, nth)))
    for command, word in (
        ("predict", "out"),
        ("predict", "predictions.csv"),
        ("evaluate", "out"),
        ("evaluate", "rows"),
    ):
        plant = full_at(word, 1, True)
        found.append(Fault("full disk", f"at {word}", next(turn), plant, make_room, needs="disk", command=command))
    found.append(Fault("full disk", "before the start", next(turn), full_now, make_room, needs="disk"))
    return found


def of_the_system(turn: Iterator[str]) -> list[Fault]:
    found = [
        Fault("/dev/shm", f"of {size} MB", next(turn), own_shm(size), needs="shm", workers=2)
        for size in (0.05, 16, 64, 256)
    ]
    found += [
        Fault("ulimit -n", str(files), next(turn), limited("NOFILE", files), workers=workers)
        for files, workers in ((24, 0), (32, 2), (48, 2), (64, 2), (128, 2), (256, 2))
    ]
    found += [Fault("ulimit -n", str(files), next(turn), limited("NOFILE", files), processes=2) for files in (32, 64)]
    found += [
        Fault("ulimit -v", f"{size} MB more", next(turn), limited("AS", size << 20, beyond=True))
        for size in (5, 50, 400)
    ]
    found += [Fault("ulimit -f", f"{size} kB", next(turn), limited("FSIZE", size << 10)) for size in (0, 4, 64)]
    places = ("closed", "a full disk", "a pipe that nobody reads")
    found += [Fault("printing", place, next(turn), nowhere_to_speak(place)) for place in places]
    log = "a log file on a disk that fills"
    found += [Fault("printing", log, next(turn), nowhere_to_speak(log), make_room, needs="disk")]
    found += [Fault("clock", "goes back twice", next(turn), clock_back)]
    return found


def of_folders(turn: Iterator[str]) -> list[Fault]:
    found = []
    for update in (2, 5):
        what = f"the disk of the run at update {update}"
        found.append(Fault("read-only", what, next(turn), read_only_at(update)))
    places: dict[str, Callable[[Scene], Path]] = {
        "the run folder": lambda scene: scene.run,
        "the folder of checkpoints": lambda scene: scene.run / "checkpoints",
        "the best weights": lambda scene: scene.run / "model",
        "the data": lambda scene: scene.case.folder / f"runs/example-{scene.case.task}",
    }
    for what, path in places.items():
        plant, mend = moved(path, 5)
        found.append(Fault("vanishes", what, next(turn), plant, mend, same=what != "the folder of checkpoints"))
    for kind in ("garbage", "cut short", "gone", "a pipe", "of 100 megapixels"):
        plant, mend = changed_picture(kind, 3)
        found.append(Fault("pictures", kind, next(turn), plant, mend, same=False))
    return found


def of_processes(turn: Iterator[str]) -> list[Fault]:
    return [
        Fault("ranks", "one stands still for 5 s", next(turn), stopped_rank(5.0), processes=2),
        Fault("ranks", "one stands still, then is killed", next(turn), stopped_rank(None), processes=2),
        Fault("ranks", "one at low priority", next(turn), slow_rank, processes=2),
        Fault("at once", "two of the same run", next(turn), nothing, twice=True),
        Fault("at once", "two resumes of one run", next(turn), nothing, twice=True, begun=True),
        Fault("at once", "two resumes of one run", next(turn), nothing, twice=True, begun=True),
    ]


# ------------------------------------------------------------------------------------------------------ how it is run


def campaign(folder: Path, chosen: Sequence[Fault], number: int) -> list[Result]:
    """Bring about the faults that FOLDER/faults.jsonl does not hold yet; all results, earlier ones too."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "faults.jsonl"
    results = [Result(**json.loads(line)) for line in record.read_text().splitlines()] if record.exists() else []
    known = {result.fault for result in results}
    kills.import_all(sorted({fault.task for fault in chosen}))
    importlib.import_module("visiontl.cli")
    for fault in chosen:
        if len(results) >= number:
            break
        if fault.name in known:
            continue
        result = suffered(folder, fault)
        if result is None:
            print(f"skipped, for this system gives no {fault.needs} of its own: {fault.name}", flush=True)
            continue
        if result.problems == [NEVER] and "scores of each image" in fault.what:
            print(f"skipped, for a run of {fault.task} writes nothing of that kind: {fault.name}", flush=True)
            continue
        results.append(result)
        with record.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        state = "; ".join(result.problems) or "well"
        print(f"{len(results)}  {fault.name}  {result.seconds:.0f} s  {result.ended[:90]}  {state}", flush=True)
    return results


def suffered(folder: Path, fault: Fault) -> Result | None:
    """One fault, what came of it, and the run resumed. None where the system cannot bring it about."""
    case = Case(fault.task, folder / "data" / fault.task)
    config, whole = prepared(folder, case, fault.processes)
    place = folder / "scene"
    shutil.rmtree(place, ignore_errors=True)
    (place / "disk").mkdir(parents=True)
    with mounted(place / "disk", fault.needs == "disk") as works:
        scene = Scene(case, place, place / "disk", works)
        if (fault.needs == "disk" and not works) or (fault.needs == "shm" and not may_mount(place)):
            return None
        (place / "pictures.txt").write_text("".join(f"{one}\n" for one in scene.pictures()))
        result = Result(fault.name, fault.family, fault.what, fault.task, fault.command, fault.processes)
        try:
            judge(result, scene, fault, config, whole)
        finally:
            fault.mend(scene)
    return result


def judge(result: Result, scene: Scene, fault: Fault, config: Path, whole: Path) -> None:
    """Bring the fault about, and fill in what came of it."""
    words = commands(scene, fault, config, whole)
    if fault.begun:
        perform(scene, Fault("", "", fault.task, killed_at(4)), words)
    ended = [perform(scene, fault, words)] if not fault.twice else at_once(scene, fault, words)
    result.code, result.seconds, said = ended[0]
    result.ended = in_words(result.code, said)
    for code, seconds, text in ended:
        if code is None:
            result.problems.append(f"did not end in {seconds:.0f} s")
        if any(mark in text for mark in INTERNAL):
            result.problems.append(f"no words: {last_line(text)}")
        if code not in (0, None) and not any(ERROR.match(line) for line in text.splitlines()):
            result.problems.append(f"ended with {code} without a reason")
    if fault.family in TIMED and not scene.marker.exists():
        result.problems.append(NEVER)
    if fault.twice and sorted(code == 0 for code, _, _ in ended) != [False, True]:
        result.problems.append("not one of the two went on alone")
    fault.mend(scene)
    result.problems += lost(scene)
    if fault.command != "train":
        result.problems += half_lines(scene.disk / "out")
        return
    if result.code == 0 and not fault.same:
        return
    again = fault if result.code else None
    if again is not None or fault.twice:
        code, _, said = perform(scene, Fault("", "", fault.task, nothing, processes=fault.processes), words)
        result.resumed = in_words(code, said)
        if code != 0:
            result.problems.append(f"did not resume: {last_line(said)}")
            return
    result.problems += kills.differences(whole, scene.run)


def commands(scene: Scene, fault: Fault, config: Path, whole: Path) -> list[str]:
    if fault.command == "predict":
        photos = [str(one) for one in scene.pictures()[:3]]
        return ["predict", str(whole), *photos, "--out", str(scene.disk / "out")]
    if fault.command == "evaluate":
        return ["evaluate", str(whole), "--out", str(scene.disk / "out")]
    loader = f"loader.workers={fault.workers}"
    return ["train", str(config), f"run.folder={scene.run.parent}", "run.name=run", "resume=auto", loader]


def prepared(folder: Path, case: Case, processes: int) -> tuple[Path, Path]:
    """(the config, the run that met no fault), made once for each task and number of processes."""
    config, whole = case.folder / "c.yaml", case.folder / f"runs/whole-{processes}"
    if not config.exists():
        case.folder.mkdir(parents=True, exist_ok=True)
        if (pid := os.fork()) == 0:  # this process touches no tensor, so that it has no threads when it forks
            try:
                size = max(2, kills.batch_size(case) * 8 // 3)  # three updates an epoch
                config.write_text(to_yaml(case.resolved(*SETTINGS, f"train.batch_size={size}"), comments=False))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    if not (whole / "report.json").exists():
        shutil.rmtree(whole, ignore_errors=True)
        place = folder / f"whole-{processes}"
        place.mkdir(exist_ok=True)
        scene = Scene(case, place, case.folder, False)
        words = ["train", str(config), f"run.name={whole.name}"]
        code, _, said = perform(scene, Fault("", "", case.task, nothing, processes=processes), words)
        if code != 0:
            raise RuntimeError(f"{case.task}: the run fails without any fault: {last_line(said)}")
    return config, whole


def perform(scene: Scene, fault: Fault, words: list[str]) -> tuple[int | None, float, str]:
    """(exit code of the first rank, None where it hung; seconds; what was said) of a command in forked processes."""
    return at_once(scene, fault, words, 1)[0]


def at_once(scene: Scene, fault: Fault, words: list[str], number: int = 2) -> list[tuple[int | None, float, str]]:
    """The command in several forked processes, or groups of ranks, that begin together."""
    began, limit = time.perf_counter(), LIMIT * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    logs = [scene.folder / f"{index}.log" for index in range(number)]
    groups: list[list[int]] = []
    for log in logs:
        log.unlink(missing_ok=True)
        port = kills.free_port()
        groups.append([fork(scene, fault, words, log, rank, port) for rank in range(fault.processes)])
    codes: dict[int, int] = {}
    everybody = [pid for group in groups for pid in group]
    while len(codes) < len(everybody) and time.perf_counter() - began < limit:
        for pid in set(everybody) - codes.keys():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    kills.kill(everybody)
    for pid in set(everybody) - codes.keys():
        os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    return [
        (codes.get(group[0]) if all(pid in codes for pid in group) else None, seconds, log.read_text(errors="replace"))
        for group, log in zip(groups, logs, strict=True)
    ]


def fork(scene: Scene, fault: Fault, words: list[str], log: Path, rank: int, port: int) -> int:
    """The process of one rank, at the head of a process group of its own."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if fault.processes > 1:
            world = {name: str(fault.processes) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
            os.environ |= world | {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
            os.environ |= {"MASTER_PORT": str(port)}
        from visiontl import cli
        from visiontl.engine import saving
        from visiontl.report import page

        page.render_figure = lambda figure, prefix="": ""  # drawing takes longer than such a run
        saving.PAUSE = 0.1  # seconds: a run waits minutes for room at its end
        fault.plant(scene, rank)
        code = cli.main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


# ----------------------------------------------------------------------------------------------------- what came of it


def in_words(code: int | None, said: str) -> str:
    lines = [line for line in said.splitlines() if ERROR.match(line)]
    if code is None:
        return "did not end"
    if code == 0:
        warned = [line.removeprefix("warning: ") for line in said.splitlines() if line.startswith("warning: ")]
        warned = [line for line in warned if not any(words in line for words in USUAL)]
        return f"went on: {warned[0]}" if warned else "went on"
    return (lines or [last_line(said)])[0]


def last_line(said: str) -> str:
    return (said.strip().splitlines() or ["nothing was said"])[-1][:300]


def lost(scene: Scene) -> list[str]:
    """What stood when the fault came, and is gone."""
    if not scene.marker.exists():
        return []
    before = json.loads(scene.marker.read_text())
    whole = [path.name for path in store.step_folders(scene.run / "checkpoints") if store.damage(path) is None]
    found = []
    if before["checkpoints"] and max(whole, default="") < max(before["checkpoints"]):
        found.append(f"{max(before['checkpoints'])} was whole and is gone; whole: {whole}")
    if len(read_lines(scene.run)[0]) < before["lines"]:
        found.append("lines of metrics.jsonl are gone")
    return found


def half_lines(folder: Path) -> list[str]:
    """Files of lines in which one is no JSON."""
    found = []
    for file in folder.glob("*.jsonl"):
        try:
            [json.loads(line) for line in file.read_text().splitlines()]
        except ValueError:
            found.append(f"{file.name} holds half a line")
    return found


def may_mount(folder: Path) -> bool:
    with mounted(folder / "tried", True) as works:
        return works


@contextlib.contextmanager
def mounted(place: Path, wanted: bool) -> Iterator[bool]:
    """Within the block a small disk lies at the place, where the system mounts one. Gives whether it does."""
    place.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={DISK}m", "none", str(place)]
    if not wanted or mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def table(results: Sequence[Result]) -> str:
    """Markdown: one line per family, then one per fault."""
    families = collections.defaultdict(list)
    for result in results:
        families[result.family].append(result)
    families["all"] = list(results)
    lines = ["| family | faults | went on | ended in words | resumed | well |", "| --- | --- | --- | --- | --- | --- |"]
    for family, found in families.items():
        on, again = sum(r.code == 0 for r in found), sum(bool(r.resumed) for r in found)
        ended, well = sum(r.code not in (0, None) for r in found), sum(not r.problems for r in found)
        lines.append(f"| {family} | {len(found)} | {on} | {ended} | {again} | {well} |")
    lines += ["", "| fault | task | processes | how it ended | resumed | |", "| --- | --- | --- | --- | --- | --- |"]
    for r in results:
        what = f"{r.family}: {r.what}" if r.command == "train" else f"{r.family}: {r.what}, {r.command}"
        ended = r.ended.replace("|", "/")[:160]
        lines.append(f"| {what} | {r.task} | {r.processes} | {ended} | {r.resumed[:7]} | {'; '.join(r.problems)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where runs and faults.jsonl go; an earlier campaign is continued")
    parser.add_argument("--number", type=int, default=1000, help="faults at most (default: all)")
    parser.add_argument("--task", action="append", help="a task's name; repeatable (default: all that are installed)")
    parser.add_argument("--family", action="append", help="a family of faults; repeatable (default: all)")
    given = parser.parse_args(arguments)
    chosen = [
        fault
        for fault in faults(given.task or sorted(plugins.tasks()))
        if given.family is None or fault.family in given.family
    ]
    results = campaign(given.folder.resolve(), chosen, given.number)
    print(table(results))
    for result in results:
        for problem in result.problems:
            print(f"{result.fault}: {problem}", file=sys.stderr)
    return 1 if any(result.problems for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
