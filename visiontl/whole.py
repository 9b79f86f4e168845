"""The contract of a start from a whole pretrained model, and of keeping what it knew. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from visiontl.spec import ImageSpec


@dataclass(frozen=True)
class Source:
    """What `init` names, where it is no run.

    text: as in the config. name: of Task.wholes, "" where it is a file alone. tag: of its weights; "" for the default,
    and where `file` holds them. config: what stands in the config.json beside the file. classes: the lines of the
    classes.txt beside it. read: (the URL of a tag's weights, or "" for the file's) -> tensors by their own names, on
    the CPU, through the cache of downloads.
    """

    text: str
    name: str
    tag: str
    read: Callable[[str], Mapping[str, Tensor]]
    file: Path | None = None
    config: Mapping[str, Any] | None = None
    classes: Sequence[str] | None = None


@dataclass(frozen=True)
class Whole:
    """A whole model, as a start of a task's.

    name: what it is, such as torchvision/fcos_resnet50_fpn. classes: in the order of its answers, None where it does
    not say. backbone: keys of the `backbone` section. needs: keys of the `task` section without which it is another
    model; prefers: those that say how it was used (sizes, thresholds), which a config may replace. Keys are `a.b`.
    spec: how its images were prepared; None: as the backbone's own are.
    meta: (cfg, classes) -> what the task's model is built from where there is no data.
    tensors: the task's model, built so -> its tensors by the names there. cut: beginnings of the names of what the
    model holds and this does not, and never reads. left: names of its own that have no place there.
    """

    name: str
    classes: Sequence[str] | None
    backbone: Mapping[str, Any]
    needs: Mapping[str, Any]
    prefers: Mapping[str, Any]
    meta: Callable[[Any, Sequence[str]], Mapping[str, Any]]
    tensors: Callable[[nn.Module], Mapping[str, Tensor]]
    spec: ImageSpec | None = None
    cut: tuple[str, ...] = ()
    left: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class ClassRows:
    """Which class a row of a tensor is of. Along the first dimension: `outer` times (`before` rows of no class, and one
    for each of `names`), each of these of `inner` rows."""

    names: Sequence[str]
    outer: int = 1
    before: int = 0
    inner: int = 1

    def labels(self) -> list[Hashable]:
        """Per row what it answers for: equal labels mean the same row of two models."""
        heads: list[tuple[Any, Any]] = [(None, i) for i in range(self.before)]
        heads += [(name, 0) for name in self.names]
        return [(turn, head, i) for turn in range(self.outer) for head in heads for i in range(self.inner)]


@dataclass(frozen=True)
class Parts:
    """Of which parts a task's model is, beside its backbone.

    neck: beginnings of the names of what stands between backbone and head. rows: tensors with rows of classes.
    """

    neck: tuple[str, ...] = ()
    rows: Mapping[str, ClassRows] = field(default_factory=dict[str, ClassRows])


class WholeStep(Protocol):
    """What a source holds. Raises VisionTLError for what is no start of this task: another architecture, a part."""

    def __call__(self, source: Source, /) -> Whole: ...


class PartsStep(Protocol):
    """The parts of the task's model."""

    def __call__(self, cfg: Any, model: Any, meta: Mapping[str, Any], /) -> Parts: ...


@dataclass(frozen=True)
class Old:
    """The model that a run began with, as it was: held in eval mode, without gradients, beside the run.

    cfg: the `task` section of its own run, of a library's model this run's; meta: its own. temperature: by which logits
    are divided. answer: batch -> its outputs, fp32, laid out as in training (its own `training` is set, its layers'
    is not), under the precision of the model's passes.
    """

    model: Any
    cfg: Any
    meta: Mapping[str, Any]
    temperature: float
    answer: Callable[[dict[str, Any]], Any]


class KeepStep(Protocol):
    """What holds a model's answers for the classes that it had at the start: (outputs in training mode, batch) -> how
    far they are from the old model's, the mean over images, (). May hang hooks on the model, which are called under
    gradients alone. Raises ConfigError, with the reason, where the two have nothing in common."""

    def __call__(
        self, cfg: Any, model: Any, meta: Mapping[str, Any], old: Old, /
    ) -> Callable[[Any, dict[str, Any]], Tensor]: ...
