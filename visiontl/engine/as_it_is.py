"""Models as they are, without training: a whole model of a library, or what a config builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visiontl import plugins
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.folds import on_other_data
from visiontl.engine.given import through_json
from visiontl.engine.init import backbone_like, warm_start
from visiontl.engine.model import Built, build_model, load_model
from visiontl.engine.start import build, pretrained_backbone, read_data
from visiontl.engine.wholes import names_a_run, task_of, whole_of, with_start
from visiontl.errors import ConfigError
from visiontl.processes import ranks
from visiontl.processes.seeds import INIT, mix, seeded
from visiontl.report.console import Console
from visiontl.task import Data


def whole_config(text: str, data: str | Path | None, overrides: Sequence[str | Mapping[str, Any]] = ()) -> Resolved:
    """The config of a whole model on data. Raises ConfigError where there are none."""
    task = task_of(text)
    assert task is not None
    if data is None:
        raise ConfigError(f"{text} was trained on no data of yours; name some: visiontl evaluate {text} DATA")
    return resolve({"task": {"name": task.name, "data": str(data)}, "init": text}, overrides)


def names_a_whole(run: Path) -> bool:
    """Whether what is to be measured is no path but the name of a whole model."""
    return not run.exists() and task_of(str(run)) is not None


def as_it_is(
    text: str, data: str | Path | None, overrides: Sequence[Any], console: Console
) -> tuple[Built, Data, Path, str]:
    """The model with its own classes, the data in their order, and where the report goes: a new folder of this name in
    that one. Raises ConfigError for a model that names no classes."""
    resolved = with_start(whole_config(text, data, overrides), console)
    built = whole_built(resolved, console)
    found = ranks.main_first(lambda: read_data(resolved, built.backbone.spec, built.meta))
    for line in found.notes:
        console.say(line, keep=True)
    return built, found, Path(resolved.config.run.folder), "evaluate"


def as_built(
    config: str | Path | Resolved, data: str | Path | None, overrides: Sequence[str], console: Console
) -> tuple[Built, Data, Path, str]:
    """The same of a config: its model with its pretrained weights, and its data or others."""
    resolved = with_start(resolve(config, overrides), console)
    if data is not None:
        resolved = on_other_data(resolved, str(data))
    with seeded(mix(resolved.config.train.seed, INIT)):
        backbone, loaded = ranks.main_first(lambda: pretrained_backbone(resolved, console))
        built, found = build(resolved, backbone, loaded, console)
    warm_start(built, console)
    return built, found, Path(resolved.config.run.folder), f"evaluate-{Path(resolved.source).stem}"


def whole_built(resolved: Resolved, console: Console) -> Built:
    """The whole model that `init` names, with its own classes. Raises ConfigError for one that names none."""
    text = str(resolved.config.init)
    whole = ranks.main_first(lambda: whole_of(resolved.task, text))
    if whole.classes is None:
        raise ConfigError(f"{text}: it names no classes; put a classes.txt beside its file, one name a line")
    meta = through_json(whole.meta(resolved.cfg, whole.classes))
    entry, _ = plugins.backbone_entry(resolved.config.backbone.name)
    with seeded(mix(resolved.config.train.seed, INIT)):
        built = build_model(resolved, backbone_like(resolved, entry), meta)
    warm_start(built, console)
    built.model.eval()
    return built


def before(resolved: Resolved) -> Built:
    """The model that a run begins from, as it was: another run's, or a whole one of a library."""
    text = str(resolved.config.init)
    return load_model(text) if names_a_run(text) else whole_built(resolved, Console(main=False))
