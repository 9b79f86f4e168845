"""The pages' blocks of code, and a folder for each page in which they run: small data where the page says it is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.shared import ROOT
from visiontl import plugins

PAGES = {page.name: page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
RUN = ("sh", "bash", "python")

INSTALLS = "installs packages"
DOWNLOADS = "downloads data and weights"
UNTRAINED = "a network of one epoch finds no boxes and no roads to explain; tests/explain has others"
MACHINES = "several GPUs or machines"
REPOSITORY = "runs the repository's own tools, which have tests of their own or take minutes"

# how a command begins, on any page: why it is parsed and not run
NEVER = {
    "pip install": INSTALLS,
    ".venv/bin/pip install": INSTALLS,
    "python3 -m venv": INSTALLS,
    ". .venv/bin/activate": INSTALLS,
    "convert/bin/": INSTALLS,
    "visiontl train classification/cifar10": DOWNLOADS,
    "visiontl evaluate classification/imagenet": "needs ImageNet",
    "visiontl explain runs/birds": UNTRAINED,
    "visiontl explain runs/streets": UNTRAINED,
    "torchrun --nnodes 2": MACHINES,
    "srun torchrun": MACHINES,
    ".venv/bin/python -m pytest": REPOSITORY,
    "VISIONTL_TEST_DATA=../shared python tools/benchmark.py": REPOSITORY,
    "visiontl doctor scenes.yaml": "tests/multi trains several tasks at once",
    "visiontl train scenes.yaml": "tests/multi trains several tasks at once",
    "visiontl predict runs/scenes": "tests/multi trains several tasks at once",
    "visiontl explain runs/scenes": "tests/multi trains several tasks at once",
    "visiontl multi part runs/scenes": "tests/multi takes a part out",
    "visiontl export runs/scenes": "tests/export writes several tasks as one graph",
    "visiontl predict scenes_label": "tests/multi takes a part out",
    "visiontl push": "goes to the hub; tests/export/test_hub.py has a stand-in of it",
    "visiontl predict hf-hub:": "comes from the hub; tests/export/test_hub.py has a stand-in of it",
    "visiontl serve": "listens until it is stopped; tests/export/test_serving.py asks it",
    "visiontl demo": "listens until it is stopped; tests/export/test_demo.py asks it",
    "curl": "asks a server; tests/export/test_serving.py does the same",
    "python -m visiontl.runtime": "tests/export/test_runtime.py does the same",
    "visiontl train cells.yaml": "tests/detection/test_whole.py begins with whole models",
    "visiontl train roads.yaml init=": "tests/segmentation/test_whole.py begins with whole models",
    "visiontl evaluate torchvision/": "tests/detection/test_whole.py does the same",
    "visiontl train ssl/": "trains for hours; tests/ssl trains a small one",
    "visiontl train flowers.yaml init=runs/photos_simsiam": "tests/ssl begins other tasks with such a run",
    "visiontl merge": "tests/core/test_merging.py does the same",
    "visiontl train photos.yaml run.name=": "three runs to be merged",
    "visiontl sweep": "trains many runs; tests/core/test_sweep.py has others",
    "visiontl tune": "trains for minutes; tests/core/test_tune.py has others",
    "visiontl rank": "reads many backbones; tests/core/test_rank.py has others",
    "visiontl check": "the checks have tests of their own",
    "python tools/benchmark.py": REPOSITORY,
    "for n in 1 2 3": "starts six processes; tests/core/test_processes.py does the same",
    "torchrun --standalone": "in that loop",
    "done": "in that loop",
}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w/]+\.(?:py|toml|yaml))`")  # a paragraph that begins so says what the block after it is


@dataclass(frozen=True)
class Block:
    """A fenced block; line: of its fence; file: what the block is said to be, if anything; after: whether nothing but
    blank lines stands between it and the block before."""

    page: str
    line: int
    language: str
    text: str
    file: str | None
    after: bool

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> Iterator[Block]:
    text, end = PAGES[page].read_text(encoding="utf-8"), 0
    for found in FENCE.finditer(text):
        before = text[: found.start()]
        named = FILE.match(before.rstrip().rpartition("\n\n")[2])
        yield Block(
            page,
            before.count("\n") + 1,
            found[1],
            found[2],
            named[1] if named else None,
            not text[end : found.start()].strip(),
        )
        end = found.end()


def commands(block: Block) -> list[str]:
    """Its lines, continued ones joined, without comments, parted at &&; nothing of lines of grammar ([a.b=c ...])."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in block.text.replace("\\\n", " ").splitlines()]
    parts = [" ".join(part.split()) for line in lines for part in line.partition(" | ")[0].split("&&")]
    return [part for part in parts if part and not re.search(r"(^|\s)\[[a-zA-Z]|\w\|\w", part)]


def left_out(command: str) -> bool:
    return command.startswith(tuple(NEVER))


def picture(path: Path, seed: int, size: tuple[int, int] = (72, 64)) -> None:
    """Soft colored blobs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)


def pictures(folder: Path, number: int, seed: int = 0) -> None:
    for i in range(number):
        picture(folder / f"{i}.jpg", 100 * seed + i)


def drawn(task: str, folder: Path, name: str) -> None:
    """The task's example as FOLDER/NAME."""
    made = plugins.task(task).example(folder / "drawn")  # type: ignore[misc]
    shutil.move(str(made), folder / name)


