"""visiontl: plugin-based, multi-task vision transfer learning.

    visiontl.train(config)                      one run, from a file, a mapping or a Config
    visiontl.evaluate(run)                      scores of a finished run
    visiontl.load(run).predict("photo.jpg")     its model, on new images

Names are imported at first use, so `import visiontl` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PLACES = {
    "train": "visiontl.engine.train",
    "evaluate": "visiontl.engine.evaluate",
    "load": "visiontl.engine.predict",
    "load_backbone": "visiontl.engine.model",
    "save_model": "visiontl.engine.model",
    "find_images": "visiontl.engine.predict",
    "Predictor": "visiontl.engine.predict",
    "Console": "visiontl.report.console",
    "all_gather": "visiontl.processes.ranks",
    "seeded": "visiontl.processes.seeds",
    "open_image": "visiontl.kit.images",
    "fit_image": "visiontl.kit.images",
    "fit_tensor": "visiontl.kit.images",
    "resize_tensor": "visiontl.kit.images",
    "to_tensor": "visiontl.kit.images",
    "Task": "visiontl.task",
    "Data": "visiontl.task",
    "Command": "visiontl.task",
    "lazy": "visiontl.task",
    "Backbone": "visiontl.backbone",
    "BackboneEntry": "visiontl.entry",
    "Features": "visiontl.backbone",
    "ImageSpec": "visiontl.entry",
    "OriginalHead": "visiontl.backbone",
    "Weights": "visiontl.entry",
    "Section": "visiontl.config.schema",
    "Figure": "visiontl.report.items",
    "Table": "visiontl.report.items",
    "Pictures": "visiontl.report.items",
    "Finding": "visiontl.report.items",
    "Seen": "visiontl.report.items",
    "hookimpl": "visiontl.hookspecs",
    "VisionTLError": "visiontl.errors",
    "ConfigError": "visiontl.errors",
    "DataError": "visiontl.errors",
    "BackboneError": "visiontl.errors",
    "TrainingError": "visiontl.errors",
    "did_you_mean": "visiontl.errors",
    "distinct_colors": "visiontl.kit.drawing",
    "count": "visiontl.kit.words",
    "plural": "visiontl.kit.words",
    "told": "visiontl.kit.words",
    "some": "visiontl.kit.words",
    "refusal": "visiontl.kit.words",
    "is_image": "visiontl.kit.images",
}

__all__ = sorted(_PLACES)

if TYPE_CHECKING:
    from visiontl.backbone import Backbone, Features, OriginalHead
    from visiontl.config.schema import Section
    from visiontl.engine.evaluate import evaluate
    from visiontl.engine.model import load_backbone, save_model
    from visiontl.engine.predict import Predictor, find_images, load
    from visiontl.engine.train import train
    from visiontl.entry import BackboneEntry, ImageSpec, Weights
    from visiontl.errors import (
        BackboneError,
        ConfigError,
        DataError,
        TrainingError,
        VisionTLError,
        did_you_mean,
    )
    from visiontl.hookspecs import hookimpl
    from visiontl.kit.drawing import distinct_colors
    from visiontl.kit.images import fit_image, fit_tensor, is_image, open_image, resize_tensor, to_tensor
    from visiontl.kit.words import count, plural, refusal, some, told
    from visiontl.processes.ranks import all_gather
    from visiontl.processes.seeds import seeded
    from visiontl.report.console import Console
    from visiontl.report.items import Figure, Finding, Pictures, Seen, Table
    from visiontl.task import Command, Data, Task, lazy


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"visiontl has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
