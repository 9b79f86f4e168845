"""Requests to stop: SIGTERM and SIGUSR1, as schedulers send them before they take a machine back, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))


@dataclass
class Request:
    """signal: the name of the first signal that came, or None."""

    signal: str | None = None


@contextmanager
def requests() -> Iterator[Request]:
    """Within the block a signal only asks; a second Ctrl-C interrupts at once. Threads other than the main one
    cannot receive signals: there nothing ever asks."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and request.signal is not None:
            raise KeyboardInterrupt
        request.signal = request.signal or signal.Signals(number).name

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it was set outside Python, and cannot be put back from here
                signal.signal(number, handler)


def leave_to_the_main_process() -> None:
    """For a loader process. A terminal or a scheduler signals the whole group, and a loader that died of it would
    turn a request into a failure. The second SIGTERM is obeyed: it is the main process cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))
