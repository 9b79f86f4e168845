"""The backbone of a finished run as a file for its own library."""

from __future__ import annotations

from pathlib import Path

from visiontl.backbone import OriginalHead
from visiontl.backbones.export import Exported, check_target, write_backbone
from visiontl.engine.model import load_model


def export_backbone(run: str | Path, file: str | Path) -> Exported:
    """Write the backbone of a run (its exported model/) under its library's names, with its original classifier where
    the run's model ends in that. Raises CheckpointError, WeightsError and BackboneError."""
    file = Path(file)
    check_target(file)
    built = load_model(run)
    heads = [module for module in built.model.modules() if isinstance(module, OriginalHead)]
    return write_backbone(file, built.backbone, heads[0] if len(heads) == 1 else None)
