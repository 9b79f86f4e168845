"""A new run from the weights of another one, or of a whole model of a library: `init` in a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from visiontl import plugins
from visiontl.backbone import NORMALIZATION, Backbone
from visiontl.backbones.weights import make_backbone
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.model import Built, model_folder, read_spec
from visiontl.engine.wholes import forget, names_a_run, whole_of
from visiontl.entry import BackboneEntry
from visiontl.errors import CheckpointError, WeightsError
from visiontl.freezing.layout import backbone_prefix
from visiontl.kit.classes import names_in
from visiontl.kit.words import count, some
from visiontl.processes import ranks
from visiontl.processes.seeds import INIT, mix, seeded
from visiontl.report.console import Console
from visiontl.runs import store
from visiontl.spec import ImageSpec
from visiontl.whole import Parts

OTHER_SHAPE = "absent there or of another shape"
COUNTER = "num_batches_tracked"  # of batch norm, which fixed norms have not: no weight
SHOWN = 8  # classes that a sentence names


@dataclass(frozen=True)
class Start:
    """The weights that a new run begins with, by the names of its own model.

    where: what they are from. classes: of its last layer, None where it does not say. why: its head is not taken
    over; "" where it may be. cut: names that the backbone of its task lacks; they are not counted. left: names of its
    own that have no place here.
    """

    where: str
    tensors: Mapping[str, Tensor]
    classes: Sequence[str] | None
    why: str = ""
    cut: Sequence[str] = ()
    left: Sequence[str] = ()


def backbone_like(resolved: Resolved, entry: BackboneEntry) -> Backbone:
    """The backbone of what `init` names, with random weights. Raises CheckpointError for a run with another one."""
    assert resolved.config.init is not None
    section = resolved.config.backbone
    if names_a_run(resolved.config.init):
        try:
            folder = model_folder(resolved.config.init)
        except CheckpointError as error:
            raise CheckpointError(f"init: {error}") from None
        theirs, _ = plugins.backbone_entry(resolve(folder / "config.yaml").config.backbone.name)
        if theirs.name != entry.name:
            raise CheckpointError(
                f"init: {folder} has the backbone {theirs.name}, the config {entry.name}; name the same"
            )
        spec: ImageSpec | None = read_spec(folder)
    else:
        spec = whole_of(resolved.task, resolved.config.init).spec
    given, size = section.preprocessing.given(), section.image_size
    if spec is not None:
        spec, size = replace(spec, **given), size or spec.size
    backbone = entry.build(
        spec=spec, in_channels=section.in_channels, output_stride=section.output_stride, image_size=size
    )
    if spec is None:
        backbone.set_spec(replace(backbone.spec, **given))
    return backbone


def warm_start(built: Built, console: Console) -> bool:
    """Load the weights of what `init` names, where names and shapes agree, and say so. True: the whole model.

    The backbone must fit, under whatever name the run's model holds it; what the run's task cut off of it comes from
    this config's own backbone.weights. The rest of the model (neck and head) is loaded from a run of the same task, or
    from another library's whole model: of the last layer the rows of classes of the same name, where the task says
    which rows those are; where it does not, a head with other names would be a wrong start. Raises CheckpointError,
    WeightsError.
    """
    text, task = built.resolved.config.init, built.resolved.task
    if text is None:
        return False
    parts = Parts() if task.parts is None else task.parts(built.resolved.cfg, built.model, built.meta)
    start = _of_run(built, parts) if names_a_run(text) else _of_whole(built, parts)
    own, prefix = built.model.state_dict(), backbone_prefix(built.model, built.backbone)
    fitting = {name: start.tensors[name] for name, v in own.items() if _fits(start.tensors.get(name), v)}
    if start.why:
        fitting = {name: value for name, value in fitting.items() if name.startswith(prefix)}
    else:
        fitting |= _by_class(own, start, parts)
    store.require_finite(Path(start.where), {**start.tensors, **fitting}, dict(built.model.named_parameters()))
    spec = built.backbone.spec
    built.model.load_state_dict({**own, **fitting})
    built.backbone.set_spec(spec)  # the config's own preprocessing wins over the other run's statistics
    lacking = [name for name in own if name not in fitting and name not in _uncounted(built, start)]
    _say(built, start, parts, lacking, console)
    forget()
    return not lacking and (not parts.rows or _kept(start, parts)[1] == [])


def _fits(given: Tensor | None, own: Tensor) -> bool:
    return given is not None and given.shape == own.shape


def _uncounted(built: Built, start: Start) -> set[str]:
    """Names of our model that are no weights, or that a whole model does without."""
    if built.resolved.config.init is None or names_a_run(built.resolved.config.init):
        return set()
    prefix = backbone_prefix(built.model, built.backbone)
    own = built.model.state_dict()
    return {name for name in own if name.endswith(COUNTER)} | {f"{prefix}{one}" for one in NORMALIZATION} | {*start.cut}


def _by_class(own: Mapping[str, Tensor], start: Start, parts: Parts) -> dict[str, Tensor]:
    """Tensors of the last layer, in which rows of the same class are the start's and all others stay as they are."""
    made: dict[str, Tensor] = {}
    for name, rows in parts.rows.items():
        given, ours = start.tensors.get(name), rows.labels()
        theirs = replace(rows, names=start.classes or ()).labels()
        if given is None or given.shape[1:] != own[name].shape[1:] or start.classes == list(rows.names):
            continue
        if start.classes is not None and len(theirs) != len(given):
            continue
        places = {label: place for place, label in enumerate(theirs)}
        made[name] = own[name].clone()
        for row, label in enumerate(ours):
            if label in places and start.classes is not None:
                made[name][row] = given[places[label]]
    return made


