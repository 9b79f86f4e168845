"""The child's side of a measurement: a training loop that stops after every few steps and waits for its turn.

Needs only the standard library, so that a loop in another virtual environment can use it too: run the child's file
with this folder on its path (`python tools/benchmarks/loops.py ...` puts it there) and `from rounds import Rounds`.

The parent starts each case as a process of its own and lets one at a time run a round (see harness.py). They speak
in lines: the parent writes `go` to the child's standard input; the child answers on standard output with
`@round {"seconds": ..., "losses": [...], ...}`. Every other line that it prints is passed over.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


class Rounds:
    """Cuts a loop into timed rounds of `steps` steps.

    The loop calls `tick(loss)` once per step, always at the same place: after the loss is computed and before
    backward. A round runs from one tick to the tick `steps` later, so it holds that many whole steps with everything
    the loop does in between (data, learning rate, logging), and no waiting.

    steps: of one round. wait: called before the clock is read, for devices that work on their own
    (`torch.cuda.synchronize`). The losses are read after the clock.
    """

    def __init__(self, steps: int, wait: Callable[[], Any] | None = None):
        self.steps, self.wait = steps, wait
        self.losses: list[Any] = []
        self.began: float | None = None
        self.began_cpu = 0.0

    def tick(self, loss: Any = None) -> None:
        """Once per step. loss: a number or a tensor of one element."""
        if self.began is None:  # the first step pays for what is made once; it belongs to no round
            self.turn({"peak_bytes": peak_bytes()})
            return
        self.losses.append(loss.detach() if hasattr(loss, "detach") else loss)
        if len(self.losses) == self.steps:
            self.answer()

    def answer(self, **more: Any) -> None:
        """End the round, say what it took, and wait for the next one."""
        if self.wait:
            self.wait()
        assert self.began is not None
        seconds, cpu = time.perf_counter() - self.began, time.process_time() - self.began_cpu
        losses = [float(loss).hex() for loss in self.losses if loss is not None]
        self.turn({"seconds": seconds, "cpu_seconds": cpu, "losses": losses, "peak_bytes": peak_bytes(), **more})

    def turn(self, message: dict[str, Any]) -> None:
        say("round", message)
        if sys.stdin.readline().strip() != "go":  # the parent is done, or gone
            sys.stdout.flush()
            os._exit(0)
        self.losses = []
        if self.wait:
            self.wait()
        self.began, self.began_cpu = time.perf_counter(), time.process_time()


def peak_bytes() -> int:
    """The most memory that this process has held so far. Not getrusage's number on Linux: that one also knows the
    parent, whose memory a new process shares until it is itself."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def say(kind: str, message: dict[str, Any]) -> None:
    """One line to the parent."""
    sys.stdout.write(f"\n@{kind} {json.dumps(message)}\n")
    sys.stdout.flush()
