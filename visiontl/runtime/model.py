"""An exported model, ready for photos."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl.errors import CheckpointError, ConfigError, DataError
from visiontl.kit import depths
from visiontl.kit.images import open_image, to_rgb
from visiontl.runtime import description
from visiontl.runtime.answers import answered, checked
from visiontl.runtime.views import Resize, Shown, by_pillow, show

SUFFIX = ".onnx"
THREADS = 1024  # at most


@dataclass(frozen=True)
class Model:
    """Made by `load`. about: model.json."""

    path: Path
    about: Mapping[str, Any]
    session: Any
    resize: Resize = by_pillow

    @property
    def fixed(self) -> tuple[int, int] | None:
        """(H, W) in pixels of a graph that takes no other."""
        size = self.about["input"]["size"]
        return None if size is None or None in size else (size[0], size[1])

    def predict(self, photo: str | os.PathLike[str] | Image.Image | np.ndarray, **options: Any) -> dict[str, Any]:
        """What the run's own predict says of a photo: JSON values, NumPy arrays and PIL images.

        photo: a path; a PIL image of any mode; an array (H, W, 3) uint8. options: of the kind of answer (`options`).
        Raises DataError for what is no photo, ConfigError for an option that there is not.
        """
        chosen = self.options(options)
        with depths.reading(self.depth):
            image = as_rgb(photo)
        shown = self.show(image)
        return answered(self.about["answer"], self.run(shown.image, shown.extent), shown, chosen, image)

    def predict_each(self, photos: Sequence[Any], **options: Any) -> list[dict[str, Any]]:
        """`predict` of each, in their order. Those that become inputs of one size go through the graph together."""
        chosen = self.options(options)
        with depths.reading(self.depth):
            images = [as_rgb(photo) for photo in photos]
        shown = [self.show(image) for image in images]
        alike: dict[tuple[int, ...], list[int]] = {}
        for index, one in enumerate(shown):
            alike.setdefault(one.image.shape, []).append(index)
        found: dict[int, dict[str, Any]] = {}
        for places in alike.values():
            batch = np.concatenate([shown[i].image for i in places])
            outputs = self.run(batch, np.array([shown[i].extent for i in places]))
            for row, i in enumerate(places):
                own = {name: values[row : row + 1] for name, values in outputs.items()}
                found[i] = answered(self.about["answer"], own, shown[i], chosen, images[i])
        return [found[index] for index in range(len(images))]

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options as they are used. Raises ConfigError for one that this kind of answer does not have."""
        try:
            return checked(self.about["answer"], given)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from None

    def show(self, image: Image.Image) -> Shown:
        """image: RGB."""
        return show(image, self.about["view"], self.fixed, self.resize)

    def run(self, image: np.ndarray, extent: Any = None) -> dict[str, np.ndarray]:
        """image: (B, 3, H, W) float32 RGB of 0..1, extent: (h, w), or (B, 2) of them -> the named outputs. Raises
        CheckpointError where the graph cannot be run on it, or answers with numbers that are not finite."""
        given = {"image": image}
        if self.about["input"]["extent"]:
            extents = np.asarray(image.shape[2:] if extent is None else extent, dtype=np.int64)
            given["extent"] = np.ascontiguousarray(np.broadcast_to(extents, (len(image), 2)))
        try:
            found = self.session.run(self.about["outputs"], given)
        except Exception as error:  # onnxruntime's errors have no common base
            raise CheckpointError(f"{self.path}: the graph cannot be run ({in_short(error)})") from None
        for name, values in zip(self.about["outputs"], found, strict=True):
            if not isinstance(values, np.ndarray) or len(values) != len(image):
                raise CheckpointError(
                    f"{self.path}: output {name} holds no value for each image; is it the model's own?"
                )
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise CheckpointError(f"{self.path}: output {name} holds values that are no finite numbers")
        return dict(zip(self.about["outputs"], found, strict=True))

    @property
    def depth(self) -> Any:
        """How pictures of more than 8 bits a value are read (`data.depth`)."""
        depth = self.about["depth"]
        if isinstance(depth, list):
            return tuple(depth)
        return depth if depth in ("auto", "range") else int(depth)


def load(path: str | os.PathLike[str], resize: Resize = by_pillow, threads: int = 0) -> Model:
    """The model.onnx that `visiontl export` wrote, with model.json beside it.

    resize: how photos are resized. threads: of a call, 0: as onnxruntime chooses.
    Raises CheckpointError for files that are not what was exported, ConfigError for such a number.
    """
    if not 0 <= threads <= THREADS:
        raise ConfigError(f"threads: 0 to {THREADS} was expected; got {threads}")
    path = Path(path)
    if path.is_dir():
        path = path / f"model{SUFFIX}"
    description.require_plain(path)
    about = description.read(path)
    if about.get("sha256") is not None and sha256(path) != about["sha256"]:
        raise CheckpointError(
            f"{path}: is not the file that {description.NAME} beside it describes (its SHA-256 differs); export it "
            "again"
        )
    return Model(path, about, opened(path, about, threads), resize)


def opened(path: Path, about: Mapping[str, Any], threads: int) -> Any:
    """The session of onnxruntime. Raises CheckpointError where inputs and outputs are not the described ones."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"onnxruntime is needed ({error}): pip install 'visiontl[runtime]'") from None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what it says on stderr names no file; errors are told here
    settings.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise CheckpointError(f"{path}: no graph that onnxruntime can read ({in_short(error)})") from None
    takes = {one.name for one in session.get_inputs()}
    wanted = {"image", "extent"} if about["input"]["extent"] else {"image"}
    gives = {one.name for one in session.get_outputs()}
    if takes != wanted or not gives >= set(about["outputs"]):
        said = f"takes {', '.join(sorted(takes))} and gives {', '.join(sorted(gives))}"
        raise CheckpointError(f"{path}: {said}, which {description.NAME} beside it does not describe; export it again")
    return session


def as_rgb(photo: Any) -> Image.Image:
    if isinstance(photo, Image.Image):
        try:
            return to_rgb(photo)
        except (OSError, ValueError) as error:
            raise DataError(f"the PIL image cannot be read ({error})") from None
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            said = f"{photo.dtype} of shape {photo.shape}"
            raise DataError(f"an array (H, W, 3) of uint8 was expected; got {said}; Image.fromarray reads others")
        return Image.fromarray(photo)
    return open_image(Path(photo).expanduser())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
