"""From the outputs of a graph to what the run's own predict says of a photo. One function a kind of answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from visiontl.errors import CheckpointError, ConfigError, did_you_mean
from visiontl.runtime import pixels
from visiontl.runtime.views import Shown

Answer = Mapping[str, Any]  # `answer` of the description
Outputs = Mapping[str, np.ndarray]  # of one photo: the first dimension is 1


def classes(answer: Answer, outputs: Outputs, shown: Shown, options: Mapping[str, Any], photo: Image.Image) -> Any:
    """{"label", "probability"}, or {"labels"} of several, "top", and every class's probability where it is listed."""
    names = answer["classes"]
    logits = shaped(outputs, answer["output"], (len(names),))
    probability = softmax(logits) if answer["activation"] == "softmax" else sigmoid(logits)
    values = [float(one) for one in probability]
    order = np.argsort(-probability, kind="stable")[: options.get("top_k", answer["top"])]
    top = [{"label": names[i], "probability": values[i]} for i in order.tolist()]
    made: dict[str, Any] = {}
    if answer["single"]:
        made.update(top[0])
    else:
        least = options.get("threshold", answer["threshold"])
        made["labels"] = [name for name, p in zip(names, values, strict=True) if p >= least]
    made["top"] = top
    if options.get("probabilities", answer["listed"]):
        made["probabilities"] = dict(zip(names, values, strict=True))
    return made


def mask(answer: Answer, outputs: Outputs, shown: Shown, options: Mapping[str, Any], photo: Image.Image) -> Any:
    """{"mask": a picture of the photo's size as the training masks are, "area", "pixels", "size"}."""
    logits = shaped(outputs, answer["output"], (len(answer["classes"]), None, None))
    canvas = (shown.image.shape[2], shown.image.shape[3])
    found = pixels.decided(logits, canvas, shown.extent, shown.photo)  # (H, W) uint8
    counted = np.bincount(found.ravel(), minlength=256)
    names, wanted = answer["classes"], options.get("classes", answer["reported"])
    return {
        "mask": pixels.painted(found, answer),
        "area": {names[k]: round(int(counted[k]) / found.size, 6) for k in wanted},
        "pixels": {names[k]: int(counted[k]) for k in wanted},
        "size": list(found.shape),
    }


def vector(answer: Answer, outputs: Outputs, shown: Shown, options: Mapping[str, Any], photo: Image.Image) -> Any:
    return {answer["key"]: shaped(outputs, answer["output"], (None,)).astype(np.float32)}


def picture(answer: Answer, outputs: Outputs, shown: Shown, options: Mapping[str, Any], photo: Image.Image) -> Any:
    """{"size", key: the picture, in the photo's size and with its transparency}."""
    made = shaped(outputs, answer["output"], (3, None, None))[:, : shown.extent[0], : shown.extent[1]]
    colors = (made.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(colors))
    if image.size != photo.size:
        image = image.resize(photo.size, Image.Resampling.BICUBIC)
    alpha = photo.info.get("alpha")
    if alpha is not None and alpha.size == image.size:
        image.putalpha(alpha)
    return {**(answer.get("also") or {}), "size": [image.height, image.width], answer["key"]: image}


def boxes(answer: Answer, outputs: Outputs, shown: Shown, options: Mapping[str, Any], photo: Image.Image) -> Any:
    """{"count", "objects": [{"label", "score", "box"}], "size"}, by falling score, in the photo's pixels. Rows of the
    outputs beyond what was found have a score below 0."""
    scores = shaped(outputs, answer["scores"], (None,))
    corners, labels = shaped(outputs, answer["boxes"], (len(scores), 4)), outputs[answer["labels"]][0]
    names = answer["classes"]
    least, wanted = options.get("threshold", answer["threshold"]), options.get("classes", answer["reported"])
    kept = np.flatnonzero((scores >= least) & (scores >= 0) & np.isin(labels, wanted))
    kept = kept[: min(options.get("most", answer["most"]), answer["most"])]
    height, width = shown.photo
    scale = np.array([width / shown.extent[1], height / shown.extent[0]] * 2, dtype=np.float32)
    most = np.array([width, height] * 2, dtype=np.float32)
    corners = np.minimum((corners[kept] * scale).clip(min=0), most)
    objects = [
        {"label": names[label], "score": score, "box": [round(side, 2) for side in box]}
        for box, score, label in zip(corners.tolist(), scores[kept].tolist(), labels[kept].tolist(), strict=True)
    ]
    counted = [one["label"] for one in objects]
    return {
        "count": {name: counted.count(name) for name in names if name in counted},
        "objects": objects,
        "size": [height, width],
    }


