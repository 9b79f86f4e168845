"""What a run says on a terminal or in a log file, and how numbers are written. Imports no torch."""

from __future__ import annotations

import math
import os
import re
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

WINDOW = 100  # updates over which images per second are measured
RATES = ("lr", "peak lr", "learning rate")  # columns whose values span decades
SLOW = 10.0  # seconds after which a short bar is worth a line in a log file
# A name may carry escape codes, or turn the writing direction; only tab and newline are let through.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def human(count: float) -> str:
    """A count with three significant digits and a unit: 3504872 -> '3.5 M'."""
    if not math.isfinite(count):
        return str(count)
    for unit in ("", " k", " M", " G", " T"):
        short = f"{count:.3g}" if abs(count) < 999.5 else ""
        if short or unit == " T":
            return (short or f"{count:,.0f}") + unit
        count /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds -> 'm:ss', or 'h:mm:ss' from an hour on."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def scientific(value: float, digits: int = 1) -> str:
    """0.001 -> '1.0e-3': `digits` after the point, no padding in the exponent."""
    if not math.isfinite(value):
        return str(value)
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def number(value: float, digits: int = 4) -> str:
    """A measured number with `digits` significant digits from 1 on, as many decimals below, and
    in scientific notation where those would show nothing. Integers get thousands separators."""
    if isinstance(value, int):
        return f"{value:,}"
    value = float(value)
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    size = abs(value)
    if size < 10**-digits or size >= 1e9:
        return scientific(value, max(0, digits - 2))
    decimals = digits if size < 1 else max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def cell(value: Any, column: str = "") -> str:
    """Anything that stands in a table -> text. None and NaN are '-'; learning rates keep their digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and column in RATES and math.isfinite(value) and 0 < abs(value) < 0.1:
        short = scientific(value, 2)
        return short.replace("0e", "e")  # 1.00e-3 -> 1.0e-3
    if isinstance(value, int | float):
        return {math.inf: "infinite", -math.inf: "-infinite"}.get(value) or number(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, Sequence):
        return ", ".join(cell(item) for item in value) or "-"
    item = getattr(value, "item", None)  # a NumPy or torch scalar
    return cell(item()) if callable(item) and getattr(value, "ndim", None) == 0 else str(value)


def clean(text: str) -> str:
    """Control characters written out, so that a file's name cannot steer the terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def columns_wide(text: str) -> int:
    """How many columns of a terminal the text takes."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def labeled(name: str, value: float) -> str:
    """One value of a progress line: 'loss 0.4312', 'lr 1.0e-3', 'grad 0.82'."""
    if name == "lr" or name.startswith("lr_"):
        return f"{name} {scientific(value)}"
    if name == "grad_norm":
        return f"grad {number(float(value), 2)}"
    return f"{name} {number(value)}"


class Progress:
    """A running count of updates. `update` costs about a microsecond where it prints nothing.

    images_per_second: over the last updates, without the first one and without time spent in bars inside.
    """

    def __init__(
        self,
        console: Console,
        total: int | None,
        start: int,
        unit: str,
        every: int,
        epochs: int | None,
        what: str,
    ):
        self.console = console
        self.total = total
        self.step = start
        self.unit = unit
        self.every = max(1, every)
        self.epochs = epochs
        self.what = what
        self.values: dict[str, float] = {}
        self.began = time.perf_counter()
        self.paused = 0.0  # seconds spent in bars inside this one
        self._seen = 0  # images
        self._window: deque[tuple[float, int, int]] = deque(maxlen=WINDOW + 1)  # (seconds, step, images)
        self._printed = start

    def update(self, step: int, images: int = 0, values: Mapping[str, float] | None = None) -> None:
        """step: how many are done; images: taken by this update, on all processes together."""
        self.step = step
        self._seen += images
        self._window.append((time.perf_counter() - self.paused, step, self._seen))
        if values:
            self.values = dict(values)
        if self.console.plain and not self.what and (step % self.every == 0 or step == self.total):
            self._printed = step
            self.console.write(self.line())

    @property
    def images_per_second(self) -> float | None:
        """None until two updates were seen."""
        if len(self._window) < 2:
            return None
        (begin, _, before), (end, _, after) = self._window[0], self._window[-1]
        return (after - before) / (end - begin) if end > begin else None

    @property
    def remaining(self) -> float | None:
        """Seconds to go: the last updates' pace, with the share of time spent in bars inside (evaluation)."""
        if self.total is None or len(self._window) < 2:
            return None
        (begin, before, _), (end, after, _) = self._window[0], self._window[-1]
        if after <= before:
            return None
        busy = time.perf_counter() - self.began - self.paused
        share = 1 + self.paused / busy if busy > 0 else 1.0
        return (self.total - self.step) * (end - begin) / (after - before) * share

    def counts(self) -> str:
        """'epoch 2/10  step 120/600', or 'val 3/5'."""
        of = "" if self.total is None else f"/{self.total}"
        text = f"{self.what or self.unit} {self.step}{of}"
        if self.epochs and self.total:
            epoch = max(1, min(self.epochs, math.ceil(self.step * self.epochs / self.total)))
            text = f"epoch {epoch}/{self.epochs}  {text}"
        return text

    def measures(self) -> list[str]:
        """'loss 0.4312', ..., '87 img/s', 'ETA 3:12': what is known so far."""
        parts = [labeled(name, value) for name, value in self.values.items() if is_number(value)]
        rate, remaining = self.images_per_second, self.remaining
        if rate:
            parts.append(f"{rate:.0f} img/s" if rate >= 10 else f"{rate:.2g} img/s")
        if remaining is not None and self.step != self.total:
            parts.append(f"ETA {duration(remaining)}")
        return parts

    def line(self) -> str:
        return "  ".join([self.counts(), *self.measures()])

    def close(self) -> None:
        """The line of the last update, where it is worth one."""
        took = time.perf_counter() - self.began
        if not self.what and self.step != self._printed:
            self.console.write(self.line())
        elif self.what and self.console.plain and took > SLOW:
            self.console.write(f"{self.line()}  took {duration(took)}")


