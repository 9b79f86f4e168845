"""Scores of the classes that a run began with, and of those that it added, apart."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from visiontl.config.resolve import Resolved
from visiontl.engine.model import model_folder
from visiontl.engine.wholes import names_a_run, whole_of
from visiontl.errors import VisionTLError
from visiontl.runs import store

PER_CLASS = "per_class"  # the score, {class: number}, that is split


def apart(resolved: Resolved, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a split with the mean of `per_class` over old classes (`old_classes`) and over new ones
    (`new_classes`), where what `init` names knew some of them and not all. Other scores as they are."""
    found = scores.get(PER_CLASS)
    old = set(known_before(resolved)) if isinstance(found, Mapping) else set()
    if not isinstance(found, Mapping) or not old & found.keys() or not found.keys() - old:
        return dict(scores)
    values = {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
    groups = {"old_classes": [v for k, v in values.items() if k in old]}
    groups["new_classes"] = [v for k, v in values.items() if k not in old]
    return {**scores, **{name: fmean(group) for name, group in groups.items() if group}}


def known_before(resolved: Resolved) -> list[str]:
    """The classes of what `init` names; none where it names none, or is gone."""
    text = resolved.config.init
    if text is None or resolved.task.parts is None:
        return []
    try:
        if not names_a_run(text):
            return list(whole_of(resolved.task, text).classes or ())
        folder = model_folder(text)
        if store.read_json(folder, "visiontl.json").get("task") != resolved.task.name:
            return []
        classes = store.read_json(folder, "meta.json").get("classes")
    except (VisionTLError, OSError):
        return []
    return [one for one in classes if isinstance(one, str)] if isinstance(classes, list) else []
