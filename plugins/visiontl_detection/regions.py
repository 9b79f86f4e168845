"""Pooling of regions, as torchvision's RoIAlign, at a tenth of its time on a CPU."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import _convert_to_roi_format, initLevelMapper

SAMPLES = 2  # points per cell and axis (He et al. 2017, Mask R-CNN, section 3)


class RegionPool(MultiScaleRoIAlign):
    """torchvision's pooler; on a CPU its values are computed by `roi_align` below. Its kernels for the CPU use one
    thread and were half of an update of Faster R-CNN on MobileNetV2 at 320 pixels.

    strides: of the maps "0", "1", ..., in pixels. torchvision guesses them from the first batch's images without their
    padding, which is off by two where the padding is more than 0.41 of a side.
    """

    def __init__(self, strides: Sequence[int], cells: int):
        super().__init__([str(i) for i in range(len(strides))], cells, sampling_ratio=SAMPLES)
        self.scales = [1 / stride for stride in strides]
        first, last = (int(math.log2(strides[end])) for end in (0, -1))
        self.map_levels = initLevelMapper(first, last, self.canonical_scale, self.canonical_level)

    def forward(self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """x: maps (B, C, h, w) by name; boxes: per image (N_i, 4) in pixels -> (sum N_i, C, cells, cells)."""
        maps = [one for name, one in x.items() if name in self.featmap_names]
        if maps[0].device.type != "cpu":
            return super().forward(x, boxes, image_shapes)  # type: ignore[arg-type]
        assert self.scales is not None
        assert self.map_levels is not None
        levels = self.map_levels(boxes)  # (N,)
        rois = _convert_to_roi_format(boxes)  # (N, 5): image, x1, y1, x2, y2
        cells = self.output_size[0]
        pooled = maps[0].new_zeros((len(rois), maps[0].shape[1], cells, cells), dtype=torch.float32)
        for level, (one, scale) in enumerate(zip(maps, self.scales, strict=True)):
            chosen = torch.nonzero(levels == level)[:, 0]
            if len(chosen):
                pooled = pooled.index_copy(0, chosen, roi_align(one, rois[chosen], cells, scale))
        return pooled


def roi_align(features: Tensor, rois: Tensor, cells: int, scale: float) -> Tensor:
    """features: (B, C, h, w), rois: (N, 5) image, x1, y1, x2, y2 -> (N, C, cells, cells) float32.

    What torchvision.ops.roi_align(features, rois, cells, scale, sampling_ratio=2) gives. Bilinear sampling is linear
    in the features and reads whole pixels, so it is one sparse matrix, of 16 values a row, times (B h w, C), and its
    gradient the transposed product: both are threaded, and channels lie side by side.
    """
    count, (batch, channels, height, width) = len(rois), features.shape
    x1, y1, x2, y2 = (rois[:, 1:].detach().float() * scale).unbind(1)  # (N,) each
    along_x = _taps(x1, (x2 - x1).clamp(min=1), cells, width)
    along_y = _taps(y1, (y2 - y1).clamp(min=1), cells, height)
    (column, across), (row, down) = along_x, along_y  # (N, cells, 4) each
    pixel = rois[:, 0].long().view(-1, 1, 1, 1, 1) * (height * width)
    pixel = pixel + row[:, :, None, :, None] * width + column[:, None, :, None, :]  # (N, cells, cells, 4, 4)
    weight = down[:, :, None, :, None] * across[:, None, :, None, :]
    rows = count * cells * cells
    starts = torch.arange(0, rows * 16 + 1, 16)
    with warnings.catch_warnings(), torch.autocast("cpu", enabled=False):
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        size = (rows, batch * height * width)
        matrix = torch.sparse_csr_tensor(starts, pixel.flatten(), weight.flatten(), size, check_invariants=False)
        pooled = torch.sparse.mm(matrix, features.float().permute(0, 2, 3, 1).reshape(-1, channels))
    return pooled.view(count, cells, cells, channels).permute(0, 3, 1, 2)


def _taps(start: Tensor, length: Tensor, cells: int, size: int) -> tuple[Tensor, Tensor]:
    """Along one axis: start, length (N,) in cells of a map -> the 4 pixels that each output cell reads, and their
    weights, (N, cells, 4): two sample points, two neighbors of each. Points more than one pixel outside weigh 0."""
    points = (torch.arange(cells * SAMPLES) + 0.5) / SAMPLES  # in output cells
    at = start[:, None] + (length / cells)[:, None] * points  # (N, 2 cells)
    inside = (at >= -1) & (at <= size)
    at = at.clamp(min=0)
    low = at.floor().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    part = torch.where(low >= size - 1, torch.zeros_like(at), at - low)
    pixels = torch.stack([low, high], dim=2).long()  # (N, 2 cells, 2)
    weights = torch.stack([1 - part, part], dim=2) * inside[:, :, None] / SAMPLES
    return pixels.view(-1, cells, 2 * SAMPLES), weights.view(-1, cells, 2 * SAMPLES)
