"""Damaged files: every change to a checkpoint or an exported model must be found, and said with its reason.

    python tools/campaigns/damage.py FOLDER [--task NAME ...] [--resumes 12] [--seed 0]

For each task a tiny run is trained. Then every file of its newest checkpoint, of `model/` and of `checkpoints/best` is
truncated, flipped bit by bit, emptied, removed, replaced and mixed up with an older one, and every field of the
manifests is changed, one change at a time. Each must be found: the older checkpoint is taken, the model is refused. A
sample goes through the whole of `visiontl train`, whose result must be that of the run that was not damaged. Writes
FOLDER/damage.jsonl and a table; exits with 1 when a change went unnoticed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tools.campaigns.kills import differences
from visiontl import cli, plugins
from visiontl.engine.model import load_model
from visiontl.engine.train import train
from visiontl.errors import CheckpointError
from visiontl.runs import store
from visiontl.testing.case import Case

PATIENCE = 60  # seconds until a reader counts as hanging
SETTINGS = ("train.batch_size=8", "train.ema={decay: 0.9}", "train.checkpoint_every=1 step")
PLACES = ("checkpoint", "model", "best")

Change = Callable[[Path], Any]  # applied to a folder


@dataclass(frozen=True)
class Mutation:
    """file: the one that is changed, or "" for the folder; kind: for the table; what: in words."""

    file: str
    kind: str
    what: str
    change: Change


@dataclass(frozen=True)
class Outcome:
    """found: whether the change was noticed in the right way; said: what was said of it."""

    task: str
    place: str
    file: str
    kind: str
    what: str
    found: bool
    said: str
    way: str = "read"


def mutations(folder: Path, older: Path, dice: random.Random) -> Iterator[Mutation]:
    """All changes to one folder. older: a folder of the same kind, with other content."""
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        yield from cut(name, (folder / name).read_bytes())
        yield from flipped(name, (folder / name).read_bytes(), dice)
        yield from replaced(name, folder, older, dice)
    yield from relisted(json.loads((folder / store.MANIFEST).read_text()))
    yield from rearranged(names)


def cut(name: str, content: bytes) -> Iterator[Mutation]:
    """Truncated and emptied files, and files that have grown."""
    points = {"1 byte": 1, "the header's half": header(content) // 2, "the header": header(content)}
    points |= {"half": len(content) // 2, "all but 1 byte": len(content) - 1}
    for what, size in points.items():
        yield Mutation(name, "truncated", f"truncated to {what}", put(name, content[:size]))
    yield Mutation(name, "emptied", "emptied", put(name, b""))
    yield Mutation(name, "removed", "removed", lambda folder: (folder / name).unlink())
    for size in (1, 4096):
        yield Mutation(name, "grown", f"{size} bytes appended", put(name, content + b"\0" * size))


def flipped(name: str, content: bytes, dice: random.Random) -> Iterator[Mutation]:
    """One bit flipped, anywhere that matters and in a few random places; blocks of zeros as a lost write leaves."""
    ends = [0, 8, header(content) // 2, header(content), len(content) // 2, len(content) - 1]
    spots = [at for at in ends if at < len(content)] + [dice.randrange(len(content)) for _ in range(6)]
    for at in spots:
        bit = dice.randrange(8)
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        yield Mutation(name, "flipped", f"bit {bit} of byte {at} flipped", put(name, bytes(changed)))
    half = len(content) // 2
    yield Mutation(name, "zeroed", "second half zeroed", put(name, content[:half] + b"\0" * (len(content) - half)))
    yield Mutation(name, "zeroed", "all zeroed", put(name, b"\0" * len(content)))


def replaced(name: str, folder: Path, older: Path, dice: random.Random) -> Iterator[Mutation]:
    """Another file, or something that is no file, in the place of one."""
    size = (folder / name).stat().st_size
    yield Mutation(name, "replaced", "random bytes of the same size", put(name, dice.randbytes(size)))
    yield Mutation(name, "replaced", "the older one's file", put(name, (older / name).read_bytes()))
    for other in sorted(path.name for path in folder.iterdir() if path.name != name)[:2]:
        yield Mutation(name, "replaced", f"the content of {other}", put(name, (folder / other).read_bytes()))

    def instead(make: Change) -> Change:
        def change(place: Path) -> None:
            (place / name).unlink()
            make(place / name)

        return change

    def link(target: str | Path) -> Change:
        return instead(lambda path: path.symlink_to(target))

    for what, change in {
        "a folder": instead(Path.mkdir),
        "a pipe": instead(os.mkfifo),
        "a link to nothing": link("nowhere"),
        "a link to itself": link(name),
        "a link to the older one's file": link(older / name),
        "a link to /dev/null": link("/dev/null"),
    }.items():
        yield Mutation(name, "no file", what, change)


def relisted(manifest: Mapping[str, Any]) -> Iterator[Mutation]:
    """The manifest says something else."""
    files: dict[str, dict[str, Any]] = manifest["files"]

    def made(what: str, value: Any) -> Mutation:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        return Mutation(store.MANIFEST, "manifest", what, put(store.MANIFEST, content))

    for value in (0, 2, 99, "1", None, [1], {}):
        yield made(f"format {value!r}", {**manifest, "format": value})
    for value in (None, [], {}, "x", 5, [*files]):
        yield made(f"files {value!r}", {**manifest, "files": value})
    for key in manifest:
        yield made(f"no {key}", {k: v for k, v in manifest.items() if k != key})
    for name, sums in files.items():
        digest = sums["sha256"]
        values = {
            "sha256": ["", None, digest.upper(), digest[:-1], digest[:-1] + "0f"[digest[-1] == "0"], "0" * 64, 5],
            "bytes": [sums["bytes"] + 1, sums["bytes"] - 1, 0, -1, None, str(sums["bytes"]), 1e300],
        }
        for key, wrong in values.items():
            for value in wrong:
                yield made(f"{name}: {key} {value!r}", {**manifest, "files": {**files, name: {**sums, key: value}}})
            rest = {k: v for k, v in sums.items() if k != key}
            yield made(f"{name}: no {key}", {**manifest, "files": {**files, name: rest}})
        for value in (None, [], {}, digest):
            yield made(f"{name}: {value!r}", {**manifest, "files": {**files, name: value}})
        yield made(f"{name}: not listed", {**manifest, "files": {k: v for k, v in files.items() if k != name}})
        for other in (f"../{name}", f"./{name}", f"{name}/", f"/{name}", name.upper(), f"x/../{name}", f"{name}\0"):
            renamed = {other if k == name else k: v for k, v in files.items()}
            yield made(f"{name}: called {other!r}", {**manifest, "files": renamed})
    for name in ("more.json", "", ".", "..", "/etc/hostname"):
        yield made(f"{name!r} listed", {**manifest, "files": {**files, name: {"sha256": "0" * 64, "bytes": 0}}})
    first = next(iter(files))
    twice = f'{{"format": 1, "files": {json.dumps(files)}, "files": {{"{first}": {json.dumps(files[first])}}}}}'
    whole = json.dumps(manifest)
    for what, content in {
        "a list": b"[]",
        "null": b"null",
        "a number": b"5",
        "a text": b'"x"',
        "an empty mapping": b"{}",
        "NaN": b'{"format": NaN, "files": {}}',
        "no JSON": b"format: 1",
        "no UTF-8": b"\xff\xfe\0",
        "another encoding": whole.encode("utf-16"),
        "twice in one file": (whole + whole).encode(),
        "nested without end": b"[" * 100_000,
        "a number without end": b'{"format": ' + b"1" * 10_000 + b"}",
        "files listed twice": twice.encode(),
    }.items():
        yield made(what, content)


def rearranged(names: list[str]) -> Iterator[Mutation]:
    """The folder itself."""

    def exchange(one: str, other: str) -> Change:
        def change(folder: Path) -> None:
            (folder / one).rename(folder / "aside")
            (folder / other).rename(folder / one)
            (folder / "aside").rename(folder / other)

        return change

    def instead(make: Change) -> Change:
        def change(folder: Path) -> None:
            shutil.rmtree(folder)
            make(folder)

        return change

    listed = [name for name in names if name != store.MANIFEST]
    for one, other in itertools.pairwise(listed):
        yield Mutation("", "folder", f"{one} and {other} exchanged", exchange(one, other))
    for name in listed:
        aside = f"{name}.bak"
        yield Mutation("", "folder", f"{name} renamed", lambda f, a=name, b=aside: (f / a).rename(f / b))
    for name in sorted(store.OWN - {*names}):  # what nobody would read may lie there: a model's card
        yield Mutation("", "folder", f"{name} too many", lambda folder, name=name: (folder / name).write_bytes(b"x"))
    yield Mutation("", "folder", "emptied", instead(Path.mkdir))
    yield Mutation("", "folder", "a file instead", instead(lambda folder: folder.write_bytes(b"x")))
    yield Mutation("", "folder", "a pipe instead", instead(os.mkfifo))
    yield Mutation("", "folder", "a link to nothing instead", instead(lambda folder: folder.symlink_to("nowhere")))


def put(name: str, content: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()  # it may be a hard link
        (folder / name).write_bytes(content)

    return change


def header(content: bytes) -> int:
    """Bytes before the data: a safetensors file begins with the length of its JSON header."""
    length = int.from_bytes(content[:8], "little")
    return 8 + length if 8 + length < len(content) else min(16, len(content) // 3)


@dataclass(frozen=True)
class Subject:
    """A finished run of a task, and a place where damaged copies are made."""

    task: str
    run: Path
    work: Path

    @property
    def steps(self) -> list[Path]:
        return store.step_folders(self.run / "checkpoints")

    def folder(self, place: str, run: Path) -> Path:
        inside = {"checkpoint": f"checkpoints/{self.steps[0].name}", "model": "model", "best": "checkpoints/best"}
        return run / inside[place]

    def copy(self) -> Path:
        """The run as it was just before its end, in a folder of the same name each time."""
        place = self.work / "damaged"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.run, place)
        (place / "report.json").unlink()  # else there is nothing to resume
        return place


def prepare(task: str, folder: Path) -> Subject:
    """Train the task's tiny run anew."""
    work = folder / task
    shutil.rmtree(work, ignore_errors=True)
    with quiet():
        report = train(Case(task, work).resolved(*SETTINGS, "run.name=whole"))
    return Subject(task, Path(report["run"]), work)


