"""Streams for what is said, which may lose words but never end a run. Imports nothing of the package.

Everything that is printed goes through here: the command line puts outlets in the place of stdout and stderr, so that
what libraries and plugins print does too; what is said without the command line takes `say`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO, TypeVar, cast

T = TypeVar("T")


class Outlet:
    """A text stream whose refusals (a full disk, a closed pipe, a terminal that is gone) lose what was written, and
    nothing else. Each text is tried: once there is room again, lines come again. What its encoding cannot hold (a lone
    surrogate, an arrow in ASCII) is written out.

    stream: None where the process was started without one. lost: the first refusal, None while there was none.
    """

    def __init__(self, stream: TextIO | None):
        self.stream = stream
        self.lost: Exception | None = None
        self._listeners: list[Callable[[Exception], None]] = []
        self._lock = threading.RLock()

    @staticmethod
    def of(stream: TextIO | Outlet | None) -> Outlet:
        """The outlet of a stream, which may be one."""
        return stream if isinstance(stream, Outlet) else Outlet(stream)

    def listen(self, refused: Callable[[Exception], None]) -> None:
        """`refused` is told the first refusal, now where there was one."""
        self._listeners.append(refused)
        if self.lost is not None:
            refused(self.lost)

    def __getattr__(self, name: str) -> Any:
        """What else the stream has, such as its `buffer`."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.stream, name)

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
        def written(stream: TextIO) -> int:
            try:
                return stream.write(text)
            except UnicodeError:
                return stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))

        return self._try(written, len(text))

    def writelines(self, texts: list[str]) -> None:
        self.write("".join(texts))

    def flush(self) -> None:
        self._try(lambda stream: stream.flush(), None)

    def _try(self, do: Callable[[TextIO], T], otherwise: T) -> T:
        if self.stream is None:
            return otherwise
        try:
            return do(self.stream)
        except Exception as error:  # of whatever kind: streams may be a stranger's
            with self._lock:
                if self.lost is None:
                    self.lost = error
                    for refused in self._listeners:
                        refused(error)
                self._forget(self.stream)
            return otherwise

    def _forget(self, stream: TextIO) -> None:
        """Empty the stream's buffers into nothing, or Python would fail on them again when it ends."""
        with contextlib.suppress(Exception):
            handle = stream.fileno()
            kept, nothing = os.dup(handle), os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nothing, handle)
                stream.flush()
            finally:
                os.dup2(kept, handle)
                os.close(kept)
                os.close(nothing)


def say(text: str, stream: TextIO | Outlet | None) -> None:
    """A line, at once."""
    outlet = Outlet.of(stream)
    outlet.write(text + "\n")
    outlet.flush()


@contextlib.contextmanager
def guarded() -> Iterator[tuple[Outlet, Outlet]]:
    """Within the block stdout and stderr are outlets, these two, for everybody who prints."""
    _open_standard_handles()
    before = sys.stdout, sys.stderr
    out, err = Outlet.of(before[0]), Outlet.of(before[1])
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _open_standard_handles() -> None:
    """Where one of 0, 1 and 2 was closed (`>&-`), the next file that is opened would get its number, and what a library
    prints would go into that file."""
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(opened, True)
