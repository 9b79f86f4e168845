"""The checks of the contract on several processes: many cases in one start.

    torchrun --standalone --nproc_per_node 2 -m visiontl.testing.ranks FOLDER [TASK ...] [--only CHECK ...]

For every task: each policy's phases (a fresh wrapper, equal gradients, frozen parts keep their bits), equal batch
norm statistics where they are evaluated and saved, the same bits with any number of workers, the same weights however
an update is shared out, and the scores that one process gives. Started with 1, 2 and 3 processes on the same FOLDER,
each start also compares its weights with those of the starts before. Prints a line per case and exits with 1 if one
fails; `n/a` is a case that says nothing about this task, and why.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from visiontl import plugins
from visiontl.config.resolve import Resolved
from visiontl.engine import loader, order
from visiontl.engine.device import current_device, to_device
from visiontl.engine.model import Built
from visiontl.engine.partial import LABELED
from visiontl.engine.prepare import Run, set_up
from visiontl.engine.rows import gather_rows, in_fp32, merge_rows, score_rows
from visiontl.engine.train import fit
from visiontl.kit.words import some
from visiontl.processes import ranks
from visiontl.report.console import Console
from visiontl.runs import store
from visiontl.task import Data, SampleDataset
from visiontl.testing.case import Case, same, state
from visiontl.testing.checks import POLICIES
from visiontl.testing.double import hold, in_double
from visiontl.testing.witness import Witness, differing, digests

LORA = "{lora: {rank: 2, dora: true}}"  # its parameters come with the policy, on each rank by themselves
OLD, KEEP = "old", "method.keep_old={weight: 10}"
EFFECTIVE = 12  # images per update: 1 x 12 = 2 x 6 = 3 x 4, each also in two micro-batches
IMAGES = 22  # 10 for the last update of an epoch; in batches of 2, three processes share them as 2, 2, 2, 2, 2 and none
WEIGHTS_APART = 1e-9  # |a - b| / |b| of each tensor, after 6 updates in float64
ROUNDING = 1e-12  # a tensor that moved by this share of the tensor that moved most has a gradient of rounding errors
LEAST_MOVED = 1e-3  # |end - start| / |start| of the tensor that moved most, in the whole run
SCORES_APART = 1e-6  # of rows that a model gave on another number of processes
SAME_ROWS_APART = 1e-12
SCORED = (1, 2, 3, 5, 13, 50)  # images whose merged rows are scored
# evaluated and saved at the end alone
QUIET = ("train.evaluate_every=100 epochs", "train.checkpoint_every=100 epochs", "train.evaluate_start=false")


class NotApplicable(Exception):
    """Why a check says nothing about this task. Raised on all ranks or on none."""


class Few(SampleDataset):
    """Some samples of a split, under new ids."""

    def __init__(self, split: SampleDataset, ids: Sequence[int]):
        self.split, self.ids = split, ids
        self.names = [split.names[id] for id in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        id, seed = key
        return self.split[self.ids[id], seed]

    def image(self, id: int) -> Any:
        return self.split.image(self.ids[id])


def few(resolved: Resolved, count: int) -> Resolved:
    """The same config with `count` training images from all over the split, repeated where it has fewer; a task that
    makes its own batches keeps all."""
    make = resolved.task.data

    def fewer(*arguments: Any, **named: Any) -> Data:
        found = make(*arguments, **named)
        if found.train is None or found.batches is not None:
            return found
        step = max(1, len(found.train) // count)
        return replace(found, train=Few(found.train, [i * step % len(found.train) for i in range(count)]))

    return replace(resolved, task=replace(resolved.task, data=fewer))


def small_run(case: Case, *overrides: str, images: int = 16) -> Run:
    return set_up(few(case.resolved(*overrides), images), console=Console(main=False))


def check_policy(case: Case, policy: str) -> list[str]:
    """What is wrong with a run through all phases of the policy; empty when nothing is."""
    refused = case.refusal(policy)
    if refused:
        raise NotApplicable(f"the task refuses this policy: {refused}")
    epochs = 6 if "gradual" in policy else 3  # the bundled backbone has five stages
    settings = (f"freeze.policy={policy}", f"train.epochs={epochs}", "train.batch_size=4")
    run = small_run(case, *settings, *QUIET)
    with Witness(run) as witness:
        fit(run)
    return [*witness.problems, *differing(digests(run.built.model.state_dict()), "weights at the end")]


def check_statistics(case: Case) -> list[str]:
    """Buffers, such as batch norm's statistics, are those of rank 0 in each forward pass of an evaluation and in
    what is saved, although every rank saw other images."""
    problems = []
    for ema in ("null", "{decay: 0.5}"):
        run = small_run(case, f"train.ema={ema}", "train.epochs=1", "train.batch_size=2", *QUIET)
        with Witness(run) as witness:
            fit(run)
        passes = list(itertools.chain.from_iterable(ranks.gather_objects(witness.evaluated)))
        if any(one != passes[0] for one in passes):
            names = {name for one in passes for name in one if one[name] != passes[0][name]}
            problems.append(f"ema {ema}: ranks evaluate with other buffers: {some(sorted(names))}")
        last = store.step_folders(run.folder / "checkpoints")[0]
        saved = {
            "the checkpoint": store.read_tensors(last, "ema.safetensors" if run.ema else "model.safetensors"),
            "model/": store.read_tensors(run.folder / "model", "model.safetensors"),
        }
        for what, tensors in saved.items():
            names = [name for name, value in passes[0].items() if name in tensors and digests(tensors)[name] != value]
            if names:
                problems.append(f"ema {ema}: {what} has other buffers than were evaluated: {some(names)}")
        problems += differing(digests(dict(run.built.model.named_buffers())), f"ema {ema}: buffers after saving")
    return problems


def check_workers(case: Case) -> list[str]:
    """The same bits with and without loader processes."""
    states = []
    for workers in (0, 2):
        run = small_run(case, f"loader.workers={workers}", "train.epochs=1", *QUIET)
        fit(run)
        states.append(state(run))
    moved = same(*states)
    return [f"two workers give other bits than none: {some(moved)}"] if moved else []


def check_weights(case: Case) -> list[str]:
    """However an update is shared out between micro-batches and processes, a run ends with the same weights up to
    rounding in float64: with a loss that is a mean over samples, norm statistics fixed, dropout off, and plain SGD."""
    world = ranks.world()
    if EFFECTIVE % (2 * world):
        raise NotApplicable(f"{world} processes do not divide {EFFECTIVE // 2}")
    problems = shared_out(case, "weights", (1, 2))
    if plugins.task(case.task).keep is not None:
        problems += [f"{KEEP}: {problem}" for problem in shared_out(keeping(case), "kept-weights", (1,))]
    return problems


def keeping(case: Case) -> Case:
    """The same from another run, whose answers it holds; the first start on a folder trains that."""
    if ranks.on_main(lambda: not (case.folder / "runs" / OLD).is_dir()):
        fit(small_run(case, f"run.name={OLD}", "train.epochs=1", "train.seed=5", *QUIET))
    settings = (*case.settings, f"init={case.folder / 'runs' / OLD}", KEEP)
    return replace(case, settings=settings)


def shared_out(case: Case, kind: str, parts: Sequence[int]) -> list[str]:
    """What is wrong with a run on these processes, its updates shared out in so many micro-batches, and against other
    numbers of processes. kind: in the names of the files by which starts on one folder are compared."""
    world = ranks.world()
    ways = [(EFFECTIVE // world // k, k) for k in parts]
    ends: list[dict[str, Tensor]] = []
    problems, noise = [], set()
    for batch_size, accumulate in ways:
        with in_double():
            start, end = weights_of(case, batch_size, accumulate)
        ends.append(end)
        moved = max(apart(end, start).values())
        steps = {name: float((tensor - start[name]).double().norm()) for name, tensor in end.items()}
        # such as a bias that the next normalization takes away again
        noise |= {name for name, step in steps.items() if 0 < step < ROUNDING * max(steps.values())}
        if moved < LEAST_MOVED:
            problems.append(f"the weights moved by {moved:.1e} in the whole run: too little to compare")
    kept = [{name: tensor for name, tensor in end.items() if name not in noise} for end in ends]
    for way, end in zip(ways[1:], kept[1:], strict=True):
        problems += too_far(end, kept[0], f"{way[1]} micro-batches of {way[0]} on each of {world} processes")
    file = case.folder / f"{kind}-of-{world}.safetensors"
    if ranks.rank() == 0:
        save_file(ends[0], file)
    for other in sorted(case.folder.glob(f"{kind}-of-*.safetensors")):
        if other != file:
            read = store.read_tensors(other.parent, other.name)
            end = {name: read[name] for name in kept[0]}
            problems += too_far(kept[0], end, f"{world} processes against {other.stem[len(kind) + 4 :]}")
    return problems


def weights_of(case: Case, batch_size: int, accumulate: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers, in float64, before and after a small run whose updates are shared out like this."""
    settings = (f"train.batch_size={batch_size}", f"train.accumulate={accumulate}", "train.epochs=3", *QUIET)
    plain = ("freeze.norm_stats=fixed", "optim.name=sgd", "optim.lr=0.05", "optim.schedule=constant")
    run = small_run(case, *settings, *plain, images=IMAGES)
    start = state(run)
    narrow = [name for name, tensor in start.items() if tensor.is_floating_point() and tensor.dtype != torch.float64]
    assert not narrow, f"not in float64: {some(narrow)}"
    hold(run.built.model)
    require_a_mean(run)
    fit(run)
    return start, state(run)


