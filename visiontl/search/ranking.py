"""Backbones in the order of what can be read out of their features, and the best few settled by short real runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visiontl.backbone import Backbone
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.device import Placement, current_device, place
from visiontl.engine.features import features_of
from visiontl.engine.given import through_json
from visiontl.engine.parts import Part
from visiontl.engine.start import pretrained_backbone, read_data
from visiontl.engine.wanted import Source, Wanted
from visiontl.errors import ConfigError, VisionTLError, first_line
from visiontl.report import noise
from visiontl.report.console import Console, Manner, speaking
from visiontl.search.candidates import Candidate
from visiontl.search.features import Gathered, Reader, batches_of, some_of, still_train, table_of
from visiontl.search.probing import kendall, logme_of, neighbor_score, probe_scores, score_names
from visiontl.search.sweep import release_memory
from visiontl.task import Data

TRIED = 8  # images that the time of one is measured on
SHARE = 0.6  # of the budget that goes into features
LEAST = 50  # images, however small the budget
MOST = 2000  # images, however large


@dataclass
class Ranked:
    """One backbone's numbers. folds: score of the probe on each; neighbors, logme: beside it; parameters: single
    numbers; megabytes: of the weights and of the outputs of all layers for one image, as training keeps them; ms: of a
    forward pass, an image; failure: why there are none. right: (images,) what the probe got right of each."""

    candidate: Candidate
    folds: list[float] = field(default_factory=list[float])
    neighbors: float = float("nan")
    logme: float = float("nan")
    parameters: int = 0
    megabytes: tuple[float, float] = (0.0, 0.0)
    ms: float = float("nan")
    pixels: tuple[int, int] = (0, 0)
    failure: str = ""
    right: np.ndarray = field(default_factory=lambda: np.empty(0))
    verdict: str = ""
    said: str = ""

    @property
    def mean(self) -> float:
        return float(np.mean(self.folds)) if self.folds else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation over the folds, with n - 1."""
        return float(np.std(self.folds, ddof=1)) if len(self.folds) > 1 else float("nan")


@dataclass
class Ranking:
    """rows: the best first, failures last. score: what the probe is scored by; kind: image, box or pixel; agreement:
    Kendall's tau of the probe's order with that of the neighbors and of LogME."""

    rows: list[Ranked]
    score: str
    kind: str
    images: int
    labels: int
    agreement: Mapping[str, float]
    notes: list[str] = field(default_factory=list[str])

    @property
    def sound(self) -> list[Ranked]:
        return [row for row in self.rows if not row.failure]

    @property
    def close(self) -> list[Ranked]:
        """The best, and those that lie within its noise."""
        return [row for row in self.sound if row.verdict in ("the best", "within noise")]


@dataclass(frozen=True)
class Opened:
    """One backbone on its device, with the data as it wants its images."""

    resolved: Resolved
    backbone: Backbone
    data: Data
    placement: Placement
    reader: Reader


def opened(resolved: Resolved, candidate: Candidate) -> Opened:
    """The backbone with its weights; whoever asked for it lets go of it, so that the next one finds the same room."""
    changes: dict[str, Any] = {"backbone.name": candidate.name, "backbone.weights": candidate.weights, "init": None}
    if not candidate.own:
        changes["backbone.preprocessing"] = {}
    if candidate.random:  # what random features differ in from photo to photo is below bf16's rounding
        changes["train.precision"] = "fp32"
    changed = resolve(resolved, [changes])
    with speaking(Manner(quiet=True)):
        console = Console(main=False)
        torch.manual_seed(changed.config.train.seed)
        backbone, _ = pretrained_backbone(changed, console)
        found = read_data(changed, backbone.spec, None)
        placement = place(changed.config.train, backbone, backbone, console)
    reader = Reader(changed, backbone, through_json(found.meta), placement)
    return Opened(changed, backbone, found, placement, reader)


def rank(resolved: Resolved, candidates: Sequence[Candidate], seconds: float, most: int, console: Console) -> Ranking:
    """Measure every candidate on the same images. seconds: of the whole budget; most: images. Raises what a run raises
    whose data cannot be read, where no candidate could be measured at all."""
    rows = [Ranked(one) for one in candidates]
    for row in rows:
        attempt(row, lambda row: cost(resolved, row))
    sound = [row for row in rows if not row.failure]
    if not sound:
        raise ConfigError([f"{row.candidate.title}: {row.failure}" for row in rows], "no backbone can be ranked")
    each = sum(row.ms for row in sound) / 1000
    images = min(most, max(LEAST, int(SHARE * seconds / max(each, 1e-6))))
    facts: dict[str, Any] = {}
    for i, row in enumerate(sound, start=1):
        what = f"{i} of {len(sound)}, {row.candidate.title}"
        attempt(row, lambda row, what=what: facts.update(probe(resolved, row, images, what, console)))
        came = row.failure or f"{facts['score']} {row.mean:.4f} ± {row.spread:.4f}"
        console.say(f"{what}: {came}")
    sound = sorted((row for row in sound if not row.failure), key=lambda row: -row.mean)
    if not sound:
        raise ConfigError([f"{row.candidate.title}: {row.failure}" for row in rows], "no backbone can be ranked")
    judge(sound)
    means = [row.mean for row in sound]
    agreement = {
        "nearest neighbors": kendall(means, [row.neighbors for row in sound]),
        "LogME": kendall(means, [row.logme for row in sound]),
    }
    failed = [row for row in rows if row.failure]
    found = Ranking([*sound, *failed], facts["score"], facts["kind"], facts["images"], facts["labels"], agreement)
    if facts["images"] < facts["whole"]:
        found.notes.append(f"{facts['images']:,} of {facts['whole']:,} training images were read, the same for all")
    return found


