"""What a user may ask of a model and of its explanations: the core's own options beside those of the task. Imports no
torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from visiontl.config.schema import Section
from visiontl.errors import ConfigError
from visiontl.task import Task


class Place(Section):
    """Options of every explanation."""

    stage: str | None = Field(
        default=None,
        description="look at the last map of this stage of the backbone; null: at what the answer is computed from",
    )
    method: Literal["gradcam", "hirescam"] | None = Field(
        default=None,
        description="how places count: by the mean of the gradient over all, or by each one's own; null: gradcam for "
        "what is said of the whole photo, hirescam for what is said of a part of it",
    )


def explain_options(task: Task) -> type[BaseModel]:
    """The options of a task's explanations. Raises ConfigError for a task that names no number to explain."""
    if task.explain is None:
        raise ConfigError(f"task {task.name} names no number that an explanation could be of")
    if task.explain_options is None:
        return Place
    return create_model("ExplainOptions", __base__=(task.explain_options, Place))


def of_model(options: type[BaseModel] | None, cfg: Any, meta: Mapping[str, Any]) -> type[BaseModel] | None:
    """Options as one model has them. cfg: its task section, meta: what it knows of its data. A class of options whose
    fields depend on these says which they are by a class method `of_model(cfg, meta)`; any other
    is as it is."""
    narrowed = getattr(options, "of_model", None)
    return options if narrowed is None else narrowed(cfg, meta)
