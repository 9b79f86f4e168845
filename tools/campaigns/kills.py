"""SIGKILL at random moments: every run must resume and end with the bits of one that was never killed.

    python tools/campaigns/kills.py FOLDER [--number 300] [--task NAME ...] [--seed 0]

Kills are planned by name (PLANS), each at any moment of what it names: the writing of a checkpoint or of the best model
(half a file written, before and after each fsync and rename, while the older ones are removed); an evaluation; the
final report; the resume itself, while the folder is chosen, put right and read; or from outside, at any time after the
first quarter, on all processes at once or on one of two. Three in a row hit before the run has written another
checkpoint. Going on in the same FOLDER continues an earlier campaign. Exits with 1 when a run did not resume, or ended
with other bits.

One process imports everything once and forks each run, so a kill costs a second or two and not ten.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partialmethod
from pathlib import Path
from typing import Any

from PIL import Image

import visiontl
from tools.campaigns import forks
from visiontl import plugins
from visiontl.runs import store
from visiontl.spec import ImageSpec
from visiontl.testing.case import Case

OWN = tuple(str(Path(visiontl.__file__).parent / room) for room in ("engine", "processes", "report", "runs"))
REPEATS = 3  # moments that one line of code counts for, so that a loop is not hit more often than what stands once
PORT_TAKEN = "address already in use"
PATIENCE = 120.0  # seconds until an attempt counts as hanging
ALONE = 0.2  # share of the outside kills on two processes that hit one of them only
ANY = ("write", "outside", "evaluation")  # what may stand for the first kill of several
PLANS = {  # the kills of one run, in this order; "any": drawn from ANY
    "writes": ("write", "write", "write"),
    "evaluations": ("evaluation", "write", "evaluation"),
    "three in a row": ("any", "resume", "resume"),
    "report": ("report", "report"),
    "outside": ("outside", "outside", "outside"),
    "resume": ("any", "resume", "evaluation", "resume"),
    "mixed": ("any", "resume", "any", "report"),
}
PLACES = {  # what a planted kill hits: the functions during whose calls it may come, as (module, name)
    "evaluation": [("visiontl.engine.train", "judge")],
    "report": [("visiontl.engine.train", "finish")],
    "resume": [
        ("visiontl.runs.folders", "choose"),
        ("visiontl.engine.prepare", "open_folder"),
        ("visiontl.engine.train", "resume"),
    ],
}
VARIANTS = {
    "adamw, average": ["train.ema={decay: 0.9}", "train.checkpoint_every=1 step", "train.evaluate_every=3 steps"],
    "sgd, gradual, accumulated": [
        "optim.name=sgd",
        "freeze.policy={gradual: 1}",
        "train.accumulate=2",
        "train.checkpoint_every=2 steps",
    ],
}
TIMES = ("images_per_second", "memory", "seconds")  # what may differ between two runs of the same numbers


@dataclass(frozen=True)
class Setting:
    task: str
    processes: int
    workers: int
    variant: str

    @property
    def name(self) -> str:
        return f"{self.task}-{self.processes}-{self.workers}-{list(VARIANTS).index(self.variant)}"


@dataclass
class Result:
    """One run with its kills. moments: where each kill hit; inside: how many of them inside a write; fresh: how many
    came before the first checkpoint, so that the run began anew; row: the most kills of which none met a checkpoint
    that the kill before had not met; plan: of PLANS."""

    setting: dict[str, Any]
    moments: list[str] = field(default_factory=list)
    inside: int = 0
    fresh: int = 0
    problems: list[str] = field(default_factory=list)
    row: int = 0
    plan: str = ""

    def at(self, place: str) -> int:
        """How many of the kills hit there."""
        return sum(moment.startswith(place) for moment in self.moments)


@dataclass(frozen=True)
class Attempt:
    """code: exit code of rank 0, or None when it hung; moment: where it was killed; seconds: how long it lasted."""

    code: int | None
    moment: str
    seconds: float
    log: str


def campaign(folder: Path, number: int, tasks: list[str], seed: int = 0) -> list[Result]:
    """Kill runs until `number` kills are recorded in FOLDER/kills.jsonl; all results, earlier ones too."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "kills.jsonl"
    results = [Result(**json.loads(line)) for line in record.read_text().splitlines()] if record.exists() else []
    settings = [Setting(*values) for values in itertools.product(tasks, (1, 2), (0, 2), VARIANTS)]
    forks.import_all(tasks)
    began = time.perf_counter()
    done_before = sum(len(result.moments) for result in results)
    while (done := sum(len(result.moments) for result in results)) < number:
        setting = settings[len(results) % len(settings)]
        rounds = len(results) // len(settings)
        # each setting meets each plan: another one in each round
        turn = len(results) + (rounds if len(settings) % len(PLANS) == 0 else 0)
        plan = list(PLANS)[turn % len(PLANS)]
        result = killed_run(folder, setting, plan, random.Random(f"{seed} {len(results)}"), len(results))
        results.append(result)
        with record.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        done += len(result.moments)
        rate = (done - done_before) / (time.perf_counter() - began)
        state = "; ".join(result.problems) or "equal"
        print(f"{done}/{number} kills, {rate * 60:.0f} a minute  {setting.name}  {plan}  {state}", flush=True)
    return results