def read_all(subject: Subject, dice: random.Random) -> Iterator[Outcome]:
    """Every mutation, seen by what reads such a folder."""
    newest, older = subject.steps[:2]
    for place in PLACES:
        whole = subject.folder(place, subject.run)
        run = subject.copy()
        target = subject.folder(place, run)
        other = older if place == "checkpoint" else other_model(subject, whole)
        for mutation in mutations(whole, other, dice):
            restore(whole, target)
            mutation.change(target)
            if alike(whole, target):
                continue
            found, said = newest_is_passed_over(run, newest, older) if place == "checkpoint" else refused(target)
            named = mutation.file in said or mutation.file == store.MANIFEST  # what it lists may differ from it
            found = found and named
            yield Outcome(subject.task, place, mutation.file, mutation.kind, mutation.what, found, said)


def other_model(subject: Subject, whole: Path) -> Path:
    """An exported model like this one, with other content in each file."""
    folder = subject.work / "other"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    for path in folder.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes(reversed(content[-2:])))
    return folder


def newest_is_passed_over(run: Path, newest: Path, older: Path) -> tuple[bool, str]:
    said: list[str] = []
    with patience() as hung:
        taken = store.newest_whole(run / "checkpoints", said.append)
        return taken is not None and taken.name == older.name and newest.name in "".join(said), " | ".join(said)
    return False, hung[0]


