"""A figure as an SVG element of an HTML page. Imports matplotlib only to draw."""

from __future__ import annotations

import html
import io
import re
import warnings
from typing import Any

from visiontl.report.formats import clean
from visiontl.report.items import Figure

BLUE, ORANGE, GRAY = "#1f5f8b", "#b8541a", "#8a8a8a"
CYCLE = (BLUE, ORANGE, "#3b7d4f", "#7a4f9a", "#a83246", "#5c6b73")
LOOK: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # dollar signs in names are no formulas
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "grid.color": "#e4e4e4",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.cmap": "Blues",
}


def render_figure(figure: Figure, prefix: str = "") -> str:
    """The figure as an SVG element to stand inside an HTML page; `prefix` keeps its ids apart from others'.

    Text stays text, in the page's own font. Raises whatever `figure.draw` raises.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    with matplotlib.rc_context(), warnings.catch_warnings():  # type: ignore[reportUnknownMemberType]
        matplotlib.rcdefaults()
        look = {**LOOK, "svg.hashsalt": figure.title, "axes.prop_cycle": cycler(color=CYCLE)}
        matplotlib.rcParams.update(look)  # type: ignore[reportCallIssue, reportArgumentType]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has the glyph
        drawing = Drawing(figsize=figure.size, layout="constrained")
        FigureCanvasSVG(drawing)
        figure.draw(drawing.add_subplot())
        text = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        drawing.savefig(text, format="svg", transparent=True, metadata=nothing)  # type: ignore[reportUnknownMemberType]
    return inline(text.getvalue(), figure.title, prefix)


def inline(svg: str, title: str, prefix: str) -> str:
    """A standalone SVG file -> an element that scales with the page and shares no id with another."""
    svg = clean(svg[svg.index("<svg") :])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)

    def adapt(tag: re.Match[str]) -> str:
        text = re.sub(r'(\s)id="', rf'\1id="{prefix}', tag[0])
        text = re.sub(r'(href="|url\()#', rf"\1#{prefix}", text)
        return re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)  # the page's own

    svg = re.sub(r"<[^>]*>", adapt, svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
