"""Answers for new photos, as values and as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from visiontl_classification.config import ClassificationConfig, PredictOptions

LISTED = 100  # classes up to which every probability is given unasked
SMALLEST = 160  # pixels; a picture with a shorter side is enlarged before words are put on it
LARGEST = 4096  # pixels; no longer side is enlarged beyond it: a strip of 100,000 x 1 would fill the memory


def predict(
    cfg: ClassificationConfig,
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    meta: Mapping[str, Any],
    options: PredictOptions | None = None,
) -> Iterator[dict[str, Any]]:
    """One dict per image.

    single: {"label", "probability", "top": [{"label", "probability"}, ...]}; multi: {"labels": those from
    the threshold on, "top"}; and "probabilities": {class: p} as options.probabilities says.
    """
    options = options or PredictOptions.model_validate({})
    names = meta["classes"]
    listed = options.probabilities if options.probabilities is not None else len(names) <= LISTED
    for batch in batches:
        probability = _probability(cfg, model, batch)  # (B, K)
        if options.flip:
            mirrored = {**batch, "image": batch["image"].flip(-1)}
            probability = (probability + _probability(cfg, model, mirrored)) / 2
        order = probability.argsort(dim=1, descending=True, stable=True)[:, : options.top_k]
        for values, best in zip(probability.tolist(), order.tolist(), strict=True):
            top = [{"label": names[i], "probability": values[i]} for i in best]
            answer: dict[str, Any] = {}
            if cfg.labels == "single":
                answer.update(top[0])
            else:
                answer["labels"] = [name for name, p in zip(names, values, strict=True) if p >= options.threshold]
            answer["top"] = top
            if listed:
                answer["probabilities"] = dict(zip(names, values, strict=True))
            yield answer


def _probability(cfg: ClassificationConfig, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    logits = model(batch)["logits"].float()
    return (logits.sigmoid() if cfg.labels == "multi" else logits.softmax(1)).cpu()


def draw(image: Image.Image, prediction: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """A copy of the picture with the answer in a dark box at its top; small pictures are enlarged first."""
    picture = image.convert("RGB")
    shorter = min(picture.size)
    if shorter < SMALLEST:
        factor = max(1, min(-(-SMALLEST // shorter), LARGEST // max(picture.size)))
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    size = max(14, min(picture.size) // 14)  # pixels
    margin = size // 3
    lines = [_shortened(text, size, picture.width - 2 * margin) for text in _lines(prediction)]
    fonts = [font(text, size) for text in lines]
    height = round(size * 1.3)
    width = max(round(face.getlength(text)) for face, text in zip(fonts, lines, strict=True))
    pen = ImageDraw.Draw(picture, "RGBA")
    pen.rectangle((0, 0, min(picture.width, width + 2 * margin), height * len(lines) + margin), fill=(0, 0, 0, 190))
    for i, (face, text) in enumerate(zip(fonts, lines, strict=True)):
        pen.text((margin, margin // 2 + i * height), text, font=face, fill="white")
    return picture


def _lines(prediction: Mapping[str, Any]) -> list[str]:
    if "labels" not in prediction:
        return [f"{prediction['label']}  {prediction['probability']:.1%}"]
    known = {entry["label"]: entry["probability"] for entry in prediction["top"]}
    known.update(prediction.get("probabilities", {}))
    named = [f"{label}  {known[label]:.1%}" if label in known else label for label in prediction["labels"]]
    if not named:
        return ["no label"]
    return named if len(named) <= 5 else [*named[:4], f"and {len(named) - 4} more"]


def _shortened(text: str, size: int, width: int) -> str:
    """Takes letters out before the probability until the line fits."""
    face = font(text, size)
    name, gap, probability = text.rpartition("  ")
    if not gap:
        name, probability = text, ""
    while len(name) > 1 and face.getlength(text) > width:
        name = name[:-1]
        text = f"{name}…{gap}{probability}"
    return text


def font(text: str, size: int) -> Any:
    """Pillow's own font; beyond Latin-1 DejaVu Sans, which matplotlib ships (Greek, Cyrillic ...)."""
    if all(ord(letter) < 256 or letter == "…" for letter in text):
        return ImageFont.load_default(size)
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
