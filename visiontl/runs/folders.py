"""Run folders: which may be continued, what changed since, and who is writing to one."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from visiontl.config.resolve import Resolved, resolve
from visiontl.config.write import config_hash, flat_config
from visiontl.errors import CheckpointError, VisionTLError, room_at
from visiontl.processes import ranks
from visiontl.report.console import Console
from visiontl.report.run import Report
from visiontl.runs import hub, origin, store
from visiontl.runs.environment import LOCK, is_blank
from visiontl.runs.files import read_text, write_text, writing

AUTO = "auto"
FREE = ("run.", "loader.")  # what decides no number: it may change between a run and its continuation
PLACE = ("run.folder", "run.name", "resume")
ENDED = ("finished", "stopped early")
UNREADABLE = "unreadable.txt"
LEAST = 1 << 20  # bytes that the smallest run takes

_held: dict[Path, int] = {}  # descriptors of the files that are locked


class _Held(CheckpointError):
    """Another process writes to this run."""


def choose(resolved: Resolved, console: Console) -> tuple[Path | None, bool]:
    """(folder to continue or None for a new run, whether that run has ended already).

    `resume: DIR` names the folder; `resume: auto` takes the newest unfinished run of the same config in `run.folder`;
    where all of them have ended, the newest of these. Raises CheckpointError for a folder that is no run, that belongs
    to another config, or that another process is writing to.
    """
    wanted = resolved.config.resume
    if wanted is None:
        return None, False
    if wanted != AUTO:
        folder = Path(wanted)
        require_run(folder)
        changed, forbidden = changes(folder, resolved)
        if forbidden:
            raise CheckpointError(
                f"{folder}: belongs to another config ({listed(forbidden)}); resume continues a run exactly, so only "
                f"run, loader and resume settings may differ; to start a new run from its weights: init={folder}"
            )
        if changed:
            console.say(f"changed since the run began: {listed(changed)}", keep=True)
        return folder, ended(folder) is not None
    return _newest(resolved, console)


def require_run(folder: Path) -> None:
    """Raise CheckpointError unless the folder is one that a training run made."""
    if not folder.is_dir():
        near = sorted(path.name for path in folder.parent.glob("*") if path.is_dir()) if folder.parent.is_dir() else []
        hint = f"; {folder.parent} holds {', '.join(near[-5:])}" if near else ""
        raise CheckpointError(f"resume: {folder} is no run folder{hint}; `resume=auto` looks for one")
    if not (folder / "config.yaml").is_file():
        raise CheckpointError(f"resume: {folder} holds no config.yaml, so it is no run folder that could be continued")
    require_plain(folder)


def require_plain(folder: Path) -> None:
    """Raise CheckpointError where something that a run writes to is a link, a pipe or a device: writing would change
    what lies elsewhere, or wait for ever. (`model` and checkpoints are exchanged whole, never written through.)"""
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if entry.name == "model" or entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
            continue
        what = f"a link to {os.readlink(entry.path)}" if entry.is_symlink() else "neither a file nor a folder"
        raise CheckpointError(
            f"{entry.path}: is {what}; a run writes to plain files and folders of its own alone. Put what belongs "
            "there in its place, or remove it"
        )


def outputs(run: Path) -> Path:
    """The folder in which what is made with a run goes: the run's own; of an exported model alone, which is never
    changed, the one it lies in; of one of the hub a folder here."""
    if (place := hub.folder_for(run)) is not None:
        return place
    alone = (run / store.MANIFEST).exists() and not (run / "model").exists()
    return Path(os.path.abspath(run)).parent if alone and run.name in ("", "..") else run.parent if alone else run


def require_outside(folder: Path) -> None:
    """Raise CheckpointError for a folder within a checkpoint or an exported model, which are never changed."""
    whole = Path(os.path.abspath(folder))
    for above in (whole, *whole.parents):
        # os.path's answer where Path's methods raise: for names that are too long
        if os.path.isfile(above / store.MANIFEST) and os.path.exists(above / "model.safetensors"):
            raise CheckpointError(
                f"{folder}: {above} is an exported model and is never changed; choose a folder beside it"
            )


def require_writable(folder: Path) -> None:
    """Raise CheckpointError where the folder, or the nearest one above it that exists, cannot be written to, or lies on
    a full disk."""
    whole = folder.absolute()
    above = next(place for place in (whole, *whole.parents) if os.path.exists(place))  # Path.exists raises for some
    if not above.is_dir():
        raise CheckpointError(f"{folder} cannot be made: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise CheckpointError(f"{folder} cannot be {'written to' if above == whole else f'made: {above} is read-only'}")
    disk = shutil.disk_usage(above)
    if disk.total and disk.free < LEAST:  # a system's own places, such as /proc, have no size
        raise CheckpointError(
            f"{folder} cannot be written to: the disk is full, {room_at(above)}; make room, or choose another folder"
        )


def require_free(parent: Path, name: str | None) -> None:
    """Raise CheckpointError where a new run, of that name or of none, cannot be made in the folder."""
    require_writable(parent)
    if name is not None and os.path.exists(parent / name) and not is_blank(parent / name):
        raise CheckpointError(f"{parent / name} exists already and is never overwritten; choose another run.name")


def begin(folder: Path, new: bool, fill: Callable[[], None]) -> None:
    """Hold the folder of a run and write what it begins with. Raises CheckpointError where another process holds it,
    and where the disk refuses; of a new run nothing stays then, so that its name is free."""
    lock(folder)
    try:
        with writing(folder, "make room and start it again, or choose another run.folder"):
            fill()
    except BaseException:
        release(folder)
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def write_lists(folder: Path, config: str | None, names: Mapping[str, Sequence[str]], unreadable: str) -> None:
    """What a run is: its config, where one is given, and the files of each split, one JSON string a line. A resumed run
    adds what a kill at its beginning left out, and changes nothing once there is a checkpoint, which was made of these
    files. unreadable: text of the file that says what was left out; empty where nothing was."""
    begun = store.step_folders(folder / "checkpoints")
    missing = [name for name in names if not (begun and (folder / "splits" / f"{name}.txt").exists())]
    if config is not None:
        origin.remember(folder)
        write_text(folder / "config.yaml", config)
    (folder / "splits").mkdir(exist_ok=True)
    if missing and unreadable:
        write_text(folder / "splits" / UNREADABLE, unreadable)
    for name in missing:
        lines = "".join(json.dumps(file, ensure_ascii=False) + "\n" for file in names[name])
        write_text(folder / "splits" / f"{name}.txt", lines)


def listed_files(folder: Path, split: str) -> set[str] | None:
    """The files of a split of a run, by their names in the data; None where the run has no such list. Raises
    CheckpointError for a list that cannot be read."""
    path = folder / "splits" / f"{split}.txt"
    if not path.exists():
        return None
    try:  # not splitlines, which also ends a line at U+2028 and other characters that names may hold
        lines = read_text(path).split("\n")
        return {str(json.loads(line)) for line in lines if line}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None


def compare_lists(folder: Path, names: Mapping[str, Sequence[str]], console: Console) -> None:
    """Say aloud when the files of a split are no longer those that the run was trained and judged on."""
    for name, files in names.items():
        try:
            saved, now = listed_files(folder, name), set(files)
        except CheckpointError as error:
            console.warn(f"{error}: whether the {name} split is the run's own is not known")
            continue
        if saved is not None and saved != now:
            console.warn(
                f"the {name} split has changed since training: {len(now - saved)} new, {len(saved - now)} gone "
                f"({', '.join(sorted(now ^ saved)[:3])}); scores are not comparable with the run's own"
            )


def changes(folder: Path, resolved: Resolved) -> tuple[list[str], list[str]]:
    """What differs from the config that the run began with: ("key: then -> now" that may, those that may not).
    Where the run is, its folder says."""
    then, now = flat_config(resolve(folder / "config.yaml")), flat_config(resolved)
    differing = [key for key in {**then, **now} if then.get(key) != now.get(key) and key not in PLACE]
    lines = {key: f"{key}: {then.get(key)} -> {now.get(key)}" for key in differing}
    free = [lines[key] for key in differing if key.startswith(FREE)]
    return free, [lines[key] for key in differing if not key.startswith(FREE)]


def listed(changed: list[str], most: int = 8) -> str:
    return ", ".join(changed[:most]) + (f" and {len(changed) - most} more" if len(changed) > most else "")


def ended(folder: Path) -> Report | None:
    """The report of a run that came to its end, or None. report.json is written last: it says that the end is done."""
    if not (folder / "report.html").is_file():
        return None
    try:
        report = Report.read(folder / "report.json")
    except CheckpointError:
        return None
    return report if report.status in ENDED else None


def ended_report(folder: Path, console: Console) -> Report:
    """The report of a run that has ended, said aloud. Raises CheckpointError where it is gone."""
    report = ended(folder)
    if report is None:
        raise CheckpointError(f"{folder}: its report is gone; try again")
    training = report.training
    best = None if training is None else training.best
    score = "" if best is None or best.value is None else f"; best {best.score} {best.value:.4f}"
    steps = 0 if training is None else training.steps
    console.say(f"{folder} is {report.status} after {steps} updates{score}: nothing to resume")
    console.say(f"report: {folder / 'report.html'}")
    return report


def lock(folder: Path) -> None:
    """Hold the folder for this process until it ends, however it ends. Raises CheckpointError when another one
    holds it, and for a folder that is no plain one. Where the file system knows no locks, nothing is held."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    require_plain(folder)
    try:  # neither through a link nor into a pipe, should one have come since
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(folder / LOCK, flags, 0o644)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written to: {error.strerror or error}") from None
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(file)
        raise _Held(f"{folder}: another process is training this run at this moment") from None
    except OSError:
        os.close(file)
        return
    _held[folder.resolve()] = file


