"""A backbone's weights in a checkpoint: where they are and how much of them is there; too little is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visiontl.backbone import NORMALIZATION, Backbone
from visiontl.backbones import catalog
from visiontl.errors import WeightsError, first_line
from visiontl.kit.words import some

ENOUGH = 0.9  # of the backbone's tensors and of their values; below it the file is that of another architecture
COUNTER = "num_batches_tracked"  # absent from old files; says nothing about the weights

# Which copy of a network to take where a checkpoint holds several: the averaged one, as their papers evaluate it
# (DINO, BYOL, iBOT: teacher or target; MoCo: encoder_q; training scripts with EMA: *_ema).
PREFERRED = ("ema", "teacher", "target", "encoder_q", "model", "state_dict", "student", "online", "encoder_k")


@dataclass(frozen=True)
class Share:
    """How much of a backbone was found: tensors (parameters and statistics; no counters, no tables of numbers), and
    their values. fraction: the smaller of the two shares, 0..1."""

    tensors: int = 0
    of_tensors: int = 0
    values: int = 0
    of_values: int = 0

    @property
    def fraction(self) -> float:
        return min(self.tensors / max(self.of_tensors, 1), self.values / max(self.of_values, 1))

    def __str__(self) -> str:
        shown = f"{self.values / max(self.of_values, 1):.1%}"
        if shown == "100.0%" and self.values < self.of_values:
            shown = "99.9%"  # never rounded to all
        return f"{self.tensors:,} of {self.of_tensors:,} tensors and {shown} of {self.of_values:,} values"


@dataclass(frozen=True)
class LoadReport:
    """What came of loading.

    share: how much of the backbone the source gave.
    missing: the backbone's tensors that it did not give. unexpected: names of the source that were left.
    """

    source: str
    share: Share = Share()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fraction(self) -> float:
        """0..1, of tensors or of their values, whichever is less."""
        return self.share.fraction

    def __str__(self) -> str:
        if self.source == "none":
            return "the backbone starts from random weights: nothing pretrained is loaded"
        lines = [f"weights {self.source}: {self.share} of the backbone are loaded"]
        if self.missing:
            lines.append(f"  missing, and random: {some(self.missing)}")
        if self.unexpected:
            lines.append(f"  not used: {some(self.unexpected)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@dataclass(frozen=True)
class Fit:
    """One reading of a checkpoint: which of its tables, without which prefix, and what of it fits.

    tensors: by the library's names. head: (its tensors, number of classes) of the original classifier, if it is there.
    state: all of the reading.
    """

    tensors: Mapping[str, Tensor]
    share: Share
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    unexpected: tuple[str, ...]
    head: tuple[dict[str, Tensor], int] | None
    notes: tuple[str, ...]
    state: Mapping[str, Tensor]


def adopt(backbone: Backbone, found: Mapping[str, Any], source: str, notes: Sequence[str]) -> LoadReport:
    """Find the backbone's weights in a checkpoint, whatever it is wrapped in, and load them.

    Raises WeightsError, and changes nothing, if less than ENOUGH of the backbone is there.
    """
    own = own_tensors(backbone)
    fits = [fit(backbone, own, state, said) for state, said in readings(found, set(own))]
    if not fits:
        raise WeightsError(f"{source} holds no tensors; expected the state dict of {backbone.name}")
    best = max(fits, key=lambda one: one.share.values)  # the first of equals: readings come in order of preference
    if best.share.fraction < ENOUGH:
        raise WeightsError(refusal(backbone, best, source))
    with torch.no_grad():
        for name, tensor in best.tensors.items():
            own[name].copy_(tensor)
    said = [*notes, *best.notes]
    if best.misshapen:
        said.append(f"left out for their shape: {some(best.misshapen)}")
    backbone.head_state, backbone.head_classes = {}, 0
    if best.head is not None:
        backbone.head_state = {k: v.detach().cpu().clone() for k, v in best.head[0].items()}
        backbone.head_classes = best.head[1]
        said.append(f"the original classifier of {best.head[1]} classes is kept aside")
    if best.unexpected:
        said.append(f"{len(best.unexpected)} tensors that are no part of the backbone were dropped")
    broken = [k for k, v in best.tensors.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        said.append(f"values that are not finite: {some(broken)}")
    return LoadReport(source, best.share, best.missing, best.unexpected, tuple(said))


def own_tensors(backbone: Backbone) -> dict[str, Tensor]:
    """The backbone's parameters and buffers by their library's names; one that has none keeps its own name, and is
    missing from every file."""
    names = backbone.library_names()
    return {names.get(k, k): v for k, v in backbone.state_dict().items() if k not in NORMALIZATION}


def fit(backbone: Backbone, own: Mapping[str, Tensor], state: dict[str, Tensor], notes: Sequence[str]) -> Fit:
    """Compare one reading of a checkpoint with the backbone's own tensors, name by name and shape by shape."""
    said = list(notes)
    try:
        state, more = backbone.adopt_names(dict(state))
        said += more
    except Exception as error:  # a source's converter may expect names that this reading has not
        said.append(f"{type(backbone).__name__}.adopt_names fails on these names ({first_line(error)})")
    tensors = {k: state[k] for k, v in own.items() if k in state and state[k].shape == v.shape}
    counted = {k: v.numel() for k, v in own.items() if v.is_floating_point() or v.is_complex()}
    head = backbone.own_head(state)
    known = {*own, *(head[0] if head else ()), *NORMALIZATION}
    given = [size for k, size in counted.items() if k in tensors]
    return Fit(
        tensors,
        Share(len(given), len(counted), sum(given), sum(counted.values())),
        tuple(k for k in counted if k not in tensors),
        tuple(
            f"{k} {tuple(state[k].shape)}, expected {tuple(v.shape)}"
            for k, v in own.items()
            if k in state and state[k].shape != v.shape
        ),
        tuple(k for k in state if k not in known),
        head,
        tuple(said),
        state,
    )