def killed_run(folder: Path, setting: Setting, plan: str, dice: random.Random, index: int) -> Result:
    """One run, killed as its plan says, resumed to its end and compared with one that was not killed."""
    result = Result(asdict(setting), plan=plan)
    whole = reference(folder, replace(setting, workers=0))  # the numbers do not depend on the loader processes
    case = Case(setting.task, folder / "data" / setting.task)
    place = case.folder / "runs" / f"run-{index:05d}"
    newest, row = "", 0
    for planned in PLANS[plan]:
        share = 0.6 if result.moments else 1  # of a whole run, what may be left of one that was killed
        attempt = run(case, setting, place.name, Kill.of(planned, whole, setting, dice, share))
        if attempt.code is None:
            result.problems.append(f"hung: {attempt.log}")
        elif not attempt.moment:
            if attempt.code != 0:
                result.problems.append(f"failed before it was killed: {attempt.log}")
            break
        result.moments.append(attempt.moment)
        result.inside += attempt.moment.startswith("inside")
        whole_steps, missing = standing(place)
        result.fresh += not whole_steps
        result.problems += missing
        row = row + 1 if newest == (newest := " ".join(whole_steps[-1:])) and len(result.moments) > 1 else 1
        result.row = max(result.row, row)
    attempt = run(case, setting, place.name)
    if attempt.code != 0:
        result.problems.append(f"did not resume: {attempt.log}")
    else:
        result.problems += differences(Path(whole["run"]), place)
    if not result.problems:
        shutil.rmtree(place)
    return result


@dataclass(frozen=True)
class Kill:
    """place: "write", one of PLACES, "count" for none and the moments counted, or ""; at: which of its moments;
    after: seconds until it comes from outside; alone: it hits one of two processes."""

    place: str = ""
    at: int = 0
    after: float | None = None
    alone: bool = False

    @staticmethod
    def of(planned: str, whole: Mapping[str, Any], setting: Setting, dice: random.Random, share: float) -> Kill:
        """A kill at a moment that is drawn. whole: the run that is never killed."""
        planned = dice.choice(ANY) if planned == "any" else planned
        if planned != "outside":
            most = whole["moments"][planned] * (share if planned in ANY else 1)
            return Kill(planned, dice.randint(1, max(1, int(most))))
        after = dice.uniform(0.25, 0.25 + 0.75 * share) * whole["seconds"]  # what comes before is imports and set-up
        return Kill(after=after, alone=setting.processes > 1 and dice.random() < ALONE)


