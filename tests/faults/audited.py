"""A process of its own: every task is trained, resumed, evaluated and asked for predictions on hostile folders, under
an audit hook that notes what is written, started and connected to. Prints what it found as one line of JSON.

    python audited.py FOLDER
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import partialmethod
from pathlib import Path
from typing import Any

from PIL import Image

TASKS = ("classification", "detection", "segmentation", "face", "style")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGING = {  # events that change what a path is; which arguments are paths, and which the folder's descriptor for each
    **dict.fromkeys(("os.mkdir", "os.chmod"), ((0, 2),)),
    "os.utime": ((0, 3),),
    **dict.fromkeys(("os.remove", "os.rmdir"), ((0, 1),)),
    "os.chown": ((0, 3),),
    "os.truncate": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
}
STARTING = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty"),
    *("os.startfile", "pty.spawn"),
)
CONNECTING = (
    *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"),
    *("socket.getaddrinfo", "socket.gethostbyname"),
)


class Hook:
    """Notes violations in a file that is open before it listens; forked loader processes note theirs there too."""

    def __init__(self, log: int, allowed: list[Path]):
        self.log, self.allowed, self.busy = log, [os.path.realpath(one) for one in allowed], False

    def __call__(self, event: str, values: tuple[Any, ...]) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            self.see(event, values)
        finally:
            self.busy = False

    def see(self, event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = values
            if isinstance(path, str | bytes) and (set(mode or "") & set("wax+") or flags & WRITING):
                self.written(event, path, None)
        elif event in CHANGING:
            for path, folder in CHANGING[event]:
                number = None if folder is None else values[folder]
                if isinstance(values[path], str | bytes | os.PathLike):
                    self.written(event, values[path], number)
        elif event in STARTING:
            if not (event == "os.fork" and by_a_loader()):
                self.note(event, values)
        elif event in CONNECTING and not inside(event, values):
            self.note(event, values[1:] if event in ("socket.connect", "socket.bind") else values)

    def written(self, event: str, path: Any, folder: int | None) -> None:
        path = os.fsdecode(path)
        if folder is not None and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        # where it goes in truth: opening follows a link, the others change the name itself
        above, name = os.path.split(os.path.abspath(path))
        real = os.path.realpath(path) if event == "open" else os.path.join(os.path.realpath(above), name)
        if real != os.devnull and not any(real == one or real.startswith(one + os.sep) for one in self.allowed):
            self.note(event, (real,))

    def note(self, event: str, values: Any) -> None:
        os.write(self.log, (json.dumps([event, repr(values)[:300]]) + "\n").encode())


def by_a_loader() -> bool:
    """Whether the process is forked by torch's DataLoader, through multiprocessing."""
    frame, files = sys._getframe(), []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return any(one.endswith("multiprocessing/popen_fork.py") for one in files) and any(
        one.endswith("torch/utils/data/dataloader.py") for one in files
    )


