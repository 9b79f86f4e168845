"""Weights of a torchvision model for the same architecture in timm, where both differ in names alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from visiontl.backbones import catalog

SKIPPED = "num_batches_tracked"  # absent from old files; says nothing about the weights


def from_torchvision(backbone: Any, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]] | None:
    """Zip the file's tensors, in the order of torchvision's own model (a file may be ordered otherwise), with
    the backbone's. Accepted only if the state has all of that model's names, and if each pair agrees in its
    last name and its shape. None where that does not hold."""
    for arch in twins(backbone):
        from visiontl.backbones import torchvision

        body, head = torchvision.without_head(torchvision.meta_model(arch, {}))
        theirs = {k: v for k, v in body.state_dict().items() if not k.endswith(SKIPPED)}
        ours = {k: v for k, v in backbone.body.state_dict().items() if not k.endswith(SKIPPED)}
        if not set(theirs) <= set(state):
            continue
        pairs = zipped(theirs, ours, state)
        if pairs is None:
            continue
        renamed = {own: state[their] for their, own in pairs.items()}
        rest = {k: v for k, v in state.items() if k not in theirs and not k.endswith(SKIPPED)}
        layer = torchvision.original_layer(arch, 1000, head)
        head_names = [f"{head}.{k}" for k in layer.state_dict()]
        own_head = list(backbone.head_tensors_or_none() or ())
        if len(own_head) == len(head_names) and all(name in rest for name in head_names):
            renamed.update({own: rest.pop(their) for their, own in zip(head_names, own_head, strict=True)})
        return {**renamed, **rest}, [f"names remapped from torchvision/{arch}"]
    return None


def twins(backbone: Any) -> Sequence[str]:
    """torchvision architectures with as many parameters as the backbone has."""
    count = backbone.plan.parameters
    conv = next(iter(backbone.input_convs()), None)
    if conv is not None and backbone.in_channels != 3:  # the file's first layer reads three channels
        weight = backbone.body.get_submodule(conv).weight
        count += weight.numel() // backbone.in_channels * (3 - backbone.in_channels)
    rows = catalog.read().rows
    return [n.partition("/")[2] for n, row in rows.items() if n.startswith("torchvision/") and row.params == count]


def zipped(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, str] | None:
    """their name -> our name, in order; None unless every suffix and shape agrees."""
    if len(theirs) != len(ours):
        return None
    pairs: dict[str, str] = {}
    for (their, shape), (own, wanted) in zip(theirs.items(), ours.items(), strict=True):
        same_kind = their.rpartition(".")[2] == own.rpartition(".")[2]
        reads_image = not pairs and shape.dim() == 4  # the first convolution, and the file's, may read other channels
        given = state[their].shape
        if reads_image and len(given) == 4:
            same = shape.shape[0] == wanted.shape[0] == given[0] and shape.shape[2:] == wanted.shape[2:] == given[2:]
        else:
            same = shape.shape == wanted.shape == given
        if not same_kind or not same:
            return None
        pairs[their] = own
    return pairs
