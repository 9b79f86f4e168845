"""What a person reads of a backbone on offer, whoever offers it. Imports neither torch nor a model library."""

from __future__ import annotations

from collections.abc import Sequence

from visiontl.entry import BackboneEntry, Weights


def cells(entry: BackboneEntry) -> dict[str, str]:
    """Column -> text, as far as the entry states its numbers."""
    facts = entry.facts
    params, size = facts.get("params"), facts.get("size")
    return {
        "name": entry.name,
        "parameters": readable(int(params)) if params else "",
        "embed width": str(facts.get("embed_dim") or ""),
        "strides": joined_strides(tuple(facts.get("strides") or ())),
        "input size": f"{size[0]}x{size[1]}" if size else "",
        "weights (license)": str(facts.get("problem") or joined_tags(entry.weights)),
    }


def readable(count: int) -> str:
    """23508032 -> '23.5M'."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def joined_strides(strides: tuple[int, ...]) -> str:
    """(16, 16, 16) -> '16 x3'; (4, 8, 16, 32) -> '4 8 16 32'."""
    if len(strides) > 2 and len(set(strides)) == 1:
        return f"{strides[0]} x{len(strides)}"
    return " ".join(map(str, strides))


def joined_tags(tags: Sequence[Weights]) -> str:
    return ", ".join(f"{tag.tag} ({tag.license})" for tag in tags) or "none"
