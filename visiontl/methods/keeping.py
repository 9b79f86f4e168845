"""Learning without forgetting (Li and Hoiem 2016): the model that a run begins from goes on to say what it said of the
classes that it knew, on the images of the new data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visiontl.config.schema import KeepOldConfig
from visiontl.errors import ConfigError
from visiontl.methods.terms import Pass, Situation, fingerprint
from visiontl.whole import Old


@dataclass(frozen=True)
class KeepOld:
    """distance: of the model's answers for old classes from the old model's, as the task measures it."""

    weight: float
    distance: Callable[[Any, dict[str, Any]], Tensor]
    started: str
    name: str = "keep_old"
    watches: bool = True
    maps: tuple[int, ...] = ()
    needs_images: bool = True

    def __call__(self, seen: Pass) -> Tensor:
        return self.weight * self.distance(seen.outputs, dict(seen.batch))


def make_keep_old(here: Situation, section: KeepOldConfig) -> KeepOld:
    task, device = here.resolved.task, here.backbone.mean.device
    if task.keep is None:
        raise here.refused(
            "keep_old",
            f"task {task.name} keeps no old answers (classification and detection do): its answers are not one number "
            "a class and image, or a class and box",
        )
    if here.resolved.config.init is None:
        raise here.refused("keep_old", "there are no old answers: init names no model to begin from")
    built = here.old()
    if built.resolved.task.name != task.name:
        raise here.refused("keep_old", f"init is a run of the task {built.resolved.task.name}")
    model = built.model.to(device).eval().requires_grad_(False)

    def answer(batch: dict[str, Any]) -> Any:
        model.training = True  # outputs as in training, of layers as in evaluation
        try:
            with torch.no_grad(), here.autocast():
                return model(batch)
        finally:
            model.training = False

    old = Old(model, built.resolved.cfg, built.meta, section.temperature, answer)
    try:
        distance = task.keep(here.resolved.cfg, here.model, here.meta, old)
    except ConfigError as error:
        raise here.refused("keep_old", str(error)) from None
    return KeepOld(section.weight, distance, fingerprint(model.state_dict()))
