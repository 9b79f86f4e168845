"""Which weights of a run are the best: the score that picks them, the evaluations, and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from visiontl.config.resolve import ranked
from visiontl.engine.ledger import Ledger
from visiontl.engine.prepare import Run
from visiontl.engine.reporting import Photos, trivial_answer
from visiontl.engine.rows import gather_rows, scalars, score_rows
from visiontl.engine.saving import Progress
from visiontl.errors import TrainingError, closest
from visiontl.processes import ranks
from visiontl.report.formats import cell
from visiontl.report.run import Trivial
from visiontl.runs.previews import save_previews
from visiontl.task import SampleDataset


def picking(run: Run, progress: Progress) -> tuple[str, str]:
    """(score, "max" or "min") that picks the best weights: train.best, or the task's default; where the config names
    none, a run that began by another default keeps to it."""
    known = ranked(run.resolved.task, run.resolved.cfg)
    wanted = run.resolved.config.train.best
    if wanted is None and progress.best is not None and progress.best["score"] in known:
        wanted = progress.best["score"]
    key = wanted or next(iter(known))
    return key, known[key]


def judge(run: Run, ledger: Ledger) -> None:
    """The evaluation that belongs to the newest update; keeps the best weights."""
    progress = ledger.progress
    before, last = progress.best, progress.step == run.total
    improved = evaluate_val(run, ledger)
    if progress.step == 0:
        others = {name: score_rows(run.built, split_rows(run, name)) for name in judged(run) if name != "val"}
        progress.start = ({"val": ledger.scores} if ledger.scores else {}) | others
    progress.due = False
    if improved and not ledger.save_best(last):
        progress.best, progress.due = before, last  # at the end it is made again when the run goes on


def evaluate_val(run: Run, ledger: Ledger) -> bool:
    """Score the val split; True when it is the best so far. The newest weights are the best without a val split, and
    where it has nothing to measure the score on (None)."""
    task, progress = run.resolved.task, ledger.progress
    key, direction = picking(run, progress)
    at = progress.step / run.steps_per_epoch
    here = {"score": key, "step": progress.step, "epoch": round(at, 4)}
    if run.data.val is None:
        progress.best = {**here, "value": None}
        return True
    rows = split_rows(run, "val")
    scores = ledger.scores = score_rows(run.built, rows)
    values = scalars(scores)
    measured = scores.get(key, 0) is not None
    # one that is missing alone may come later, as a precision does; none at all is the task's own mistake
    if measured and not values.keys() & ranked(task, run.resolved.cfg).keys():
        raise TrainingError(absent(run, key, values))
    if task.preview is not None:
        ranks.on_main(lambda: keep_previews(run, progress.step, rows))
    ledger.write("val", values)
    run.console.say(f"epoch {at:.4g}  val  " + "  ".join(f"{name} {number:.4f}" for name, number in values.items()))
    if not measured and (progress.best is None or progress.best["value"] is None):
        if progress.best is None:
            run.console.warn(
                f"val has nothing to measure {key} on: no score picks the best weights, the last ones are kept"
            )
        progress.best = {**here, "value": None}
        return True
    value = values.get(key, float("nan"))
    better = exceeds(value, progress.best["value"] if progress.best else None, direction)
    if better:
        progress.best = {**here, "value": value}
        progress.without_gain = 0
    else:
        progress.without_gain += 1
        if not math.isfinite(value):
            none = f"val {key} is not a finite number at step {progress.step}"
            run.console.warn(none if key in values else absent(run, key, values))
    return better


def exceeds(value: float, before: float | None, direction: str) -> bool:
    """Whether a score is better than the one before; a NaN or an infinity never is, and a first one is."""
    return math.isfinite(value) and (before is None or (value > before if direction == "max" else value < before))


def keep_previews(run: Run, step: int, rows: Sequence[Any]) -> None:
    """The pictures of this evaluation. A preview that fails is said, and training goes on without it."""
    task, split = run.resolved.task, run.data.val
    assert task.preview is not None
    assert split is not None
    try:
        shown = task.preview(run.resolved.cfg, rows, run.built.meta, Photos(split))
    except Exception as error:  # the task's own code; pictures must not end a run
        run.console.warn(f"there is no preview of step {step}: {type(error).__name__}: {error}")
        return
    save_previews(run.folder, step, shown, run.console)


def absent(run: Run, key: str, values: Mapping[str, float]) -> str:
    """Why a score cannot pick: `score` did not give it as a plain number."""
    known = [name for name in ranked(run.resolved.task, run.resolved.cfg) if name in values]
    near = closest(key, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    hint += f"; name one that it has: train.best={known[0]} (there are {', '.join(known)})" if known else ""
    return (
        f"task {run.resolved.task.name!r}: best is {key!r}, the score that picks the weights, but score gave val "
        f"{', '.join(values) or 'no plain number'}{hint}"
    )


def judged(run: Run) -> dict[str, SampleDataset]:
    """The splits that were not trained on."""
    return {name: split for name, split in run.data.splits().items() if name != "train"}


def split_rows(run: Run, name: str) -> list[Any]:
    """Rows of a split through the weights that count: the average, where there is one."""
    split, cache = run.data.splits()[name], run.caches.get(name)
    return gather_rows(run.accelerator, run.kept, split, run.console, name, cache)


def patience_is_over(run: Run, ledger: Ledger) -> bool:
    early = run.resolved.config.train.early_stop
    return early is not None and ledger.progress.without_gain >= early


# ----------------------------------------------------------------------------------------------------- what it is worth


def say_worth(run: Run, ledger: Ledger, rows: Sequence[Any] | None) -> Trivial | None:
    """Warn where training brought nothing: the best weights are those of the start, or val never beat the answer that
    needs no training. rows: of val; None where there is no val split. Returns what that answer is worth on val."""
    lines, trivial = ranks.on_main(lambda: worth(run, ledger.progress, rows))
    for line in lines:
        run.console.warn(line)
    return trivial


def worth(run: Run, progress: Progress, rows: Sequence[Any] | None) -> tuple[list[str], Trivial | None]:
    """Sentences on the best weights, none where training was worth it; and what the trivial answer is worth on val,
    where that is known."""
    best, found = progress.best, list[str]()
    key, direction = picking(run, progress)
    if best is None and rows is not None:
        found.append(f"no evaluation gave val {key}, so no score picked the weights: model/ holds the last ones")
    if best is None or best["value"] is None:
        return found, None
    value = best["value"]
    if best["step"] == 0 and progress.step > 0:
        found.append(
            f"the best weights are those of the start: no evaluation while training beat val {key} {cell(value)}, "
            "which the model had before the first update; model/ holds the untrained start"
        )
    try:
        trivial = None if rows is None else trivial_answer(run.built, rows, key)
    except Exception as error:  # the task's own code; what it adds is worth less than the run that stands
        return [*found, f"what a trivial answer scores on val is not known: {type(error).__name__}: {error}"], None
    if trivial is not None and not exceeds(value, trivial.value, direction):
        found.append(
            f"val {key} never beat the trivial answer: {trivial.answer} scores {cell(trivial.value)} there, the best "
            f"weights {cell(value)}; the model has learned nothing that this score can see"
        )
    return found, trivial
