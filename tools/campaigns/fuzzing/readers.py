"""The readers that are fuzzed: each makes a small valid folder with the formats' own writers, and reads it as commands
do."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from visiontl import cli, plugins
from visiontl.backbones import downloads, weights
from visiontl.config.resolve import resolve
from visiontl.config.write import to_yaml
from visiontl.engine import scan, state
from visiontl.engine.photos import as_image
from visiontl.engine.predict import load
from visiontl.engine.start import read_data
from visiontl.errors import CheckpointError, DataError, VisionTLError
from visiontl.kit import memory
from visiontl.runs import store
from visiontl.runs.files import read_lines
from visiontl.spec import ImageSpec
from visiontl.testing.case import SETTINGS

TINY = "visiontl/tiny"
SPEC = ImageSpec(size=(32, 32))
FEW = {"train": 2, "val": 1, "test": 1}  # pictures of a data set
MOST = 3  # samples of a split that are read


class Disagreement(AssertionError):
    """Two parts of the program say different things of one input, or an answer is no number."""


@dataclass(frozen=True)
class Reader:
    """prepare(folder) writes a valid one. files: patterns of those that are changed. read(folder) -> what of it must
    be finite; raises VisionTLError for what it refuses. whole: it writes into the folder, which is made anew each time.
    """

    name: str
    prepare: Callable[[Path], Any]
    files: tuple[str, ...]
    read: Callable[[Path], Any]
    whole: bool = False


def samples(task: str, form: str, place: Path) -> None:
    """A data set of `visiontl samples` in small, and what `task.data` is for it."""
    module: Any = importlib.import_module(f"visiontl_{task}.samples")
    small: dict[str, Any] = {
        "IMAGES": FEW,
        "NEW": 0,
        "SEVERAL": {"train": 8, "val": 1, "test": 1},  # each kind is in one of so many
        "KNOWN": range(0),
        "STRANGERS": range(0),
        "VIEWS": 3,
    }
    small["PEOPLE"] = {"train": range(2), "val": range(2, 4), "test": range(4, 9)}
    with contextlib.ExitStack() as stack:
        for name in small.keys() & vars(module).keys():
            stack.enter_context(mock.patch.object(module, name, small[name]))
        found = getattr(module, form)(place / "data")
    if task == "detection" and form != "voc":
        found["classes"] = {"leave_out": "absent"}  # of so few pictures
    if (task, form) == ("segmentation", "coco"):
        with_polygons(place / "data/scenes/annotations/train.json")
    text = json.dumps({"task": {"name": task, **found}}).replace(json.dumps(str(place))[1:-1], "HERE")
    (place / "task.txt").write_text(text)


def with_polygons(file: Path) -> None:
    """The three ways in which a COCO file states a mask, in turn."""
    content = json.loads(file.read_text())
    for number, one in enumerate(content["annotations"]):
        x, y, width, height = one["bbox"]
        if number % 3 == 0:
            one["segmentation"] = [
                [x, y, x + width, y, x + width, y + height, x, y + height],
                [x, y, x + 3, y, x, y + 3],
            ]
        elif number % 3 == 1:
            from pycocotools import mask

            code: Any = mask.frPyObjects(one["segmentation"], *one["segmentation"]["size"])
            one["segmentation"] = {"size": code["size"], "counts": code["counts"].decode()}
    file.write_text(json.dumps(content))


def read_task(place: Path) -> Any:
    """The data as `train` reads it, and the first samples of each split."""
    memory.recall_from(None)
    config = json.loads((place / "task.txt").read_text().replace("HERE", str(place)))
    resolved = resolve({**config, "backbone": {"name": TINY, "weights": "none", "image_size": 32}})
    data = read_data(resolved, SPEC, None)
    found = [json.loads(json.dumps(data.meta, allow_nan=False))]
    for split in data.splits().values():
        for id in range(min(len(split), MOST)):
            found.append(split[id, 0])
    return found


def agreeing(place: Path) -> Any:
    """A picture as train, doctor and predict read it: one verdict."""
    found: list[Any] = []
    refused = ""
    for file in sorted((place / "photos").glob("a/*")):
        verdicts: dict[str, str] = {}
        for name in ("train", "doctor"):
            one = scan.read(one_file(file), 0, compare=name == "doctor")
            verdicts[name] = one.why if isinstance(one, scan.Bad) else ""
        verdicts["predict"] = why = verdict_of_predict(file)
        if len({bool(one) for one in verdicts.values()}) > 1:
            raise Disagreement(f"{verdicts}")
        if why and (str(file) not in why or why != verdicts["train"]):
            raise Disagreement(f"train says {verdicts['train']}, predict {why}")
        if not why:
            found.append(np.asarray(as_image(str(file))))
        refused = refused or why
    if refused:
        raise DataError(refused)
    return found


def verdict_of_predict(file: Path) -> str:
    """Why it cannot be read; empty where it can."""
    try:
        as_image(str(file))
    except VisionTLError as error:
        return str(error)
    return ""


class OneFile:
    """A split of one picture."""

    def __init__(self, file: Path):
        self.names = [str(file)]

    def __len__(self) -> int:
        return 1

    def image(self, id: int) -> Image.Image:
        return as_image(self.names[id])

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return {"image": np.asarray(self.image(key[0]))}


def one_file(file: Path) -> Any:
    return OneFile(file)


def pictures(place: Path) -> None:
    folder = place / "photos/a"
    folder.mkdir(parents=True)
    y, x = np.mgrid[0:24, 0:32]
    color = Image.fromarray(np.stack([8 * x, 10 * y, 4 * x + 3 * y], axis=-1).astype(np.uint8))
    color.save(folder / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    color.save(folder / "a.png")
    color.quantize(16).save(folder / "p.png", transparency=0)
    color.convert("LA").save(folder / "la.png")
    Image.fromarray((256 * x + y).astype(np.uint16)).save(folder / "deep.png")
    color.save(folder / "a.webp")
    color.save(folder / "a.tif", compression="tiff_lzw")
    Image.fromarray((x * y).astype(np.float32)).save(folder / "f.tif")
    color.convert("CMYK").save(folder / "c.tif")
    color.quantize(8).save(folder / "a.gif", save_all=True, append_images=[color.rotate(9).quantize(8)])
    color.convert("1").save(folder / "b.tif", compression="group4")
    color.save(folder / "a.bmp")
    color.convert("CMYK").save(folder / "c.jpg")
    color.save(folder / "prog.jpg", progressive=True)


def config(place: Path) -> None:
    (place / "photos/a").mkdir(parents=True)
    values = {
        "task": {"name": "classification", "data": {"folder": "photos"}},
        "backbone": {"name": TINY, "weights": "none"},
    }
    values["train"] = {"epochs": 2, "batch_size": 4}
    whole = to_yaml(resolve(values))
    (place / "config.yaml").write_text(whole)
    (place / "overrides.txt").write_text(
        "train.epochs=3\noptim.lr=1e-3\nfreeze.policy={first: 2}\ntask.data.val_fraction=0.1\n"
        "backbone.image_size=[32, 64]\n"
        "train.ema={decay: 0.9}\ndata.depth=[0, 255]\nbackbone.preprocessing.mean=[0.1, 0.2, 0.3]\nrun.name=a\n"
    )


def read_config(place: Path) -> Any:
    text = (place / "overrides.txt").read_bytes().decode("utf-8", "surrogateescape")
    lines = [line for line in text.split("\n") if line][:4]
    read = (
        (lambda: resolve(place / "config.yaml")),
        *((lambda line=line: resolve(place / "config.yaml", [line])) for line in lines),
    )
    said: VisionTLError | None = None
    for one in read:
        try:
            to_yaml(one())
        except VisionTLError as error:
            said = error
    if said is not None:
        raise said


def tensors() -> dict[str, torch.Tensor]:
    entry, _ = plugins.backbone_entry(TINY)
    made = entry.build().state_dict()
    return {name: value for name, value in made.items() if "mean_" not in name}


def weight_files(place: Path) -> None:
    held = tensors()
    save_file(held, place / "w.safetensors")
    torch.save(held, place / "w.pth")
    torch.save({"model": held, "epoch": 3, "args": {"lr": 0.1}}, place / "nested.pth")
    torch.save(held, place / "old.pth", _use_new_zipfile_serialization=False)


def read_weights(place: Path) -> Any:
    """The file that was changed alone."""
    entry, _ = plugins.backbone_entry(TINY)
    changed = (place / "CHANGED").read_text()
    backbone, _ = weights.make_backbone(entry, str(place / changed), image_size=(32, 32))
    return [value for name, value in backbone.state_dict().items() if value.is_floating_point()]


def imported(place: Path) -> Any:
    """`visiontl import-weights`, which reads pickles by itself."""
    changed = (place / "CHANGED").read_text()
    (place / "made.safetensors").unlink(missing_ok=True)
    command("import-weights", place / changed, place / "made.safetensors")


def hub(place: Path) -> None:
    stated = {"input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    stated |= {"interpolation": "bicubic", "crop_pct": 0.9, "first_conv": "conv", "num_classes": 10}
    (place / "config.json").write_text(
        json.dumps({"architecture": "tiny", "num_features": 32, "pretrained_cfg": stated})
    )
    save_file(tensors(), place / "model.safetensors")


def read_hub(place: Path) -> Any:
    entry, _ = plugins.backbone_entry(TINY)

    def hub_file(repository: str, filename: str, offline: bool = False) -> Path | None:
        return place / filename if (place / filename).exists() else None

    with mock.patch.object(downloads, "hub_file", hub_file):
        backbone, _ = weights.make_backbone(entry, "hf-hub:owner/name")
    spec = backbone.spec
    return [torch.tensor([*spec.mean, *spec.std, spec.crop])]


def gallery(place: Path) -> None:
    from visiontl_face.gallery import Gallery, write_gallery

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    write_gallery(Gallery(rows, [f"person {i}" for i in range(4)], [2, 3, 1, 9], "0" * 64), place / "gallery")


def read_gallery(place: Path) -> Any:
    from visiontl_face import gallery as galleries
    from visiontl_face.usage import answer

    found = galleries.read_gallery(place / "gallery")
    query = np.ones(found.embedding.shape[1]) / math.sqrt(max(found.embedding.shape[1], 1))
    return [found.embedding, answer(query, found, 0.3, 3), list(found.images)]


WRITTEN = (".json", ".jsonl", ".csv")  # what must hold finite numbers
NO_NUMBER = re.compile(r"(?<![\w\"])-?(nan|NaN|inf|Infinity)(?![\w\"])")
SMALL = {**SETTINGS, "backbone": {"name": TINY, "weights": "none", "image_size": 32}}


def trained(place: Path) -> None:
    """A finished run of twelve pictures, a second one to compare it with, and photos."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label in "ab":
            folder = place / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 128, (20, 24, 3)) + 127 * (label == "b")
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    settings = {**SMALL, "train": {**SMALL["train"], "epochs": 2, "ema": {"decay": 0.9}}}
    section = {"name": "classification", "data": "photos"}
    (place / "config.yaml").write_text(json.dumps({"task": section, **settings, "run": {"folder": "."}}))
    with contextlib.chdir(place):
        for name in ("run", "other"):
            command("train", "config.yaml", f"run.name={name}", f"train.seed={len(name)}")


