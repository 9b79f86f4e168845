"""A fault brought about, what came of it, and the run resumed."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tools.campaigns import forks, kills
from tools.campaigns.faulting.disks import may_mount, mounted
from tools.campaigns.faulting.outcomes import ERROR, half_lines, in_words, last_line, lost
from tools.campaigns.faulting.ranks import killed_at
from tools.campaigns.faulting.scenes import Fault, Result, Scene, nothing
from visiontl.config.write import to_yaml
from visiontl.testing.case import Case

LIMIT = 60.0  # seconds in which a run that does not go on has ended, on a machine that does nothing else
SETTINGS = ["train.epochs=2", "train.checkpoint_every=1 step", "train.evaluate_every=1 epoch"]
INTERNAL = ("Traceback (most recent call last)", "run again with --debug for the trace")
NEVER = "the fault never came"
TIMED = ("full disk", "refusal", "read-only", "vanishes", "pictures", "clock")  # families that come at a moment


def campaign(folder: Path, chosen: Sequence[Fault], number: int) -> list[Result]:
    """Bring about the faults that FOLDER/faults.jsonl does not hold yet; all results, earlier ones too."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "faults.jsonl"
    results = [Result(**json.loads(line)) for line in record.read_text().splitlines()] if record.exists() else []
    known = {result.fault for result in results}
    forks.import_all(sorted({fault.task for fault in chosen}))
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
        port = forks.free_port()
        groups.append([fork(scene, fault, words, log, rank, port) for rank in range(fault.processes)])
    codes: dict[int, int] = {}
    everybody = [pid for group in groups for pid in group]
    while len(codes) < len(everybody) and time.perf_counter() - began < limit:
        for pid in set(everybody) - codes.keys():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    forks.kill(everybody)
    for pid in set(everybody) - codes.keys():
        os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    return [
        (codes.get(group[0]) if all(pid in codes for pid in group) else None, seconds, log.read_text(errors="replace"))
        for group, log in zip(groups, logs, strict=True)
    ]


def fork(scene: Scene, fault: Fault, words: list[str], log: Path, rank: int, port: int) -> int:
    """The process of one rank, which suffers the fault."""

    def suffer() -> int:
        from visiontl import cli
        from visiontl.engine import saving

        saving.PAUSE = 0.1  # seconds: a run waits minutes for room at its end
        fault.plant(scene, rank)
        return cli.main(words)

    return forks.fork(suffer, log, forks.Rank(rank, fault.processes, port))
