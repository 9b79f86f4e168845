"""Pictures that wait, in batches to the worker, and a new worker in the place of one that died."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from visiontl.errors import sentence
from visiontl.outlet import say
from visiontl.serving.limits import Limits
from visiontl.serving.metrics import Metrics
from visiontl.serving.worker import Gone, Worker

PAUSES = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)  # seconds before the next try, of workers that do not come to be
LOOK = 0.25  # seconds after which an idle worker is looked at again


@dataclass(eq=False)
class Waiting:
    """A picture. until: on the monotonic clock. alone: it was there when a worker ended, and is tried by itself."""

    suffix: str
    content: bytes
    options: Mapping[str, Any]
    until: float
    answer: Future[dict[str, Any]] = field(default_factory=Future)
    alone: bool = False

    def __post_init__(self) -> None:
        self.asked = json.dumps(self.options, sort_keys=True)  # as texts, for 1 == True


class Full(Exception):
    """More pictures wait than may."""


class Line:
    """Made with the first worker ready. Everything but `put`, `state` and `close` happens on its own thread."""

    def __init__(self, make: Callable[[], Worker], limits: Limits, metrics: Metrics):
        """make: a new worker. Raises what making the first one does."""
        self.limits, self.metrics, self._make = limits, metrics, make
        self.worker: Worker | None = make()
        self.about, self.named = self.worker.about, self.worker.named
        self._line: deque[Waiting] = deque()
        self._change = threading.Condition()
        self._ended = False
        self._failed = 0  # workers that did not come to be, one after the other
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self._thread.start()

    def put(self, one: Waiting) -> None:
        """Raises Full."""
        with self._change:
            if self._ended or len(self._line) >= self.limits.waiting:
                raise Full
            self._line.append(one)
            self._change.notify()

    def waiting(self) -> int:
        return len(self._line)

    def ready(self) -> bool:
        worker = self.worker
        return worker is not None and worker.alive()

    def close(self) -> None:
        with self._change:
            self._ended = True
            self._change.notify()
        self._thread.join(self.limits.seconds + 5)
        for one in self._line:
            one.answer.cancel()
        if self.worker is not None:
            self.worker.close()

    def _run(self) -> None:
        while not self._ended:
            if not self.ready() and not self._replace():
                continue
            batch = self._batch()
            if batch:
                self._ask(batch)

    def _replace(self) -> bool:
        """A new worker; False where it did not come to be."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None
            self.metrics.restarts += 1
            say("the process with the model is gone; another is started", sys.stderr)
        try:
            self.worker = self._make()
        except Exception as error:  # the model's files may be gone; they may come back
            say(f"error: {sentence(str(error))}", sys.stderr)
            pause = PAUSES[min(self._failed, len(PAUSES) - 1)]
            self._failed += 1
            self._turn_away("the model cannot be loaded at the moment")
            with self._change:
                self._change.wait_for(lambda: self._ended, pause)
            return False
        self._failed = 0
        return True

    def _turn_away(self, why: str) -> None:
        with self._change:
            waiting = list(self._line)
            self._line.clear()
        for one in waiting:
            settle(one, {"error": why, "kind": "busy"})

    def _batch(self) -> list[Waiting]:
        """The pictures of the first options in line, as many as a batch may have; waits for more of them a little."""
        with self._change:
            if not self._change.wait_for(lambda: self._line or self._ended, LOOK) or self._ended:
                return []
            if len(self._line) < self.limits.batch and self.limits.gather and not self._line[0].alone:
                self._change.wait_for(lambda: len(self._line) >= self.limits.batch or self._ended, self.limits.gather)
            first = self._line[0]
            batch: list[Waiting] = []
            for one in list(self._line):
                if len(batch) == self.limits.batch or (batch and first.alone):
                    break
                if one is first or (one.asked == first.asked and not one.alone):
                    batch.append(one)
                    self._line.remove(one)
        now = time.monotonic()
        for one in batch:
            if one.until <= now:
                settle(one, {"error": f"no answer within {self.limits.seconds:g} s", "kind": "late"})
        return [one for one in batch if not one.answer.done()]  # who asked may have gone

    def _ask(self, batch: list[Waiting]) -> None:
        worker = self.worker
        assert worker is not None
        began = time.monotonic()
        left = max(0.05, max(one.until for one in batch) - began)
        seconds = left / 2 if len(batch) > 1 else left  # so that after a batch there is time for each alone
        try:
            answers = worker.ask([(one.suffix, one.content) for one in batch], batch[0].options, seconds)
        except Gone as gone:
            say(f"warning: {gone}", sys.stderr)
            late = "longer" in str(gone)
            if not batch[0].alone and (len(batch) > 1 or not late):  # one of them did it, or none: each alone, once
                for one in batch:
                    one.alone = True
                with self._change:
                    self._line.extendleft(reversed(batch))
                return
            told = f"no answer within {self.limits.seconds:g} s" if late else "this picture ended the model's process"
            settle(batch[0], {"error": told, "kind": "late" if late else "model"})
            return
        except Exception as error:  # no request ends the thread that all wait for
            say(f"error: {type(error).__name__}: {sentence(str(error))}", sys.stderr)
            for one in batch:
                settle(one, {"error": f"the server failed ({type(error).__name__})", "kind": "model"})
            return
        self.metrics.batch(len(batch), time.monotonic() - began)
        for one, answer in zip(batch, answers, strict=True):
            settle(one, answer)


def settle(one: Waiting, answer: dict[str, Any]) -> None:
    with suppress(InvalidStateError):  # who asked waits no longer
        one.answer.set_result(answer)
