"""What the subcommands do."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import visiontl
from visiontl import ConfigError, Console, DataError
from visiontl.kit.words import did_you_mean
from visiontl_multi.config import MultiConfig


def part(arguments: argparse.Namespace) -> int:
    """Writes the model of one part as a model folder of its own task, and says what it answers now."""
    built: Any = visiontl.load(arguments.run).built
    if built.resolved.task.name != "multi":
        raise DataError(f"{arguments.run}: is a model of task {built.resolved.task.name}, which has no parts")
    name, parts = arguments.part, built.resolved.cfg.tasks
    if name not in parts:
        near = did_you_mean(name, parts) or f"; parts are {', '.join(parts)}"
        raise ConfigError(f"{arguments.run}: no part is called {name!r}{near}")
    place = visiontl.save_model(arguments.out, alone(built, name))
    task = parts[name].name
    Console().say(f"{name} of {arguments.run} as a model of task {task}: {place}")
    others = f"; visiontl {task} --help lists what else takes it" if parts[name].task.commands else ""
    Console().say(f"next: visiontl predict {place} PHOTOS{others}")
    return 0


def alone(built: Any, name: str) -> Any:
    """The part's own task on the shared backbone with the part's weights, meta and scores: a `Built` as a run of that
    task alone has it."""
    cfg: MultiConfig = built.resolved.cfg
    own, meta, config = cfg.tasks[name], built.meta["parts"][name]["meta"], built.resolved.config
    model = own.task.model(own.section, built.backbone, meta)
    lacking = model.load_state_dict(built.model.parts[name].state_dict(), strict=False)
    shared = {id(tensor) for tensor in built.backbone.state_dict(keep_vars=True).values()}
    held = model.state_dict(keep_vars=True)
    lost = [key for key in lacking.missing_keys if id(held[key]) not in shared]
    if lost or lacking.unexpected_keys:
        raise DataError(f"{name}: its model has other tensors alone: {', '.join([*lost, *lacking.unexpected_keys])}")
    best = str(config.train.best or "")
    own_best = best.removeprefix(f"{name}/") if best.startswith(f"{name}/") else None
    train = config.train.model_copy(update={"best": own_best})
    section = {"name": own.name, **own.section.model_dump(mode="json")}
    resolved = replace(
        built.resolved,
        task=own.task,
        cfg=own.section,
        config=config.model_copy(update={"task": section, "train": train}),
    )
    scores = {key.removeprefix(f"{name}/"): value for key, value in built.scores.items() if key.startswith(f"{name}/")}
    return replace(built, resolved=resolved, model=model.eval(), meta=meta, scores=scores)
