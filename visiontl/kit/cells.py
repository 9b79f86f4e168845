"""Text in the cells of a table: what a spreadsheet would take for a formula is marked as text. Imports no torch."""

from __future__ import annotations

import re

# Signs with which spreadsheets begin a formula (OWASP, CSV injection), perhaps behind marks that stand there already
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def marked(text: str) -> str:
    """Text for a cell: behind an apostrophe where it would be a formula, so that a spreadsheet shows it and runs
    nothing. `unmarked` gives it back."""
    return f"'{text}" if FORMULA.match(text) else text


def unmarked(cell: str) -> str:
    """A cell as it was before `marked`."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
