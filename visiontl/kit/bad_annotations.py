"""Annotations that cannot be used (a box of three numbers, a polygon of two corners, a category that is not there): for
every task alike they end the reading, or are left out, counted and named. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visiontl.errors import DataError
from visiontl.kit.words import count, refusal, some, told

OnBad = Literal["error", "skip"]
MOST = 0.2  # share of a split's annotations; the default of the keys
ON_BAD_HELP = (
    "annotations that cannot be used, such as a box of three numbers; error: all of a file are named, and the run "
    "ends; skip: they are left out, counted and named"
)
MOST_HELP = "on_bad_annotation: skip only: largest share of a split's annotations that may be left out"


@dataclass(frozen=True)
class BadAnnotations:
    """What the keys task.data.on_bad_annotation and task.data.max_bad_annotations say."""

    on_bad: OnBad = "error"
    most: float = MOST

    def settle(self, where: Any, split: str, problems: Sequence[str], total: int) -> list[str]:
        """What becomes of the problems of a split or of one of its files: an error for all, or a note for who leaves
        these annotations out.

        where: the file or folder. problems: one an annotation, each naming it. total: annotations of the split, bad
        ones too. Raises DataError where they are not to be left out, or where they are more than may be.
        """
        if not problems:
            return []
        if self.on_bad == "error":
            way_out = "task.data.on_bad_annotation=skip leaves such annotations out, counted and named"
            head, *below = str(refusal(where, problems)).split("\n")
            if not below:
                raise DataError(f"{head}; {way_out}")
            raise DataError(head, lines=[*(line.strip() for line in below), f"({way_out})"])
        bad = count(len(problems), "annotation")
        # a name holds what its file says, so it is made fit for one line
        named = some([told(problem) for problem in problems], 3)
        if len(problems) > self.most * total:
            raise DataError(
                f"{where}: {split}: {bad} of {total:,} cannot be used, more than task.data.max_bad_annotations="
                f"{self.most:g} of them: {named}; mend them, or raise task.data.max_bad_annotations"
            )
        return [f"{split}: {bad} of {total:,} cannot be used, left out (task.data.on_bad_annotation): {named}"]
