"""Started by torchrun: each head on each kind of backbone through the engine, a few updates."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from visiontl.engine.prepare import set_up
from visiontl.engine.train import fit
from visiontl.processes import ranks
from visiontl.report.console import Console
from visiontl.testing import Case

BACKBONES = ("timm/resnet10t", "timm/mobilenetv3_small_050", "timm/convnext_atto", "timm/vit_tiny_patch16_224")

for name in BACKBONES:
    for head in ("faster_rcnn", "retinanet", "fcos"):
        case = Case("detection", Path(sys.argv[1]), {"head": head, "augment": "none"})
        settings = [f"backbone.name={name}", "train.epochs=2", "train.batch_size=2", "optim.lr=1e-3"]
        resolved = case.resolved(*settings, "train.evaluate_every=9 epochs", "train.checkpoint_every=9 epochs")
        run = set_up(resolved, limit=10, console=Console(main=False))
        run.console.main = False
        fit(run)
        if ranks.rank() == 0:
            lines = (run.folder / "metrics.jsonl").read_text().splitlines()
            losses = [json.loads(line)["loss"] for line in lines if json.loads(line)["kind"] == "train"]
            assert min(losses[-4:]) < 0.95 * losses[0], (name, head, losses)
            print(f"{name} {head}: loss falls")
ranks.shutdown()
