"""A `keras.Model` on Keras 3's torch backend as a backbone: `entry(name, make)` is what a source offers of it.

Keras computes, and torch holds: weights are parameters and statistics buffers of the backbone, which each pass hands to
Keras, so that freezing, rates, averages, devices and checkpoints are those of any other backbone. Imports torch and
Keras where it builds.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from visiontl.entry import BackboneEntry, Weights
from visiontl.errors import BackboneError, WeightsError, first_line
from visiontl.kit.words import some
from visiontl.spec import ImageSpec

if TYPE_CHECKING:
    from torch import Tensor

RAW = ImageSpec((224, 224), (0.0,) * 3, (1.0,) * 3, crop=1.0, value_range=(0.0, 255.0))
LARGEST = 64 << 20  # bytes of a description; that of a large model has a hundredth
# what in a .keras file is code, or is read by a pickle
CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "FlaxWrapper")


def entry(name: str, make: Callable[[], Any], spec: ImageSpec = RAW, weights: Weights | None = None) -> BackboneEntry:
    """A Keras model as a backbone on offer. name: SOURCE/ARCHITECTURE.

    make: () -> the `keras.Model`: functional or sequential, of one image (B, H, W, C) that H and W are stated of or
        None, and one output; called for each backbone that is built. spec: how its images are to be prepared; by
        default values of 0 to 255, RGB, for models that prepare them themselves. weights: where `make` gives a trained
        model, what its weights are; None: they are a random start, and files are loaded by the names of layers.
    """
    offered = Offered(name, make, spec)
    return BackboneEntry(name, offered.build, () if weights is None else (weights,), lambda _: spec, offered.state)


@dataclass(frozen=True)
class Offered:
    """What an entry does of a model. name, make: as `entry` has them; own: how images are prepared by default."""

    name: str
    make: Callable[[], Any]
    own: ImageSpec

    def build(
        self,
        spec: ImageSpec | None = None,
        in_channels: int = 3,
        output_stride: int | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> Any:
        """The backbone with its weights as `make` leaves them. Raises BackboneError for what it cannot be built for."""
        from visiontl.kit.kerasbody import KerasModelBackbone

        if output_stride is not None:
            raise BackboneError(f"{self.name} has no choice of output stride; leave backbone.output_stride out")
        model = made(self.name, self.make)
        backbone = KerasModelBackbone(self.name, model, spec or self.own, in_channels, image_size)
        if broken := [name for name, value in backbone.state_dict().items() if not bool(value.isfinite().all())]:
            raise BackboneError(f"{self.name}: make() gave weights that are no finite numbers: {some(broken, 3)}")
        return backbone

    def state(self, _tag: str) -> Mapping[str, Tensor]:
        """The weights that `make` brings, by the names that the backbone's files have."""
        backbone = self.build()
        names = backbone.library_names()
        return {names[own]: tensor for own, tensor in backbone.state_dict().items() if own in names}


def made(name: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, its random start drawn by torch's generator, as that of other backbones is."""
    import random

    import torch

    from visiontl.kit.kerasbody import library

    keras = library()
    before = random.getstate()
    random.seed(int(torch.randint(1 << 31, (1,))))  # from it Keras draws the seeds of its initializers
    try:
        with keras.device("cpu"):
            model = make()
    except (BackboneError, WeightsError):  # of `read`
        raise
    except Exception as error:  # of the plugin's own code, or of Keras
        raise BackboneError(f"{name}: make() failed ({type(error).__name__}: {first_line(error)})") from error
    finally:
        random.setstate(before)
    if not isinstance(model, keras.Model):
        kind = cast("type[object]", type(model))
        place = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        raise BackboneError(f"{name}: make() was to give a keras.Model of Keras 3; got {place}{kind.__name__}")
    return model


def read(path: str | Path) -> Any:
    """The model of a `.keras` file, whose layers are Keras' own. Raises WeightsError for a file that holds code."""
    from visiontl.kit.kerasbody import library

    keras, path = library(), Path(path)
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if (size := archive.getinfo("config.json").file_size) > LARGEST:
                raise WeightsError(f"{path}: its config.json has {size:,} bytes; at most {LARGEST:,} were expected")
            asked = list(kinds(json.loads(archive.read("config.json"))))
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # encrypted, nested
        raise WeightsError(f"{path}: no .keras file, or it cannot be read ({first_line(error)})") from None
    for kind, place in asked:
        if kind in CODE or (place and place.split(".")[0] != "keras"):
            raise WeightsError(f"{path}: holds {place or 'code'}:{kind}, which is not Keras' own and is never run")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras' own kinds
        raise WeightsError(f"{path}: Keras cannot read it ({first_line(error)})") from None


def kinds(config: Any) -> Iterator[tuple[str, str]]:
    """(class, module) of all that a saved model asks to be made."""
    if isinstance(config, dict):
        held = cast(dict[str, Any], config)
        kind, place = held.get("class_name"), held.get("module")
        if isinstance(kind, str):
            yield kind, place if isinstance(place, str) else ""
        for value in held.values():
            yield from kinds(value)
    elif isinstance(config, list):
        for value in cast(list[Any], config):
            yield from kinds(value)
