"""The child processes of the face section: one training loop each, on the same model, pixels, order and loss.

python tools/benchmarks/face_loops.py '{"loop": "engine", "model": "timm/mobilenetv2_050", ...}'
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from visiontl import Data
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.prepare import Run, set_up

sys.path.insert(0, str(Path(__file__).parent))
from loops import NEVER, Pixels, Spec, batches, engine
from rounds import Rounds, say

PEOPLE = 16


class Faces(Pixels):
    """Random pictures of PEOPLE identities, in memory already."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return {**super().__getitem__(key), "label": key[0] % PEOPLE, "about": {}}


def resolved(spec: Spec) -> Resolved:
    """The run's config, with the task's data replaced by pixels in memory."""
    config = {
        "task": {"name": "face", "data": ".", "augment": "none", "dimension": 128, "loss": {"m2": 0.3, "scale": 16}},
        "backbone": {"name": spec.model, "weights": "none", "image_size": spec.size},
        "freeze": {"policy": spec.policy},
        # one rate and no decay, so that a bare optimizer with one group computes the same
        "optim": {"lr": 1e-4, "backbone_scale": 1.0, "weight_decay": 0.0, "schedule": "constant"},
        "train": {
            "epochs": spec.epochs,
            "batch_size": spec.batch,
            "precision": spec.precision,
            "channels_last": spec.channels_last,
            "evaluate_start": False,
            "evaluate_every": NEVER,
            "checkpoint_every": NEVER,
        },
        "loader": {"workers": 0},
        "run": {"folder": spec.folder},
    }
    found = resolve(config, ())

    def pixels(cfg: Any, image: Any, meta: Any = None) -> Data:
        return Data(train=Faces(spec.images, image.size), meta={"identities": [str(i) for i in range(PEOPLE)]})

    return replace(found, task=replace(found.task, data=pixels))


def bare(run: Run, rounds: Rounds) -> None:
    """A loop without a toolkit: the same network, cross entropy on the logits that it gives, AdamW, the backbone's norm
    statistics fixed, which is this task's default."""
    cfg, meta, collate = run.resolved.cfg, run.built.meta, run.resolved.task.collate
    model = run.built.model.train()
    for module in run.built.backbone.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.resolved.config.optim.lr, weight_decay=0.0, fused=True)
    for batch in batches(run, lambda samples: collate(cfg, samples, None, meta)):
        loss = F.cross_entropy(model(batch)["logits"], batch["label"])
        rounds.tick(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    spec = Spec(**json.loads(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    run = set_up(resolved(spec))
    say("told", run.placement.environment())
    (engine if spec.loop == "engine" else bare)(run, Rounds(spec.steps))


if __name__ == "__main__":
    main()