def inside(event: str, values: tuple[Any, ...]) -> bool:
    """Whether a socket stays on this machine."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        return values[0] in (None, "localhost", "127.0.0.1", "::1", socket.gethostname())
    if values[0].family == socket.AF_UNIX:
        return True
    return isinstance(values[1], tuple) and values[1][0] in ("127.0.0.1", "::1", "localhost")


# ------------------------------------------------------------------------------------------------------ hostile folders


def prepare(place: Path) -> dict[str, list[Path]]:
    """{task: its configs; the first can be trained with, of the others nobody knows}. Each folder holds links to
    pictures outside, and names that are options, commands or parents elsewhere."""
    from visiontl import plugins
    from visiontl.testing.case import SETTINGS

    outside = place / "outside"
    outside.mkdir()
    for number in range(3):
        Image.effect_noise((72, 72), 40 + number).convert("RGB").save(outside / f"{number}.png")
    (outside / "private.txt").write_text("nobody's business\n")
    configs: dict[str, list[Path]] = {}
    for name in TASKS:
        task, folder = plugins.task(name), place / "data" / name
        data = task.example(folder)
        thin(folder)
        others = SPOILED[name](folder, outside)
        configs[name] = []
        for number, given in enumerate([data, *others]):
            core = {**SETTINGS, "train": {**SETTINGS["train"], "epochs": 1, "checkpoint_every": "1 step"}}
            section = {"name": name, **task.small, "data": given}
            run = {"folder": str(place / "runs"), "name": f"{name}-{number}"}
            text = json.dumps({"task": section, **core, "run": run})
            configs[name].append(place / "configs" / f"{name}-{number}.yaml")
            configs[name][-1].parent.mkdir(exist_ok=True)
            configs[name][-1].write_text(text)
    return configs


def thin(folder: Path) -> None:
    """Leave a few pictures of each folder, and no test split, because two updates and a glance at val are enough."""
    for path in [path for path in folder.rglob("test*") if path.stem == "test"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for listing in folder.rglob("annotations/*.json"):
        found = json.loads(listing.read_text())
        found["images"] = sorted(found["images"], key=lambda one: one["file_name"])[: few(listing, 8)]
        kept = {one["id"] for one in found["images"]}
        found["annotations"] = [one for one in found["annotations"] if one["image_id"] in kept]
        listing.write_text(json.dumps(found))
    most = 2 if (folder / "faces").exists() else 8  # there is a folder for each person
    for parent in [path for path in folder.rglob("*") if path.is_dir()]:
        for path in sorted(parent.glob("*.png"))[few(parent, most) :]:
            path.unlink()


def few(place: Path, most: int) -> int:
    return 2 if {"val", "val.json"} & set(place.parts) else most


def classes(folder: Path, outside: Path) -> list[Any]:
    root = folder / "shapes"
    for split in ("train", "val"):
        first = sorted(path for path in (root / split).iterdir() if path.is_dir())[0]
        (first / "a..b.png").symlink_to(outside / "0.png")
        (first / "$(touch started).png").symlink_to(os.path.relpath(outside / "1.png", first))
        first.rename(root / split / "-rf")
    return [table(folder / "list.csv", ("path", "label"), outside), {"folder": str(root), "lists": str(outside)}]


def boxes(folder: Path, outside: Path) -> list[Any]:
    root = folder / "objects"
    listing = root / "annotations/train.json"
    found = json.loads(listing.read_text())
    names = [one["file_name"] for one in found["images"][:2]]
    images = root / "images/train"
    for name, new in zip(names, ("-rf.png", "a..b.png"), strict=True):
        (images / name).rename(images / new)
    renamed = dict(zip(names, ("-rf.png", "a..b.png"), strict=True))
    for one in found["images"]:
        one["file_name"] = renamed.get(one["file_name"], one["file_name"])
    linked = images / found["images"][2]["file_name"]
    shutil.move(linked, outside / "linked.png")
    linked.symlink_to(outside / "linked.png")
    listing.write_text(json.dumps(found))
    others: list[Any] = []
    for number, name in enumerate(("../../../../outside/0.png", str(outside / "0.png"))):
        copied = folder / f"climbing-{number}"
        shutil.copytree(root, copied, symlinks=True)
        found["images"][3]["file_name"] = name
        (copied / "annotations/train.json").write_text(json.dumps(found))
        others.append(str(copied))
    return others


def masks(folder: Path, outside: Path) -> list[Any]:
    root = folder / "shapes"
    for kind in ("images", "masks"):
        (root / kind / "train/000.png").rename(root / kind / "train/-rf.png")
        shutil.move(root / kind / "train/001.png", outside / f"{kind}.png")
        (root / kind / "train/001.png").symlink_to(outside / f"{kind}.png")
    return [
        {"folder": str(root), "images": "../../../outside", "masks": str(outside)},
        {"folder": str(root), "images": "images/{split}/../../../../../outside", "masks": "masks/{split}"},
    ]


def people(folder: Path, outside: Path) -> list[Any]:
    first = sorted((folder / "faces/train").iterdir())[0]
    (first / "a..b.png").symlink_to(outside / "0.png")
    first.rename(first.with_name("-rf"))
    return [table(folder / "list.csv", ("path", "identity"), outside)]


def photos(folder: Path, outside: Path) -> list[Any]:
    root = folder / "scenes"
    (root / "photos/a..b.png").symlink_to(outside / "0.png")
    (root / "photos/$(touch started).png").symlink_to(outside / "1.png")
    (root / "styles/-rf.png").symlink_to(outside / "2.png")
    return [{"photos": str(root / "photos/.."), "styles": str(outside / "private.txt")}]


def table(path: Path, columns: tuple[str, str], outside: Path) -> str:
    """A table that names files outside of its folder."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows([(f"../../outside/{number}.png", f"c{number}") for number in range(3)])
        rows.writerows([(str(outside / f"{number}.png"), "=HYPERLINK(1)") for number in range(3)])
    return str(path)