def readings(found: Mapping[str, Any], own: set[str]) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
    """Every table of tensors in a checkpoint, under every prefix that could hold the backbone.

    A candidate has at least half as many tensors as the backbone. Best guesses first.
    """
    candidates = []
    for path, table in tables(found):
        for prefix in prefixes(table):
            inside = {k[len(prefix) :]: v for k, v in table.items() if k.startswith(prefix)}
            if prefix and len(inside) < len(own) / 2:
                continue
            said = []
            if path:
                said.append(f"taken from {path!r} of the file")
            if prefix:
                said.append(f"prefix {prefix!r} stripped")
                others = sorted({k.split(".")[0] for k in table if not k.startswith(prefix)})
                if others:
                    said.append(f"other parts of the file were left: {some(others)}")
            known = len(own & set(inside))
            candidates.append((-known, _preference(f"{path}.{prefix}"), len(prefix), inside, said))
    candidates.sort(key=lambda one: one[:3])
    yield from ((inside, said) for *_, inside, said in candidates[:12])


def tables(found: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(path, table) of each mapping from names to tensors within nested mappings."""
    tensors = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield path, tensors
    if depth < 3:
        for key, value in found.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from tables(value, f"{path}.{key}" if path else key, depth + 1)


def prefixes(table: Mapping[str, Any]) -> list[str]:
    """'' and every dotted prefix, up to four words long, of the names."""
    found = {"": None}
    for name in table:
        words = name.split(".")
        found.update({".".join(words[:n]) + ".": None for n in range(1, min(len(words), 5))})
    return list(found)


def refusal(backbone: Backbone, best: Fit, source: str) -> str:
    """Why a file is not loaded, in words."""
    text = (
        f"{source} gives {best.share} of {backbone.name}; at least {ENOUGH:.0%} of both are needed, and nothing was "
        f"loaded. Missing: {some(best.missing)}."
    )
    if best.misshapen:
        text += f" Of another shape: {some(best.misshapen)}."
        cause = "a variant of another width, depth or image size"
    else:
        cause = "another architecture, or the same one in another library"
    if best.unexpected:
        text += f" In the file but not in the backbone: {some(best.unexpected)}."
    if best.notes:
        text += f" It was read so: {'; '.join(best.notes)}."
    guess = owners(best)
    if guess:
        cause = f"{' or '.join(guess)}, whose number of parameters it has"
    return f"{text} The file is likely that of {cause}: choose backbone.name to fit it"


def owners(best: Fit) -> list[str]:
    """Architectures of the catalog with as many parameters as the file, or the file without its classifier."""
    weights = {k: v for k, v in best.state.items() if not k.endswith((COUNTER, "running_mean", "running_var"))}
    count = sum(v.numel() for v in weights.values())
    counts = {count}
    for name, value in weights.items():
        if name.endswith(".weight") and value.dim() in (2, 4) and value.shape[2:].numel() == 1:
            bias = weights.get(f"{name.removesuffix('weight')}bias")
            counts.add(count - value.numel() - (0 if bias is None else bias.numel()))
    return [name for name, row in catalog.read().rows.items() if row.params in counts][:3]


def _preference(path: str) -> int:
    words = re.split(r"[._]", path.lower()) + path.lower().split(".")
    return next((i for i, word in enumerate(PREFERRED) if word in words), len(PREFERRED))
