"""Where in a photo lies what raises a number of a model's answer: Grad-CAM, HiResCAM, and their picture.

Selvaraju et al. 2017, "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV.
Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.drawing import BLACK, WHITE, Box, Shape, enlarged, font, put_boxes, sheet, shortened

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]  # (H, W) in pixels

SIDE = 720  # pixels, longer side of each of the two pictures
# matplotlib's inferno (Smith and van der Walt 2015), each sixteenth of it: even steps to the eye, color-blind or not
INFERNO = np.array(
    [
        (0, 0, 4), (11, 7, 36), (33, 12, 74), (61, 9, 101), (87, 16, 110), (113, 25, 110), (138, 34, 106),
        (163, 44, 97), (188, 55, 84), (210, 70, 68), (228, 90, 49), (241, 115, 29), (249, 142, 9), (252, 172, 17),
        (249, 203, 53), (242, 234, 105), (252, 255, 164),
    ],
    dtype=np.float64,
)  # fmt: skip
FADE = 0.35  # of the heat's scale: from there on its color covers the photo as much as it ever does
COVER = 0.6  # how much that is, 0..1


def grad_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    """maps: (C, h, w) that a number is computed from; gradient: (C, h, w) of the number by them -> (h, w), 0 or more.

    ReLU(sum over k of a_k A_k), a_k the mean of the gradient by map A_k over all places (equations 1 and 2).
    """
    weights = gradient.mean((1, 2))  # (C,)
    return (weights[:, None, None] * maps).sum(0).clamp(min=0)


def share_by_place(maps: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """The same for a number of a part of the photo, of all maps that it is computed from, (C_i, h_i, w_i) -> (h, w) of
    the finest grid.

    HiResCAM: in place of its mean the gradient of each place, sum over k of dy/dA_k A_k (Draelos and Carin 2020, "Use
    HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks", equation 4), where the
    number reads the mean of each map the same but for a factor. Each map's shares are spread over the finer cells that
    they stand for, bilinearly, and added; ReLU comes last.
    """
    from torch.nn.functional import interpolate

    shares = [(gradient * one).sum(0) for one, gradient in zip(maps, gradients, strict=True)]  # (h_i, w_i)
    finest = max((share.shape for share in shares), key=lambda shape: shape[0] * shape[1])
    spread = [
        interpolate(share[None, None], finest, mode="bilinear", align_corners=False)[0, 0] * share.numel()
        for share in shares
    ]
    return (sum(spread, start=spread[0] * 0) / (finest[0] * finest[1])).clamp(min=0)


def heat_of(cam: np.ndarray, shown: Box, size: Size) -> np.ndarray:
    """(h, w), 0 or more, over an input that shows `shown` (left, top, right, bottom in pixels of the photo, edge to
    edge) -> (H, W) float32 of the photo's pixels.

    Bilinear between the middles of the cells, each an equal part of the input. 1 is the most that a pixel of the photo
    has; a photo without any stays 0, and so does what the input does not show.
    """
    low_y, high_y, share_y, in_y = _places(size[0], shown[1], shown[3], cam.shape[0])
    low_x, high_x, share_x, in_x = _places(size[1], shown[0], shown[2], cam.shape[1])
    cam = cam.astype(np.float32)
    wide = cam[:, low_x] * (1 - share_x) + cam[:, high_x] * share_x  # (h, W)
    wide *= in_x
    heat = wide[low_y]
    heat *= (1 - share_y)[:, None]
    heat += wide[high_y] * share_y[:, None]
    heat *= in_y[:, None]
    most = float(heat.max(initial=0.0))
    return heat / most if most > 0 else heat


def _places(count: int, start: float, end: float, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For the middle of each of `count` pixels, (count,) each: the cells before and after it, the share of the second,
    and whether it lies between start and end, over which the cells are spread."""
    along = (np.arange(count) + 0.5 - start) / (end - start)  # 0..1 over the input
    place = (along * cells - 0.5).clip(0, cells - 1)
    low = np.floor(place).astype(np.int64)
    inside = (along >= 0) & (along <= 1)
    return low, (low + 1).clip(max=cells - 1), (place - low).astype(np.float32), inside.astype(np.float32)


def overlay(photo: Image.Image, heat: np.ndarray, frame: Box | None = None) -> Image.Image:
    """The photo in gray under the colors of the heat, (H, W) 0..1 of its pixels.

    frame: what of it the network saw; what lies around is darkened.
    """
    gray = photo.convert("L").convert("RGB")
    level = (heat.clip(0, 1) * 255).round().astype(np.uint8)
    scale = np.linspace(0, 16, 256)
    table = np.stack([np.interp(scale, np.arange(17), INFERNO[:, i]) for i in range(3)], 1).round().astype(np.uint8)
    cover = (np.minimum(np.arange(256) / 255 / FADE, 1) * COVER * 255).round().astype(np.uint8)
    made = Image.composite(Image.fromarray(table[level]), gray, Image.fromarray(cover[level]))
    if frame is None:
        return made
    seen = Image.new("L", photo.size, 90)
    left, top, right, bottom = (round(side) for side in frame)
    ImageDraw.Draw(seen).rectangle((left, top, right - 1, bottom - 1), fill=255)
    return Image.composite(made, Image.new("RGB", photo.size), seen)


def side_by_side(
    photo: Image.Image,
    heat: np.ndarray,
    lines: Sequence[str],
    frame: Box | None = None,
    box: Box | None = None,
    side: int = SIDE,
) -> Image.Image:
    """The photo and its overlay, with lines of words below; large ones reduced, small ones enlarged.

    box: x1 y1 x2 y2 in pixels of the photo, drawn on both. side: pixels that each has at most, and a small one about.
    """
    scale = min(1.0, side / max(photo.size))
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    small, factor = enlarged(photo.resize(size, Image.Resampling.BOX) if scale < 1 else photo, side * 4 // 9)
    warm = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(small.size, Image.Resampling.BILINEAR))
    warmed = overlay(small, warm, None if frame is None else _times(frame, scale * factor))
    if box is not None:
        shape = Shape(_times(box, scale * factor), WHITE)
        small, warmed = put_boxes(small, [shape]), put_boxes(warmed, [shape])
    return _with_words(sheet([[small, warmed]]), lines)


def _times(box: Box, factor: float) -> Box:
    return box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor


def _with_words(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    size = min(max(14, picture.width // 50), 40)  # pixels
    line, margin = round(size * 1.4), size // 3
    canvas = Image.new("RGB", (picture.width, picture.height + line * len(lines) + margin), WHITE)
    canvas.paste(picture, (0, 0))
    pen = ImageDraw.Draw(canvas)
    for i, text in enumerate(lines):
        text = shortened(text, size, picture.width - 2 * margin)
        pen.text((margin, picture.height + margin // 2 + i * line), text, font=font(text, size), fill=BLACK)
    return canvas
