"""A page of a few sections: words, a table, plots. Imports no torch, and matplotlib only to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visiontl.report.comparison import drawn
from visiontl.report.items import Figure
from visiontl.report.page import render, slug
from visiontl.report.tables import Grid


@dataclass(frozen=True)
class Section:
    """words: paragraphs below the table and the plots, on how they are found."""

    title: str
    table: Grid | None = None
    figures: Sequence[Figure] = ()
    words: Sequence[str] = ()


def plain_page(
    title: str, verdict: Sequence[str], sections: Sequence[Section], command: str, notes: Sequence[str] = ()
) -> str:
    """The page, as one self-contained HTML text. verdict: paragraphs at the top."""
    told, names = list(notes), set[str]()
    shown: list[dict[str, Any]] = []
    for section in sections:
        place = slug(section.title, names)
        plots = drawn(section.figures, f"{place}-", told)
        shown.append(
            {"title": section.title, "place": place, "table": section.table, "plots": plots, "words": section.words}
        )
    return render("plain.html.j2", title=title, verdict=verdict, sections=shown, notes=told, command=command)