SPOILED = {"classification": classes, "detection": boxes, "segmentation": masks, "face": people, "style": photos}


def standing(place: Path) -> dict[str, Any]:
    """What lies in the folders that nobody may change: compiled code writes files that no hook sees."""
    found: dict[str, Any] = {}
    for top in ("data", "outside", "configs", "here"):
        for path in sorted((place / top).rglob("*")):
            at = path.lstat()
            target = os.readlink(path) if path.is_symlink() else None
            found[str(path)] = (at.st_mode, at.st_size if target or path.is_file() else 0, at.st_mtime_ns, target)
    return found


# -------------------------------------------------------------------------------------------------------------- the run


def using(place: Path, configs: dict[str, list[Path]]) -> dict[str, Any]:
    """Exit codes of what was done with each task."""
    from visiontl.cli import main
    from visiontl.report import page

    codes: dict[str, Any] = {}
    drawn = page.render_figure  # takes longer than all else, so once
    page.render_figure = lambda figure, prefix="": ""
    for task, (first, *others) in configs.items():
        run, workers = place / "runs" / f"{task}-0", 2 if task == "classification" else 0
        began = main(["train", str(first), f"loader.workers={workers}"])
        (run / "report.json").unlink()  # as a kill in the last update would leave it
        shutil.rmtree(max((run / "checkpoints").glob("step-*")))
        resumed = main(["train", str(first), f"resume={run}", f"loader.workers={workers}"])
        page.render_figure, undrawn = drawn if task == "classification" else page.render_figure, page.render_figure
        evaluated = main(["evaluate", str(run), "--split", "val", "--out", str(place / "out" / f"{task}-scores")])
        page.render_figure = undrawn
        asked = [str(place / "outside"), *map(str, list((place / "data" / task).rglob("a..b.png"))[:1])]
        predicted = main(["predict", str(run), *asked, "--out", str(place / "out" / task)])
        codes[task] = [began, resumed, evaluated, predicted]
        codes[f"{task}, spoiled"] = [main(["train", str(config)]) for config in others]
    return codes


def broken(place: Path) -> None:
    """One of each kind, to see that the hook sees it."""
    with open(place / "outside" / "new", "w"):
        pass
    os.remove(place / "outside" / "new")
    subprocess.run(["true"])
    with socket.socket() as one:
        one.settimeout(0.01)
        one.connect_ex(("192.0.2.1", 9))


def audited(place: Path) -> dict[str, Any]:
    sys.dont_write_bytecode = True
    for name in ("tmp", "here", "runs", "out"):
        (place / name).mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(place / "tmp")
    os.environ["VISIONTL_FEATURES"] = str(place / "runs" / "features")
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)  # of the process that started this one
    os.chdir(place / "here")
    import matplotlib

    import visiontl.engine.train  # noqa: F401 - torch makes and removes files where it is imported first

    Image.Image.save = partialmethod(Image.Image.save, compress_level=1)
    configs = prepare(place)
    before = standing(place)
    log = os.open(place / "log.jsonl", os.O_CREAT | os.O_APPEND | os.O_RDWR)
    # temporary files, and what matplotlib keeps of the system's fonts
    allowed = [place / "runs", place / "out", place / "tmp", Path(matplotlib.get_cachedir())]
    sys.addaudithook(Hook(log, allowed))
    codes = using(place, configs)
    found = noted(log)
    after = standing(place)
    broken(place)
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return {"codes": codes, "found": found, "changed": changed, "broken": noted(log)[len(found) :]}


def noted(log: int) -> list[Any]:
    return [json.loads(line) for line in os.pread(log, 1 << 24, 0).decode().splitlines()]


if __name__ == "__main__":
    print(json.dumps(audited(Path(sys.argv[1]).resolve())))
