"""Answers for new photos: each part's under its name, from one pass of the backbone where the parts see the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from visiontl import ConfigError, find_task
from visiontl.kit.drawing import sheet
from visiontl.kit.words import did_you_mean
from visiontl_multi.batches import joint
from visiontl_multi.config import MultiConfig, PredictOptions, options_of
from visiontl_multi.model import Several


def predict(
    cfg: MultiConfig,
    model: Several,
    batches: Iterable[Mapping[str, Any]],
    meta: Mapping[str, Any],
    options: PredictOptions | None = None,
) -> Iterator[dict[str, Any]]:
    """{part: what its own `predict` gives} of each photo. Raises ConfigError for options of no part."""
    asked = parsed(cfg, options)
    fan = Fan(model, batches)
    handles = [part.register_forward_hook(in_fp32) for part in model.parts.values()]
    try:
        answers = {
            name: iter(
                part.task.predict(
                    part.section, model.parts[name], fan.of(name), meta["parts"][name]["meta"], asked[name]
                )
            )
            for name, part in cfg.tasks.items()
        }
        while True:
            found = {name: next(own, None) for name, own in answers.items()}
            if any(one is None for one in found.values()):
                return
            yield found
    finally:
        model.let_go()
        for handle in handles:
            handle.remove()


def mirrored(cfg: MultiConfig, model: Several, batch: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """What each part says of the photos and their mirror images. Raises ConfigError for a part without such a mean."""
    model.prepare(batch, joint(batch))
    try:
        found = {name: of_part(cfg, name)(model, meta) for name in batch["parts"]}
    finally:
        model.let_go()
    return {"parts": found}


def of_part(cfg: MultiConfig, name: str) -> Callable[[Several, Mapping[str, Any]], Any]:
    part = cfg.tasks[name]
    step = part.task.mirrored
    if step is None:
        raise ConfigError(f"option flip: {name}: task {part.name} has no mean over a photo and its mirror image")
    return lambda model, meta: step(part.section, model.parts[name], model.given[name], meta["parts"][name]["meta"])


def parsed(cfg: MultiConfig, options: PredictOptions | None) -> dict[str, Any]:
    """{part: its validated options}"""
    given: Mapping[str, Any] = (options.model_extra or {}) if options is not None else {}
    if "flip" in given and "flip" not in cfg.tasks:  # for all parts; one of its own wins
        flip = {"flip": given["flip"]}
        given = {name: {**flip, **given.get(name, {})} for name in {**cfg.tasks, **given} if name != "flip"}
    problems = [
        f"option {name}: no part is called so{did_you_mean(name, cfg.tasks) or '; parts are ' + ', '.join(cfg.tasks)}"
        for name in given
        if name not in cfg.tasks
    ]
    found: dict[str, Any] = {}
    for name, part in cfg.tasks.items():
        values = given.get(name, {})
        if not isinstance(values, Mapping):
            problems.append(
                f"option {name}: got {values!r}; expected an option of task {part.name}: {name}.OPTION=VALUE"
            )
            continue
        try:
            found[name] = options_of(part, "options", values)
        except ValueError as error:
            problems.append(f"option {name}: {error}")
    if problems:
        raise ConfigError(problems)
    return found


class Fan:
    """One stream of batches read by every part at its own pace; the backbone sees each batch once."""

    def __init__(self, model: Several, batches: Iterable[Mapping[str, Any]]):
        self.model, self.batches = model, iter(batches)
        self.waiting: dict[str, deque[dict[str, Any]]] = {name: deque() for name in model.parts}

    def of(self, name: str) -> Iterator[dict[str, Any]]:
        while True:
            if not self.waiting[name]:
                batch = next(self.batches, None)
                if batch is None:
                    return
                self.model.prepare(batch, joint(batch))
                for part, own in self.model.given.items():
                    self.waiting[part].append(own)
            yield self.waiting[name].popleft()


def in_fp32(module: nn.Module, given: Any, outputs: Any) -> Any:
    """Floating tensors of nested dicts and lists as fp32, as a task's `predict` gets them from its model."""
    if isinstance(outputs, Tensor):
        return outputs if outputs.dtype == torch.float64 or not outputs.is_floating_point() else outputs.float()
    if isinstance(outputs, Mapping):
        return {key: in_fp32(module, given, value) for key, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(in_fp32(module, given, value) for value in outputs)
    return outputs


def draw(image: Image.Image, prediction: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """The photo as each part draws on it, side by side; the photo itself where none does."""
    drawn = []
    for name, own in meta["parts"].items():
        step = find_task(own["task"]).draw
        if step is not None and name in prediction:
            drawn.append(step(image.copy(), dict(prediction[name]), own["meta"]))
    return sheet([drawn]) if len(drawn) > 1 else drawn[0] if drawn else image


def files(
    cfg: MultiConfig, records: Sequence[tuple[str, Mapping[str, Any]]], meta: Mapping[str, Any]
) -> dict[str, str]:
    """The parts' own files, with the part's name before theirs."""
    found: dict[str, str] = {}
    for name, part in cfg.tasks.items():
        if part.task.files is not None:
            own = [(file, dict(prediction[name])) for file, prediction in records]
            made = part.task.files(part.section, own, meta["parts"][name]["meta"])
            found |= {f"{name}-{file}": text for file, text in made.items()}
    return found
