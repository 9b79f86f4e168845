"""The backbones on offer, by name: LIBRARY/ARCHITECTURE of the catalog, and visiontl/tiny. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from visiontl.backbones import catalog, kerasnames, packages
from visiontl.backbones.catalog import LIBRARIES, Row
from visiontl.entry import BackboneEntry, Weights
from visiontl.errors import BackboneError, did_you_mean
from visiontl.kit.packaged import extended

TINY = "visiontl/tiny"


@dataclass(frozen=True)
class Architecture:
    """What a BackboneEntry offers of a library's architecture; each step imports the library when it is called.

    problem: why it cannot be a backbone.
    """

    library: str
    arch: str
    problem: str = ""

    def build(self, spec: Any = None, in_channels: int = 3, output_stride: Any = None, image_size: Any = None):
        if self.problem:
            raise BackboneError(f"{self.library}/{self.arch} {self.problem}")
        return source(self.library).build(self.arch, spec, in_channels, output_stride, image_size)

    def spec(self, tag: str):
        return source(self.library).default_spec(self.arch, tag)

    def state(self, tag: str):
        return source(self.library).state(self.arch, tag)


def source(library: str) -> Any:
    """The module that knows a library: build, default_spec, state, tags, knows."""
    return importlib.import_module(LIBRARIES[library])


def build_tiny(spec: Any = None, in_channels: int = 3, output_stride: Any = None, image_size: Any = None):
    from visiontl.backbones.tiny import build

    return build(spec, in_channels, output_stride, image_size)


def build_keras(kind: str, spec: Any = None, in_channels: int = 3, output_stride: Any = None, image_size: Any = None):
    from visiontl.backbones.keras import build

    return build(kind, spec, in_channels, output_stride, image_size)


def of_keras(kind: str) -> BackboneEntry:
    params, width, strides = kerasnames.FACTS[kind]
    facts = {"params": params, "embed_dim": width, "strides": strides, "size": (224, 224)}
    return BackboneEntry(f"keras/{kind}", partial(build_keras, kind), facts=facts)


@cache
def known() -> Mapping[str, BackboneEntry]:
    made = {name: entry_of(row) for name, row in catalog.read().rows.items()}
    facts = {"params": 14608, "embed_dim": 32, "strides": (2, 4, 8, 16), "size": (64, 64)}
    made[TINY] = BackboneEntry(TINY, build_tiny, facts=facts)
    made |= {entry.name: entry for entry in map(of_keras, kerasnames.FACTS)}
    for more in packages.offered():
        if more.name in made:
            made[more.name] = extended(made[more.name], more)
    return made


def entries() -> list[BackboneEntry]:
    """All backbones of the catalog and the bundled one."""
    return list(known().values())


def entry_of(row: Row) -> BackboneEntry:
    library, _, arch = row.name.partition("/")
    weights = tuple(
        Weights(tag.tag, tag.source, tag.license, {} if tag.accuracy is None else {"top-1": tag.accuracy})
        for tag in row.weights
    )
    facts = {"params": row.params, "embed_dim": row.embed_dim, "strides": row.strides, "size": row.size}
    facts = {key: value for key, value in facts.items() if value}
    if row.problem:
        facts["problem"] = row.problem
    offered = Architecture(library, arch, row.problem)
    return BackboneEntry(row.name, offered.build, weights, offered.spec, offered.state, facts)


def find(
    name: str, offered: Mapping[str, BackboneEntry] | list[BackboneEntry] | None = None
) -> tuple[BackboneEntry, str | None]:
    """The entry of a full or bare name, and a note where the name was completed.

    offered: everything on offer, third-party entries included; None: the catalog alone. A bare name means the first
    of LIBRARIES that has it, else whoever offers it alone. Names that the catalog lacks are looked up in the installed
    libraries. Raises BackboneError with the nearest names.
    """
    table = known() if offered is None else offered
    if not isinstance(table, Mapping):
        table = {entry.name: entry for entry in table}
    if name in table:
        return table[name], None
    if "/" not in name:
        for library in LIBRARIES:
            full = f"{library}/{name}"
            if full in table:
                return table[full], f"backbone {name} means {full}"
        others = [full for full in table if full.partition("/")[2] == name]
        if len(others) == 1:
            return table[others[0]], f"backbone {name} means {others[0]}"
        if others:
            raise BackboneError(f"backbone {name!r} is offered as {' and '.join(sorted(others))}: write one in full")
    library, _, arch = name.rpartition("/")
    if not library or library in LIBRARIES:
        for candidate in [library] if library else LIBRARIES:
            row = installed(candidate, arch)
            if row is not None:
                note = f"{row.name} is not in the catalog; it is known to the installed {candidate}"
                return entry_of(row), note if library else f"backbone {name} means {row.name}; {note}"
    tagged = arch.partition(".")[0]
    full = f"{library or next(iter(LIBRARIES))}/{tagged}"
    if tagged != arch and full in table:
        raise BackboneError(
            f"no backbone {name!r}: a tag goes into backbone.weights; write name: {full} and weights: "
            f"{arch.partition('.')[2]}"
        )
    bare = [full.partition("/")[2] for full in table]
    options = list(table) if library else bare
    raise BackboneError(
        f"no backbone {name!r}{did_you_mean(name, options)} (see `visiontl list backbones '{arch[:4]}*'`)"
    )


def installed(library: str, arch: str) -> Row | None:
    """A row without numbers for an architecture that the installed library knows, by asking the library."""
    module = source(library)
    if not module.knows(arch):
        return None
    return Row(f"{library}/{arch}", size=module.default_spec(arch).size, weights=module.tags(arch))
