"""A figure as an SVG element of an HTML page. Imports matplotlib only to draw."""

from __future__ import annotations

import html
import io
import re
import warnings
from typing import Any

from visiontl.errors import clean
from visiontl.report.items import Figure

BLUE, ORANGE, GRAY = "#1f5f8b", "#b8541a", "#8a8a8a"
INK, SOFT, LINE = "#1c1f23", "#555555", "#e4e4e4"  # of words, of ticks and axes, of grids
CYCLE = (BLUE, ORANGE, "#3b7d4f", "#7a4f9a", "#a83246", "#5c6b73")
# {a color of the figures: the variable of the page that stands for it, in light and dark}
VARIABLES = {
    INK: "--plot-ink",
    SOFT: "--plot-soft",
    LINE: "--plot-line",
    **{color: f"--plot-{index + 1}" for index, color in enumerate(CYCLE)},
}
ROW = 0.24  # inches, of a legend's row
LETTER = 0.085  # inches, of a legend's words
LOOK: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # dollar signs in names are no formulas
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "grid.color": LINE,
    **{f"boxplot.{part}props.color": SOFT for part in ("box", "whisker", "cap")},  # black is lost on a dark page
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
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
        axes = drawing.add_subplot()
        figure.draw(axes)
        legend_below(axes)
        text = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        drawing.savefig(text, format="svg", transparent=True, metadata=nothing)  # type: ignore[reportUnknownMemberType]
    return inline(text.getvalue(), figure.title, prefix)


def legend_below(axes: Any) -> None:
    """Moves the legend of axes under them, where it lies on no curve; the figure grows by its rows."""
    legend = axes.get_legend()
    if legend is None:
        return
    handles, names = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
    title = legend.get_title().get_text()
    legend.remove()
    drawing = axes.figure
    width, height = drawing.get_size_inches()
    entry = max(map(len, names), default=0) * LETTER + 0.5  # the line before it, and a gap
    columns = max(1, min(len(names), int(width / entry)))
    rows = -(-len(names) // columns) + bool(title)
    drawing.set_size_inches(width, height + rows * ROW)
    drawing.legend(handles, names, loc="outside lower center", ncols=columns, title=title or None)


def themed(svg: str) -> str:
    """An SVG element whose colors follow the page's, light or dark; what a page does not know keeps its own."""
    return re.sub(
        r"(?<=: )#[0-9a-f]{6}\b",
        lambda found: f"var({VARIABLES[found[0]]}, {found[0]})" if found[0] in VARIABLES else found[0],
        svg,
    )


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
