"""Which backbones are ranked: by pattern, by license, and by whether their weights are on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visiontl import plugins
from visiontl.backbones.listing import matches
from visiontl.backbones.weights import on_disk
from visiontl.backbones.weights import resolve as resolve_weights
from visiontl.config.resolve import Resolved
from visiontl.entry import BackboneEntry
from visiontl.errors import BackboneError, ConfigError, WeightsError, did_you_mean
from visiontl.kit.words import count, some

MOST = 60  # backbones of one ranking
RANDOM = "none"


@dataclass(frozen=True)
class Candidate:
    """A backbone with its weights: a tag, a file, or none, which is random. own: whether it is the config's own."""

    name: str
    weights: str
    license: str = "unknown"
    source: str = ""
    own: bool = False

    @property
    def title(self) -> str:
        shown = "random" if self.weights == RANDOM else self.weights
        if "/" in shown and ":" not in shown:
            shown = Path(shown).name
        return f"{self.name.partition('/')[2] or self.name} ({shown})"

    @property
    def random(self) -> bool:
        return self.weights == RANDOM

    @property
    def words(self) -> tuple[str, ...]:
        """As `a.b=c` of a config."""
        other = () if self.own else ("backbone.preprocessing={}",)
        return (f"backbone.name={self.name}", f"backbone.weights={self.weights}", *other)

    @property
    def slug(self) -> str:
        """For a folder's name."""
        weights = Path(self.weights).stem if "/" in self.weights else self.weights
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{self.name.partition('/')[2] or self.name}-{weights}")[:100]


@dataclass(frozen=True)
class Wanted:
    """patterns: a name with * and ?, a part of one, or NAME=WEIGHTS; none: all whose weights are here. licenses: none:
    any. fetch: whether weights that are not here are downloaded."""

    patterns: Sequence[str] = ()
    licenses: Sequence[str] = ()
    fetch: bool = False


def candidates(resolved: Resolved, wanted: Wanted) -> tuple[list[Candidate], list[str]]:
    """(the config's own, those that are asked for, and random weights; notes on what was left out). Raises ConfigError
    for a pattern that nothing matches, and for too many."""
    section = resolved.config.backbone
    require_known(wanted)
    entry, _ = plugins.backbone_entry(section.name)
    found = [] if section.weights == RANDOM else [of_weights(entry, section.weights, wanted, own=True)]
    notes: list[str] = []
    for pattern in wanted.patterns:
        found += named(pattern, wanted) if "=" in pattern else matching(pattern, wanted, notes)
    if not wanted.patterns:
        found += [one for entry in plugins.backbones().values() for one in [here(entry)] if one is not None]
    unique: dict[tuple[str, str], Candidate] = {}
    for one in found:
        unique.setdefault((one.name, one.weights), one)
    kept = [one for one in unique.values() if one.random or not wanted.licenses or licensed(one, wanted.licenses)]
    if out := [one for one in unique.values() if one not in kept]:
        notes.append(f"left out by license: {some([f'{one.title} ({one.license})' for one in out])}")
    if len(kept) > MOST:
        raise ConfigError(f"--backbones: {len(kept):,} backbones match, more than {MOST}; narrow the patterns")
    floor = Candidate(entry.name, RANDOM, "", "random weights, the floor", section.weights == RANDOM)
    return [*(one for one in kept if one != floor and not (one.random and one.name == entry.name)), floor], notes


def require_known(wanted: Wanted) -> None:
    """Raises ConfigError for an empty pattern, which would match all, and for a license that no weights have, which
    would leave all of them out."""
    if not all(pattern.strip() for pattern in wanted.patterns):
        raise ConfigError("--backbones: a pattern is empty; write '*' for all of them")
    known = {one.license.lower() for entry in plugins.backbones().values() for one in entry.weights} | {"unknown"}
    for name in wanted.licenses:
        if name.strip().lower() not in known:
            raise ConfigError(f"--licenses: no weights have {name.strip()!r}{did_you_mean(name.strip(), known)}")


def licensed(one: Candidate, licenses: Sequence[str]) -> bool:
    return one.license.lower() in {name.strip().lower() for name in licenses}


def named(pattern: str, wanted: Wanted) -> list[Candidate]:
    """NAME=WEIGHTS"""
    name, _, weights = pattern.partition("=")
    try:
        entry, _ = plugins.backbone_entry(name)
        return [of_weights(entry, weights, wanted)]
    except (BackboneError, WeightsError) as error:
        raise ConfigError(f"--backbones {pattern}: {error}") from None


def of_weights(entry: BackboneEntry, weights: str, wanted: Wanted, own: bool = False) -> Candidate:
    """Raises ConfigError for weights that would have to be downloaded, where that was not asked for."""
    kind, value = resolve_weights(entry, weights)
    if kind == "none":
        return Candidate(entry.name, RANDOM, "", "random weights", own)
    if kind == "file":
        return Candidate(entry.name, value, "unknown", "file", own)
    if kind == "hub":
        if not wanted.fetch:
            raise ConfigError(f"{weights} lies on the hub; --fetch allows what is not here to be downloaded")
        return Candidate(entry.name, weights, "unknown", weights, own)
    if not wanted.fetch and not on_disk(entry, value):
        raise ConfigError(
            f"the weights {value!r} of {entry.name} are not on this machine; --fetch downloads them"
            + (", or leave the config's own out: backbone.weights=none" if own else "")
        )
    return of_tag(entry, value, own)


def of_tag(entry: BackboneEntry, tag: str, own: bool = False) -> Candidate:
    one = next(one for one in entry.weights if one.tag == tag)
    return Candidate(entry.name, tag, one.license, one.source or entry.name.partition("/")[0], own)


def here(entry: BackboneEntry) -> Candidate | None:
    """Its first weights that are on this machine."""
    if entry.facts.get("problem"):
        return None
    tag = next((one.tag for one in entry.weights if on_disk(entry, one.tag)), None)
    return None if tag is None else of_tag(entry, tag)


def matching(pattern: str, wanted: Wanted, notes: list[str]) -> list[Candidate]:
    entries: Mapping[str, BackboneEntry] = {
        name: entry
        for name, entry in plugins.backbones().items()
        if (matches(name, pattern) or matches(name.partition("/")[2], pattern)) and not entry.facts.get("problem")
    }
    if not entries:
        names = [*plugins.backbones(), *(name.partition("/")[2] for name in plugins.backbones())]
        raise ConfigError(f"--backbones: none matches {pattern!r}{did_you_mean(pattern.strip('*?'), names)}")
    found = {name: here(entry) for name, entry in entries.items()}
    lacking = [name for name, one in found.items() if one is None and entries[name].weights]
    kept = [one for one in found.values() if one is not None]
    if wanted.fetch:
        kept += [of_tag(entries[name], entries[name].weights[0].tag) for name in lacking]
    elif lacking:
        what = f"{count(len(lacking), 'backbone')} of {pattern!r}"
        notes.append(f"{what} left out, their weights are not on this machine: {some(lacking)}; --fetch downloads them")
    return kept
