"""The checks of the contract on several processes: many cases in one start.

    torchrun --nproc_per_node 2 -m visiontl.testing.ranks FOLDER [TASK ...]

For every task and policy: ranks hold equal weights and statistics, frozen parts keep their bits through each phase,
and evaluation gives the numbers that one process gives. Prints a line per case and exits with 1 if one fails.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch

from visiontl import distributed, plugins
from visiontl.device import current_device
from visiontl.evaluation import gather_rows, score_rows
from visiontl.testing.case import Case, same, stage_states, state
from visiontl.testing.checks import POLICIES
from visiontl.training import fit


def check_policy(case: Case, policy: str) -> list[str]:
    """What is wrong with a short run under the policy; empty when nothing is."""
    run = case.run(f"freeze.policy={policy}", "train.batch_size=2")
    frozen_always = {stage for stage in run.layout.stages if all(modes[stage] == "frozen" for _, modes in run.phases)}
    before = stage_states(run)
    fit(run)  # checks once per phase that gradients are equal on the ranks
    after = stage_states(run)
    problems = []
    for stage in before:
        moved = same(before[stage], after[stage])
        if stage in frozen_always and moved:
            problems.append(f"frozen stage {stage} moved: {moved[:2]}")
        if stage not in frozen_always and stage in (*run.layout.stages, "head") and not moved:
            problems.append(f"stage {stage} did not move")
    distributed.broadcast_buffers(run.built.model)
    sums = {name: float(tensor.double().sum()) for name, tensor in state(run).items()}
    for rank, other in enumerate(distributed.gather_objects(sums)):
        differing = [name for name in sums if sums[name] != other[name]]
        if differing:
            problems.append(f"weights differ from rank {rank}'s: {differing[:2]}")
    return problems


def check_evaluation(case: Case) -> list[str]:
    """Rows gathered from all ranks against the rows that this rank computes alone."""
    run = case.run()
    split = run.data.val
    assert split is not None
    arguments = (run.accelerator, run.built, split, run.built.model, 2, 0, run.console, "val")
    together = score_rows(run.built, gather_rows(*arguments))
    task = run.resolved.task
    world, distributed.world = distributed.world, lambda: 1
    rank, distributed.rank = distributed.rank, lambda: 0
    active, distributed.active = distributed.active, lambda: False
    try:
        alone = task.score(run.resolved.cfg, gather_rows(*arguments), run.built.meta)
    finally:
        distributed.world, distributed.rank, distributed.active = world, rank, active
    return [] if together == alone else [f"scores of {world()} processes {together} differ from one's {alone}"]


def main(arguments: list[str]) -> int:
    folder, tasks = Path(arguments[0]), arguments[1:] or sorted(plugins.tasks())
    current_device()  # starts the process group
    failed = 0
    for task in tasks:
        case = Case(task, folder / task)
        cases = [(f"policy {policy}", lambda p=policy, c=case: check_policy(c, p)) for policy in POLICIES]
        for name, check in [*cases, ("evaluation", lambda c=case: check_evaluation(c))]:
            problems = list(itertools.chain.from_iterable(distributed.gather_objects(check())))
            failed += bool(problems)
            if distributed.rank() == 0:
                print(
                    f"{'FAILED' if problems else 'ok'}  {distributed.world()} processes  {task}  {name}",
                    *problems,
                    sep="  ",
                )
    distributed.shutdown()
    return 1 if failed else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
