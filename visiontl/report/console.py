"""What a run says on a terminal or in a log file. Imports no torch, and rich only for a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

from visiontl.errors import clean, sentence
from visiontl.outlet import Outlet
from visiontl.report.bar import Bar
from visiontl.report.formats import cell, is_number
from visiontl.report.layout import table_lines, width_of, wrapped
from visiontl.report.live import LiveLines, display

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from visiontl.report.terminal import LiveBars


@dataclass(frozen=True)
class Manner:
    """How the consoles of a command speak. quiet: warnings alone. stream: None for stdout."""

    quiet: bool = False
    stream: TextIO | None = None


_manner: ContextVar[Manner | None] = ContextVar("manner", default=None)


def quiet() -> bool:
    """Whether warnings alone are wanted."""
    return (_manner.get() or Manner()).quiet


@contextmanager
def speaking(manner: Manner) -> Generator[None]:
    """Within the block consoles are made to speak so."""
    before = _manner.set(manner)
    try:
        yield
    finally:
        _manner.reset(before)


class Console:
    """Where one run speaks. Processes other than the main one print nothing.

    notes: every sentence said with keep=True and every warning, each once; the report keeps them.
    plain: lines of text for a log file; otherwise `rich` draws on a terminal, and lines break between words. In a
    notebook the lines of progress are one display that changes.
    quiet: warnings alone are printed. A warning is printed once.
    What cannot be written is lost, and noted once; no run ends for it.
    """

    def __init__(self, main: bool = True, stream: TextIO | None = None):
        self.main = main
        manner = _manner.get() or Manner()
        self.quiet = manner.quiet
        self.stream = Outlet.of(stream or manner.stream or sys.stdout)
        self.plain = not (self.stream.isatty() and os.environ.get("TERM") != "dumb")
        self.notes: list[str] = []
        self.stream.listen(self._refused)
        self._bars: list[Bar] = []
        self._rich: RichConsole | None = None
        self._live: LiveBars | None = None
        show = display() if main and self.plain and stream is None and not self.quiet else None
        self._lines = None if show is None else LiveLines(show, self._refused)

    def say(self, text: str, keep: bool = False, lines: Sequence[str] = ()) -> None:
        """A sentence. keep: also one of the report's notes. lines: what stands below it."""
        text = sentence(text, lines)
        if keep and text not in self.notes:
            self.notes.append(text)
        self.write(text)

    def warn(self, text: str, lines: Sequence[str] = ()) -> None:
        """A line that starts with 'warning:'; always one of the report's notes. The same one is printed once."""
        text = sentence(f"warning: {text.removeprefix('warning: ')}", lines)
        if text not in self.notes:
            self.notes.append(text)
            self._print(text, "yellow")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Numbers are set to the right; cells are formatted by `cell`."""
        if not self.main or self.quiet:
            return
        texts = [
            [clean(cell(value, name)).replace("\n", " ") for name, value in zip(columns, row, strict=True)]
            for row in rows
        ]
        names = [clean(name).replace("\n", " ") for name in columns]
        right: list[bool] = []
        for i in range(len(columns)):
            known = [row[i] for row in rows if row[i] is not None]
            right.append(bool(known) and all(is_number(value) for value in known))
        self._print("\n".join(table_lines(sentence(title), names, texts, right, self.width)), None)

    @contextmanager
    def progress(
        self,
        total: int | None,
        start: int = 0,
        unit: str = "step",
        every: int = 1,
        epochs: int | None = None,
        what: str = "",
    ) -> Generator[Bar]:
        """A live line on a terminal; in a log file one line per `every` updates and one for the last.

        total: updates when all is done, None where unknown; start: how many were done before (a resumed run).
        epochs: of the whole run; each has total / epochs updates.
        what: names a short bar ('val'), which in a log file is one line, and only after 10 seconds.
        """
        write = self.write if self.quiet or (self.plain and self._lines is None) else None
        bar = Bar(total, start, unit, every, epochs, what, write)
        outer = self._bars[-1] if self._bars else None
        self._bars.append(bar)
        try:
            with self._drawn(bar):
                yield bar
        finally:
            self._bars.remove(bar)
            if self._lines is None and (last := bar.last_line()):
                self.write(last)
            if outer is not None:
                outer.paused += time.perf_counter() - bar.began

    @contextmanager
    def _drawn(self, bar: Bar) -> Generator[None]:
        """The bar on the terminal, where there is one, or in the notebook."""
        if self._lines is not None:
            with self._lines.drawn(bar):
                yield
            return
        if self.plain or self.quiet or not self.main:
            yield
            return
        from visiontl.report.terminal import LiveBars

        first = self._live is None
        live = self._live = self._live or LiveBars(self._terminal())
        try:
            with live.drawn(bar):
                yield
        finally:
            if first:
                self._live = None
                live.stop()

    @property
    def width(self) -> int | None:
        """Columns of the terminal, None where there is none. It may be made wider or narrower at any time."""
        return width_of(self.stream)

    def write(self, text: str, style: str | None = None) -> None:
        """One or several lines, on the main process only; none where it is to be quiet."""
        if not self.quiet:
            self._print(text, style)

    def _print(self, text: str, style: str | None) -> None:
        if not self.main:
            return
        text = wrapped(clean(text), self.width)
        if not self.plain:
            self._terminal().print(text, style=style, markup=False, highlight=False, soft_wrap=True)
            return
        self.stream.write(text + "\n")
        self.stream.flush()

    def _refused(self, error: Exception) -> None:
        self.notes.append(f"warning: some of what the run said could not be printed ({error})")

    def _terminal(self) -> RichConsole:
        if self._rich is None:
            from visiontl.report.terminal import terminal

            self._rich = terminal(cast(TextIO, self.stream))
        return self._rich
