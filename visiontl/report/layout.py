"""Text within the width of a terminal: lines and tables that break between words. Imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TextIO

from visiontl.errors import clean
from visiontl.outlet import Outlet, say
from visiontl.report.formats import columns_wide

NARROWEST = 20  # columns; what claims to be narrower is taken for that
DEFAULT = 80  # columns of a terminal that does not say
LISTED = 40  # rows of a table that is too wide for its terminal, up to which each becomes a list
WORD = re.compile(r"\S+")
PIECE = re.compile(r"[^\s/_]+[/_]?|[/_]")  # of a path or a name
GAP = "  "  # between the columns of a table


def width_of(stream: TextIO | Outlet | None) -> int | None:
    """Columns of the terminal that a stream writes to; None where it is none, and lines stay whole. COLUMNS overrides
    what the terminal says, as everywhere."""
    try:
        if stream is None or not stream.isatty():
            return None
        told = os.environ.get("COLUMNS", "")
        columns = int(told) if told.isdecimal() else os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return max(columns or DEFAULT, NARROWEST)


def tell(text: str, stream: TextIO | None) -> None:
    """Print a text, within the width of a terminal, with what would steer one, or cannot be encoded, written out."""
    say(wrapped(clean(text), width_of(stream)), stream)


def wrapped(text: str, width: int | None) -> str:
    """Each line of a text in as many as it needs, broken at blanks. Those that follow are indented as far as an item's
    text, or the second column of a list, begins.

    A word that is longer than a line (a path) stays whole, and what stands in backticks where it fits into a line.
    """
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> list[str]:
    if columns_wide(line) <= width:
        return [line]
    indent = " " * _indent(line, width)
    room = width - len(indent)
    words = re.findall(r"\s*\S+(?: \S+)*", line)  # `loss 0.5  lr 1.0e-3`: pairs, two blanks apart
    if len(words) < 3 or any(columns_wide(word.strip()) > room for word in words):
        words = []
        for piece in re.findall(r"\s*(?:`[^`]*`|\S)+", line):
            words += [piece] if columns_wide(piece.strip()) <= room else re.findall(r"\s*\S+", piece)
    parts = [words[0]]
    for word in words[1:]:
        if columns_wide(parts[-1] + word) <= width:
            parts[-1] += word
        else:
            parts.append(indent + word.strip())
    return parts


def _indent(line: str, width: int) -> int:
    """Where the lines that follow a line begin."""
    lead = len(line) - len(line.lstrip())
    longest = max(map(columns_wide, line.split()), default=0)
    for start in (r"\s*- ", r"\s*\S(?:.*?\S)?\s{2,}(?=\S)"):
        found = re.match(start, line)
        if found and lead < found.end() <= min(width // 2, max(width - longest, 0)):
            return found.end()
    return min(lead + 2, width // 2)


def table_lines(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    width: int | None = None,
) -> list[str]:
    """A table as lines of text. right: the columns that are set to the right. width: columns of the terminal, None for
    any: cells are then broken at blanks, and where even that is too wide each row becomes a list; where such lists were
    too many, names are broken behind / and _ instead."""
    natural = [max(columns_wide(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = wrapped(title, width).split("\n") if title else []
    widths: list[int] | None = natural
    if width is not None:
        parts = [WORD] if len(rows) <= LISTED else [WORD, PIECE]
        narrow = (_fitted(natural, _least(columns, rows, right, part), width - len(GAP)) for part in parts)
        widths = next((found for found in narrow if found), None)
        if widths is None:
            return lines + _lists(columns, rows, width)
    for row in [columns, ["-" * wide for wide in widths], *rows]:
        lines += _row(row, widths, right)
    return lines


def _least(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], part: re.Pattern[str]
) -> list[int]:
    """How wide each column is at least: its longest part; as it is where it holds numbers."""
    found: list[int] = []
    for i, to_right in enumerate(right):
        texts = [columns[i], *(row[i] for row in rows)]
        parts = texts if to_right else (one for text in texts for one in part.findall(text))
        found.append(max((columns_wide(one) for one in parts), default=0))
    return found


def _fitted(natural: Sequence[int], least: Sequence[int], width: int) -> list[int] | None:
    """Widths that go together into `width`, where the widest columns give way first; None where there are none."""
    widths = list(natural)
    over = sum(widths) + len(GAP) * (len(widths) - 1) - width
    while over > 0:
        giving = [i for i in range(len(widths)) if widths[i] > least[i]]
        if not giving:
            return None
        widest = max(giving, key=lambda i: widths[i])
        others = [widths[i] for i in giving if widths[i] < widths[widest]]
        step = max(1, min(over, widths[widest] - max(least[widest], *others, 0)))
        widths[widest] -= step
        over -= step
    return widths


def _row(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """One row in as many lines as its highest cell has."""
    cells = [_cell(text, width) for text, width in zip(row, widths, strict=True)]
    lines: list[str] = []
    for number in range(max(map(len, cells), default=1)):
        padded: list[str] = []
        for cell, width, to_right in zip(cells, widths, right, strict=True):
            text = cell[number] if number < len(cell) else ""
            space = " " * (width - columns_wide(text))
            padded.append(space + text if to_right else text + space)
        lines.append((GAP + GAP.join(padded)).rstrip())
    return lines


def _cell(text: str, width: int) -> list[str]:
    if columns_wide(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        if columns_wide(lines[-1]) + bool(lines[-1]) + columns_wide(word) <= width:
            lines[-1] += f" {word}" if lines[-1] else word
            continue
        pieces = [word] if columns_wide(word) <= width else PIECE.findall(word)
        for number, piece in enumerate(pieces):
            if lines[-1] and (number == 0 or columns_wide(lines[-1] + piece) > width):
                lines.append("")
            lines[-1] += piece
    return lines


def _lists(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Each row as lines of `column  value`, with an empty line between rows."""
    wide = max(map(columns_wide, columns), default=0)
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        for name, text in zip(columns, row, strict=True):
            if text:
                lines += wrapped(f"{GAP}{name}{' ' * (wide - columns_wide(name))}{GAP}{text}", width).split("\n")
    return lines