def require_a_mean(run: Run) -> None:
    """Raise NotApplicable unless the loss of some samples is the mean of the losses of its parts."""
    task, cfg, meta, split = run.resolved.task, run.resolved.cfg, run.built.meta, run.data.train
    if run.data.batches is not None:
        raise NotApplicable("the task makes its own batches")
    assert split is not None
    source = loader.Batches(split, task.collate, cfg, meta, run.resolved.config.train.seed, training=True)
    run.built.model.train()
    partial = False

    def loss(ids: range, seed: int = 0) -> float:
        nonlocal partial
        batch = source[tuple(ids), 0, 0]
        assert not isinstance(batch, loader.Failure), batch
        partial = LABELED in batch  # then the parts of a batch are no mean of it, but the whole update is
        batch = to_device(batch, run.accelerator.device)
        torch.manual_seed(seed)
        with torch.no_grad(), run.accelerator.autocast():
            return float(task.loss(cfg, in_fp32(run.built.model(batch)), batch, meta)["loss"])

    half, count = min(3, len(split) // 2), min(8, len(split))
    whole, parts = loss(range(count)), half * loss(range(half)) + (count - half) * loss(range(half, count))
    if any(ranks.gather_objects(loss(range(count), seed=1) != whole)):
        raise NotApplicable("the loss depends on what the model draws for a batch")
    if not partial and any(ranks.gather_objects(abs(whole - parts / count) > WEIGHTS_APART * abs(whole))):
        raise NotApplicable(f"the loss is no mean over samples: {whole:.6g} for {count}, {parts / count:.6g} in parts")


def apart(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, float]:
    """name -> |a - b| / |b|, Euclidean norms of each tensor; infinite where only b is zero."""
    found = {}
    for name, tensor in b.items():
        difference, size = (float(torch.linalg.vector_norm(x.double())) for x in (a[name].double() - tensor, tensor))
        found[name] = difference / size if size else (math.inf if difference else 0.0)
    return found


def too_far(a: Mapping[str, Tensor], b: Mapping[str, Tensor], what: str) -> list[str]:
    distances = apart(a, b)
    name = max(distances, key=distances.__getitem__)
    return [f"{what}: {name} is apart by {distances[name]:.1e}"] if distances[name] > WEIGHTS_APART else []


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this rank believes that it is the only one."""
    kept = {name: getattr(ranks, name) for name in ("world", "rank", "active")}
    ranks.world, ranks.rank, ranks.active = lambda: 1, lambda: 0, lambda: False
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(ranks, name, function)


def check_evaluation(case: Case) -> list[str]:
    """Rows gathered from all ranks against those that this rank computes alone; also where ranks have no batch."""
    run = small_run(case)
    split = run.data.val
    assert split is not None
    problems = []
    for count, batch_size in [*itertools.product((1, 2, 3, 5), (1, 2, 8)), (len(split), 2)]:
        part = Few(split, range(min(count, len(split))))
        arguments = (run.accelerator, in_batches_of(run.built, batch_size), part, run.console, "val")
        together = gather_rows(*arguments)
        with alone():
            rows = gather_rows(*arguments)
        if len(together) != len(part):
            problems.append(f"{len(part)} images in batches of {batch_size}: {len(together)} rows")
        if scores_of(run, rows) is not None:
            distance = numbers_apart(score_rows(run.built, together), scores_of(run, rows))
            if not distance <= SCORES_APART:
                problems.append(f"{len(part)} images in batches of {batch_size}: scores apart by {distance:.1e}")
    return problems


def in_batches_of(built: Built, size: int) -> Built:
    config = built.resolved.config
    section = config.train.model_copy(update={"eval_batch_size": size})
    return replace(built, resolved=replace(built.resolved, config=config.model_copy(update={"train": section})))


def check_merging(case: Case) -> list[str]:
    """Rows of 1 to 50 images in batches of 1 to 8, dealt to the ranks and merged: every id once, in order. The rows of
    some sizes are scored as well, each by one rank: a detector's score takes 0.3 s."""
    run = small_run(case)
    split, world, rank = run.data.val, ranks.world(), ranks.rank()
    assert split is not None
    made = gather_rows(run.accelerator, in_batches_of(run.built, 4), split, run.console, "val")
    problems, scored = [], 0
    for count in range(1, 51):
        rows = [made[id % len(made)] for id in range(count)]
        expected = scores_of(run, rows) if count in SCORED else None
        scored += expected is not None
        for batch_size in range(1, 9):
            keys = order.evaluation_keys(count, batch_size, rank, world)
            mine = {id: (id, rows[id]) for ids, _, _ in keys for id in ids}
            merged = merge_rows(ranks.gather_objects(mine), count)
            if [id for id, _ in merged] != list(range(count)):
                problems.append(f"{count} images in batches of {batch_size}: ids {[id for id, _ in merged]}")
            if expected is not None and batch_size in (1, 2, 7) and (count + batch_size) % world == rank:
                distance = numbers_apart(scores_of(run, [row for _, row in merged]), expected)
                if not distance <= SAME_ROWS_APART:
                    problems.append(f"{count} images in batches of {batch_size}: scores apart by {distance:.1e}")
    if scored == 0:
        raise NotApplicable(f"the task scores none of the sizes {', '.join(map(str, SCORED))}")
    return problems


def scores_of(run: Run, rows: Sequence[Any]) -> dict[str, Any] | None:
    """The task's scores, or None where so few or repeated images cannot be scored."""
    try:
        return run.resolved.task.score(run.resolved.cfg, rows, run.built.meta)
    except Exception:
        if len(rows) > 5:
            raise
        return None


def numbers_apart(a: Any, b: Any) -> float:
    """The largest difference of two numbers at the same place; infinite where the shapes differ."""
    a, b = (value.tolist() if hasattr(value, "tolist") else value for value in (a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping) and a.keys() == b.keys():
        return max((numbers_apart(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return max((numbers_apart(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if a == b or (a != a and b != b):
        return 0.0
    if isinstance(a, int | float) and isinstance(b, int | float) and math.isfinite(a) and math.isfinite(b):
        return abs(a - b)
    return math.inf


CHECKS: dict[str, Callable[[Case], list[str]]] = {
    **{f"policy {policy}": lambda case, policy=policy: check_policy(case, policy) for policy in (*POLICIES, LORA)},
    "statistics": check_statistics,
    "workers": check_workers,
    "weights": check_weights,
    "evaluation": check_evaluation,
    "merging": check_merging,
}


def outcome(check: Callable[[Case], list[str]], case: Case) -> tuple[str, list[str]]:
    """("ok" | "n/a" | "FAILED", what there is to say), from all ranks."""
    reason, problems = "", []
    try:
        problems = check(case)
    except NotApplicable as error:
        reason = str(error)
    except Exception as error:
        traceback.print_exc()
        problems = [f"{type(error).__name__}: {error}"]
    found = list(dict.fromkeys(itertools.chain.from_iterable(ranks.gather_objects(problems))))
    if found:
        return "FAILED", found
    return ("n/a", [reason]) if reason else ("ok", [])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m visiontl.testing.ranks")
    parser.add_argument("folder", type=Path, help="where example data and runs go")
    parser.add_argument("tasks", nargs="*", help="names; by default every installed task")
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of the checks' names")
    given = parser.parse_args(arguments)
    current_device()  # starts the process group
    failed = 0
    for task in given.tasks or sorted(plugins.tasks()):
        case = Case(task, given.folder / task)
        for name, check in CHECKS.items():
            if not name.startswith(tuple(given.only)):
                continue
            result, said = outcome(check, case)
            gc.collect()
            gc.freeze()  # each phase edge collects garbage; walking all imported modules took half of the time
            failed += result == "FAILED"
            if ranks.rank() == 0:
                print(f"{result}  {ranks.world()} processes  {task}  {name}", *said, sep="  ", flush=True)
    gc.unfreeze()
    ranks.shutdown()
    return 1 if failed else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
