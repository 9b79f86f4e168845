"""Whether the features of a frozen backbone are cached, measured on one batch; and the caches of a run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from visiontl.backbone import Features
from visiontl.engine import feature_cache, loader
from visiontl.engine.device import Placement, to_device
from visiontl.engine.feature_cache import FeatureCache
from visiontl.engine.features import features_of
from visiontl.engine.filling import first_reason
from visiontl.engine.model import Built
from visiontl.engine.order import evaluation_keys
from visiontl.engine.rows import in_fp32
from visiontl.engine.wanted import Ask, Source, Wanted
from visiontl.freezing.probe import Probe, probe, watched
from visiontl.kit.words import plural
from visiontl.processes import ranks
from visiontl.processes.seeds import seeded
from visiontl.report.console import Console
from visiontl.task import Data


@dataclass(frozen=True)
class Probed:
    """One training batch, and what the model and its loss did with it. ids, samples: of the batch, in its order."""

    probe: Probe
    ids: tuple[int, ...]
    batch: Mapping[str, Any]
    samples: list[dict[str, Any]]


def probe_batch(accelerator: Accelerator, built: Built, found: Data, ids: tuple[int, ...]) -> Probed:
    """Measure on one training batch what the loss reads."""
    task, cfg, meta, seed = built.resolved.task, built.resolved.cfg, built.meta, built.resolved.config.train.seed
    assert found.train is not None
    source = loader.Batches(found.train, task.collate, cfg, meta, seed, training=True)
    batch = to_device(answered(source[ids, 0, 0]), accelerator.device)

    def losses() -> dict[str, Tensor]:
        with seeded(seed):
            with accelerator.autocast():
                outputs = built.model(batch)
            return task.loss(cfg, in_fp32(outputs), batch, meta)

    return Probed(probe(built.model, built.backbone, losses), ids, batch, source.samples(ids, 0))


def answered(batch: dict[str, Any] | loader.Failure) -> dict[str, Any]:
    """A batch, or the error that making it ended in."""
    if isinstance(batch, loader.Failure):
        raise batch.error
    return batch


def make_caches(
    placement: Placement, built: Built, found: Data, probed: Probed, console: Console
) -> dict[str, FeatureCache]:
    """Features of train and val of a backbone that is frozen for the whole run, where that is exact; else it is said
    why not."""
    config, section, train = built.resolved.config, built.resolved.config.train, found.train
    views = config.features.views
    asked_for = config.features.cache != "auto"  # then it is missed
    assert train is not None

    def tell(why: str) -> None:
        text = f"features of the frozen backbone are not cached: {why}"
        if asked_for:
            console.warn(f"{text} (features.cache: {config.features.cache})")
        else:
            console.say(text, keep=True)

    def unfit() -> str:
        again = feature_cache.other_looks(train, probed.ids, section.seed)
        reason = feature_cache.why_not(probed.probe, probed.batch, probed.samples, again, views)
        return reason or reads_images(placement.accelerator, built, probed.batch, probed.probe, training=True)

    reason = first_reason(ranks.agree(unfit))
    if reason:
        tell(reason)
        return {}
    reason = first_reason(ranks.agree(lambda: asks_otherwise(placement.accelerator, built, found, probed.probe)))
    if reason:
        console.say(f"features of val are not cached: {reason}", keep=True)
    ask = Ask(*probed.probe.calls[0][1:])
    size = min(section.batch_size, len(probed.ids))
    wanted = [Wanted("train", train, ask, size, views or 1, drawn=views is not None)]
    if found.val is not None and not reason:
        wanted.append(Wanted("val", found.val, ask, built.batch_size, chunks=True))
    caches: dict[str, FeatureCache] = {}
    source = Source(built.resolved, built.backbone, placement, console)
    for one in wanted:
        cache = features_of(source, one)
        if isinstance(cache, str):
            tell(cache)
            return {}
        caches[one.name] = cache
    views = views or 1
    console.say(f"features of the frozen backbone are cached ({views} {plural(views, 'view')} per image)", keep=True)
    return caches


def asks_otherwise(accelerator: Accelerator, built: Built, found: Data, measured: Probe) -> str:
    """Why features asked for in training would not serve evaluation, or an empty string."""
    if found.val is None:
        return ""
    cfg, meta, config = built.resolved.cfg, built.meta, built.resolved.config.train
    source = loader.Batches(found.val, built.resolved.task.collate, cfg, meta, config.seed, training=False)
    batch = answered(source[evaluation_keys(len(found.val), min(2, config.batch_size))[0]])
    batch = to_device(batch, accelerator.device)
    built.model.eval()
    with torch.no_grad(), accelerator.autocast(), watched(built.backbone) as calls:
        built.model(batch)
    alike = len(calls) == 1 and calls[0][1:] == measured.calls[0][1:]
    samples = source.samples(batch["id"].tolist(), 0)
    if not alike or feature_cache.why_not(Probe(set(), calls), batch, samples, [], 1):
        return "the model asks its backbone otherwise in evaluation than in training"
    return reads_images(accelerator, built, batch, measured, training=False)


def spread(few: Features, count: int) -> Features:
    """Features of so many images out of those of a few, no two alike: a pass over them all would take as long as an
    update of the whole network."""
    rows = torch.arange(count)

    def wide(part: Tensor) -> Tensor:
        scale = (1 + rows / count).to(part)  # (count,)
        return part[rows % len(part)] * scale.view(-1, *[1] * (part.ndim - 1))

    pooled = None if few.pooled is None else wide(few.pooled)
    return Features([wide(level) for level in few.maps], pooled, {name: wide(one) for name, one in few.layers.items()})


def reads_images(
    accelerator: Accelerator, built: Built, batch: Mapping[str, Any], measured: Probe, training: bool
) -> str:
    """Why black pictures in place of the batch's, which stand beside cached features, would not be the same to the loss
    (training) or to the rows; or an empty string. Tried on one batch; the model stays as it was."""
    task, cfg, meta, model = built.resolved.task, built.resolved.cfg, built.meta, built.model
    kept, mode = {name: buffer.clone() for name, buffer in model.named_buffers()}, model.training
    black = torch.zeros_like(batch["image"])
    found: list[bytes] = []
    try:
        with torch.no_grad(), accelerator.autocast():
            few = built.backbone.eval()(batch["image"][:2], *measured.calls[0][1:])
            features = spread(few, len(black))
            for images in (batch["image"], black):
                given = {**batch, "image": images}
                with seeded(built.resolved.config.train.seed), built.backbone.replay(features):
                    outputs = in_fp32(model.train(training)(given))
                    if training:
                        losses = task.loss(cfg, outputs, given, meta)
                        found.append(pickle.dumps({name: float(value) for name, value in losses.items()}))
                    else:
                        found.append(pickle.dumps(task.rows(cfg, outputs, given, meta)))
    except Exception:  # a task's own code that had never to do with a black picture
        if len(found) != 1:
            raise
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
        model.train(mode)
    own = "the model or its loss reads the images beside the backbone's features"
    return "" if len(found) == 2 and found[0] == found[1] else own if training else "rows are made of the images too"
