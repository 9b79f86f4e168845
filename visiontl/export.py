"""What a task says of its trained model for programs that know neither the task nor torch. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Values = Mapping[str, Any]  # JSON values
Run = Callable[..., "dict[str, Tensor]"]  # (image (B, 3, H, W) 0..1[, extent]) -> the named outputs


@dataclass(frozen=True, kw_only=True)
class Export:
    """A trained model as one graph, and in JSON values what lies around it (docs/export.md lists what there is).

    module: forward(image) -> {name: tensor, first dimension B}. image: (B, 3, H, W) float32, RGB, 0..1; mean and
        deviation of the weights are applied inside. It reads the batch and, where `varies`, H and W from the tensor.
    view: how a photo becomes that image; `visiontl.kit.exporting` writes the two common ways.
    answer: what is said of a photo by its outputs: {"kind": "classes", "output": "logits", ...}.
    size: (H, W) in pixels of an image as the run evaluates it.
    multiple: H and W are multiples of this many pixels. varies: whether they may be others than `size`.
    wanted: whether photos are shown in different sizes, so that a graph of one size would show them otherwise.
    extent: forward(image, extent) takes too which part of each image is photo: (B, 2) int64, its h and w at the
        upper left; the rest was padded.
    outputs: (run, batch) -> what the task's model gives in evaluation for the batch, by way of `run`, which takes and
        gives what `module` does; by it the task's own scores are those of the exported model. None: they cannot
        be had so.
    """

    module: nn.Module
    view: Values
    answer: Values
    size: tuple[int, int]
    outputs: Callable[[Run, dict[str, Any]], Any] | None
    multiple: int = 1
    varies: bool = True
    wanted: bool = False
    extent: bool = False
    notes: Sequence[str] = field(default=())


class ExportStep(Protocol):
    """The trained model for use elsewhere. options: of the class Task.options, all that can be asked of predict is
    settled by them now; None for a task without. Raises ConfigError for what no graph can hold."""

    def __call__(self, cfg: Any, model: Any, meta: Values, options: Any, /) -> Export: ...
