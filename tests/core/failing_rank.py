"""A run on several processes of which one meets something in the middle:

    torchrun ... failing_rank.py HOW FOLDER TASK [a.b=c ...]

HOW: what comes to rank 1: raise (an error in the loss), kill (SIGKILL; "kill the first": to rank 0), or stop
(SIGUSR1): then the run is continued to its end, the same run is done without interruption, and both must have the
same weights.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from visiontl import cli
from visiontl.commands import COMMANDS
from visiontl.engine import train as training
from visiontl.errors import Stopped
from visiontl.processes import ranks
from visiontl.testing import Case

AT = 5  # calls of the loss, the first of them by the probe; a checkpoint stands by then


def main(how: str, folder: str, task: str, *overrides: str) -> int:
    torch.set_num_threads(1)
    case = Case(task, Path(folder))
    settings = ["train.epochs=4", "train.batch_size=2", "train.checkpoint_every=2 steps", *overrides]
    calls, guilty = 0, 0 if how == "kill the first" else 1

    def loss(*arguments):
        nonlocal calls
        calls += 1
        if ranks.rank() == guilty and calls == AT:
            if how == "raise":
                raise ValueError("a shape nobody expected")
            os.kill(os.getpid(), signal.SIGUSR1 if how == "stop" else signal.SIGKILL)
        return resolved.task.loss(*arguments)

    def train(arguments) -> None:
        training.train(replace(resolved, task=replace(resolved.task, loss=loss)))

    resolved = case.resolved(*settings)
    COMMANDS["train"] = replace(COMMANDS["train"], run=train)
    if how != "stop":
        return cli.main(["train", "unused"])
    try:
        train(None)
    except Stopped as stopped:
        print(f"rank {ranks.rank()}: {stopped}")
    interrupted = training.train(resolved)
    whole = training.train(case.resolved(*settings, "run.name=whole", "resume=null"))
    ours, theirs = (load_file(Path(report["run"]) / "model/model.safetensors") for report in (interrupted, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    if ranks.rank() == 0:
        print("the same weights")
    ranks.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
