"""The live line of a run in a notebook: one display that changes, in the place of a line per ten updates. IPython is
never imported: where it runs a kernel, it is there already."""

from __future__ import annotations

import html
import importlib
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from visiontl.errors import clean
from visiontl.report.bar import Bar

EVERY = 0.25  # seconds between two drawings
BAR_WIDTH = 12  # em


def display() -> Callable[..., Any] | None:
    """IPython's `display` where one of its kernels runs this process, as under Jupyter; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if getattr(shell, "kernel", None) is None:  # a script, or IPython in a terminal
        return None
    return importlib.import_module("IPython.display").display


class Line:
    """What the display shows, as a notebook and as a log asks for it."""

    def __init__(self, bars: list[Bar]):
        self.text = "\n".join(clean(bar.line()) for bar in bars)
        self.html = "".join(map(drawn, bars))

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


class LiveLines:
    """Bars in one display, drawn at most four times a second by the updates themselves. The line of a whole run stays
    when it has ended, those of what it did in between (an evaluation) go. refused: is told once where the notebook
    takes no more; the run goes on."""

    def __init__(self, show: Callable[..., Any], refused: Callable[[Exception], None]):
        self._show, self._refused = show, refused
        self._bars: list[Bar] = []
        self._handle: Any = None
        self._next = 0.0  # when to draw again

    @contextmanager
    def drawn(self, bar: Bar) -> Generator[None]:
        """The bar is shown within the block."""
        if not bar.what:  # what has ended makes room for it
            self._bars = [one for one in self._bars if one.seen is not None]
        self._bars.append(bar)
        bar.seen = self.draw
        try:
            yield
        finally:
            bar.seen = None
            if bar.what:
                self._bars = [one for one in self._bars if one is not bar]
            self.draw(now=True)

    def draw(self, now: bool = False) -> None:
        if self._show is None or not (now or time.monotonic() >= self._next):
            return
        self._next = time.monotonic() + EVERY
        if not self._bars and self._handle is None:
            return
        try:
            if self._handle is None:
                self._handle = self._show(Line(self._bars), display_id=True)
            else:
                self._handle.update(Line(self._bars))
        except Exception as error:  # a front end that is gone ends no run
            self._show = None
            self._refused(error)


def drawn(bar: Bar) -> str:
    """A bar as HTML, in colors that a light and a dark page can show."""
    share = min(1.0, bar.step / bar.total) if bar.total else 0.0
    box = "display:inline-block;vertical-align:middle;height:.5em;border-radius:.25em;background:rgba(128,128,128,.3)"
    filled = f"height:100%;border-radius:.25em;background:#4a90c2;width:{share:.1%}"
    texts = [html.escape(clean(text)) for text in (bar.counts(), bar.measures(), bar.pace())]
    parts = [texts[0], f'<span style="{box};width:{BAR_WIDTH}em"><span style="display:block;{filled}"></span></span>']
    words = "&ensp;".join([*parts, *filter(None, texts[1:])])
    return f'<div style="font-variant-numeric:tabular-nums;line-height:1.6">{words}</div>'
