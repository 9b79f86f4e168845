"""visiontl: plugin-based, multi-task vision transfer learning.

    result = visiontl.train("classification/quickstart", "train.epochs=5")
    result                          a notebook shows its scores and curves; result.show() is the whole report
    visiontl.evaluate(result)       scores of a finished run
    model = visiontl.load(result)   its model; or of a run folder: visiontl.load("runs/photos")
    model.predict("photo.jpg")      on a path, a folder, a list, PIL, NumPy, torch
    model.show("photo.jpg")         the photo with what was predicted

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
    "Predictor": "visiontl.engine.predict",
    "Prediction": "visiontl.engine.answers",
    "Predictions": "visiontl.engine.answers",
    "Result": "visiontl.engine.results",
    "Console": "visiontl.report.console",
    "all_gather": "visiontl.processes.ranks",
    "seeded": "visiontl.processes.seeds",
    "Task": "visiontl.task",
    "Data": "visiontl.task",
    "Command": "visiontl.task",
    "find_task": "visiontl.plugins",
    "lazy": "visiontl.signatures",
    "Backbone": "visiontl.backbone",
    "BackboneEntry": "visiontl.entry",
    "Features": "visiontl.backbone",
    "ImageSpec": "visiontl.spec",
    "OriginalHead": "visiontl.backbone",
    "Weights": "visiontl.entry",
    "Export": "visiontl.export",
    "Section": "visiontl.config.schema",
    "Figure": "visiontl.report.items",
    "Table": "visiontl.report.items",
    "Pictures": "visiontl.report.items",
    "Finding": "visiontl.report.items",
    "Scalar": "visiontl.report.items",
    "Seen": "visiontl.report.items",
    "Source": "visiontl.whole",
    "Whole": "visiontl.whole",
    "ClassRows": "visiontl.whole",
    "Parts": "visiontl.whole",
    "Old": "visiontl.whole",
    "hookimpl": "visiontl.hookspecs",
    "VisionTLError": "visiontl.errors",
    "ConfigError": "visiontl.errors",
    "DataError": "visiontl.errors",
    "BackboneError": "visiontl.errors",
    "WeightsError": "visiontl.errors",
    "TrainingError": "visiontl.errors",
}

__all__ = sorted(_PLACES)

if TYPE_CHECKING:
    from visiontl.backbone import Backbone, Features, OriginalHead
    from visiontl.config.schema import Section
    from visiontl.engine.answers import Prediction, Predictions
    from visiontl.engine.evaluate import evaluate
    from visiontl.engine.model import load_backbone, save_model
    from visiontl.engine.predict import Predictor, load
    from visiontl.engine.results import Result
    from visiontl.engine.train import train
    from visiontl.entry import BackboneEntry, Weights
    from visiontl.errors import BackboneError, ConfigError, DataError, TrainingError, VisionTLError, WeightsError
    from visiontl.export import Export
    from visiontl.hookspecs import hookimpl
    from visiontl.plugins import find_task
    from visiontl.processes.ranks import all_gather
    from visiontl.processes.seeds import seeded
    from visiontl.report.console import Console
    from visiontl.report.items import Figure, Finding, Pictures, Scalar, Seen, Table
    from visiontl.signatures import lazy
    from visiontl.spec import ImageSpec
    from visiontl.task import Command, Data, Task
    from visiontl.whole import ClassRows, Old, Parts, Source, Whole


if not TYPE_CHECKING:  # a type checker sees the imports above, and says so of a name that is not there

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            from visiontl.errors import closest

            near = closest(name, _PLACES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; dir(visiontl) lists the names"
            raise AttributeError(f"visiontl has no attribute {name!r}{hint}", name=name)
        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, for completion: no helpers, no modules that happen to be imported."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__") and name.endswith("__"))])
