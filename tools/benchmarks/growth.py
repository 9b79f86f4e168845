"""Peak memory and processor time of each command at two sizes of what it is given."""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from benchmarks.harness import BenchmarkError, Options, Table
from PIL import Image

import visiontl
from visiontl import plugins
from visiontl.backbones import matching
from visiontl.backbones.files import read_file
from visiontl.backbones.weights import make_backbone
from visiontl.config.resolve import resolve
from visiontl.doctor import findings
from visiontl.doctor.diagnose import diagnose
from visiontl.engine import scan
from visiontl.engine.predict import predict_files
from visiontl.engine.prepare import set_up
from visiontl.errors import ConfigError, WeightsError
from visiontl.kit.images import open_image
from visiontl.report import comparison
from visiontl.report.console import Console
from visiontl.report.page import write_report
from visiontl.report.run import Report
from visiontl.runs.comparing import read_runs
from visiontl.runs.files import read_lines
from visiontl.testing.case import Case

ABOUT = """
Every case runs in a forked process, on tiny networks, so that what is seen is the toolkit's own work. *CPU* is the
processor time of the command, its preparation not counted; *peak* is the resident memory (VmHWM) above what the process
had before. The exponent is log(ratio) / log(growth of the input): 1 is linear; below 1 something fixed is part of it.
"""
LOOKS = 20  # pictures that all files of a folder show
TOLERANCE = 1.15  # of an exponent, until it is said to grow faster: processors are shared
WARM = 20  # of what grows, before it is measured
PIECE = 48  # pixels of a side of the many files
TASKS = ("classification", "detection", "segmentation", "face", "style")
KINDS = {
    "RGB, JPEG": "rgb.jpg", "RGB, PNG": "rgb.png", "gray, PNG": "gray.png", "palette, PNG": "palette.png",
    "RGB with transparency, PNG": "rgba.png", "gray with transparency, PNG": "la.png", "16-bit gray, PNG": "deep.png",
    "CMYK, JPEG": "cmyk.jpg", "RGB turned by EXIF, JPEG": "turned.jpg",
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    seconds: float  # of the processor
    peak: float  # bytes above those before


@dataclass(frozen=True)
class Growing:
    """prepare: (folder, size) -> what `work` is given; not measured. what: grows, such as "files"."""

    command: str
    what: str
    sizes: tuple[int, int]
    prepare: Callable[[Path, int], Any]
    work: Callable[[Any], object]


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    quick = options.quick
    suffix = ", sample" if quick else ""
    yield f"Growth of commands{suffix}", partial(growth, quick)
    yield f"Memory of large pictures{suffix}", partial(pictures, 400 if quick else 4800, quick)


def cost(work: Callable[[Any], object], prepare: Callable[[], Any], warm: Callable[[], Any] | None = None) -> Cost:
    """Of `work(prepare())` in a forked process, without the preparation, after `work(warm())`, which imports what is
    imported once. Raises BenchmarkError where it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            if warm is not None:
                work(warm())
            given = prepare()
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")
            before, began = resident("VmRSS"), resource.getrusage(resource.RUSAGE_SELF)
            work(given)
            ended = resource.getrusage(resource.RUSAGE_SELF)
            seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
            os.write(writing, json.dumps([seconds, resident("VmHWM") - before]).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        answer = told.read()
    if os.waitpid(child, 0)[1] or not answer:
        raise BenchmarkError("a case ended without an answer; what it wrote to stderr says why")
    return Cost(*json.loads(answer))


def resident(key: str) -> float:
    """Bytes of this process: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024.0


# -------------------------------------------------------------------------------------------------------------- growth


def growth(quick: bool) -> Table:
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        (base / "photos").mkdir()
        runs = trained(base, TASKS[:1], {"data": str(folder_of(base / "photos", 40, 4))})
        for number, case in enumerate(cases(runs)):
            small, large = (size // 20 for size in case.sizes) if quick else case.sizes
            measured = []
            for size in (small, large):
                folder, first = base / f"{number}-{size}", base / f"{number}-{size}-warm"
                folder.mkdir()
                first.mkdir()
                prepare, warm = partial(case.prepare, folder, size), partial(case.prepare, first, WARM)
                measured.append(cost(case.work, prepare, warm))
                shutil.rmtree(folder)
                shutil.rmtree(first)
            rows.append(
                [
                    case.command,
                    case.what,
                    f"{small:,}",
                    f"{large:,}",
                    *compared(measured[0], measured[1], large / small),
                ]
            )
            print(rows[-1], flush=True)
    columns = ["command", "of", "small", "large", "CPU, s", "exponent", "peak, MB", "exponent", "verdict"]
    faster = sum(row[-1] != "no faster than its input" for row in rows)
    note = f"{len(rows)} cases, {faster} of them faster than their input."
    return Table(columns, rows, [note])


def compared(small: Cost, large: Cost, times: float) -> list[str]:
    """CPU, exponent, peak, exponent, verdict."""
    of_time = exponent(max(small.seconds, 0.02), max(large.seconds, 0.02), times)
    of_memory = exponent(max(small.peak, 2e6), max(large.peak, 2e6), times)
    worst = max(of_time, of_memory)
    verdict = "no faster than its input" if worst <= TOLERANCE else f"faster: exponent {worst:.2f}"
    return [
        f"{small.seconds:.2f} to {large.seconds:.2f}",
        f"{of_time:.2f}",
        f"{small.peak / 1e6:.0f} to {large.peak / 1e6:.0f}",
        f"{of_memory:.2f}",
        verdict,
    ]


def exponent(small: float, large: float, times: float) -> float:
    return math.log(large / small) / math.log(times)


def trained(base: Path, tasks: tuple[str, ...], section: Mapping[str, Any] | None = None) -> dict[str, Path]:
    """A run of each task's tiny network, trained in a process of its own. section: keys of the task, such as its data;
    else its example."""
    for task in tasks:
        case = Case(task, base / task, section or {})
        cost(visiontl.train, partial(case.resolved, "train.epochs=1", "run.name=run"))
    return {task: base / task / "runs" / "run" for task in tasks}


def cases(runs: Mapping[str, Path]) -> Iterator[Growing]:
    run = runs["classification"]
    classification, detection = plugins.task("classification"), plugins.task("detection")

    def config(data: Path) -> Any:
        return Case("classification", data.parent / "work", {"data": str(data)}).resolved("train.epochs=1")

    def begun(data: Path) -> object:
        return set_up(config(data), limit=1)

    few, many = (lambda folder, n: folder_of(folder, n, 4)), (lambda folder, n: folder_of(folder, 2 * n, n))
    yield Growing("train, start", "files", (2000, 20_000), few, begun)
    yield Growing("train, start", "classes of 2 files", (200, 2000), many, begun)
    yield Growing(
        "doctor", "files that copy 20 pictures", (300, 3000), few, lambda data: diagnose(config(data), Console(False))
    )
    yield Growing(
        "evaluate, with its report", "files", (300, 3000), few,
        lambda data: visiontl.evaluate(run, data=data, out=data.parent / "out"),
    )  # fmt: skip
    yield Growing(
        "predict",
        "files",
        (300, 3000),
        few,
        lambda data: predict_files(run, [data], data.parent / "out", pictures=False),
    )
    yield Growing("doctor, near duplicates", "files", (2000, 20_000), lambda _, n: album(n), findings.lookalikes)
    cfg = classification.config(data="photos")

    def answered(rows: list[Any], meta: dict[str, Any]) -> object:
        assert classification.report is not None
        shown = lambda id: Image.new("RGB", (8, 8))  # noqa: E731
        return classification.score(cfg, rows, meta), classification.report(cfg, rows, meta, shown)

    yield Growing(
        "scores and report of classification", "classes", (2000, 20_000), lambda _, n: answers(300, n),
        lambda given: answered(*given),
    )  # fmt: skip
    yield Growing(
        "scores and report of classification", "images", (2000, 20_000), lambda _, n: answers(n, 20),
        lambda given: answered(*given),
    )  # fmt: skip
    boxes = detection.config(data="photos")
    yield Growing(
        "scores of detection", "boxes", (2000, 20_000), lambda _, n: found_boxes(n // 20),
        lambda rows: detection.score(boxes, rows, {"classes": ["a", "b"]}),
    )  # fmt: skip
    yield Growing("train, start of detection", "boxes in COCO's file", (2000, 20_000), coco, begun_with_boxes)
    yield Growing("any, config", "unknown keys", (500, 5000), lambda _, n: n, unknown_keys)
    yield Growing("resume", "lines of metrics.jsonl", (1000, 100_000), lines, read_lines)
    yield Growing("report", "lines of metrics.jsonl", (1000, 100_000), partial(lines_of, run), write_page)
    yield Growing("compare", "lines of metrics.jsonl", (1000, 100_000), partial(lines_of, run), compare_twice)
    yield Growing("any, weights", "odd names in a file", (1000, 10_000), odd_weights, refused_weights)
    yield Growing("face gallery, enroll and remove", "identities", (1000, 10_000), people, change_people)


def folder_of(folder: Path, files: int, classes: int) -> Path:
    """A folder of classes with this many files, which are links to a few pictures of noise."""
    random = np.random.default_rng(0)
    looks = []
    for number in range(LOOKS):
        looks.append(folder / f"look-{number}.jpg")
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((PIECE, PIECE), Image.Resampling.BICUBIC).save(looks[-1], quality=85)
    for number in range(files):
        place = folder / "data" / f"class {number % classes}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(looks[number % LOOKS], place / f"{number}.jpg")
    return folder / "data"


def album(number: int) -> Any:
    random = np.random.default_rng(0)
    looks = [random.bytes(16) for _ in range(number // 4)]
    photos = [SimpleNamespace(look=looks[i % len(looks)], pixels=b"%d" % i) for i in range(number)]
    places = [("train" if i < number // 2 else "val", i) for i in range(number)]
    return SimpleNamespace(photos=photos, places=places, scans={"train": 0, "val": 0}, name=str)


def answers(images: int, classes: int) -> tuple[list[Any], dict[str, Any]]:
    drawn = np.random.default_rng(0).integers(0, classes, (images, 2)).tolist()
    rows = [{"true": t, "top": [p, (p + 1) % classes], "probability": [0.6, 0.2], "nll": 1.0} for t, p in drawn]
    return rows, {"classes": [f"c{i}" for i in range(classes)]}


def found_boxes(images: int) -> list[Any]:
    """20 true boxes and as many found in each image."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(images):
        corner = random.uniform(0, 400, (20, 2))
        boxes = np.concatenate([corner, corner + random.uniform(5, 90, (20, 2))], 1)
        labels = random.integers(0, 2, 20)
        rows.append(
            {
                "boxes": (boxes + random.normal(0, 4, boxes.shape)).astype(np.float32),
                "scores": random.random(20, dtype=np.float32),
                "labels": labels,
                "true_boxes": boxes,
                "true_labels": labels,
                "true_ignored": np.zeros(20, bool),
                "true_area": (boxes[:, 2:] - boxes[:, :2]).prod(1),
                "size": (500, 500),
            }
        )
    return rows


def coco(folder: Path, boxes: int) -> Path:
    """20 images with all boxes in their COCO file."""
    (folder / "data" / "train").mkdir(parents=True)
    images, found = [], []
    for number in range(20):
        Image.new("RGB", (320, 240), (number * 9, 90, 60)).save(folder / "data" / "train" / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 320, "height": 240})
    for number in range(boxes):
        box = [number % 199, number % 97, 20 + number % 50, 30]
        found.append(
            {"id": number, "image_id": number % 20, "category_id": 1 + number % 2, "bbox": box, "area": box[2] * 30}
        )
    about = {"images": images, "annotations": found, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    (folder / "data" / "train" / "_annotations.coco.json").write_text(json.dumps(about), encoding="utf-8")
    return folder / "data"


def begun_with_boxes(data: Path) -> object:
    return set_up(Case("detection", data.parent / "work", {"data": str(data)}).resolved("train.epochs=1"), limit=1)


def unknown_keys(number: int) -> None:
    config: dict[str, Any] = {"task": {"name": "classification", "data": "p"}, "backbone": {"name": "visiontl/tiny"}}
    config["task"] |= {f"key{i}": 1 for i in range(number)}
    try:
        resolve(config)
    except ConfigError:
        return
    raise BenchmarkError("unknown keys were accepted")


def lines(folder: Path, number: int) -> Path:
    """A metrics.jsonl as a run of 4 values a line writes it."""
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, number + 1):
            values = {"loss": 2 / step, "lr": 0.01, "accuracy": 1 - 1 / step, "images_per_second": 99.5}
            kind = "val" if step % 50 == 0 else "train"
            file.write(json.dumps({"step": step, "epoch": step / 1000, "kind": kind, **values}) + "\n")
    return folder


def lines_of(run: Path, folder: Path, number: int) -> Path:
    """A copy of a run with so many lines."""
    shutil.copytree(run, folder / "run")
    lines(folder / "run", number)
    return folder / "run"


def write_page(run: Path) -> object:
    return write_report(run, Report.read(run / "report.json"), read_lines(run)[0])


def compare_twice(run: Path) -> object:
    shutil.copytree(run, run.with_name("other"))
    runs, left_out = read_runs([run, run.with_name("other")])
    return comparison.page(runs, left_out, "visiontl compare")


def odd_weights(folder: Path, number: int) -> Path:
    torch.save({f"{i}.a.b.c": torch.zeros(2) for i in range(number)}, folder / "w.pth")
    return folder / "w.pth"


def refused_weights(file: Path) -> None:
    backbone = make_backbone(plugins.backbone_entry("visiontl/tiny")[0], "none")[0]
    try:
        matching.adopt(backbone, read_file(file), str(file), [])
    except WeightsError:
        return
    raise BenchmarkError("strange weights were accepted")


def people(folder: Path, number: int) -> tuple[Path, dict[str, Any]]:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(number, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return folder / "gallery", {f"person {i}": [one] for i, one in enumerate(vectors)}


def change_people(given: tuple[Path, dict[str, Any]]) -> None:
    from visiontl_face import gallery

    folder, found = given
    gallery.write_gallery(gallery.make_gallery(found, "model"), folder)
    known = gallery.read_gallery(folder)
    gallery.change_gallery(gallery.without(known, list(known.identities)[::2]), folder)


# ------------------------------------------------------------------------------------------------------ large pictures


def pictures(side: int, quick: bool) -> Table:
    """Peak memory for a megapixel, each at one size and, RGB as JPEG, at a fourth of it too."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        runs = trained(base, TASKS[:2] if quick else TASKS)
        half = base / "half"
        drawn(half, side // 2)
        drawn(base, side)
        for kind, name in KINDS.items():
            rows.append([f"open, {kind}", *both(partial(open_image), half / name, base / name, side)])
            print(rows[-1], flush=True)
        kinds = list(KINDS.items())
        for kind, name in (kinds[0], kinds[4]):
            rows.append([f"doctor, {kind}", *both(looked_at, half / name, base / name, side)])
        for task, run in runs.items():
            for name in ("rgb.jpg", "rgba.png") if task == "style" else ("rgb.jpg",):
                work = partial(predicted, run, base)
                rows.append([f"predict and draw, {task}, {name}", *both(work, half / name, base / name, side)])
                print(rows[-1], flush=True)
    columns = ["command", "peak, MB at a fourth of the pixels", "peak, MB", "bytes a pixel between the two"]
    note = f"Pictures of {side} x {side} pixels and of half the side. What does not depend on the picture cancels."
    return Table(columns, rows, [note])


def both(work: Callable[[Path], object], half: Path, whole: Path, side: int) -> list[str]:
    small, large = (cost(work, partial(Path, file)).peak for file in (half, whole))
    pixels = side**2 - (side // 2) ** 2
    return [f"{small / 1e6:.0f}", f"{large / 1e6:.0f}", f"{(large - small) / pixels:.1f}"]


def drawn(folder: Path, side: int) -> None:
    """A picture of soft noise in all kinds."""
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    rgb = Image.fromarray(noise).resize((side, side), Image.Resampling.BILINEAR)
    gray, exif = rgb.convert("L"), Image.Exif()
    exif[0x0112] = 6
    seen = rgb.copy()
    seen.putalpha(gray)
    made = {
        "rgb.jpg": rgb, "rgb.png": rgb, "gray.png": gray, "palette.png": gray.convert("P"), "rgba.png": seen,
        "la.png": Image.merge("LA", (gray, gray)), "cmyk.jpg": rgb.convert("CMYK"),
        "deep.png": Image.fromarray(np.asarray(gray).astype(np.uint16) * 200),
    }  # fmt: skip
    for name, image in made.items():
        options: dict[str, Any] = {"compress_level": 1} if name.endswith("png") else {"quality": 85}
        image.save(folder / name, **options)
    rgb.save(folder / "turned.jpg", quality=85, exif=exif)


def looked_at(file: Path) -> object:
    """As `visiontl doctor` looks at a picture, without the sample of a task."""
    split: Any = SimpleNamespace(names=[str(file)], image=lambda id: open_image(file))

    class One(SimpleNamespace):
        def __getitem__(self, key: Any) -> None:
            return None

    return scan.read(One(**vars(split)), 0, True)  # type: ignore[arg-type]


def predicted(run: Path, base: Path, file: Path) -> object:
    return predict_files(run, [file], base / f"out-{run.parent.parent.name}-{file.parent.name}-{file.name}")
