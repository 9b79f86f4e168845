"""What a user may ask an explanation to be of: the core's own options beside those of the task. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, Field, create_model

from visiontl.config.schema import Section
from visiontl.errors import ConfigError
from visiontl.task import Task


class Place(Section):
    """Options of every explanation."""

    stage: str | None = Field(
        default=None, description="stage of the backbone whose last map is looked at; null: the deepest that counts"
    )


def explain_options(task: Task) -> type[BaseModel]:
    """The options of a task's explanations. Raises ConfigError for a task that names no number to explain."""
    if task.explain is None:
        raise ConfigError(f"task {task.name} names no number that an explanation could be of")
    if task.explain_options is None:
        return Place
    return create_model("ExplainOptions", __base__=(task.explain_options, Place))