def signed(folder: Path) -> None:
    """A manifest that fits what lies there now."""
    if not (folder / store.MANIFEST).is_file():
        return
    names = sorted(path.name for path in folder.iterdir() if path.name != store.MANIFEST and path.is_file())
    sums = {name: {"sha256": store._sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    (folder / store.MANIFEST).write_text(json.dumps({"format": store.FORMAT, "files": sums}))


def read_run(place: Path, *words: str) -> Any:
    """A command on the run; `model` and checkpoints are signed anew, unless the manifest itself was changed."""
    changed = Path((place / "CHANGED").read_text())
    for folder in [place / "run/model", *(place / "run/checkpoints").glob("*")]:
        if folder / store.MANIFEST != place / changed:
            signed(folder)
    if any(word.startswith("resume=") for word in words):
        (place / "run/report.json").unlink(missing_ok=True)  # else there is nothing to resume
    before = {file for file in place.rglob("*") if file.suffix in WRITTEN}
    with contextlib.chdir(place):
        command(*words)
    for file in place.rglob("*"):
        if file.suffix in WRITTEN and file not in before and (bad := NO_NUMBER.search(file.read_text())):
            raise Disagreement(f"{file.name} holds {bad[0]!r}")


def checkpoint(place: Path) -> None:
    trained(place)
    for folder in sorted((place / "run/checkpoints").glob("step-*"))[:-1]:
        shutil.rmtree(folder)


class Unforeseen(AssertionError):
    """A command ended with an error that nobody foresaw."""


def command(*words: Any) -> str:
    """`visiontl ...` in this process. Raises DataError with what it said where it refused, Unforeseen for an error that
    is none of ours."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(word) for word in words])
    said = err.getvalue()
    if "--debug for the trace" in said or "Traceback" in said or code not in (0, 1, 2):
        raise Unforeseen(said.strip()[-400:] or f"exit code {code}")
    for text in (out.getvalue(), said):
        if any(line.startswith("error: forged") for line in text.splitlines()):
            raise Disagreement(f"a forged line: {text[-300:]}")
    if code == 0 and "nan" in out.getvalue().lower().split():
        raise Disagreement(f"NaN: {out.getvalue()[-300:]}")
    if code:
        if not said.startswith(("error: ", "warning: ")) and "error: " not in said:
            raise Unforeseen(f"exit code {code} without a word: {said[-300:]}")
        raise DataError(said.partition("error: ")[2])
    return out.getvalue()


def numbers(place: Path) -> None:
    lines = [{"step": n, "epoch": n / 3, "kind": "train" if n % 3 else "val", "loss": 1 / (n + 1)} for n in range(6)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def read_numbers(place: Path) -> Any:
    from visiontl.report.curves import training_figures
    from visiontl.report.figures import render_figure

    found, _ = read_lines(place)
    for figure in training_figures(None, found):
        render_figure(figure)


def manifest(place: Path) -> None:
    entry = {"state.json": json.dumps({"step": 3}), "model.safetensors": {"a": torch.ones(3)}}
    store.write_folder(place / "checkpoints/step-00000003", entry)
    store.write_folder(place / "checkpoints/step-00000002", entry)


def read_manifest(place: Path) -> Any:
    said: list[str] = []
    newest = store.newest_whole(place / "checkpoints", said.append)
    if newest is not None and newest.name.endswith("3"):
        store.read_tensors(newest, "model.safetensors")
    elif not said:
        raise Disagreement("passed over without a word")
    else:
        raise CheckpointError("; ".join(said))


def states(place: Path) -> None:
    held = {
        "visiontl": "0.1.0", "step": 6, "best": {"score": "accuracy", "value": 0.5, "step": 3, "epoch": 1.0},
        "start": None, "without_gain": 1, "window": [{"loss": [102.8, 96]}], "due": False, "seconds": 3.2,
        "ema_updates": 0, "scaler": None, "processes": 1, "precision": "bf16", "cached": [], "method": {},
        "config_hash": "0" * 64, "data_fingerprint": "1" * 64, "preprocessing": SPEC.to_json(),
    }  # fmt: skip
    (place / "state.json").write_text(json.dumps(held))


def read_state(place: Path) -> Any:
    found = state.read_state(place)
    state.require_end(place, found, 9, ["accuracy"])
    if not 0 <= found["step"] <= 9:
        raise Disagreement(f"step {found['step']} of 9 is taken")


def read_model(place: Path) -> Any:
    if Path((place / "CHANGED").read_text()).name != store.MANIFEST:
        signed(place / "run/model")
    return dict(load(place / "run").predict(np.zeros((20, 24, 3), dtype=np.uint8)))


def task_reader(name: str, task: str, form: str, *files: str) -> Reader:
    return Reader(name, partial(samples, task, form), tuple(f"data/{one}" for one in files), read_task)


def run_readers() -> Iterator[Reader]:
    files = ("run/*.*", "run/*/*.*", "run/checkpoints/*/*.*")
    words: Mapping[str, tuple[str, ...]] = {
        "evaluate": ("evaluate", "run"),
        "predict": ("predict", "run", "photos"),
        "resume": ("train", "run/config.yaml", "resume=run"),
        "compare": ("compare", "run", "other"),
        "elsewhere": ("evaluate", "run", "photos"),
        "export": ("export-backbone", "run", "made.safetensors"),
        "init": ("train", "config.yaml", "init=run", "run.name=next"),
        "auto": ("train", "config.yaml", "run.name=run", "train.seed=3", "resume=auto"),
        "explain": ("explain", "run", "photos"),
    }
    for name, called in words.items():
        prepare = checkpoint if name in ("resume", "auto") else trained
        yield Reader(f"run-{name}", prepare, files, lambda place, called=called: read_run(place, *called), True)


READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in [
        Reader("config", config, ("config.yaml", "overrides.txt"), read_config),
        task_reader("yolo", "detection", "yolo", "scenes/data.yaml", "scenes/labels/*/*.txt"),
        task_reader("voc", "detection", "voc", "scenes/Annotations/*.xml", "scenes/ImageSets/*/*.txt"),
        task_reader("coco-boxes", "detection", "coco", "scenes/annotations/*.json"),
        task_reader("coco-masks", "segmentation", "coco", "scenes/annotations/*.json"),
        task_reader("masks", "segmentation", "palette", "scenes/masks/*/*.png", "scenes/classes.txt"),
        task_reader("color-masks", "segmentation", "color", "scenes/masks/*/*.png", "scenes/class_dict.csv"),
        task_reader("voc-masks", "segmentation", "voc", "**/*.png", "**/*.txt"),
        task_reader("table", "classification", "table", "photos.csv"),
        task_reader("labels-table", "classification", "multi", "photos.csv"),
        task_reader("columns-table", "classification", "columns", "photos.csv"),
        task_reader("face-table", "face", "table", "faces.csv"),
        task_reader("pairs", "face", "pairs", "pairs.csv"),
        task_reader("pairs-lfw", "face", "lfw", "pairs.txt"),
        Reader("weights", weight_files, ("*.pth", "*.safetensors"), read_weights),
        Reader("import-weights", weight_files, ("*.pth",), imported),
        Reader("hub", hub, ("config.json", "config.json", "config.json", "model.safetensors"), read_hub),
        Reader("gallery", gallery, ("gallery/*.*",), read_gallery),
        Reader("images", pictures, ("photos/a/*",), agreeing),
        Reader("metrics", numbers, ("metrics.jsonl",), read_numbers),
        Reader("manifest", manifest, ("checkpoints/step-00000003/*.*",), read_manifest),
        Reader("state", states, ("state.json",), read_state),
        Reader("model", trained, ("run/model/*.*",), read_model, True),
        *run_readers(),
    ]
}
