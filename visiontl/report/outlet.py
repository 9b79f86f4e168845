"""A stream for what a run says, which may lose words but never ends the run."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TextIO, TypeVar

T = TypeVar("T")


class Outlet:
    """A text stream whose refusals (a full disk, a closed pipe, a terminal that is gone) lose what was written, and
    nothing else. `refused` is told the first one. Each text is tried: once there is room again, lines come again.
    """

    def __init__(self, stream: TextIO | None, refused: Callable[[Exception], None]):
        """stream: None where the process was started without one."""
        self.stream = stream
        self._refused = refused
        self._told = False
        self._lock = threading.Lock()

    @property
    def encoding(self) -> str:
        return getattr(self.stream, "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """Raises OSError where there is none."""
        if self.stream is None:
            raise OSError("no stream")
        return self.stream.fileno()

    def isatty(self) -> bool:
        return self._try(lambda stream: stream.isatty(), False)

    def write(self, text: str) -> int:
        return self._try(lambda stream: stream.write(text), len(text))

    def flush(self) -> None:
        self._try(lambda stream: stream.flush(), None)

    def _try(self, do: Callable[[TextIO], T], otherwise: T) -> T:
        if self.stream is None:
            return otherwise
        try:
            return do(self.stream)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not self.stream.closed:
                raise
            with self._lock:
                if not self._told:
                    self._told = True
                    self._refused(error)
                self._forget(self.stream)
            return otherwise

    def _forget(self, stream: TextIO) -> None:
        """Empty the stream's buffers into nothing, or Python would fail on them again when it ends."""
        with contextlib.suppress(OSError, ValueError):
            handle = stream.fileno()
            kept, nothing = os.dup(handle), os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nothing, handle)
                stream.flush()
            finally:
                os.dup2(kept, handle)
                os.close(kept)
                os.close(nothing)