class Console:
    """Where one run speaks. Processes other than the main one print nothing.

    notes: every sentence said with keep=True and every warning, each once; the report keeps them.
    plain: lines of text for a log file; otherwise `rich` draws on a terminal.
    """

    def __init__(self, main: bool = True, stream: TextIO | None = None):
        self.main = main
        self.stream = stream if stream is not None else sys.stdout
        self.plain = not (self.stream.isatty() and os.environ.get("TERM") != "dumb")
        self.notes: list[str] = []
        self._bars: list[Progress] = []
        self._rich: Any = None
        self._live: Any = None

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
        right = []
        for i in range(len(columns)):
            known = [row[i] for row in rows if row[i] is not None]
            right.append(bool(known) and all(is_number(value) for value in known))
        if self.plain:
            widths = [max(columns_wide(row[i]) for row in [columns, *texts]) for i in range(len(columns))]
            lines = [title] if title else []
            for row in [list(columns), ["-" * width for width in widths], *texts]:
                padded = []
                for text, width, to_right in zip(row, widths, right, strict=True):
                    space = " " * (width - columns_wide(text))
                    padded.append(space + text if to_right else text + space)
                lines.append(("  " + "  ".join(padded)).rstrip())
            self.write("\n".join(lines))
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        drawn = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD)
        for name, to_right in zip(columns, right, strict=True):
            drawn.add_column(Text(name), justify="right" if to_right else "left")
        for row in texts:
            drawn.add_row(*(Text(text) for text in row))
        self._terminal().print(drawn)

    @contextmanager
    def progress(
        self,
        total: int | None,
        start: int = 0,
        unit: str = "step",
        every: int = 1,
        epochs: int | None = None,
        what: str = "",
    ) -> Iterator[Progress]:
        """A live line on a terminal; in a log file one line per `every` updates and one for the last.

        total: updates when all is done, None where unknown; start: how many were done before (a resumed run).
        epochs: of the whole run; each has total / epochs updates.
        what: names a short bar ('val'), which in a log file is one line, and only after 10 seconds.
        """
        bar = Progress(self, total, start, unit, every, epochs, what)
        outer = self._bars[-1] if self._bars else None
        self._bars.append(bar)
        try:
            self._start_live()
            yield bar
        finally:
            self._bars.remove(bar)
            if not self._bars:
                self._stop_live()
            bar.close()
            if outer is not None:
                outer.paused += time.perf_counter() - bar.began

    def write(self, text: str, style: str | None = None) -> None:
        """One or several lines, on the main process only."""
        if not self.main:
            return
        text = clean(text)
        if not self.plain:
            text = self._printable(text)
            self._terminal().print(text, style=style, markup=False, highlight=False, soft_wrap=True)
            return
        self.stream.write(self._printable(text) + "\n")
        self.stream.flush()

    def _speak(self, text: str, keep: bool, style: str | None) -> None:
        if keep and text not in self.notes:
            self.notes.append(text)
        self.write(text, style)

    def _printable(self, text: str) -> str:
        """What the stream's encoding cannot hold (a lone surrogate, an arrow in ASCII), escaped."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def _terminal(self) -> Any:
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(file=self.stream, force_terminal=True)
        return self._rich

    def _start_live(self) -> None:
        if self._live is not None or self.plain or not self.main:
            return
        from rich.live import Live

        # Standard streams are not redirected: a loader process forked while rich held its lock would hang
        # on its first warning. Drawing happens in rich's own thread, so an update draws nothing.
        self._live = Live(
            get_renderable=self._draw,
            console=self._terminal(),
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self._terminal().show_cursor(True)  # rich hides it; a process that is killed could not bring it back

    def _stop_live(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        lines = []
        for bar in list(self._bars):
            counts, measures = clean(bar.counts()), clean("  ".join(bar.measures()))
            space = self._terminal().width - len(counts) - len(measures) - 5
            drawn: list[Any] = [Text(counts), Text(measures)]
            if space >= 8 and bar.total:
                drawn.insert(1, ProgressBar(total=bar.total, completed=bar.step, width=min(space, 24)))
            grid = Table.grid(padding=(0, 2))
            for _ in drawn:
                grid.add_column(no_wrap=True, overflow="ellipsis")
            grid.columns[0].min_width = min(len(counts), self._terminal().width)
            grid.add_row(*drawn)
            lines.append(grid)
        return Group(*lines)