def _kept(start: Start, parts: Parts) -> tuple[list[str], list[str], list[str]]:
    """(classes that keep their rows, new ones, those of the start that are left out)"""
    ours = list(next(iter(parts.rows.values())).names)
    theirs = list(start.classes or ())
    return (
        [name for name in ours if name in theirs],
        [name for name in ours if name not in theirs],
        [name for name in theirs if name not in ours],
    )


def _say(built: Built, start: Start, parts: Parts, lacking: Sequence[str], console: Console) -> None:
    prefix, uncounted = backbone_prefix(built.model, built.backbone), _uncounted(built, start)
    counted = [name for name in built.model.state_dict() if name not in uncounted]
    found = [name for name in counted if name not in lacking and name not in start.cut]
    line = f"init: a new run from the weights of {start.where}: {len(found)} of {len(counted)} tensors"
    kinds = {
        "backbone": [name for name in counted if name.startswith(prefix)],
        "neck": [name for name in counted if name.startswith(parts.neck) and not name.startswith(prefix)],
    }
    kinds["head"] = [name for name in counted if not any(name in names for names in kinds.values())]
    if parts.rows:
        line += "".join(
            f"{', ' if i else ': '}{kind} {len([one for one in names if one in found])} of {len(names)}"
            for i, (kind, names) in enumerate((kind, names) for kind, names in kinds.items() if names)
        )
    if lacking:
        line += f"; new and random: {', '.join(lacking[:6])}{' ...' * (len(lacking) > 6)} ({start.why or OTHER_SHAPE})"
    console.say(line, keep=True)
    if start.left:
        console.say(f"init: {count(len(start.left), 'tensor')} of it have no place here: {some(start.left)}", keep=True)
    if parts.rows and not start.why:
        _say_classes(start, parts, console)
    if start.cut and names_a_run(str(built.resolved.config.init)):
        weights = built.resolved.config.backbone.weights
        told = console.warn if weights == "none" else partial(console.say, keep=True)
        told(
            f"init: that run's task cut {len(start.cut)} tensors off its backbone ({some(start.cut)}); they are from "
            f"this config's backbone.weights: {weights}"
        )


def _say_classes(start: Start, parts: Parts, console: Console) -> None:
    kept, new, gone = _kept(start, parts)
    if start.classes is None:
        console.say("init: it names no classes (a classes.txt beside the file would): their rows are new", keep=True)
    if not new and not gone:
        return
    named = {"kept by name": kept, "new": new, "left out": gone}
    said = "; ".join(f"{what} {len(names)} ({some(names, SHOWN)})" for what, names in named.items() if names)
    console.say(f"init: classes of the last layer: {said}", keep=True)
    rows = [[name, "kept" if name in kept else "new"] for name in (*kept, *new)]
    console.table("classes of the last layer", ["class", "rows"], rows)


