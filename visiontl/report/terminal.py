"""Tables and live lines on a terminal, drawn by rich. Imported only where there is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
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


class _Words(ProgressColumn):
    """A column of texts about the bars."""

    def __init__(self, words: Callable[[Bar], str]):
        super().__init__()
        self.words = words

    def render(self, task: Task) -> Text:
        return Text(clean(self.words(task.fields["bar"])), no_wrap=True, overflow="ellipsis")

    def get_table_column(self) -> Column:
        return Column(no_wrap=True, overflow="ellipsis")


class _WholeWords(_Words):
    """Texts that are not shortened where the terminal is narrow."""

    def __init__(self, words: Callable[[Bar], str], tasks: Callable[[], list[Task]]):
        super().__init__(words)
        self.tasks = tasks

    def get_table_column(self) -> Column:
        widths = [self.render(task).cell_len for task in self.tasks()]
        return Column(no_wrap=True, min_width=max(widths, default=0))


class _Line(BarColumn):
    def render(self, task: Task) -> ProgressBar:
        task.completed = task.fields["bar"].step
        return super().render(task)


class LiveBars(Progress):
    """Bars drawn one below the other while there is any, and taken away at the end. rich's own thread reads them four
    times a second, so an update of a bar draws nothing."""

    def __init__(self, console: Console):
        super().__init__(
            _WholeWords(Bar.counts, lambda: self.tasks),
            _Line(bar_width=None, table_column=Column(max_width=BAR_WIDTH)),
            _WholeWords(Bar.pace, lambda: self.tasks),
            _Words(Bar.measures),
            console=console,
            refresh_per_second=4,
            transient=True,
            # else a loader process forked while rich held its lock would hang on its first warning
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.start()
        console.show_cursor(True)  # rich hides it; a process that is killed could not bring it back

    @contextmanager
    def drawn(self, bar: Bar) -> Generator[None]:
        """The bar is shown within the block."""
        number = self.add_task("", total=bar.total, completed=bar.step, bar=bar)
        try:
            yield
        finally:
            self.remove_task(number)