def refused(folder: Path) -> tuple[bool, str]:
    with patience() as hung:
        try:
            load_model(folder)
        except CheckpointError as error:
            return True, str(error).replace(str(folder), folder.name)
        return False, "was loaded"
    return False, hung[0]


@contextlib.contextmanager
def patience() -> Iterator[list[str]]:
    """Ends the block when it waits too long or raises; what happened is then in the list."""
    what: list[str] = []

    def wake(number: int, frame: Any) -> None:
        raise TimeoutError(f"hung for {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, wake)
    signal.alarm(PATIENCE)
    try:
        yield what
    except Exception as error:  # a stack trace instead of words, or an endless wait: both are failures
        what.append(f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def restore(whole: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    elif os.path.lexists(target):
        target.unlink()
    shutil.copytree(whole, target)


def alike(whole: Path, target: Path) -> bool:
    """Whether the change changed nothing: the same names and bytes, or a manifest that says the same."""
    if not target.is_dir():
        return False
    files = {path.name: path for path in target.iterdir()}
    if files.keys() != {path.name for path in whole.iterdir()} or not all(path.is_file() for path in files.values()):
        return False
    for name, path in files.items():
        if path.is_symlink() and not path.resolve().is_file():
            return False
        ours, theirs = (whole / name).read_bytes(), path.read_bytes()
        if ours == theirs:
            continue
        try:
            if name != store.MANIFEST or json.loads(ours) != json.loads(theirs):
                return False
        except (ValueError, RecursionError):
            return False
    return True


def resume_some(subject: Subject, dice: random.Random, count: int) -> Iterator[Outcome]:
    """A sample of the mutations through the whole command, and cases where more than one thing is damaged."""
    older = subject.steps[1]
    for place in PLACES:
        whole = subject.folder(place, subject.run)
        other = older if place == "checkpoint" else other_model(subject, whole)
        kinds: dict[str, list[Mutation]] = collections.defaultdict(list)
        for mutation in mutations(whole, other, dice):
            kinds[mutation.kind].append(mutation)
        for index in range(count):
            mutation = dice.choice(kinds[sorted(kinds)[index % len(kinds)]])
            run = subject.copy()
            mutation.change(subject.folder(place, run))
            if alike(whole, subject.folder(place, run)):
                continue
            words = [f"{subject.folder(place, run).name} is damaged"]
            yield resumed(subject, run, replace(mutation), place, words)
    yield from several(subject)


def several(subject: Subject) -> Iterator[Outcome]:
    """Damage for which there is no second copy: said, never silent."""
    newest = subject.steps[0]
    content = bytearray((subject.folder("model", subject.run) / "model.safetensors").read_bytes())
    content[-1] ^= 1
    flip = Mutation(
        "model.safetensors", "flipped", "last byte, in model and best", put("model.safetensors", bytes(content))
    )
    run = subject.copy()
    for place in ("model", "best"):
        flip.change(subject.folder(place, run))
    yield resumed(
        subject,
        run,
        flip,
        "model and best",
        ["the best weights so far are lost", "model.safetensors does not match"],
        equal=False,
    )

    flip = replace(flip, what="last byte, in every checkpoint")
    run = subject.copy()
    for folder in store.step_folders(run / "checkpoints"):
        put("model.safetensors", b"x")(folder)
    yield resumed(
        subject, run, flip, "all checkpoints", [f"{newest.name} is damaged", "none of its checkpoints"], code=2
    )

    state = store.read_json(newest, "state.json")
    for key in state:
        if key == "visiontl":  # only for people
            continue
        run = subject.copy()
        tensors = {path.name: store.read_tensors(newest, path.name) for path in newest.glob("*.safetensors")}
        rest = json.dumps({name: value for name, value in state.items() if name != key})
        store.write_folder(subject.folder("checkpoint", run), {**tensors, "state.json": rest})
        mutation = Mutation("state.json", "state", f"{key} left out, sums written anew", lambda folder: None)
        yield resumed(subject, run, mutation, "checkpoint", [f"state.json: has no {key}"], code=2)


def resumed(
    subject: Subject, run: Path, mutation: Mutation, place: str, words: list[str], code: int = 0, equal: bool = True
) -> Outcome:
    """Continue a damaged run by the command: exit code, what is said, and the numbers at the end."""
    said, got = io.StringIO(), None
    with patience() as hung, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        got = cli.main(["train", str(subject.run / "config.yaml"), f"resume={run}"])
    problems = [*hung] if got == code else [*hung, f"exit code {got} instead of {code}"]
    text = " ".join(said.getvalue().split())
    problems += [f"{word!r} was not said" for word in words if word not in text]
    if "Traceback" in text:
        problems.append("a stack trace")
    if not problems and code == 0:
        ends = [run / "model", run / "checkpoints" / "best", *store.step_folders(run / "checkpoints")]
        problems += [
            f"{folder.name} is still damaged: {store.damage(folder)}" for folder in ends if store.damage(folder)
        ]
        problems += differences(subject.run, run) if equal else []
    lines = [line for line in said.getvalue().splitlines() if any(word in line for word in words)]
    told = "; ".join(problems) or (lines[0].strip() if lines else "")
    told = told.replace(str(run), "RUN")
    what = Outcome(subject.task, place, mutation.file, mutation.kind, mutation.what, not problems, told)
    return replace(what, way="resumed" if code == 0 else "refused")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def campaign(folder: Path, tasks: list[str], resumes: int, seed: int = 0) -> list[Outcome]:
    """All outcomes, also written to FOLDER/damage.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    with (folder / "damage.jsonl").open("w") as record:
        for task in tasks:
            subject = prepare(task, folder)
            dice = random.Random(f"{seed} {task}")
            for way in (read_all(subject, dice), resume_some(subject, dice, resumes)):
                for outcome in way:
                    outcomes.append(outcome)
                    record.write(json.dumps(asdict(outcome)) + "\n")
            print(f"{task}: {sum(outcome.task == task for outcome in outcomes)} changes", flush=True)
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """Markdown: one line per task and place, one column per kind of change; found of made."""
    kinds = list(dict.fromkeys(outcome.kind for outcome in outcomes if outcome.way == "read"))
    groups: dict[tuple[str, str], list[Outcome]] = collections.defaultdict(list)
    for outcome in outcomes:
        groups[outcome.task, outcome.place if outcome.way == "read" else "the whole command"].append(outcome)
    groups["all", ""] = outcomes
    lines = ["| task | place | " + " | ".join(kinds) + " | all |", "| --- " * (len(kinds) + 3) + "|"]
    for key, found in groups.items():
        cells = [[one for one in found if one.kind == kind] for kind in kinds] + [found]
        counts = [f"{sum(one.found for one in cell)} of {len(cell)}" if cell else "" for cell in cells]
        lines.append("| " + " | ".join([*key, *counts]) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the runs and damage.jsonl go")
    parser.add_argument("--task", action="append", help="a task's name; repeatable (default: all that are installed)")
    parser.add_argument("--resumes", type=int, default=12, help="resumed by the whole command, per place (default: 12)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    outcomes = campaign(given.folder, given.task or sorted(plugins.tasks()), given.resumes, given.seed)
    print(table(outcomes))
    unnoticed = [outcome for outcome in outcomes if not outcome.found]
    for one in unnoticed:
        print(f"UNNOTICED {one.task} {one.place} {one.file}: {one.what}: {one.said}", file=sys.stderr)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
