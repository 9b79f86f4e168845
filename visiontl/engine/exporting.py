"""A trained model for use elsewhere: written, run and compared with the run before it is there."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visiontl import __version__
from visiontl.engine import graphs, rounding, same
from visiontl.engine.device import make_accelerator
from visiontl.engine.folds import readable_data
from visiontl.engine.model import Built, load_model
from visiontl.engine.predict import parse_options
from visiontl.engine.resizing import resized
from visiontl.engine.rows import gather_rows, scalars, score_rows
from visiontl.engine.start import read_data
from visiontl.errors import CheckpointError, ConfigError, DataError, VisionTLError, refused_by_disk
from visiontl.export import Export
from visiontl.kit import depths, memory
from visiontl.kit.words import count
from visiontl.report.console import Console
from visiontl.report.values import json_value
from visiontl.runs import folders
from visiontl.runs.files import writing
from visiontl.runtime import description
from visiontl.runtime import model as runtime
from visiontl.runtime.answers import answered
from visiontl.runtime.views import AREA
from visiontl.task import Data, SampleDataset

FORMATS = {"onnx": "model.onnx", "torch": "model.pt2", "safetensors": "model.safetensors"}
PRECISIONS = ("fp32", "fp16", "int8")
PHOTOS = 16  # of val, whose answers are compared
CALIBRATION = 64  # photos of train, by which the ranges of 8 bits are found
BATCHES = (1, 4)
USABLE = 0.5  # the share of a score that fewer bits must leave


@dataclass(frozen=True)
class Wanted:
    """What is asked for. size: (H, W) of a graph of one size; None: as the run evaluates. dynamic: H and W may vary."""

    format: str = "onnx"
    size: tuple[int, int] | None = None
    dynamic: bool = False
    precision: str = "fp32"


@dataclass
class Found:
    """What the comparison showed.

    outputs: the largest difference, at these sizes. photos: of val, whose answers were compared; alike: how many were
    the same; answers: the largest difference. undecided: pictures left out of all this, for which rounding makes the
    run itself answer otherwise. scores: {precision: the task's scores on val}.
    """

    outputs: float = 0.0
    sizes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    photos: int = 0
    alike: int = 0
    undecided: int = 0
    answers: same.Difference = field(default_factory=lambda: same.Difference(0.0))
    scores: dict[str, Any] = field(default_factory=dict[str, Any])


def export_run(
    run: str | Path, out: str | Path | None, wanted: Wanted, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write a run's model in another format, with model.json beside it. Returns what model.json says of it, and
    "folder".

    options: of the task's predict, settled in what is written. Raises ConfigError for a task or a model that cannot be
    exported so, and CheckpointError where the export does not answer as the run does: nothing is there then.
    """
    console = Console()
    check(wanted)
    built = load_model(run)
    task = built.resolved.task
    if task.export is None:
        raise ConfigError(f"task {task.name} does not export (its plugin gives no `export`; docs/export.md says how)")
    chosen = parse_options(task, options or {})
    with torch.no_grad():
        made = task.export(built.resolved.cfg, built.model, built.meta, chosen)
    made.module.eval()
    folder = free_folder(Path(out) if out is not None else folders.outputs(Path(run)) / f"export-{wanted.format}")
    data = data_of(built, Path(run), console)
    writer = Writer(built, made, wanted, chosen, console)
    temporary = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    with writing(folder, "make room, then export again"):
        make(temporary, folder)
        try:
            about = writer.write(temporary, data)
            if folder.exists():
                folder.rmdir()
            os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    console.say(f"written to {folder}")
    return {"folder": str(folder), **about}


def check(wanted: Wanted) -> None:
    if wanted.precision != "fp32" and wanted.format != "onnx":
        raise ConfigError(f"--precision {wanted.precision} is for --format onnx; {wanted.format} keeps float32")
    if wanted.size is not None and wanted.dynamic:
        raise ConfigError("--size asks for a graph of one size, --dynamic for one of any; give one of them")
    if wanted.size is not None and math.prod(wanted.size) > AREA:
        height, width = wanted.size
        raise ConfigError(f"--size: at most {AREA:,} pixels were expected; {height},{width} has {height * width:,}")
    if wanted.format == "onnx":
        graphs.require_packages()


def free_folder(folder: Path) -> Path:
    """Raises ConfigError for a folder that holds something, and CheckpointError for one within a model."""
    folders.require_outside(folder)
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise ConfigError(f"--out: {folder} cannot be read: {error.strerror or error}") from None
    if taken:
        raise ConfigError(f"{folder} exists already and is never overwritten; choose another --out")
    return folder


def make(temporary: Path, folder: Path) -> None:
    """Raises ConfigError where a folder beside the one that is wanted cannot be made, but for a disk that is full."""
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        if refused_by_disk(error):
            raise
        raise ConfigError(f"--out: {folder} cannot be made ({error.strerror or error}); choose another") from None


def data_of(built: Built, run: Path, console: Console) -> Data | None:
    """The run's own data, where it is still there; else that is said."""
    try:
        memory.recall_from(run)
        config = built.resolved.config
        found = read_data(built.resolved, built.backbone.spec, None)
        return readable_data(config.data, built.resolved.task, built.resolved.cfg, found, console)
    except VisionTLError as error:
        console.warn(f"the run's data cannot be read, so its photos are not compared: {str(error).splitlines()[0]}")
        return None


@dataclass(frozen=True)
class Writer:
    """One export under way. options: of the task's predict, validated."""

    built: Built
    made: Export
    wanted: Wanted
    options: Any
    console: Console

    @property
    def varies(self) -> bool:
        return self.wanted.size is None and (self.wanted.dynamic or self.made.wanted) and self.made.varies

    @property
    def size(self) -> tuple[int, int]:
        return self.wanted.size or self.made.size

    @property
    def multiple(self) -> int:
        """Of which H and W are, in pixels. Where all photos are shown in one size, a graph of any size need take no
        others than those that the deepest stride divides: it holds no formulas of sizes then."""
        steady = math.lcm(self.made.multiple, graphs.STEADY)
        one_size = self.varies and not self.made.wanted and not any(side % steady for side in self.size)
        return steady if one_size else self.made.multiple

    def write(self, folder: Path, data: Data | None) -> dict[str, Any]:
        """The files, compared. Returns model.json."""
        check_size(self.made, self.wanted)
        path = folder / FORMATS[self.wanted.format]
        if self.wanted.format == "safetensors":
            return self.write_tensors(folder, path)
        multiple = self.multiple if self.varies else None
        program, names = graphs.traced(self.made, self.built.backbone, self.size, multiple)
        if self.wanted.format == "torch":
            torch.export.save(program, path)
            about = self.describe(folder, path, names)
            return self.finish(folder, about, self.compare(Program(path, about), data))
        graphs.write_onnx(program, self.made, names, path)
        about = self.describe(folder, path, names)
        found = self.compare(self.opened(path), data)
        if self.wanted.precision != "fp32":
            self.reduce(path, data)
            about = self.describe(folder, path, names)
            found = self.compare(self.opened(path), data, refuse=False)
            found.scores = self.scored(self.opened(path), data)
        return self.finish(folder, about, found)

    def opened(self, path: Path) -> runtime.Model:
        return runtime.load(path, resized, torch.get_num_threads())

    def write_tensors(self, folder: Path, path: Path) -> dict[str, Any]:
        """The weights alone, under the names that they have in the task's model."""
        from safetensors.torch import load_file, save_file

        state = {name: tensor.detach().clone().contiguous() for name, tensor in self.built.model.state_dict().items()}
        save_file(state, path)
        again = load_file(path)
        if again.keys() != state.keys() or not all(torch.equal(again[name], one) for name, one in state.items()):
            raise CheckpointError(f"{path.name} reads back otherwise than it was written; check the disk")
        return self.finish(folder, self.describe(folder, path, ()), Found())

    def describe(self, folder: Path, path: Path, names: Sequence[str]) -> dict[str, Any]:
        """model.json, written. Raises ConfigError where the task's own words in it cannot be used."""
        built, made = self.built, self.made
        depth = built.resolved.config.data.depth
        about: dict[str, Any] = {
            "format": description.FORMAT,
            "version": description.VERSION,
            "made_by": f"visiontl {__version__}",
            "task": built.resolved.task.name,
            "backbone": built.backbone.name,
            "file": path.name,
            "sha256": runtime.sha256(path),
            "precision": self.wanted.precision,
            "input": {
                "size": [None, None] if self.varies else list(self.size),
                "multiple": self.multiple,
                "extent": made.extent,
                "channels": "RGB",
                "range": [0, 1],
            },
            "outputs": list(names),
            "view": dict(made.view),
            "depth": list(depth) if isinstance(depth, tuple | list) else str(depth),
            "answer": dict(made.answer),
            "notes": list(made.notes),
            "val": built.scores,
            "meta": built.meta,
            "section": section_of(built),
        }
        about = json_value(about, "export")
        told = description.unfit(about) if names else None
        if told:
            raise ConfigError(f"task {built.resolved.task.name}: export: {told}")
        put_json(folder, about)
        return about

    def finish(self, folder: Path, about: dict[str, Any], found: Found) -> dict[str, Any]:
        about["compared"] = {
            "outputs": found.outputs,
            "sizes": [list(size) for size in found.sizes],
            "photos": found.photos,
            "alike": found.alike,
            "answers": found.answers.size,
            "undecided": found.undecided,
        }
        photos = f"; {found.alike} of {found.photos} photos of val answered alike" if found.photos else ""
        self.console.say(f"compared: outputs within {found.outputs:.2g} of the run's{photos}")
        if found.undecided:
            self.console.warn(
                f"{count(found.undecided, 'picture')} of those compared left out: rounding decides there what is found "
                "(the run itself answers otherwise for pixels moved by a hundred-thousandth)"
            )
        if found.scores:
            about["scores"] = found.scores
        about = json_value(about, "export")
        put_json(folder, about)
        return about

    def compare(self, exported: Any, data: Data | None, refuse: bool = True) -> Found:
        """Outputs and answers of both. Raises CheckpointError where they differ by more than they may."""
        found = Found(sizes=sizes_of(self.multiple, self.size, self.varies))
        drawn = [(size, batch) for size in found.sizes for batch in BATCHES]
        photos = list(photos_of(data, "val", PHOTOS, self.console))
        most, decided = (len(drawn) + len(photos)) // rounding.MOST, list[Any]()
        for size, batch in drawn:
            given = graphs.example(self.made, size, batch, seed=size[0] + batch)
            self.compare_outputs(exported, given, f"a batch of {batch} of {size[0]} x {size[1]} pixels", found, refuse)
        for photo in photos:
            shown = exported.show(photo)
            given: tuple[Tensor, ...] = (torch.from_numpy(shown.image),)
            if self.made.extent:
                given = (*given, torch.tensor([shown.extent]))
            if self.compare_outputs(exported, given, "a photo of val", found, refuse):
                decided.append(photo)
        if found.undecided > most:
            raise CheckpointError(
                f"rounding decides what the run finds in {found.undecided} of {len(drawn) + len(photos)} pictures "
                "compared, so they show nothing of the export; train longer. Nothing was written"
            )
        self.compare_answers(exported, decided, found, refuse)
        return found

    def compare_outputs(self, exported: Any, given: tuple[Tensor, ...], where: str, found: Found, refuse: bool) -> bool:
        """Whether the outputs are to be held against each other. given: image, and extent where the graph takes it."""
        ours = rounding.outputs_of(self.made.module, given)
        apart = same.of_outputs(ours, exported.run(*(one.numpy() for one in given)), self.made.answer)
        if refuse and not apart <= same.NUMBERS:
            if not rounding.decides(self.made.module, given, self.made.answer, apart):
                raise CheckpointError(
                    f"the export differs from the run: outputs by {apart:.3g} for {where}, where {same.NUMBERS:g} may "
                    "be; nothing was written"
                )
            found.undecided += 1
            return False
        found.outputs = max(found.outputs, apart)
        return True

    def compare_answers(self, exported: Any, photos: Sequence[Any], found: Found, refuse: bool) -> None:
        """What both say of the photos of val, which the export is shown as any program would show them."""
        theirs = [exported.predict(photo) for photo in photos]
        otherwise = self.made.wanted and not self.varies  # shown in another size than the run shows them
        for ours, other in zip(self.own_answers(photos), theirs, strict=True):
            apart = same.of_answers(ours, other, self.made.answer)
            found.photos += 1
            found.alike += apart.size <= same.ANSWERS
            found.answers = found.answers.larger(apart)
        if otherwise and found.alike < found.photos:
            self.console.warn(
                f"the graph takes one size, {self.size[0]} x {self.size[1]}, and the run shows photos in theirs: "
                f"{found.photos - found.alike} of {count(found.photos, 'photo')} of val are answered otherwise"
            )
        elif refuse and found.alike < found.photos:
            raise CheckpointError(
                f"the export differs from the run: {found.photos - found.alike} of {count(found.photos, 'photo')} of "
                f"val are answered otherwise, by {found.answers.size:.3g} ({found.answers.words}), where "
                f"{same.ANSWERS:g} may be; nothing was written"
            )

    def own_answers(self, photos: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """The run's own predictions, in float32, each photo alone."""
        resolved, meta = self.built.resolved, self.built.meta
        task, cfg = resolved.task, resolved.cfg
        prepare = task.sample(cfg, self.built.backbone.spec, meta)

        def batches() -> Iterator[dict[str, Any]]:
            for number, photo in enumerate(photos):
                with depths.reading(resolved.config.data.depth):
                    batch = task.collate(cfg, [prepare(photo)], None, meta)
                yield batch | {"id": torch.tensor([number]), "step": 0, "progress": 1.0}

        predictions = iter(task.predict(cfg, self.built.model, batches(), meta, self.options))
        while True:
            with torch.no_grad():
                one = next(predictions, None)
            if one is None:
                return
            yield one

    def reduce(self, path: Path, data: Data | None) -> None:
        """The ONNX file at `path` in fewer bits."""
        source = path.with_name(f"full-{path.name}")
        model = self.opened(path)
        os.replace(path, source)
        try:
            if self.wanted.precision == "fp16":
                graphs.halved(source, path)
                return
            photos = list(photos_of(data, "train", CALIBRATION, self.console))
            if not photos:
                raise DataError("--precision int8 needs photos of the run's train split, by which its ranges are found")
            given = []
            for photo in photos:
                shown = model.show(photo)
                extent = {"extent": np.array([shown.extent])} if self.made.extent else {}
                given.append({"image": shown.image, **extent})
            graphs.quantized(source, path, given)
        finally:
            source.unlink(missing_ok=True)

    def scored(self, exported: runtime.Model, data: Data | None) -> dict[str, Any]:
        """{"fp32": the task's plain scores on val, precision: the same of the exported model}."""
        why = "the run has no val split here" if data is None or data.val is None else ""
        if self.made.outputs is None or (self.made.wanted and not self.varies):
            why = "the run is scored on more than this graph holds"
        if why or data is None or data.val is None:
            self.console.warn(f"{why}, so what fewer bits cost in its score is not known")
            return {}
        full = {"fp32": self.scores_of(None, data.val), self.wanted.precision: self.scores_of(exported, data.val)}
        name = self.built.resolved.config.train.best or self.built.resolved.task.best[0]
        before, after = (one.get(name) for one in full.values())
        if before is not None and after is not None:
            precision = self.wanted.precision
            self.console.say(f"val {name}: {before:.4f} in fp32, {after:.4f} in {precision} ({after - before:+.4f})")
            self.require_usable(name, before, after)
        return full

    def require_usable(self, name: str, before: float, after: float) -> None:
        """Raises CheckpointError where fewer bits cost more than half of the task's own score: what is best large has
        lost it, what is best small has doubled. A score below 0 has no half."""
        own, way = self.built.resolved.task.best
        if name == own and before > 0 and not (after >= before * USABLE if way == "max" else after * USABLE <= before):
            raise CheckpointError(
                f"--precision {self.wanted.precision}: val {name} goes from {before:.4f} to {after:.4f}, so what this "
                "model says in fewer bits is of no use; nothing was written. Leave --precision out, or take another"
            )

    def scores_of(self, exported: runtime.Model | None, split: SampleDataset) -> dict[str, float]:
        built = self.built
        if exported is not None:
            built = replace(built, model=Replaced(self.made, exported))
        accelerator = make_accelerator("fp32")
        rows = gather_rows(accelerator, built, split, self.console, "val")
        return scalars(score_rows(built, rows))


class Replaced(nn.Module):
    """forward(batch): what the task's model gives in evaluation, computed by an exported one."""

    def __init__(self, made: Export, exported: runtime.Model):
        super().__init__()
        self.made, self.exported = made, exported

    def run(self, image: Tensor, extent: Tensor | None = None) -> dict[str, Tensor]:
        image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        found = self.exported.run(image.cpu().numpy(), None if extent is None else extent.cpu().numpy())
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def forward(self, batch: dict[str, Any]) -> Any:
        assert self.made.outputs is not None
        return self.made.outputs(self.run, batch)


class Program:
    """A .pt2 file that runs as an ONNX file does. Raises CheckpointError where it cannot be read back."""

    def __init__(self, path: Path, about: Mapping[str, Any]):
        self.about = about
        self.module = torch.export.load(path).module()
        self.shows = runtime.Model(path, about, None, resized)

    def show(self, photo: Any) -> Any:
        return self.shows.show(photo)

    def run(self, image: np.ndarray, extent: Any = None) -> dict[str, np.ndarray]:
        given = [torch.from_numpy(image)]
        if self.about["input"]["extent"]:
            given.append(torch.as_tensor(np.broadcast_to(np.asarray(extent), (len(image), 2)).copy()))
        try:
            with torch.no_grad():
                found = self.module(*given)
        except AssertionError as error:  # a guard that torch.export wrote into the program
            raise CheckpointError(
                f"torch.export's program takes no image of {image.shape[2]} x {image.shape[3]} pixels ({error}): a "
                "level of the pyramid is a single cell there. --size H,W writes one of that size, --format onnx one of "
                "any; nothing was written"
            ) from None
        return {name: one.numpy() for name, one in zip(self.about["outputs"], found, strict=True)}

    def predict(self, photo: Any) -> dict[str, Any]:
        shown = self.show(photo)
        return answered(self.about["answer"], self.run(shown.image, shown.extent), shown, {}, photo)


def check_size(made: Export, wanted: Wanted) -> None:
    """Raises ConfigError for a size that the model cannot take, or sizes that it cannot vary."""
    if wanted.dynamic and not made.varies:
        raise ConfigError(f"--dynamic: the model takes images of {made.size[0]} x {made.size[1]} pixels only")
    if wanted.size is None:
        return
    if not made.varies and wanted.size != made.size:
        raise ConfigError(f"--size: the model takes images of {made.size[0]} x {made.size[1]} pixels only")
    if any(side % made.multiple for side in wanted.size):
        given = "{},{}".format(*wanted.size)
        raise ConfigError(f"--size: height and width must be multiples of {made.multiple} pixels; got {given}")
    if made.view["resize"] in ("crop", "stretch") and wanted.size != made.size:
        raise ConfigError(
            f"--size: photos are shown to this model at {made.size[0]} x {made.size[1]} pixels; --dynamic makes a "
            "graph that takes others too"
        )


def sizes_of(multiple: int, size: tuple[int, int], varies: bool) -> list[tuple[int, int]]:
    """The sizes at which outputs are compared: the own one, and where they may vary a larger and a wider one."""
    if not varies:
        return [size]
    step = multiple * max(1, 32 // multiple)
    height, width = (max(step, side // step * step) for side in size)
    return list(dict.fromkeys([size, (height + step, width), (max(step, height - step), width + 2 * step)]))


def photos_of(data: Data | None, split: str, most: int, console: Console) -> Iterator[Any]:
    """Photos (PIL, RGB), evenly spaced over a split; what cannot be read is passed over."""
    found = data.splits().get(split) if data is not None else None
    if found is None or not len(found):
        return
    for id in dict.fromkeys(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int).tolist()):
        try:
            yield found.image(id)
        except DataError as error:
            console.warn(str(error))


def section_of(built: Built) -> dict[str, Any]:
    """The `task:` section without the place of the data, which is of no use elsewhere."""
    section: dict[str, Any] = without_data(built.resolved.cfg.model_dump(mode="json"))
    return section


def without_data(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_data(one) for key, one in value.items() if key != "data"}
    return value


def put_json(folder: Path, about: Mapping[str, Any]) -> None:
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / description.NAME).write_text(text, encoding="utf-8")