def _of_whole(built: Built, parts: Parts) -> Start:
    """Raises WeightsError for a whole model that is not what the config builds."""
    resolved = built.resolved
    assert resolved.config.init is not None
    whole = whole_of(resolved.task, resolved.config.init)
    tensors, own = whole.tensors(built.model), built.model.state_dict()
    prefix = backbone_prefix(built.model, built.backbone)
    cut = [name for name in own if name.startswith(whole.cut)] if whole.cut else []
    free = {*cut, *(f"{prefix}{name}" for name in NORMALIZATION), *(name for name in own if name.endswith(COUNTER))}
    absent = [name for name in own if name not in tensors and name not in free]
    other = [n for n, v in own.items() if n in tensors and n not in parts.rows and tensors[n].shape != v.shape]
    if absent or other:
        name = (absent or other)[0]
        shape = "absent" if absent else f"{tuple(tensors[name].shape)} there"
        raise WeightsError(
            f"init: {resolved.config.init} ({whole.name}): {len(absent) + len(other)} of the model's {len(own)} "
            f"tensors do not fit, such as {name} ({shape}, {tuple(own[name].shape)} here): it is of another "
            "architecture, or a part of one; what the config says of the model must not differ from it"
        )
    left = [*whole.left, *(name for name in tensors if name not in own and not name.endswith(COUNTER))]
    classes = None if whole.classes is None else list(whole.classes)
    return Start(f"{resolved.config.init}", tensors, classes, cut=cut, left=left)


def _of_run(built: Built, parts: Parts) -> Start:
    folder = model_folder(str(built.resolved.config.init))
    given = store.read_tensors(folder, "model.safetensors")
    prefix = backbone_prefix(built.model, built.backbone)
    body, cut = _backbone_in(folder, given, built)
    meta = store.read_json(folder, "meta.json")
    why = _other_head(folder, meta, built, parts)
    tensors = {
        **{k: v for k, v in given.items() if not k.startswith(prefix)},
        **{f"{prefix}{k}": v for k, v in body.items()},
    }
    classes = None if why else _classes_in(meta, built.meta, parts)
    return Start(str(folder), tensors, classes, why, [f"{prefix}{name}" for name in cut])


def _classes_in(theirs: Mapping[str, Any], ours: Mapping[str, Any], parts: Parts) -> list[str] | None:
    """The classes of a run's last layer: what its meta holds where ours holds the names of our rows."""
    if not parts.rows:
        return None
    names = list(next(iter(parts.rows.values())).names)
    key = next((key for key, value in ours.items() if value == names), "")
    return names_in(theirs, key) if key in theirs else None


def _backbone_in(folder: Path, given: Mapping[str, Tensor], built: Built) -> tuple[dict[str, Tensor], list[str]]:
    """({name in the backbone: tensor}, the names that the run's task had cut off) for all of the backbone. Raises
    CheckpointError where the run's backbone is another one."""
    own, prefix = built.backbone.state_dict(), backbone_prefix(built.model, built.backbone)
    last = NORMALIZATION[0]  # every backbone has it, so it shows where one begins
    places = [name.removesuffix(last) for name in given if name == last or name.endswith(f".{last}")]
    place = max(
        [prefix, *places],
        key=lambda p: sum(f"{p}{k}" in given and given[f"{p}{k}"].shape == v.shape for k, v in own.items()),
    )
    found = {name: given[f"{place}{name}"] for name in own if f"{place}{name}" in given}
    broken = [name for name, tensor in found.items() if tensor.shape != own[name].shape]
    absent = [name for name in own if name not in found]
    if broken or len(absent) == len(own):
        name = (broken or absent)[0]
        shapes = f"{tuple(found[name].shape)} there, " if broken else "absent there, "
        raise CheckpointError(
            f"init: {folder}: {len(broken or absent)} tensors of its backbone do not fit, such as {prefix}{name} "
            f"({shapes}{tuple(own[name].shape)} here); use the same backbone settings (image_size, in_channels)"
        )
    if absent:
        section = built.resolved.config.backbone
        entry, _ = plugins.backbone_entry(section.name)
        make = partial(
            make_backbone,
            entry,
            section.weights,
            image_size=section.image_size or built.backbone.spec.size,
            in_channels=section.in_channels,
            output_stride=section.output_stride,
            strict=section.strict,
        )
        with seeded(mix(built.resolved.config.train.seed, INIT)):  # what no file gives is the same on every rank
            whole, _ = ranks.main_first(make)
        values = whole.state_dict()
        found |= {name: values[name] for name in absent}
    return found, absent


def _other_head(folder: Path, meta: Mapping[str, Any], built: Built, parts: Parts) -> str:
    """Why the run's head is not taken over; "" where it may be."""
    theirs = store.read_json(folder, "visiontl.json").get("task") if (folder / "visiontl.json").exists() else None
    if theirs is not None and theirs != built.resolved.task.name:
        return f"the run is of the task {theirs}"
    other = "" if parts.rows else _other_names(meta, built.meta)
    return f"the run has other {other}" if other else ""


def _other_names(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first key of meta under which both hold a list of texts, and not the same."""
    for key, value in ours.items():
        texts = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
        if texts and key in theirs and theirs[key] != value:
            return key
    return ""