def attempt(row: Ranked, step: Any) -> None:
    """A step on one backbone; what fails is its failure, in words, and the others go on."""
    try:
        step(row)
    except VisionTLError as error:
        row.failure = first_line(error)
    except (RuntimeError, ValueError, MemoryError, OSError, ImportError) as error:  # of a library or of a plugin
        row.failure = f"{type(error).__name__}: {first_line(error)}"
    finally:
        release_memory()


def cost(resolved: Resolved, row: Ranked) -> None:
    """Size, memory and time, measured on a few of the images."""
    one = opened(resolved, row.candidate)
    split = some_of(still_train(one.data), TRIED)
    samples = [split[id, 0] for id in range(len(split))]
    row.parameters = sum(parameter.numel() for parameter in one.backbone.parameters())
    height, width = samples[0]["image"].shape[-2:]
    row.pixels = (height, width)
    one.reader.read([0], samples[:1], Gathered())
    row.megabytes = (4 * row.parameters / 1e6, kept_megabytes(one.reader, samples[0]))
    one.reader.read(range(len(samples)), samples, Gathered())
    began = time.perf_counter()
    one.reader.read(range(len(samples)), samples, Gathered())
    if current_device().type == "cuda":
        torch.cuda.synchronize()
    row.ms = 1000 * (time.perf_counter() - began) / len(samples)


def kept_megabytes(reader: Reader, sample: Mapping[str, Any]) -> float:
    """Of the outputs of all layers for one image, in fp32: about what training the whole backbone keeps."""
    numbers: list[int] = []

    def count(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            numbers.append(output.numel())

    leaves = [module for module in reader.backbone.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in leaves]
    try:
        reader.forward([sample["image"]], maps=reader.levels)
    finally:
        for hook in hooks:
            hook.remove()
    return 4 * sum(numbers) / 1e6


def probe(resolved: Resolved, row: Ranked, images: int, what: str, console: Console) -> dict[str, Any]:
    """The three measures of one backbone; facts on the data, which are the same for all."""
    one = opened(resolved, row.candidate)
    whole = still_train(one.data)
    split = some_of(whole, images)
    gathered = gather(one, split, what, console)
    precision = one.placement.precision
    del one
    table = table_of(gathered, split, precision, len(whole) - len(split))
    row.folds, right = probe_scores(table)
    row.right = right.double().numpy()
    row.neighbors, row.logme = neighbor_score(table), logme_of(table)
    facts = {"score": score_names(table), "kind": gathered.kind, "images": len(split), "whole": len(whole)}
    return {**facts, "labels": len(table.x)}


def gather(one: Opened, split: Part, what: str, console: Console) -> Gathered:
    """Features and labels of a split, from the store of features where they may be kept: images of several sizes are
    computed each time."""
    gathered, section = Gathered(), one.resolved.config
    size = section.train.eval_batch_size or section.train.batch_size
    kind = one.reader.kind(one.reader.labels(split[0, 0]))
    if section.features.cache != "off":
        with speaking(Manner(quiet=True, stream=sys.stderr)):
            source = Source(one.resolved, one.backbone, one.placement, Console())
        found = features_of(source, Wanted(f"train for {what}", split, one.reader.ask(kind), size, chunks=True))
        if not isinstance(found, str):
            one.reader.take(found, kind, gathered)
            return gathered
    with console.progress(total=len(split), unit="image", what=f"features of {what}") as bar:
        for ids, samples in batches_of(one.resolved, split, console, size):
            one.reader.read(ids, samples, gathered)
            bar.update(ids[-1] + 1, images=len(ids))
    return gathered


def judge(rows: Sequence[Ranked]) -> None:
    """Each against the best, image by image; p raised by Holm's rule."""
    best = rows[0]
    best.verdict = best.said = "the best"
    raised = noise.holm([differ(row.right, best.right) for row in rows[1:]])
    for row, p in zip(rows[1:], raised, strict=True):
        row.verdict = "within noise" if p >= noise.LEVEL else "worse"
        told = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
        row.said = f"within noise ({told})" if p >= noise.LEVEL else f"worse ({told})"


def differ(one: np.ndarray, other: np.ndarray) -> float:
    """p that chance alone makes two backbones differ so on these images."""
    both = ~(np.isnan(one) | np.isnan(other))
    return noise.paired(one[both], other[both]).p
