"""What a user may ask of merging. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from visiontl.config.schema import Section


class MergeOptions(Section):
    how: Literal["greedy", "uniform", "path"] = Field(
        default="greedy",
        description="greedy: the mean of those runs of which each makes it better on val; uniform: the mean of all; "
        "path: the best place between two runs",
    )
    points: int = Field(default=11, ge=3, le=101, description="places measured on a path, both ends included")

    @model_validator(mode="after")
    def of_a_path(self) -> MergeOptions:
        if "points" in self.model_fields_set and self.how != "path":
            raise ValueError(f"points={self.points} is of how=path alone; how is {self.how}")
        return self