def release(folder: Path) -> None:
    file = _held.pop(folder.resolve(), None)
    if file is not None:
        os.close(file)


def is_locked(folder: Path) -> bool:
    """Whether another process holds the folder."""
    if folder.resolve() in _held or not (folder / LOCK).exists():
        return False
    try:
        lock(folder)
    except _Held:
        return True
    release(folder)
    return False


def resume_command(folder: Path) -> str:
    """The command that continues the run, on as many processes as now; in the way that this one was started."""
    rest = [str(folder / "config.yaml"), f"resume={folder}"]
    world, begun = ranks.world(), Path(sys.argv[0] if sys.argv else "")
    module = ["-m", "visiontl", "train"]
    if world == 1:
        return shlex.join([*(["python", *module] if begun.name == "__main__.py" else ["visiontl", "train"]), *rest])
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    target = [str(begun)] if begun.name == "train.py" else module
    command = shlex.join(["torchrun", "--nproc_per_node", str(local), *target, *rest])
    return command if local == world else f"{command} (with the options for several machines as before)"


def _newest(resolved: Resolved, console: Console) -> tuple[Path | None, bool]:
    section = resolved.config.run
    parent = Path(section.folder)
    named = section.name is not None
    folders = [parent / section.name] if section.name is not None else list(parent.glob("*"))
    wanted, alike = config_hash(resolved), []
    for folder in folders:
        if not (folder / "config.yaml").is_file():
            if named and is_blank(folder):
                if is_locked(folder):
                    raise CheckpointError(f"{folder}: another process is training this run at this moment")
                shutil.rmtree(folder)
            continue
        try:
            same = config_hash(resolve(folder / "config.yaml")) == wanted
        except VisionTLError as error:
            if named:
                raise
            console.warn(f"resume: auto: {folder} was passed over: {str(error).splitlines()[0]}")
            continue
        if same:
            alike.append(folder)
        elif named:
            _, forbidden = changes(folder, resolved)
            raise CheckpointError(
                f"{folder}: belongs to another config ({listed(forbidden)}); choose another run.name for a new run"
            )
    alike.sort(key=lambda folder: (folder / "config.yaml").stat().st_mtime_ns, reverse=True)
    for folder in alike:
        if ended(folder) is not None:
            continue
        if is_locked(folder):
            raise CheckpointError(f"{folder}: another process is training this run at this moment")
        changed, _ = changes(folder, resolved)
        since = f"; changed since it began: {listed(changed)}" if changed else ""
        console.say(f"resume: auto: continues {folder}{since}", keep=True)
        return folder, False
    if alike:
        return alike[0], True
    console.say(f"resume: auto: no run of this config in {parent}: a new one starts", keep=True)
    return None, False
