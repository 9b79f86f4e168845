"""What a run says on a terminal or in a log file. Imports no torch, and rich only for a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from visiontl.report.bar import Bar
from visiontl.report.formats import cell, clean, columns_wide, is_number
from visiontl.report.live import LiveLines, display
from visiontl.report.outlet import Outlet

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from visiontl.report.terminal import LiveBars


class Console:
    """Where one run speaks. Processes other than the main one print nothing.

    notes: every sentence said with keep=True and every warning, each once; the report keeps them.
    plain: lines of text for a log file; otherwise `rich` draws on a terminal. In a notebook the lines of progress are
    one display that changes.
    What cannot be written is lost, and noted once; no run ends for it.
    """

    def __init__(self, main: bool = True, stream: TextIO | None = None):
        self.main = main
        self.stream = Outlet(stream if stream is not None else sys.stdout, self._refused)
        self.plain = not (self.stream.isatty() and os.environ.get("TERM") != "dumb")
        self.notes: list[str] = []
        self._bars: list[Bar] = []
        self._rich: RichConsole | None = None
        self._live: LiveBars | None = None
        show = display() if main and self.plain and stream is None else None
        self._lines = None if show is None else LiveLines(show, self._refused)

    def say(self, text: str, keep: bool = False) -> None:
        """A sentence. keep: also one of the report's notes."""
        self._speak(text, keep, style=None)

    def warn(self, text: str) -> None:
        """A line that starts with 'warning:'; always one of the report's notes."""
        self._speak(f"warning: {text.removeprefix('warning: ')}", keep=True, style="yellow")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Numbers are set to the right; cells are formatted by `cell`."""
        if not self.main:
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
        if self.plain:
            self.write("\n".join(table_lines(title, names, texts, right)))
            return
        from visiontl.report.terminal import draw_table

        draw_table(self._terminal(), clean(title), names, texts, right)

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
        write = self.write if self.plain and self._lines is None else None
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
        if self.plain or not self.main:
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

    def write(self, text: str, style: str | None = None) -> None:
        """One or several lines, on the main process only."""
        if not self.main:
            return
        # what the stream's encoding cannot hold (a lone surrogate, an arrow in ASCII) is written out
        text = clean(text).encode(self.stream.encoding, "backslashreplace").decode(self.stream.encoding)
        if not self.plain:
            self._terminal().print(text, style=style, markup=False, highlight=False, soft_wrap=True)
            return
        self.stream.write(text + "\n")
        self.stream.flush()

    def _speak(self, text: str, keep: bool, style: str | None) -> None:
        if keep and text not in self.notes:
            self.notes.append(text)
        self.write(text, style)

    def _refused(self, error: Exception) -> None:
        self.notes.append(f"warning: some of what the run said could not be printed ({error})")

    def _terminal(self) -> RichConsole:
        if self._rich is None:
            from visiontl.report.terminal import terminal

            self._rich = terminal(cast(TextIO, self.stream))
        return self._rich


def table_lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """A table as lines of text. right: the columns that are set to the right."""
    widths = [max(columns_wide(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [title] if title else []
    for row in [columns, ["-" * width for width in widths], *rows]:
        padded: list[str] = []
        for text, width, to_right in zip(row, widths, right, strict=True):
            space = " " * (width - columns_wide(text))
            padded.append(space + text if to_right else text + space)
        lines.append(("  " + "  ".join(padded)).rstrip())
    return lines
