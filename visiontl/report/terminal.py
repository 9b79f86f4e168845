"""Live lines on a terminal, drawn by rich. Imported only where there is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from visiontl.errors import clean
from visiontl.report.bar import Bar

GAP = "  "  # between the values of a line
BAR_WIDTH = 24  # columns at most


def terminal(stream: IO[str]) -> Console:
    return Console(file=stream, force_terminal=True)


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


class _Measures(_Words):
    """As many of the newest values as there is room for; an ellipsis stands for the others."""

    def __init__(self, room: Callable[[], int]):
        super().__init__(Bar.measures)
        self.room = room

    def render(self, task: Task) -> Text:
        parts, room = clean(self.words(task.fields["bar"])).split(GAP), self.room()
        kept = next((n for n in range(len(parts), 0, -1) if len(GAP.join(parts[:n])) + 2 * (n < len(parts)) <= room), 0)
        text = GAP.join(parts[:kept]) + (" …" if kept < len(parts) else "")
        return Text(text if len(text) <= room else "", no_wrap=True)

    def get_table_column(self) -> Column:
        return Column(no_wrap=True, max_width=max(self.room(), 1))


class _Line(BarColumn):
    def render(self, task: Task) -> ProgressBar:
        task.completed = task.fields["bar"].step
        return super().render(task)


class LiveBars(Progress):
    """Bars drawn one below the other while there is any, and taken away at the end. rich's own thread reads them four
    times a second, so an update of a bar draws nothing."""

    def __init__(self, console: Console):
        self.terminal = console
        self.whole = [_WholeWords(words, lambda: self.tasks) for words in (Bar.counts, Bar.pace)]
        super().__init__(
            self.whole[0],
            _Line(bar_width=None, table_column=Column(max_width=BAR_WIDTH)),
            self.whole[1],
            _Measures(self.room),
            console=console,
            refresh_per_second=4,
            transient=True,
            # else a loader process forked while rich held its lock would hang on its first warning
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.start()
        console.show_cursor(True)  # rich hides it; a process that is killed could not bring it back

    def room(self) -> int:
        """Columns that counts and pace, which are never shortened, leave for the values; the bar gives way to these."""
        widths = [column.get_table_column().min_width or 0 for column in self.whole]
        return self.terminal.width - sum(widths) - 3

    @contextmanager
    def drawn(self, bar: Bar) -> Generator[None]:
        """The bar is shown within the block."""
        number = self.add_task("", total=bar.total, completed=bar.step, bar=bar)
        try:
            yield
        finally:
            self.remove_task(number)
