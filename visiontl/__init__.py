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
    "train": "visiontl.training",
    "evaluate": "visiontl.evaluation",
    "load": "visiontl.prediction",
    "load_backbone": "visiontl.model",
    "save_model": "visiontl.model",
    "find_images": "visiontl.prediction",
    "Predictor": "visiontl.prediction",
    "Console": "visiontl.console",
    "all_gather": "visiontl.distributed",
    "seeded": "visiontl.randomness",
    "open_image": "visiontl.images",
    "fit_image": "visiontl.images",
    "fit_tensor": "visiontl.images",
    "resize_tensor": "visiontl.images",
    "to_tensor": "visiontl.images",
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
    "Section": "visiontl.schema",
    "Figure": "visiontl.report",
    "Table": "visiontl.report",
    "Pictures": "visiontl.report",
    "Finding": "visiontl.report",
    "Seen": "visiontl.report",
    "hookimpl": "visiontl.hookspecs",
    "VisionTLError": "visiontl.errors",
    "ConfigError": "visiontl.errors",
    "DataError": "visiontl.errors",
    "BackboneError": "visiontl.errors",
    "TrainingError": "visiontl.errors",
    "did_you_mean": "visiontl.errors",
    "distinct_colours": "visiontl.colours",
    "count": "visiontl.sentences",
    "plural": "visiontl.sentences",
    "told": "visiontl.sentences",
    "some": "visiontl.sentences",
    "refusal": "visiontl.sentences",
    "is_image": "visiontl.images",
}

__all__ = sorted(_PLACES)

if TYPE_CHECKING:
    from visiontl.backbone import Backbone, Features, OriginalHead
    from visiontl.colours import distinct_colours
    from visiontl.console import Console
    from visiontl.distributed import all_gather
    from visiontl.entry import BackboneEntry, ImageSpec, Weights
    from visiontl.errors import (
        BackboneError,
        ConfigError,
        DataError,
        TrainingError,
        VisionTLError,
        did_you_mean,
    )
    from visiontl.evaluation import evaluate
    from visiontl.hookspecs import hookimpl
    from visiontl.images import fit_image, fit_tensor, is_image, open_image, resize_tensor, to_tensor
    from visiontl.model import load_backbone, save_model
    from visiontl.prediction import Predictor, find_images, load
    from visiontl.randomness import seeded
    from visiontl.report import Figure, Finding, Pictures, Seen, Table
    from visiontl.schema import Section
    from visiontl.sentences import count, plural, refusal, some, told
    from visiontl.task import Command, Data, Task, lazy
    from visiontl.training import train


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"visiontl has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