def values(answer: Answer, outputs: Outputs, shown: Shown, options: Mapping[str, Any], photo: Image.Image) -> Any:
    """Numbers as they are, or shares of the photo's width and height as its pixels."""
    made: dict[str, Any] = {}
    for key, how in answer["keys"].items():
        found = outputs[how["output"]][0]
        if how.get("times") == "width_height":
            if found.shape[-1:] != (2,):
                raise CheckpointError(f"output {how['output']} has shape {found.shape}; pairs of shares were expected")
            found = found * np.array(shown.photo[::-1], dtype=found.dtype)
        made[key] = found.tolist()
    return made


def parts(answer: Answer, outputs: Outputs, shown: Shown, options: Mapping[str, Any], photo: Image.Image) -> Any:
    """{part: its own answer} of several tasks in one graph."""
    return {name: answered(own, outputs, shown, options.get(name, {}), photo) for name, own in answer["parts"].items()}


KINDS: Mapping[str, Callable[..., dict[str, Any]]] = {
    **{"classes": classes, "mask": mask, "vector": vector, "picture": picture, "boxes": boxes, "values": values},
    "parts": parts,
}


def answered(
    answer: Answer, outputs: Outputs, shown: Shown, options: Mapping[str, Any], photo: Image.Image
) -> dict[str, Any]:
    """outputs: of this photo alone. options: as `Model.options` gives them. photo: RGB."""
    return KINDS[answer["kind"]](answer, outputs, shown, options, photo)


def shaped(outputs: Outputs, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """The output of one photo as float32 of that shape. Raises CheckpointError for another."""
    found = outputs[name][0]
    fits = found.ndim == len(shape) and all(b in (None, a) for a, b in zip(found.shape, shape, strict=True))
    if not fits:
        said = " x ".join("any" if one is None else str(one) for one in shape)
        raise CheckpointError(f"output {name} has shape {tuple(found.shape)} for a photo; {said} was expected")
    return found.astype(np.float32, copy=False)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.clip(-80, 80)))


def whole(name: str) -> Callable[[Answer, Any], int]:
    def made(answer: Answer, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"option {name}: a whole number from 1 on was expected; got {value!r:.60}")
        return value

    return made


def share(answer: Answer, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"option threshold: a number of 0 to 1 was expected; got {value!r:.60}")
    return float(value)


def least(answer: Answer, value: Any) -> float:
    """A threshold that is no lower than what the graph itself keeps."""
    made = share(answer, value)
    if made < answer.get("kept", 0):
        raise ConfigError(
            f"option threshold: {made:g} is below {answer['kept']:g}, under which the graph keeps nothing"
        )
    return made


def truth(answer: Answer, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"option probabilities: true or false was expected; got {value!r:.60}")
    return value


def numbers(answer: Answer, value: Any) -> list[int]:
    names = answer["classes"]
    given = value if isinstance(value, list) else [value]
    for name in given:
        if name not in names:
            raise ConfigError(f"option classes: the model knows no {name!r:.60}{did_you_mean(str(name), names)}")
    return [names.index(name) for name in given]


OPTIONS: Mapping[str, Mapping[str, Callable[[Answer, Any], Any]]] = {  # kind -> name -> what checks it
    "classes": {"top_k": whole("top_k"), "threshold": share, "probabilities": truth},
    "mask": {"classes": numbers},
    "vector": {},
    "picture": {},
    "boxes": {"threshold": least, "classes": numbers, "most": whole("most")},
    "values": {},
}


def checked(answer: Answer, given: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Options as `answered` takes them. given: {name: value}; of several tasks {part: {name: value}}, or
    {"PART.name": value}. Raises ConfigError for one that the kind of answer does not have."""
    if answer["kind"] == "parts":
        return of_parts(answer["parts"], given)
    known = OPTIONS[answer["kind"]]
    for name in given:
        if name not in known:
            near = did_you_mean(name, known) if known else "; it takes none"
            settled = "what else a run can be asked is settled when it is exported"
            raise ConfigError(f"no option {place + name!r}{near}; {settled}")
    return {name: known[name](answer, value) for name, value in given.items()}


def of_parts(answers: Mapping[str, Answer], given: Mapping[str, Any]) -> dict[str, Any]:
    asked: dict[str, dict[str, Any]] = {name: {} for name in answers}
    for key, value in given.items():
        part, _, option = key.partition(".")
        if part not in answers:
            raise ConfigError(
                f"option {key}: no part {part!r}{did_you_mean(part, answers)}; parts are {', '.join(answers)}"
            )
        if option:
            asked[part][option] = value
        elif isinstance(value, Mapping):
            asked[part] |= value
        else:
            raise ConfigError(f"option {key}: got {value!r:.60}; expected an option of that part: {key}.OPTION=VALUE")
    return {name: checked(answers[name], own, f"{name}.") for name, own in asked.items()}
