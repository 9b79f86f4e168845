"""One model from the weights of several runs: soups, and the straight path between two.

Wortsman et al. 2022 (Model soups, ICML): weights fine-tuned from one start may be averaged, uniformly or greedily.
Wortsman et al. 2022 (Robust fine-tuning of zero-shot models, CVPR): the weights on the way from a start to its
fine-tuned end, (1 - a) start + a end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn.modules.batchnorm import _BatchNorm

from visiontl.config.merging import MergeOptions
from visiontl.engine.alike import require_alike, require_number, require_unseen, whole_run
from visiontl.engine.averages import Weights, average, between, statistics_that_differ, weights_of
from visiontl.engine.best import exceeds
from visiontl.engine.device import current_device, place
from visiontl.engine.evaluate import measure
from visiontl.engine.model import export
from visiontl.engine.order import evaluation_keys
from visiontl.engine.predictions import out_folder
from visiontl.engine.reporting import ranked_score
from visiontl.engine.results import Result
from visiontl.engine.rows import gather_rows, scalars, score_rows, still_batches
from visiontl.engine.subjects import Subject, subject_of_run
from visiontl.engine.wrapping import load_model_state, model_state
from visiontl.errors import DataError
from visiontl.kit.words import count
from visiontl.processes import liveness, ranks
from visiontl.report.console import Console
from visiontl.report.formats import cell, titled
from visiontl.report.items import Figure, Table
from visiontl.runs.comparing import short_names
from visiontl.runs.origin import Asked, as_started


@dataclass(frozen=True)
class Tried:
    """A model that was measured. value: its ranked score on val; NaN where there is none."""

    name: str
    value: float
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Merged:
    """What came of it. weights, best: of the model that is kept, and how it was measured. items: for the report."""

    weights: Weights
    best: Tried
    items: Sequence[Figure | Table]


@dataclass(frozen=True)
class Bench:
    """Measures weights on val in one model, which is built once. better: "max" or "min" of the score. names: how runs
    are called, so that each is told from the others."""

    subject: Subject
    accelerator: Accelerator
    score: str
    better: str
    console: Console
    names: Mapping[Path, str]

    def measure(self, name: str, weights: Weights, differing: Sequence[str]) -> Tried:
        """differing: names of normalization statistics that the runs do not share; they are computed anew."""
        built, val = self.subject.built, self.subject.data.val
        assert val is not None
        load_model_state(built.model, weights)
        if differing:
            self._compute_statistics(differing)
        scores = score_rows(built, gather_rows(self.accelerator, built, val, self.console, name))
        value = scalars(scores).get(self.score, math.nan)
        self.console.say(f"val {self.score} {cell(value)}  {name}")
        return Tried(name, value, scores)

    def _compute_statistics(self, differing: Sequence[str]) -> None:
        """The mean and variance that batch norm layers see over all training images: those of Data.still, where the
        task gives it, else as training shows them. An average of weights has other activations than its parts, so an
        average of their statistics would be wrong (Izmailov et al. 2018, SWA, sec. 3.2)."""
        built, data = self.subject.built, self.subject.data
        split = data.still or data.train
        assert split is not None
        layers = [
            module
            for place, module in built.model.named_modules()
            if isinstance(module, _BatchNorm) and any(name.rpartition(".")[0] == place for name in differing)
        ]
        built.model.eval()
        kept = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over batches
            layer.train()
        keys = evaluation_keys(len(split), built.batch_size, 0, 1)  # each process all of them: the same bits
        with torch.no_grad():
            for _, batch in still_batches(self.accelerator, built, split, keys, self.console, None):
                with self.accelerator.autocast():
                    built.model(batch)
        for layer, momentum in zip(layers, kept, strict=True):
            layer.momentum = momentum
            layer.eval()


def merge(runs: Sequence[str | Path], out: str | Path, options: MergeOptions | None = None) -> Result:
    """A new model from the weights of 2 or more runs of one task on one data set, measured and written to `out`: the
    model (out/model), a report, and a line for each image of val and test.

    Candidates are measured on val of the first run's data; test has no part in it. Raises CheckpointError for runs
    whose weights are not of one kind, DataError for data without a val split and where one run trained on another's
    val images.
    """
    options = options or MergeOptions()
    began, paths = datetime.now(), [whole_run(run) for run in runs]
    require_number(paths, options)
    current_device()  # starts the process group
    console = Console(main=ranks.rank() == 0)
    with liveness.watched(), as_started(Asked(paths[0]), console) as asked:
        subject = subject_of_run(asked, console)
        ranks.on_main(lambda: require_alike(paths))
        if subject.data.val is None:
            raise DataError(f"{paths[0]}: its data has no val split, by which merged weights could be judged")
        names = subject.data.val.names
        ranks.on_main(lambda: require_unseen(paths, names, console))
        folder = ranks.on_main(lambda: out_folder(Path(out)).absolute())  # none is left where runs were refused
        config = subject.built.resolved.config
        quiet = Console(main=False)  # where it runs is said once, when the result is measured
        placement = place(config.train, subject.built.model, subject.built.backbone, quiet)
        ranked = ranked_score(subject.built)
        bench = Bench(
            subject,
            placement.accelerator,
            ranked.score,
            ranked.better,
            console,
            dict(zip(paths, short_names(paths), strict=True)),
        )
        merged = path(bench, paths, options.points) if options.how == "path" else soup(bench, paths, options.how)
        load_model_state(subject.built.model, merged.weights)
        built = replace(subject.built, scores=merged.best.scores)
        ranks.on_main(lambda: export(folder / "model", built, merged.weights, merged.best.scores))
        return measure(replace(subject, built=built), None, console, began, folder, merged.items)


def soup(bench: Bench, runs: Sequence[Path], how: str) -> Merged:
    """The mean of all (uniform), or of those of which each made it better on val, tried from the best down (greedy)."""
    differing = statistics_that_differ(runs)
    alone = [bench.measure(bench.names[run], weights_of(run), ()) for run in runs]
    order = sorted(range(len(runs)), key=lambda i: _rank(alone[i].value, bench.better))
    rows = [[one.name, cell(one.value), ""] for one in alone]
    if how == "uniform":
        best = bench.measure(f"mean of all {len(runs)}", average(weights_of(run) for run in runs), differing)
        kept, weights = list(order), _now(bench)
    else:
        kept, best, weights = [order[0]], alone[order[0]], weights_of(runs[order[0]])
        for i in order[1:]:
            tried = bench.measure(
                f"with {bench.names[runs[i]]}", average(weights_of(runs[j]) for j in [*kept, i]), differing
            )
            if tried.value == best.value or exceeds(tried.value, best.value, bench.better):
                kept, best, weights = [*kept, i], tried, _now(bench)
    for i, row in enumerate(rows):
        row[2] = "in the mean" if i in kept else "left out"
    first = alone[order[0]]
    words = f"{how} soup of {len(kept)} of {count(len(runs), 'run')}"
    rows.append([words, cell(best.value), ""])
    bench.console.say(
        f"{words}: val {bench.score} {cell(best.value)}, the best run alone {cell(first.value)}", keep=True
    )
    if len(kept) == 1:
        bench.console.warn(f"no mean was better on val than {first.name} alone: model/ holds its weights, unchanged")
    elif exceeds(first.value, best.value, bench.better):
        bench.console.warn(
            f"the mean is worse on val than {first.name} alone; weights can be averaged where runs began from the same "
            "pretrained weights and moved little: try how=greedy, or runs with a lower learning rate"
        )
    return Merged(weights, best, [Table("Merged", ["run", f"val {titled(bench.score)}", ""], rows)])


def path(bench: Bench, runs: Sequence[Path], points: int) -> Merged:
    """The best on val of (1 - a) first + a second, a = 0 ... 1 in equal steps, the ends included."""
    start, end = (weights_of(run) for run in runs)
    first, second = (bench.names[run] for run in runs)
    differing = statistics_that_differ(runs)
    shares, tried, best, weights = [i / (points - 1) for i in range(points)], list[Tried](), None, start
    for share in shares:
        inner = differing if 0 < share < 1 else ()
        one = bench.measure(f"share of {second}: {share:.3g}", between(start, end, share), inner)
        tried.append(one)
        if best is None or exceeds(one.value, best.value, bench.better):
            best, weights = one, _now(bench)
    assert best is not None
    at = shares[tried.index(best)]
    bench.console.say(
        f"best on val at a share of {at:.3g} of {second}: {bench.score} {cell(best.value)}; {first} alone "
        f"{cell(tried[0].value)}, {second} alone {cell(tried[-1].value)}",
        keep=True,
    )
    if at in (0.0, 1.0):
        bench.console.warn(
            f"nothing between was better on val: model/ holds the weights of {(first, second)[int(at)]}, unchanged"
        )
    values, name = [one.value for one in tried], titled(bench.score)

    def draw(ax: Any) -> None:
        ax.plot(shares, values, marker="o", markersize=3.5)
        ax.plot([at], [best.value], marker="o", markersize=9, fillstyle="none", linestyle="", label="kept")
        ax.set_xlabel(f"share of {second}")
        ax.set_ylabel(f"val {name}")
        ax.legend()

    caption = f"0 is {first}, 1 is {second}."
    rows = [[f"{share:.3g}", cell(one.value)] for share, one in zip(shares, tried, strict=True)]
    return Merged(
        weights,
        best,
        [
            Figure("Between the two", draw, caption),
            Table("Between the two, in numbers", ["share", f"val {name}"], rows),
        ],
    )


def _now(bench: Bench) -> Weights:
    """The weights that the model holds, statistics included, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model_state(bench.subject.built.model).items()}


def _rank(value: float, better: str) -> tuple[bool, float]:
    """The best first, NaN last."""
    return math.isnan(value), -value if better == "max" else value