def reference(folder: Path, setting: Setting) -> dict[str, Any]:
    """The run that is never killed, made once: its folder, seconds, and number of moments in each place. Those of a
    resume are of a second run, killed in the middle."""
    case = Case(setting.task, folder / "data" / setting.task)
    known = folder / f"reference-{setting.name}.json"
    if known.exists():
        return json.loads(known.read_text())
    name = f"whole-{setting.name}"
    whole, killed = case.folder / "runs" / name, case.folder / "runs" / f"counted-{setting.name}"
    for place in (whole, killed):
        shutil.rmtree(place, ignore_errors=True)
        noted(place).unlink(missing_ok=True)
    attempt = run(case, setting, name, Kill("count"))
    if attempt.code != 0:
        raise RuntimeError(f"{setting.name}: the run fails without any kill: {attempt.log}")
    moments = json.loads((case.folder / f"{name}.moments").read_text())
    run(case, setting, killed.name, Kill("write", max(1, moments["write"] // 2)))
    run(case, setting, killed.name, Kill("count"))
    moments["resume"] = json.loads((case.folder / f"{killed.name}.moments").read_text())["resume"]
    known.write_text(json.dumps({"run": str(whole), "seconds": attempt.seconds, "moments": moments}))
    return json.loads(known.read_text())


def run(case: Case, setting: Setting, name: str, plan: Kill | None = None) -> Attempt:
    """Start or continue a run in forked processes, and kill it as planned."""
    plan = plan or Kill()
    case.folder.mkdir(parents=True, exist_ok=True)
    log, marker, port = case.folder / f"{name}.log", case.folder / f"{name}.moment", forks.free_port()
    marker.unlink(missing_ok=True)
    left_before = half_written(case.folder / "runs" / name)
    began = time.perf_counter()
    ranks = [fork(Start(case, setting, name, port), rank, log, marker, plan) for rank in range(setting.processes)]
    kill_at = None if plan.after is None else began + plan.after
    codes: dict[int, int] = {}
    moment = ""
    while len(codes) < len(ranks):
        for pid in set(ranks) - codes.keys():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[pid] = os.waitstatus_to_exitcode(status)
                if codes[pid] == -signal.SIGKILL and not moment:
                    moment = marker.read_text() if marker.exists() else "by itself"
                    forks.kill(ranks)
        now = time.perf_counter()
        if kill_at is not None and now > kill_at and not codes:
            kill_at = None
            moment = "outside, one process" if plan.alone else "outside"
            forks.kill(ranks[1:] if plan.alone else ranks)
        if now - began > PATIENCE:
            forks.kill(ranks)
            for pid in set(ranks) - codes.keys():
                os.waitpid(pid, 0)
            return Attempt(None, moment, now - began, tail(log))
        time.sleep(0.002)
    forks.kill(ranks)  # loader processes that outlived their parents
    if not moment and codes[ranks[0]] and PORT_TAKEN in tail(log).lower():
        return run(case, setting, name, plan)
    if moment == "outside" and half_written(case.folder / "runs" / name) - left_before:
        moment = "inside: by chance"
    return Attempt(codes[ranks[0]], moment, time.perf_counter() - began, tail(log))


@dataclass(frozen=True)
class Start:
    """What all ranks of an attempt share. port: where they meet."""

    case: Case
    setting: Setting
    name: str
    port: int


def fork(start: Start, rank: int, log: Path, marker: Path, plan: Kill) -> int:
    """The process of one rank."""
    case, setting, name = start.case, start.setting, start.name

    def live() -> int:
        from visiontl.engine.train import train

        quick = partialmethod(Image.Image.save, compress_level=1)  # packing pictures takes longer than such a run
        Image.Image.save = quick  # type: ignore[method-assign]
        counted = plant(plan, marker, case.folder / "runs" / name) if rank == 0 else dict
        sizes = [f"train.batch_size={batch_size(case)}", f"loader.workers={setting.workers}"]
        train(case.resolved(*sizes, *variant(case, setting), f"run.name={name}", "resume=auto"))
        if plan.place == "count" and rank == 0:
            (case.folder / f"{name}.moments").write_text(json.dumps(counted()))
        return 0

    return forks.fork(live, log, forks.Rank(rank, setting.processes, start.port))


def variant(case: Case, setting: Setting) -> list[str]:
    """The variant's settings without a freeze policy that the task refuses."""
    key = "freeze.policy="
    return [
        text
        for text in VARIANTS[setting.variant]
        if not text.startswith(key) or case.refusal(text.removeprefix(key)) is None
    ]


def batch_size(case: Case) -> int:
    """About eight updates an epoch on one process."""
    resolved = case.resolved()
    train = resolved.task.data(resolved.cfg, ImageSpec(), None).train
    return max(2, len(train or ()) // 8)


def plant(plan: Kill, marker: Path, place: Path) -> Callable[[], dict[str, int]]:
    """Make this process end at the planned moment. Returns what counts the moments of each place.
    Each folder that was written to its end is noted beside the run, for `standing`."""
    in_writes = plant_in_writes(plan.at if plan.place == "write" else 0, marker, place)
    counts = {name: plant_in_calls(name, plan, marker) for name in PLACES if plan.place in (name, "count")}
    return lambda: {"write": in_writes(), **{name: count() for name, count in counts.items()}}


def plant_in_calls(place: str, plan: Kill, marker: Path) -> Callable[[], int]:
    """Make this process end at the planned moment during a call of the place's functions: when a function of the
    engine's is entered or left there, or calls one of Python's own, such as file.write."""
    own, count, times = os.getpid(), 0, collections.Counter[tuple[Any, ...]]()

    def seen(frame: Any, event: str, called: Any) -> None:
        nonlocal count
        if not frame.f_code.co_filename.startswith(OWN) or os.getpid() != own:
            return
        key = (frame.f_code, frame.f_lineno, event)
        times[key] += 1
        if times[key] > REPEATS:
            return
        count += 1
        if count == plan.at:
            sys.setprofile(None)
            what = f"{event} {getattr(called, '__name__', '')}".strip()
            marker.write_text(f"{place}: {frame.f_code.co_qualname}:{frame.f_lineno}, {what}")
            os.killpg(0, signal.SIGKILL)

    for module, name in PLACES[place]:
        real = getattr(importlib.import_module(module), name)

        def call(*arguments: Any, real: Any = real, **named: Any) -> Any:
            sys.setprofile(seen)
            try:
                return real(*arguments, **named)
            finally:
                sys.setprofile(None)

        setattr(importlib.import_module(module), name, call)
    return lambda: count


def plant_in_writes(at: int, marker: Path, place: Path) -> Callable[[], int]:
    """Make this process end at the `at`-th moment inside a write; 0: never. Returns what counts the moments."""
    depth, count = 0, 0

    def moment(what: str) -> None:
        nonlocal count
        if depth:
            count += 1
            if count == at:
                marker.write_text(f"inside: {what}")
                os.killpg(0, signal.SIGKILL)

    @contextmanager
    def within() -> Iterator[None]:
        nonlocal depth
        depth += 1
        try:
            yield
        finally:
            depth -= 1

    def watched(module: Any, name: str, what: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **named: Any) -> Any:
            moment(f"before {what}")
            value = real(*arguments, **named)
            moment(f"after {what}")
            return value

        setattr(module, name, call)

    def entered(name: str) -> None:
        real = getattr(store, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with within():
                value = real(*arguments, **named)
            if name != "prune":
                with noted(place).open("a") as file:
                    file.write(f"{arguments[-1 if name == 'copy_folder' else 0].relative_to(place)}\n")
            return value

        setattr(store, name, call)

    save = store._save_tensors

    def half(tensors: Any, path: Path) -> None:
        save(tensors, path)
        if depth and count + 1 == at:
            os.truncate(path, path.stat().st_size // 2)
        moment(f"half of {path.name}")

    write_text = Path.write_text

    def half_text(path: Path, text: str, *arguments: Any, **named: Any) -> int:
        if depth and count + 1 == at:
            write_text(path, text[: len(text) // 2], *arguments, **named)
            moment(f"half of {path.name}")
        moment(f"before {path.name}")
        return write_text(path, text, *arguments, **named)

    store._save_tensors = half
    Path.write_text = half_text  # type: ignore[method-assign]
    watched(os, "fsync", "fsync")
    watched(os, "link", "link")
    watched(Path, "rename", "rename")
    watched(shutil, "rmtree", "removal")
    for name in ("write_folder", "copy_folder", "prune"):
        entered(name)
    return lambda: count


def noted(place: Path) -> Path:
    return place.parent.parent / f"{place.name}.written"


def half_written(place: Path) -> set[tuple[str, int]]:
    """Folders that a kill inside a write left."""
    return {(str(path), path.stat().st_ino) for path in place.rglob(".writing-*") if path.is_dir()}


def standing(place: Path) -> tuple[list[str], list[str]]:
    """(the checkpoints that are whole after a kill, what is missing of what had been written to its end)."""
    folders = store.step_folders(place / "checkpoints")
    whole = sorted(path.name for path in folders if store.damage(path) is None)
    written = set(noted(place).read_text().splitlines()) if noted(place).exists() else set()
    steps = sorted(Path(name).name for name in written if "step-" in name)
    missing = []
    if len(whole) < min(2, len(steps)):
        missing.append(f"{len(steps)} checkpoints were written, and {len(whole)} are whole after the kill")
    if steps and whole and whole[-1] < steps[-1]:
        missing.append(f"{steps[-1]} was written, and {whole[-1]} is the newest that is whole after the kill")
    for name in written - {f"checkpoints/{step}" for step in steps}:
        aside = place / Path(name).with_name(f".old-{Path(name).name}")
        if store.damage(place / name) and store.damage(aside):
            missing.append(f"{name} was written and is gone after the kill")
    return whole, missing


def differences(whole: Path, resumed: Path) -> list[str]:
    """What differs between two finished runs: weights, average, optimizer, state, metrics, scores."""
    problems = []
    folders = [[path, store.step_folders(path / "checkpoints")] for path in (whole, resumed)]
    if [f.name for f in folders[0][1]] != [f.name for f in folders[1][1]]:
        return [f"other checkpoints: {[f.name for f in folders[1][1]]}"]
    pairs = [(whole / "model", resumed / "model"), *zip(folders[0][1], folders[1][1], strict=True)]
    pairs.append((whole / "checkpoints/best", resumed / "checkpoints/best"))
    for ours, theirs in pairs:
        for path in sorted(ours.glob("*.safetensors")):
            if path.read_bytes() != (theirs / path.name).read_bytes():
                problems.append(f"{ours.name}/{path.name} differs")
    for name, read in (("state.json", _state), ("metrics.jsonl", _metrics), ("report.json", _report)):
        if read(whole) != read(resumed):
            problems.append(f"{name} differs")
    problems += [f"{theirs.name}: {store.damage(theirs)}" for _, theirs in pairs if store.damage(theirs)]
    lacking = {path.name for path in whole.iterdir()} - {path.name for path in resumed.iterdir()}
    problems += [f"{name} is missing" for name in sorted(lacking)]
    left = [path.name for path in resumed.rglob(".*") if path.name.startswith((".writing-", ".old-"))]
    return problems + ([f"left behind: {', '.join(left)}"] if left else [])


def _state(run: Path) -> Any:
    newest = store.step_folders(run / "checkpoints")[0]
    return {key: value for key, value in store.read_json(newest, "state.json").items() if key not in TIMES}


def _metrics(run: Path) -> Any:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def _report(run: Path) -> Any:
    report = json.loads((run / "report.json").read_text())
    return {key: report[key] for key in ("status", "steps", "best", "scores")}


def tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " | ".join(lines[-3:])[-400:]


def table(results: list[Result]) -> str:
    """Markdown: one line per task, number of processes and of loader processes."""
    groups: dict[tuple, list[Result]] = collections.defaultdict(list)
    for result in results:
        s = result.setting
        groups[s["task"], s["processes"], s["workers"]].append(result)
    groups["all", "", ""] = list(results)  # type: ignore[index]
    head = ["task", "processes", "loader processes", "runs", "kills", "inside a write", "in an evaluation"]
    head += ["in the final report", "in a resume", "from outside", "three in a row", "before the first checkpoint"]
    lines = ["| " + " | ".join([*head, "equal"]) + " |", "| --- " * (len(head) + 1) + "|"]
    for key, found in groups.items():
        places = [sum(r.at(place) for r in found) for place in ("inside", "evaluation", "report", "resume", "outside")]
        kills, rows = sum(len(r.moments) for r in found), sum(r.row >= 3 for r in found)
        fresh, equal = sum(r.fresh for r in found), sum(not r.problems for r in found)
        row = [*key, len(found), kills, *places, rows, fresh, f"{equal} of {len(found)}"]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where runs and kills.jsonl go; an earlier campaign is continued")
    parser.add_argument("--number", type=int, default=300, help="kills in all (default: 300)")
    parser.add_argument("--task", action="append", help="a task's name; repeatable (default: all that are installed)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    results = campaign(given.folder, given.number, given.task or sorted(plugins.tasks()), given.seed)
    print(table(results))
    for result in results:
        for problem in result.problems:
            print(f"{result.setting}: {problem}", file=sys.stderr)
    return 1 if any(result.problems for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
