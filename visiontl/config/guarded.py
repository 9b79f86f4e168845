"""The steps of a task as a run calls them: what each of them gives is looked at before anything goes on with it, so
that a stranger's mistake is told with task, field, what was found and what was expected. It imports no torch itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visiontl.errors import PluginError, VisionTLError, shortened
from visiontl.export import Export
from visiontl.kit.words import count
from visiontl.report.items import Figure, Finding, Pictures, Table
from visiontl.task import STEPS, Data, Task

SHOWN = 60  # characters of a value in a message
CHANNELS = (1, 3, 4)  # of images, where they stand last by mistake
PLAIN = (str, int, float, type(None), list, tuple, Mapping)
IMAGES = "`image` of shape (B, 3, H, W), or a list of (3, H, W) tensors"


@dataclass(frozen=True)
class Guarded:
    """A step of a task that answers for what it gives. Pickles where the step itself does.

    Raises PluginError for an answer of another kind; an error that the step raises says whose step it was."""

    task: str
    step: str
    function: Callable[..., Any]

    def __call__(self, *given: Any) -> Any:
        try:
            return GUARDS[self.step](self, *given)
        except VisionTLError:
            raise
        except Exception as error:
            if not getattr(error, "__notes__", ()):
                error.add_note(f"in `{self.step}` of task {self.task!r}")
            raise

    def refuse(self, found: Any, expected: str, what: str = "") -> PluginError:
        """The error for an answer, or for what is called `what` in it."""
        said = f"{what} is {kind(found)}" if what else f"it gave {kind(found)}"
        return PluginError(f"task {self.task!r}: {self.step}: {said}; expected {expected}")


def guarded(task: Task) -> Task:
    """The same task, whose steps answer for what they give."""
    steps = {step: Guarded(task.name, step, getattr(task, step)) for step in STEPS if step in GUARDS}
    steps = {step: one for step, one in steps.items() if one.function is not None}
    writers = {form: Guarded(task.name, "samples", write) for form, write in task.samples.items()}
    return replace(task, **{**steps, "samples": writers})


def openers(task: Task, cfg: Any) -> Mapping[str, Guarded]:
    """{suffix: how such files become pictures} under this config. Raises PluginError for an answer of another kind."""
    found = task.opens(cfg) if callable(task.opens) else task.opens
    if not isinstance(found, Mapping) or not all(map(callable, found.values())):  # type: ignore[reportUnnecessaryIsInstance]
        raise Guarded(task.name, "opens", openers).refuse(found, "{suffix: a function (cfg, file) -> picture}")
    return {suffix: Guarded(task.name, "opens", one) for suffix, one in found.items()}


def kind(value: Any) -> str:
    """A value in a few words, for somebody who did not expect it: `None`, `a Tensor (4, 2)`, `a list of 3`."""
    if value is None or isinstance(value, bool):
        return repr(value)
    name = type(value).__name__
    article = "an" if name[:1].lower() in "aeiou" else "a"
    if isinstance(value, str | int | float):
        return f"{article} {name}, {shortened(repr(value), SHOWN)}"
    if isinstance(value, Mapping):
        return f"{article} {name} with {shortened(', '.join(map(str, value)) or 'nothing in it', SHOWN)}"
    if hasattr(value, "shape"):
        return f"{article} {name} of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | set):
        return f"{article} {name} of {len(value)}"
    return f"{article} {name}"


def _named(one: Guarded, found: Any, expected: str) -> None:
    """A mapping whose keys are texts."""
    if not isinstance(found, Mapping):
        raise one.refuse(found, expected)
    if strange := [key for key in found if not isinstance(key, str)]:
        raise one.refuse(strange[0], "a text", "a key of it")


def _data(one: Guarded, *given: Any) -> Any:
    found = one.function(*given)
    if not isinstance(found, Data):
        raise one.refuse(found, "a visiontl.Data")
    _meta(one, found.meta)
    if not isinstance(found.notes, list | tuple) or not all(isinstance(note, str) for note in found.notes):
        raise one.refuse(found.notes, "a list of sentences", "notes")
    for name, split in {**found.splits(), **({"still": found.still} if found.still is not None else {})}.items():
        _split(one, name, split)
    if found.still is not None and (found.train is None or len(found.still) != len(found.train)):
        raise one.refuse(len(found.still), "as many images as train has", "the length of still")
    return found if found.batches is None else replace(found, batches=Guarded(one.task, "batches", found.batches))


def _meta(one: Guarded, meta: Any) -> None:
    expected = "texts, finite numbers, true, false, None, and lists and mappings of them"
    if not isinstance(meta, Mapping):
        raise one.refuse(meta, "a mapping of JSON values", "meta")
    for key, value in meta.items():
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise PluginError(
                f"task {one.task!r}: data: {key!r} of meta is no JSON ({error}); expected {expected}"
            ) from None


def _batches(one: Guarded, *given: Any) -> list[list[int]]:
    expected = "lists of ids, each one process's batch"
    found = _listed(one, one.function(*given), expected)
    for ids in found:
        if not isinstance(ids, Sequence) and not hasattr(ids, "tolist"):
            raise one.refuse(ids, expected, "an item of it")
        if not len(ids):
            raise one.refuse(ids, "at least one id", "a batch of it")
        if strange := [id for id in ids if not hasattr(id, "__index__")]:
            raise one.refuse(strange[0], "a whole number", "an id of it")
    return [[int(id) for id in ids] for ids in found]


def _split(one: Guarded, name: str, split: Any) -> None:
    lacking = [part for part in ("__len__", "__getitem__", "image", "names") if not hasattr(split, part)]
    if lacking:
        wanted = "len(split), split[id, seed], split.image(id) and split.names"
        raise one.refuse(split, wanted, f"{name} lacks `{lacking[0]}`: it")
    length = type(split).__len__(split)  # len() itself would refuse in words of its own
    if isinstance(length, bool) or not isinstance(length, int):
        raise one.refuse(length, "a whole number", f"the length of {name}")
    if not length:
        raise PluginError(f"task {one.task!r}: data: {name} has no image; leave a split out (None) that would be empty")
    if not hasattr(split.names, "__len__") or len(split.names) != length:
        raise one.refuse(split.names, f"a name for each of its {count(length, 'image')}", f"names of {name}")


def _sample(one: Guarded, *given: Any) -> Any:
    prepare = one.function(*given)
    if not callable(prepare):
        raise one.refuse(prepare, "a function: (PIL image) -> sample")

    def prepared(photo: Any) -> Any:
        made = prepare(photo)
        if not isinstance(made, Mapping):
            raise one.refuse(made, "a dict with `image` and `size`", "what its function gives for a photo")
        return made

    return prepared


def _collate(one: Guarded, cfg: Any, samples: Any, *given: Any) -> Any:
    if strange := [made for made in samples if not isinstance(made, Mapping)]:
        raise one.refuse(strange[0], "a dict from `split[id, seed]` and from `sample`", "a sample that it gets")
    batch = one.function(cfg, samples, *given)
    _named(one, batch, f"a dict with {IMAGES}")
    images = batch.get("image")
    if images is None:
        raise one.refuse(batch, f"a dict with {IMAGES}")
    if isinstance(images, list | tuple):
        strange = [image for image in images if getattr(image, "ndim", 0) != 3]
        if strange or not images:
            raise one.refuse(strange[0] if strange else images, "(3, H, W) tensors", "an item of `image`")
    elif not hasattr(images, "is_floating_point"):
        raise one.refuse(images, "a tensor (B, 3, H, W), or a list of (3, H, W) tensors", "`image`")
    elif images.ndim != 4:
        raise one.refuse(images, "(B, 3, H, W)", "`image`")
    elif images.shape[3] in CHANNELS and images.shape[1] not in CHANNELS:
        raise one.refuse(images, "(B, 3, H, W): channels first", "`image`")
    if not len(images) or len(images) % len(samples):
        raise one.refuse(images, f"one image for each of {count(len(samples), 'sample')}", "`image`")
    return batch


def _model(one: Guarded, *given: Any) -> Any:
    from torch import nn

    backbone = given[1]
    model = one.function(*given)
    if not isinstance(model, nn.Module):
        raise one.refuse(model, "an nn.Module that holds the backbone")
    if not any(module is backbone for module in model.modules()):
        raise one.refuse(model, "self.backbone = backbone in it: the backbone that it was given")
    return model


def _loss(one: Guarded, cfg: Any, outputs: Any, *given: Any) -> Any:
    from torch import Tensor

    _outputs(one, outputs)
    losses = one.function(cfg, outputs, *given)
    _named(one, losses, "{'loss': a tensor of shape ()}")
    if not isinstance(losses.get("loss"), Tensor):
        raise one.refuse(losses.get("loss"), "a tensor of shape (), computed from the outputs", "`loss` in it")
    for name, value in losses.items():
        if not isinstance(value, int | float | Tensor) or (isinstance(value, Tensor) and value.numel() != 1):
            raise one.refuse(value, "a tensor of shape (), or a number", f"{name!r} in it")
    return losses


def _outputs(one: Guarded, outputs: Any) -> None:
    if outputs is None:
        raise PluginError(f"task {one.task!r}: model: its forward gave None; expected outputs: a dict, list or tensor")


def _rows(one: Guarded, cfg: Any, outputs: Any, *given: Any) -> Any:
    _outputs(one, outputs)
    rows = one.function(cfg, outputs, *given)
    return _listed(one, rows, "a list with one record for each image")


def _listed(one: Guarded, found: Any, expected: str) -> Any:
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise one.refuse(found, expected)
    return found


def _score(one: Guarded, *given: Any) -> Any:
    scores = one.function(*given)
    _named(one, scores, "a dict of scores: {'accuracy': 0.93, ...}")
    return scores


def _trivial(one: Guarded, *given: Any) -> Any:
    found = one.function(*given)
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], str):
        raise one.refuse(found, "(the answer in words, rows)")
    _listed(one, found[1], "(the answer in words, a list of rows)")
    return found


def _predict(one: Guarded, cfg: Any, model: Any, batches: Iterator[Any], meta: Any, options: Any) -> Iterator[Any]:
    photos, made = 0, 0

    def counted() -> Iterator[Any]:
        nonlocal photos
        for batch in batches:
            photos += len(batch["id"])
            yield batch

    found = one.function(cfg, model, counted(), meta, options)
    if isinstance(found, Mapping | str) or not hasattr(found, "__iter__"):
        raise one.refuse(found, "an iterator of dicts, one for each photo: `yield` each")
    for prediction in found:
        made += 1
        _named(one, prediction, "a dict for each photo")
        for key, value in prediction.items():
            if not isinstance(value, PLAIN) and not hasattr(value, "tolist") and not hasattr(value, "save"):
                raise one.refuse(value, "JSON values, NumPy arrays or PIL images", f"{key!r} in it")
        if made > photos:
            raise PluginError(f"task {one.task!r}: predict: it gave {count(made, 'dict')} for {_photos(photos)}")
        yield prediction
    if made < photos:
        raise PluginError(f"task {one.task!r}: predict: it gave {count(made, 'dict')} for {_photos(photos)}")


def _photos(number: int) -> str:
    return f"{count(number, 'photo')}; expected one for each, in the order of the batches"


def _draw(one: Guarded, *given: Any) -> Any:
    picture = one.function(*given)
    if not hasattr(picture, "convert"):
        raise one.refuse(picture, "a PIL image")
    return picture


def _files(one: Guarded, *given: Any) -> Any:
    found = one.function(*given)
    _named(one, found, "{name of a file: its text}")
    if strange := [name for name, text in found.items() if not isinstance(text, str)]:
        raise one.refuse(found[strange[0]], "its text", f"{strange[0]!r} in it")
    return found


def _report(one: Guarded, *given: Any) -> Any:
    items = _listed(one, one.function(*given), "a list of visiontl.Figure, Table and Pictures")
    if strange := [item for item in items if not isinstance(item, Figure | Table | Pictures)]:
        raise one.refuse(strange[0], "a visiontl.Figure, Table or Pictures", "an item of it")
    return items


def _preview(one: Guarded, *given: Any) -> Any:
    shown = one.function(*given)
    if not isinstance(shown, Pictures):
        raise one.refuse(shown, "visiontl.Pictures")
    return shown


def _mistakes(one: Guarded, *given: Any) -> Any:
    found = _listed(one, one.function(*given), "a list of (id, words)")
    if strange := [pair for pair in found if not isinstance(pair, tuple | list) or len(pair) != 2]:
        raise one.refuse(strange[0], "(id, words)", "an item of it")
    return found


def _check(one: Guarded, *given: Any) -> Any:
    found = _listed(one, one.function(*given), "a list of visiontl.Finding and Table")
    if strange := [item for item in found if not isinstance(item, Finding | Table)]:
        raise one.refuse(strange[0], "a visiontl.Finding or Table", "an item of it")
    return found


def _refuse(one: Guarded, *given: Any) -> Any:
    reason = one.function(*given)
    if reason is not None and not isinstance(reason, str):
        raise one.refuse(reason, "the reason in words, or None")
    return reason


def _export(one: Guarded, *given: Any) -> Any:
    made = one.function(*given)
    if not isinstance(made, Export):
        raise one.refuse(made, "a visiontl.Export")
    return made


def _example(one: Guarded, *given: Any) -> Any:
    place = one.function(*given)
    if place is None:
        raise one.refuse(place, "the value of task.data that reads it: `return str(folder)`")
    return place


def _opens(one: Guarded, *given: Any) -> Any:
    picture = one.function(*given)
    if getattr(picture, "mode", None) != "RGB":
        raise one.refuse(picture, 'an RGB PIL image: `.convert("RGB")`')
    return picture


def _samples(one: Guarded, *given: Any) -> Any:
    section = one.function(*given)
    _named(one, section, "keys of the `task:` section, `data` among them")
    if "data" not in section:
        raise one.refuse(section, "keys of the `task:` section, `data` among them")
    return section


GUARDS: Mapping[str, Callable[..., Any]] = {
    "data": _data,
    "batches": _batches,
    "sample": _sample,
    "collate": _collate,
    "model": _model,
    "loss": _loss,
    "rows": _rows,
    "score": _score,
    "trivial": _trivial,
    "predict": _predict,
    "draw": _draw,
    "files": _files,
    "report": _report,
    "preview": _preview,
    "mistakes": _mistakes,
    "check": _check,
    "export": _export,
    "refuse": _refuse,
    "example": _example,
    "samples": _samples,
    "opens": _opens,
}
