"""Of boxes that overlap, the best: with outputs of fixed shape, so that graphs can be exported. On a CPU or a GPU it is
torchvision's; in an ONNX graph it is that format's own operator."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# neither torchvision nor onnxscript has types of its own

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("visiontl::suppressed", mutates_args=())
def suppressed(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """boxes: (B, N, 4) x1 y1 x2 y2; scores: (B, C, N), of each class, 0 or less where a box is none of it -> (B, C, N)
    bool: the boxes that stay, of those of a score above 0, when those that overlap a better one of their class by more
    than `iou` are left out."""
    from torchvision.ops import nms

    kept = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            there = torch.nonzero(scores[image, label] > 0)[:, 0]
            stays = nms(boxes[image, there], scores[image, label, there], iou)
            kept[image, label, there[stays]] = True
    return kept


@suppressed.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def onnx_translations() -> dict[Any, Any]:
    """{operator: function} for torch's exporter to ONNX."""
    import onnxscript

    op: Any = onnxscript.opset20

    def translated(boxes: Any, scores: Any, iou: float) -> Any:
        shape = op.Shape(scores)
        count = op.Slice(shape, op.Constant(value_ints=[2]), op.Constant(value_ints=[3]))
        chosen = op.NonMaxSuppression(  # (M, 3): image, class, box
            boxes, scores, count, op.Constant(value_floats=[iou]), op.Constant(value_floats=[0.0])
        )
        nothing = op.ConstantOfShape(shape)  # zeros of float32
        ones = op.Expand(
            op.Constant(value_float=1.0),
            op.Slice(op.Shape(chosen), op.Constant(value_ints=[0]), op.Constant(value_ints=[1])),
        )
        return op.Cast(op.ScatterND(nothing, chosen, ones), to=9)  # 9: BOOL

    return {torch.ops.visiontl.suppressed.default: translated}
