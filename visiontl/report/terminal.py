"""Tables and live lines on a terminal, drawn by rich. Imported only where there is a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from visiontl.report.bar import Bar
from visiontl.report.formats import clean

BAR_WIDTH = 24  # columns at most


def terminal(stream: IO[str]) -> Console:
    return Console(file=stream, force_terminal=True)


def draw_table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> None:
    """right: the columns that are set to the right."""
    drawn = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD)
    for name, to_right in zip(columns, right, strict=True):
        drawn.add_column(Text(name), justify="right" if to_right else "left")
    for row in rows:
        drawn.add_row(*(Text(text) for text in row))
    console.print(drawn)


class _Counts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(clean(task.fields["bar"].counts()), no_wrap=True)


class _Line(BarColumn):
    def render(self, task: Task) -> ProgressBar:
        task.completed = task.fields["bar"].step
        return super().render(task)


class _Measures(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(clean(task.fields["bar"].measures()), no_wrap=True, overflow="ellipsis")


class LiveBars:
    """Bars drawn one below the other while there is any, and taken away at the end. rich's own thread reads them four
    times a second, so an update of a bar draws nothing."""

    def __init__(self, console: Console):
        self._progress = Progress(
            _Counts(table_column=Column(no_wrap=True)),
            _Line(bar_width=None, table_column=Column(max_width=BAR_WIDTH)),
            _Measures(table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            refresh_per_second=4,
            transient=True,
            # else a loader process forked while rich held its lock would hang on its first warning
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._progress.start()
        console.show_cursor(True)  # rich hides it; a process that is killed could not bring it back

    def add(self, bar: Bar) -> int:
        return self._progress.add_task("", total=bar.total, completed=bar.step, bar=bar)

    def remove(self, number: int) -> None:
        self._progress.remove_task(number)  # type: ignore[reportArgumentType]

    def stop(self) -> None:
        self._progress.stop()
