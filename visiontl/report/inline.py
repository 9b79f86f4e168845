"""Pieces of HTML for a notebook's cell: self-contained, escaped, in colors that a light and a dark page can show.

Styles stand in the elements, and curves are pictures, because notebooks strip style sheets, scripts and SVG elements.
Imports no matplotlib.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from visiontl.errors import clean
from visiontl.report.formats import cell

LINE = "rgba(128,128,128,.35)"
INK, BLUE, ORANGE = "#808080", "#4a90c2", "#d07a2d"  # seen on white and on black
COLORS = (BLUE, ORANGE, "#4f9d69", "#a06cc0")
CHART = (330, 170)  # pixels (width, height)
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 26, 22  # pixels around the curves


def text(value: Any) -> str:
    """Anything as the text of an element."""
    return html.escape(clean(str(value)))


def card(title: str, status: str, parts: Iterable[str]) -> str:
    """What a cell shows: a title, a few words beside it in a softer tone, and what stands below."""
    head = (
        f'<div style="margin-bottom:.4em"><b>{text(title)}</b>{soft(f"&ensp;{text(status)}") if status else ""}</div>'
    )
    inside = "".join([head, *filter(None, parts)])
    return (
        f'<div style="border:1px solid {LINE};border-radius:6px;padding:.7em 1em;max-width:60em;line-height:1.45;'
        f'font-variant-numeric:tabular-nums;overflow-wrap:anywhere">{inside}</div>'
    )


def soft(markup: str) -> str:
    """Markup in a softer tone."""
    return f'<span style="opacity:.7">{markup}</span>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Cells are texts. right: the columns that are set to the right."""

    def line(kind: str, cells: Sequence[str]) -> str:
        made: list[str] = []
        for value, to_right in zip(cells, right, strict=True):
            look = f"text-align:{'right' if to_right else 'left'};padding:.15em 1em .15em 0;border:0"
            weight = ";font-weight:600;opacity:.7" if kind == "th" else ""
            made.append(f'<{kind} style="{look}{weight};border-bottom:1px solid {LINE}">{text(value)}</{kind}>')
        return f'<tr style="background:none">{"".join(made)}</tr>'

    head = line("th", columns) if any(columns) else ""
    body = "".join(line("td", row) for row in rows)
    look = "border-collapse:collapse;margin:.3em 0;font-size:.95em"
    return f'<div style="overflow-x:auto"><table style="{look}">{head}{body}</table></div>'


def bullets(items: Sequence[str], most: int = 8) -> str:
    """Sentences as a list; how many were left out is said."""
    shown = [text(item) for item in items[:most]]
    if len(items) > most:
        shown.append(soft(f"and {len(items) - most} more"))
    inside = "".join(f'<li style="margin:.15em 0">{item}</li>' for item in shown)
    return f'<ul style="margin:.2em 0;padding-left:1.2em">{inside}</ul>' if shown else ""


def folded(title: str, markup: str) -> str:
    """Markup that is shown when its title is clicked."""
    summary = f'<summary style="cursor:pointer">{text(title)}</summary>'
    return f'<details style="margin:.3em 0">{summary}{markup}</details>' if markup else ""


def link(path: Path, label: str) -> str:
    """A link to a file: relative below the current folder, as notebooks want it, else its whole address."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive
        relative = os.pardir
    outside = relative.startswith(os.pardir)
    address = path.absolute().as_uri() if outside else quote(Path(relative).as_posix().encode(errors="surrogateescape"))
    return f'<a href="{html.escape(address)}" target="_blank" style="color:{BLUE}">{text(label)}</a>'


def picture(image: Any, side: int, words: str = "") -> str:
    """A PIL image as an element, its longer side at most `side` pixels. words: for who cannot see it."""
    small = image if image.mode in ("RGB", "L", "RGBA") else image.convert("RGB")
    small = small.copy()
    small.thumbnail((side, side))
    data = io.BytesIO()
    kind = "PNG" if small.mode == "RGBA" else "JPEG"
    small.save(data, kind, **({} if kind == "PNG" else {"quality": 80, "optimize": True}))
    source = f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
    return f'<img src="{source}" alt="{text(words)}" style="max-width:100%;height:auto;display:block;margin:0">'


Points = tuple[Sequence[float], Sequence[float]]  # (x, y)


def chart(title: str, curves: Mapping[str, Points]) -> str:
    """Curves over the step as a picture; empty without two points of a curve."""
    curves = {name: points for name, points in curves.items() if len(points[0]) > 1}
    if not curves:
        return ""
    xs = [x for points in curves.values() for x in points[0]]
    ys = [y for points in curves.values() for y in points[1]]
    box = (min(xs), max(xs), min(ys), max(ys))
    lines: list[str] = []
    names: list[str] = []
    for (name, points), color in zip(curves.items(), COLORS, strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed(points, box))
        lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"/>')
        names.append(f'<tspan fill="{color}"> {text(name)} </tspan>')
    width, height = CHART
    axis = f"M{LEFT} {TOP}V{height - BOTTOM}H{width - RIGHT}"
    written = [
        (LEFT - 5, TOP + 4, "end", text(cell(float(box[3])))),
        (LEFT - 5, height - BOTTOM, "end", text(cell(float(box[2])))),
        (LEFT, height - 6, "start", text(cell(box[0]))),
        (width - RIGHT, height - 6, "end", f"step {text(cell(box[1]))}"),
        (LEFT, 15, "start", f'<tspan font-weight="bold">{text(title)}</tspan>'),
        (width - RIGHT, 15, "end", "".join(names) if len(names) > 1 else ""),
    ]
    words = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{one}</text>' for x, y, anchor, one in written)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}"><path d="{axis}" fill="none" stroke="{INK}" '
        f'stroke-opacity=".6"/>{"".join(lines)}{words}</svg>'
    )
    data = base64.b64encode(svg.encode("utf-8", "replace")).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{text(title)}" style="display:inline-block;margin:.3em">'


def placed(points: Points, box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    """Points within (lowest x, highest x, lowest y, highest y) -> pixels; a flat curve is in the middle."""
    x0, x1, y0, y1 = box
    width, height = CHART[0] - LEFT - RIGHT, CHART[1] - TOP - BOTTOM
    across = [(x - x0) / (x1 - x0) if x1 > x0 else 0.5 for x in points[0]]
    up = [(y - y0) / (y1 - y0) if y1 > y0 else 0.5 for y in points[1]]
    return [(LEFT + x * width, TOP + (1 - y) * height) for x, y in zip(across, up, strict=True)]
