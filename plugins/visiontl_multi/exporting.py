"""The parts as one graph: one pass of the backbone to the outputs of all, each under its part's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from visiontl import ConfigError, Export
from visiontl_multi.batches import part_batch
from visiontl_multi.config import MultiConfig, PredictOptions
from visiontl_multi.model import Several
from visiontl_multi.predictions import parsed
from visiontl_multi.seats import together

Run = Callable[..., dict[str, Tensor]]
SHOWN = ("view", "size", "multiple", "varies", "wanted", "extent")  # of an Export: how a photo becomes the image


class Joint(nn.Module):
    """forward(image[, extent]): {"PART.OUTPUT": what the part's own module gives as OUTPUT}.

    modules: {part: the module that its own task exports}, whose backbones are the model's seats.
    """

    def __init__(self, model: Several, modules: Mapping[str, nn.Module]):
        super().__init__()
        self.model, self.own = model, nn.ModuleDict(dict(modules))

    def forward(self, image: Tensor, *extent: Tensor) -> dict[str, Tensor]:
        seats = self.model.seats.values()
        ask = together(seat.asked for seat in seats)
        levels, layers = sorted(ask.maps), sorted(ask.layers)
        if ask:
            found = self.model.backbone(image, levels, ask.pooled, layers)
            for seat in seats:
                seat.hold(image, dict(zip(levels, found.maps, strict=True)), found.pooled, dict(found.layers))
        try:
            return {
                f"{part}.{name}": values
                for part, module in self.own.items()
                for name, values in module(image, *extent).items()
            }
        finally:
            self.model.let_go()


def export(cfg: MultiConfig, model: Several, meta: Mapping[str, Any], options: PredictOptions) -> Export:
    """Raises ConfigError for parts that are shown a photo in different ways, and for one that does not export."""
    asked, made = parsed(cfg, options), dict[str, Export]()
    for name, part in cfg.tasks.items():
        if part.task.export is None:
            raise ConfigError(f"{name}: task {part.name} does not export; {ALONE}")
        try:
            made[name] = part.task.export(part.section, model.parts[name], meta["parts"][name]["meta"], asked[name])
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
    leader = shown_alike(cfg, made)
    answers = {name: named(one.answer, name) for name, one in made.items()}
    return Export(
        module=Joint(model, {name: one.module for name, one in made.items()}),
        answer={"kind": "parts", "parts": answers},
        outputs=outputs(made) if all(one.outputs is not None for one in made.values()) else None,
        notes=[f"{name}: {note}" for name, one in made.items() for note in one.notes],
        **{key: getattr(leader, key) for key in SHOWN},
    )


ALONE = "`visiontl multi part RUN PART MODEL` takes the other parts out, `visiontl export MODEL` writes each alone"


def shown_alike(cfg: MultiConfig, made: Mapping[str, Export]) -> Export:
    """One of the parts' exports, for how a photo becomes the image of all."""
    own = {name: one for name, one in made.items() if name not in cfg.views}
    first = next(iter(own))
    for name, one in own.items():
        for key in SHOWN:
            ours, theirs = getattr(own[first], key), getattr(one, key)
            if ours != theirs:
                raise ConfigError(
                    f"{first} and {name} are shown a photo in different ways ({key}: {ours} and "
                    f"{theirs}), which one graph does not hold; {ALONE}"
                )
    fixed = [name for name in cfg.views if not made[name].varies]
    if fixed and own[first].varies:
        raise ConfigError(f"{fixed[0]}: takes images of one size, and is shown those of {cfg.views[fixed[0]]}; {ALONE}")
    return own[first]


def named(answer: Mapping[str, Any], part: str) -> dict[str, Any]:
    """A part's answer, by the names that its outputs have in the graph of all."""
    names = {key: f"{part}.{answer[key]}" for key in ("output", "boxes", "scores", "labels") if key in answer}
    if "keys" in answer:
        keys = {key: {**how, "output": f"{part}.{how['output']}"} for key, how in answer["keys"].items()}
        return {**answer, "keys": keys}
    return {**answer, **names}


def outputs(made: Mapping[str, Export]) -> Callable[[Run, dict[str, Any]], dict[str, Any]]:
    def of_batch(run: Run, batch: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in batch["parts"]:
            step: Any = made[name].outputs
            found[name] = step(of_part(run, name), part_batch(batch, name))
        return {"parts": found}

    return of_batch


def of_part(run: Run, part: str) -> Run:
    def own(*given: Tensor) -> dict[str, Tensor]:
        found = run(*given)
        return {name.removeprefix(f"{part}."): values for name, values in found.items() if name.startswith(f"{part}.")}

    return own
