"""The parts' models on one backbone, which is called once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from visiontl import Backbone, BackboneError, ConfigError, TrainingError, seeded
from visiontl.kit.partial import zero
from visiontl_multi.balance import Fork
from visiontl_multi.batches import all_of, joint, part_batch
from visiontl_multi.config import MultiConfig
from visiontl_multi.seats import Seat, together


def model(cfg: MultiConfig, backbone: Backbone, meta: Mapping[str, Any]) -> Several:
    """Raises BackboneError where a part's task refuses the backbone, naming the part."""
    made = Several(cfg, backbone, meta)
    made.look_ahead(cfg, meta)
    return made


class Several(nn.Module):
    """forward(batch) -> {"parts": {part: its model's outputs}, "zero": 0 with gradients for what a batch without labels
    of some part does not read, "log_variances": {part: ()}}; of parts that have a photo in the batch.

    seats: {part: what it takes for its backbone}. head_rates: {module: its learning rate, relative to the head's}.
    """

    def __init__(self, cfg: MultiConfig, backbone: Backbone, meta: Mapping[str, Any]):
        super().__init__()
        self.backbone = backbone
        self.seats: dict[str, Seat] = {}
        self.parts = nn.ModuleDict()
        for name, part in cfg.tasks.items():
            if hasattr(self.parts, name):
                raise ConfigError(f"task.tasks: a part cannot be called {name!r}, which modules have already")
            self.seats[name] = Seat(backbone)
            try:
                self.parts[name] = part.task.model(part.section, self.seats[name], meta["parts"][name]["meta"])
            except BackboneError as error:
                raise BackboneError(f"{name}: {error}") from None
        self.head_rates = {f"parts.{name}": rate for name, rate in cfg.rates.items()}
        self.balanced = {name: cfg.weight(name) for name in cfg.tasks} if cfg.weighting == "balance" else None
        self.given: dict[str, dict[str, Any]] = {}
        self.everything: list[Tensor] = []  # the features of the pass that is under way
        self.log_variances = None
        if cfg.weighting == "uncertainty":
            self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in cfg.tasks})

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        pixels = joint(batch)
        self.prepare(batch, pixels)
        outputs: dict[str, Any] = {"parts": {}}
        try:
            for name, part in self.parts.items():
                if name in batch["parts"]:
                    outputs["parts"][name] = part(self.given[name])
                    if self.seats[name].changed:
                        raise TrainingError(
                            f"{name}: its model changes the backbone's features in place, which others read"
                        )
        finally:
            self.let_go()
        absent = [name for name in self.parts if name not in batch["parts"]]
        if self.training and torch.is_grad_enabled() and absent:
            own = [module[name] for module in (self.parts, self.log_variances) if module is not None for name in absent]
            outputs["zero"] = zero(*self.everything, *own).to(self.backbone.mean.device)
        if self.log_variances is not None:
            outputs["log_variances"] = dict(self.log_variances.items())
        self.everything = []
        return outputs

    def prepare(self, batch: Mapping[str, Any], pixels: Any) -> None:
        """One pass over the pixels for all that the parts will ask of it; each part's batch in `given`."""
        present = list(batch["parts"])
        self.given = {name: part_batch(batch, name, pixels) for name in present}
        reading = [name for name in present if batch["parts"][name]["rows"] is not None and self.seats[name].asked]
        # the same for every batch, whatever labels it has: features may be cached, and what nobody reads here gets a
        # gradient of 0
        asks = [seat.asked for seat in self.seats.values()]
        if self.training:
            asks += [seat.others for name, seat in self.seats.items() if name not in batch["parts"]]
        ask = together(asks)
        self.everything = []
        if not ask or not isinstance(pixels, Tensor):
            for name in present:  # nobody has asked yet: each is heard, and learned from
                if batch["parts"][name]["rows"] is not None:
                    self.seats[name].hold(self.given[name]["image"], {}, None, {})
            return
        levels, layers = sorted(ask.maps), sorted(ask.layers)
        features = self.backbone(pixels, levels, ask.pooled, layers)
        self.everything = [
            *features.maps,
            *([] if features.pooled is None else [features.pooled]),
            *features.layers.values(),
        ]
        if any(len(one) != len(pixels) for one in self.everything):
            raise TrainingError(
                "features are kept of one view of a photo, and the parts are now shown others: set features.cache=off"
            )
        streams = dict.fromkeys(reading, self.everything)
        if self.balanced is not None and self.training and torch.is_grad_enabled() and len(reading) > 1:
            copies = Fork.apply([self.balanced[name] for name in reading], *self.everything)
            size = len(self.everything)
            streams = {name: list(copies[i * size : (i + 1) * size]) for i, name in enumerate(reading)}
        for name in present:
            rows = batch["parts"][name]["rows"]
            if rows is None:
                continue
            whole = all_of(rows, len(pixels))
            stream = [one if whole else one[rows] for one in streams.get(name, self.everything)]
            maps = dict(zip(levels, stream, strict=False))
            pooled = stream[len(levels)] if ask.pooled else None
            named = dict(zip(layers, stream[len(levels) + ask.pooled :], strict=True))
            self.seats[name].hold(self.given[name]["image"], maps, pooled, named)

    def let_go(self) -> None:
        for seat in self.seats.values():
            seat.let_go()
        self.given = {}

    def look_ahead(self, cfg: MultiConfig, meta: Mapping[str, Any]) -> None:
        """Learn what each part asks of the backbone, from an empty picture in evaluation, so that the first batch is
        one pass already. What a part cannot do with such a picture is learned at its first batch."""
        spec = self.backbone.spec
        photo = Image.new("RGB", (spec.size[1], spec.size[0]), (127, 127, 127))
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with seeded(0), torch.no_grad():
                for name, part in cfg.tasks.items():
                    self.ask_once(name, part, meta["parts"][name]["meta"], photo)
        finally:
            for module, training in modes.items():
                module.training = training
            self.let_go()

    def ask_once(self, name: str, part: Any, meta: Mapping[str, Any], photo: Image.Image) -> None:
        try:
            sample = part.task.sample(part.section, self.backbone.spec, meta)(photo)
            batch = part.task.collate(part.section, [sample, sample], None, meta)
            batch |= {"id": torch.arange(2), "step": 0, "progress": 0.0}
            self.seats[name].hold(batch["image"], {}, None, {})
            self.parts[name](batch)
            self.seats[name].clones = self.seats[name].changed
        except Exception:  # a stranger's model, before any photo was seen: the first batch tells what is wrong
            return
