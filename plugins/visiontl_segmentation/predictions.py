"""Answers for new photos: a mask in their own pixels, and how much of each class there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from visiontl import ConfigError, ImageSpec
from visiontl.kit.finite import require_finite
from visiontl.kit.words import did_you_mean
from visiontl_segmentation.config import PredictOptions, SegmentationConfig
from visiontl_segmentation.model import Segmenter
from visiontl_segmentation.pixels import counted, decided, largest, resampled
from visiontl_segmentation.views import Frame, frame_of, padded, resized_mask, whole
from visiontl_segmentation.windows import bands
from visiontl_segmentation.written import mask_image, table_of_values

LARGE = 4_000_000  # pixels that `windows: auto` shows a network at once at most

Size = tuple[int, ...]


def predict(
    cfg: SegmentationConfig,
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    meta: Mapping[str, Any],
    options: PredictOptions | None = None,
) -> Iterator[dict[str, Any]]:
    """One dict per photo: {"mask": (W x H) image of the training masks' values, "area": {class: share 0..1}, "pixels":
    {class: number}, "size": [H, W]}. Raises ConfigError for options that do not go together."""
    assert isinstance(model, Segmenter)
    options = options or PredictOptions.model_validate({})
    names = list(meta["classes"])
    wanted = [known(name, names) for name in (names if options.classes is None else options.classes)]
    frame = frame_of(cfg, model.decode.backbone.spec)
    if options.resize is not None:
        frame = Frame(frame.spec, options.resize, frame.least)
    check_options(options, frame)
    for batch in batches:
        logits = None
        if options.windows != "always" and plain(cfg, options) and not any(map(large, batch["image"])):
            logits = model(batch)
        for place, photo in enumerate(batch["photo"]):
            size = (photo.height, photo.width)
            if logits is not None:
                shown = tuple(batch["shown"][place].tolist())
                mask = decided(logits["logits"][place], tuple(logits["extent"][place].tolist()), shown, size)
            else:
                mask = looked_at(cfg, model, photo, frame, options)
            yield answer(mask.cpu().numpy(), names, wanted, meta)


def plain(cfg: SegmentationConfig, options: PredictOptions) -> bool:
    """Whether photos are seen as evaluation sees them, once, so that the batch serves."""
    asks_nothing = options.resize is None and not options.flip and options.scales == [1.0]
    return asks_nothing and not (options.windows == "never" and cfg.windows is not None)


def large(image: Tensor) -> bool:
    return image.shape[1] * image.shape[2] > LARGE


def known(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise ConfigError(f"option classes: the model knows no {name!r}{did_you_mean(name, names)}")
    return names.index(name)


def check_options(options: PredictOptions, frame: Frame) -> None:
    fixed = frame.spec.sizing == "fixed"
    if options.windows == "always" and options.scales != [1.0]:
        raise ConfigError("option scales: does not go with windows=always; leave one of them out")
    if fixed and options.scales != [1.0]:
        raise ConfigError("option scales: the backbone takes images of one size only; leave scales out")
    if fixed and options.windows == "never" and frame.resize not in ("fit", "stretch"):
        raise ConfigError(f"option resize={frame.resize}: the backbone takes images of one size; allow windows")


def looked_at(
    cfg: SegmentationConfig, model: Segmenter, photo: Image.Image, frame: Frame, options: PredictOptions
) -> Tensor:
    """(H, W) uint8 class of each pixel, by windows or the whole, in all views that the options ask for."""
    size = (photo.height, photo.width)
    made = whole(photo, frame)
    shown = made["shown"]
    device = next(model.parameters()).device
    if not by_windows(cfg, made["image"], size, frame, options):
        grid = frame.target(size)
        return decided(require_finite(merged(model, photo, frame, options, device)), grid, grid, size)
    image = made["image"][:, : shown[0], : shown[1]].to(device)
    parts = bands(model, image, frame.spec, options.overlap)
    turned = bands(model, image.flip(-1), frame.spec, options.overlap) if options.flip else None
    mask = torch.empty(shown, dtype=torch.uint8)
    for top, band in parts:
        if turned is not None:
            band = band + next(turned)[1].flip(-1)
        mask[top : top + band.shape[1]] = largest(require_finite(band)).cpu()
    return torch.from_numpy(resized_mask(mask.numpy(), size))


def by_windows(cfg: SegmentationConfig, image: Tensor, size: Size, frame: Frame, options: PredictOptions) -> bool:
    """Whether a photo of (H, W) pixels, shown as `image`, is gone through in windows. Raises ConfigError where it is
    and should be looked at in several sizes."""
    fixed = frame.spec.sizing == "fixed" and max(image.shape[1:]) > max(frame.spec.size)
    wanted = options.windows == "always" or (
        options.windows == "auto" and (cfg.windows is not None or large(image) or fixed)
    )
    if wanted and options.scales != [1.0]:
        raise ConfigError(
            f"option scales: a photo of {size[1]} x {size[0]} pixels is gone through in windows, which have one scale; "
            "leave scales out, or let predict look at it with windows=never"
        )
    return wanted


def in_sizes(
    cfg: SegmentationConfig,
    model: Segmenter,
    batch: Mapping[str, Any],
    meta: Mapping[str, Any],
    options: PredictOptions,
) -> dict[str, Any]:
    """{"logits": mean probabilities (K, h, w) of each photo in all sizes and mirrors that the options ask for, on the
    grid of the photo as shown, "extent": (B, 2)}. Raises ConfigError as `predict` does."""
    if options.scales == [1.0]:
        return mirrored(cfg, model, batch, meta) if options.flip else model(batch)
    frame = frame_of(cfg, model.decode.backbone.spec)
    check_options(options, frame)
    for image, size in zip(batch["image"], batch["size"].tolist(), strict=True):
        by_windows(cfg, image, size, frame, options)
    device = next(model.parameters()).device
    found = [merged(model, photo, frame, options, device) for photo in batch["photo"]]
    return {"logits": found, "extent": batch["shown"]}


def merged(model: Segmenter, photo: Image.Image, frame: Frame, options: PredictOptions, device: torch.device) -> Tensor:
    """(K, h, w): the mean probability of all scales and mirrors, on the grid of the photo as shown."""
    grid = frame.target((photo.height, photo.width))
    total: Tensor | None = None
    for scale in options.scales:
        image, shown = scaled(photo, frame, scale)
        for mirrored in (False, True) if options.flip else (False,):
            pixels = image[:, : shown[0], : shown[1]].flip(-1) if mirrored else image[:, : shown[0], : shown[1]]
            given = padded(pixels, (image.shape[1], image.shape[2]), frame.spec).to(device)
            logits, extent = model.small(given[None])
            found = resampled(logits[0].float().softmax(0), extent, shown, grid)  # (K, h, w)
            found = found.flip(-1) if mirrored else found
            total = found if total is None else total + found
    assert total is not None
    return total / (len(options.scales) * (1 + options.flip))


def mirrored(
    cfg: SegmentationConfig, model: Segmenter, batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """{"logits": mean probabilities (K, h, w) of each photo as shown and its mirror image, "extent": (B, 2)}. Padding
    stays at the right and below in both."""
    spec, sizes = model.decode.backbone.spec, [tuple(one) for one in batch["shown"].tolist()]
    turned = [
        padded(image[:, :h, :w].flip(-1).cpu(), tuple(image.shape[1:]), spec).to(image.device)
        for image, (h, w) in zip(batch["image"], sizes, strict=True)
    ]
    images = torch.stack(turned) if isinstance(batch["image"], Tensor) else turned
    first, second = (view_of(model({**batch, "image": one}), sizes) for one in (batch["image"], images))
    both = [(one + other.flip(-1)) / 2 for one, other in zip(first, second, strict=True)]
    return {"logits": both, "extent": batch["shown"]}


def view_of(outputs: Mapping[str, Any], sizes: Sequence[Size]) -> list[Tensor]:
    """Class probabilities (K, h, w) of each photo, at the size it was shown."""
    return [
        resampled(logits.float().softmax(0), tuple(extent.tolist()), size, size)
        for logits, extent, size in zip(outputs["logits"], outputs["extent"], sizes, strict=True)
    ]


def scaled(photo: Image.Image, frame: Frame, scale: float) -> tuple[Tensor, tuple[int, int]]:
    """The photo as shown, times the scale: (3, H, W) uint8 with padding, and its (h, w) without."""
    if scale == 1.0:
        made = whole(photo, frame)
        return made["image"], made["shown"]
    height, width = (max(1, round(side * scale)) for side in frame.target((photo.height, photo.width)))
    spec: ImageSpec = frame.spec
    bigger = Frame(spec, "original", frame.least)
    resized = whole(photo.resize((width, height), Image.Resampling[spec.interpolation.upper()]), bigger)
    return resized["image"], (height, width)


def answer(mask: np.ndarray, names: Sequence[str], wanted: Sequence[int], meta: Mapping[str, Any]) -> dict[str, Any]:
    pixels = counted(mask)
    return {
        "mask": mask_image(mask, meta),
        "area": {names[k]: round(int(pixels[k]) / mask.size, 6) for k in wanted},
        "pixels": {names[k]: int(pixels[k]) for k in wanted},
        "size": [int(side) for side in mask.shape],
    }


def files(
    cfg: SegmentationConfig, records: Sequence[tuple[str, Mapping[str, Any]]], meta: Mapping[str, Any]
) -> dict[str, str]:
    """The table of the masks' values."""
    return {"values.csv": table_of_values(meta)}
