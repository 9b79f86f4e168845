"""Configs that older versions kept in run folders, in the words of this one. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiontl.config.yaml_text import Parsed

CACHED = {True: "auto", False: "off"}  # what `train.cache` said -> `features.cache`
KEPT = ("manifest.json", "started.json", "model", "checkpoints")  # what lies beside the config of a run or a model


def of_a_run(path: Path) -> bool:
    """Whether a file is the config that a run, or an exported model, keeps."""
    return path.name == "config.yaml" and any((path.parent / name).exists() for name in KEPT)


def in_words_of_today(parsed: Parsed) -> Parsed:
    """Keys that were renamed since, under their new names; a config of today comes back as it is."""
    train = parsed.values.get("train")
    if not isinstance(train, Mapping) or not {"cache", "cache_views"} & train.keys():
        return parsed
    section: dict[str, Any] = dict(parsed.values.get("features") or {})
    if "cache" in train:
        section["cache"] = CACHED.get(train["cache"], train["cache"])
    if "cache_views" in train:
        section["views"] = train["cache_views"]
    rest = {key: value for key, value in train.items() if key not in ("cache", "cache_views")}
    return Parsed({**parsed.values, "train": rest, "features": section}, parsed.places, parsed.problems, parsed.source)