def animals(folder: Path) -> None:
    for label, kind in enumerate(("ant", "bee", "cat", "dog")):
        pictures(folder / "photos" / kind, 8, label)
    pictures(folder / "new_photos", 2, 7)
    picture(folder / "photo.jpg", 1)


def birds(folder: Path) -> None:
    drawn("detection", folder, "photos")
    pictures(folder / "new_photos", 2)


def streets(folder: Path) -> None:
    drawn("segmentation", folder, "streets")
    pictures(folder / "new_photos", 2)


def people(folder: Path) -> None:
    drawn("face", folder, "faces")
    test = sorted((folder / "faces/test").iterdir())
    names = [sorted(f"test/{person.name}/{file.name}" for file in person.iterdir()) for person in test]
    same = [f"{own[0]},{own[1]},1" for own in names]
    other = [f"{own[0]},{names[i - 1][2]},0" for i, own in enumerate(names)]
    (folder / "test_pairs.csv").write_text("\n".join(["file_a,file_b,same", *same, *other]))
    shutil.copytree(folder / "faces", folder / "all")
    for i, person in enumerate(sorted((folder / "faces/val").iterdir())):
        for place in ("known/anna", "more/bert", "new/cleo", "new/dora")[i : i + 1]:
            shutil.copytree(person, folder / place)
    for person in (folder / "new").iterdir():
        shutil.copytree(person, folder / "all/train" / person.name)
    pictures(folder / "photos", 2)
    for name in ("a.jpg", "b.jpg"):
        picture(folder / name, 3)
    eyes_nose_mouth = [(24, 24), (48, 24), (36, 36), (28, 48), (44, 48)]
    spots = ",".join(f"{x},{y}" for x, y in eyes_nose_mouth)
    header = ",".join(f"x{i},y{i}" for i in range(1, 6))
    (folder / "landmarks.csv").write_text(f"file,{header}\n0.jpg,{spots}\n1.jpg,{spots}\n")
    lfw(folder)


def lfw(folder: Path) -> None:
    """lfw/NAME/NAME_0001.jpg, and pairs.txt with two folds of two pairs of each kind."""
    names = ["Ann", "Bob", "Cid", "Dan"]
    for place, name in enumerate(names):
        for number in (1, 2):
            picture(folder / "lfw" / name / f"{name}_{number:04d}.jpg", 10 * place + number)
    lines = ["2\t2"]
    for one, two in (names[:2], names[2:]):
        lines += [f"{one}\t1\t2", f"{two}\t1\t2", f"{one}\t1\t{two}\t1", f"{one}\t2\t{two}\t2"]
    (folder / "pairs.txt").write_text("\n".join(lines))


def stars(folder: Path) -> None:
    pictures(folder / "photos", 8)
    pictures(folder / "holidays", 4, 1)
    pictures(folder / "paintings", 3, 2)
    for name in ("starry_night.jpg", "holiday.jpg"):
        picture(folder / name, 5, (96, 80))


def files_of_others(folder: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"layer.weight": torch.ones(2, 2)}}, folder / "checkpoint.pth")


# what runs of these names are about, on every page
TASKS = {"people": "face", "birds": "detection", "streets": "segmentation", "stars": "style"}

# what a page has beside animals, or in their place
PREPARED: dict[str, Callable[[Path], None]] = {
    "backbones.md": files_of_others,
    "detection.md": birds,
    "face.md": people,
    "segmentation.md": streets,
    "style.md": stars,
}


def prepare(page: str, folder: Path) -> list[list[str]]:
    """Fills the folder; words of `visiontl train` for each run that the page uses and does not make."""
    PREPARED.get(page, animals)(folder)
    text = "\n".join(block.text for block in blocks(page) if block.language in RUN)
    for place in re.findall(r"runs/samples-[\w/-]+(?![\w/.-])", text):  # drawn by quick starts that are not made small
        for name in ("beetle_0.jpg", "beetle_1.jpg"):
            picture(folder / place / name, 6)
    for name in re.findall(r"(?<![\w/*])[\w/-]+\.jpg", text):
        if not (folder / name).exists():
            picture(folder / name, 4)
    for name in re.findall(r"visiontl \w+ (\w+\.yaml)", text):  # a config that the page does not show, unless it does
        (folder / name).write_text("task: {name: classification, data: photos}\nbackbone: {name: resnet18}\n")
    made = set(re.findall(r"run\.name=([\w-]+)", text))
    lines = [line for line in text.splitlines() if not left_out(line)]
    used = dict.fromkeys(re.findall(r"(?<!\w)runs/([\w-]+)", "\n".join(lines)))
    missing = [name for name in used if name not in made and not name.startswith(("example", "samples"))]
    return [
        ["train", f"{TASKS.get(name, 'classification')}/quickstart", f"run.name={name}", f"train.seed={seed}"]
        + (["task.data=photos"] if name == "photos" else [])
        for seed, name in enumerate(missing)
    ]
