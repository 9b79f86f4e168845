"""A backbone's weights in a checkpoint: where they are and how much of them is there; too little is an error."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from visiontl.backbone import NORMALIZATION, Backbone
from visiontl.backbones import catalog, positions
from visiontl.backbones.channels import adapted, image_convs
from visiontl.backbones.names import COUNTER, is_numbered, plain_names
from visiontl.errors import WeightsError, first_line
from visiontl.kit.words import some

ENOUGH = 0.9  # of the backbone's tensors and of their values; below it the file is that of another architecture
FURTHER = 0.05  # of the backbone's values; what trainers leave beside weights (counters, indices) is far less
LARGEST = 1e18  # of a weight: the square of ten times as much is no float of 32 bits any more
STATISTICS = ("running_mean", "running_var")

# Which copy of a network to take where a checkpoint holds several: the averaged one, as their papers evaluate it
# (DINO, BYOL, iBOT: teacher or target; MoCo: encoder_q; training scripts with EMA: *_ema).
WRAPPERS = ("module.", "_orig_mod.", "module.")  # of DataParallel, DDP and torch.compile, one in the other
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
    vital: which of the missing tensors make another network of it; a strict load refuses them.
    missing: the backbone's tensors that it did not give. unexpected: names of the source that were left.
    deeper: those of them that look like further layers of the backbone's own modules.
    """

    source: str
    share: Share = Share()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    vital: tuple[str, ...] = ()
    deeper: tuple[str, ...] = ()

    @property
    def fraction(self) -> float:
        """0..1, of tensors or of their values, whichever is less."""
        return self.share.fraction

    def __str__(self) -> str:
        return "\n  ".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """A sentence, and what stands below it."""
        if self.source == "none":
            return ["the backbone starts from random weights: nothing pretrained is loaded"]
        lines = [f"weights {self.source}: {self.share} of the backbone are loaded"]
        if self.missing:
            lines.append(f"missing, and random: {some(self.missing)}")
        if self.vital:
            lines.append(f"allowed by backbone.strict=false, though it is another network so: {'; '.join(self.vital)}")
        if self.unexpected:
            lines.append(f"not used: {some(self.unexpected)}")
        if self.deeper:
            lines.append(
                f"{len(self.deeper)} of those stand in the backbone's own modules, as layers of a larger "
                "architecture do: is this file of the backbone that backbone.name says?"
            )
        return [*lines, *self.notes]


@dataclass(frozen=True)
class Fit:
    """One reading of a checkpoint: which of its tables, without which prefix, and what of it fits.

    tensors: by the library's names. misshapen: those of another shape or type, each with a phrase that says so.
    head: (its tensors, number of classes) of the original classifier, if it is there.
    state: all of the reading.
    """

    tensors: Mapping[str, Tensor]
    share: Share
    missing: tuple[str, ...]
    misshapen: Mapping[str, str]
    unexpected: tuple[str, ...]
    head: tuple[dict[str, Tensor], int] | None
    notes: tuple[str, ...]
    state: Mapping[str, Tensor]

    @property
    def apart_from_statistics(self) -> Share:
        """As if the backbone had no such statistics as are missing: whether they may be is asked by itself."""
        missing = sum(name.endswith(STATISTICS) for name in self.missing)
        return replace(self.share, of_tensors=self.share.of_tensors - missing)


def adopt(
    backbone: Backbone, found: Mapping[str, Any], source: str, notes: Sequence[str], strict: bool = True
) -> LoadReport:
    """Find the backbone's weights in a checkpoint, whatever it is wrapped in, and load them.

    strict: refuse a file without what makes the network (`vital`). Raises WeightsError, and changes nothing, for that,
    for values that are no numbers, and if less than ENOUGH of the backbone is there.
    """
    own = own_tensors(backbone)
    fits = [fit(backbone, own, state, said) for state, said in readings(found, own)]
    if not fits:
        raise WeightsError(f"{source} holds no tensors; expected the state dict of {backbone.name}")
    best = max(fits, key=lambda one: one.share.values)  # the first of equals: readings come in order of preference
    if best.apart_from_statistics.fraction < ENOUGH:
        raise WeightsError(refusal(backbone, best, source))
    lacking = vital(backbone, best)
    if lacking and strict:
        raise WeightsError(
            f"{source} gives {best.share} of {backbone.name}, but not {'; nor '.join(lacking)}. At their random start "
            "they make another network of it, so nothing was loaded. Give a file that has them (model.state_dict(), "
            "all of it, of the same architecture), or allow it with backbone.strict=false"
        )
    head = best.head[0] if best.head is not None else {}
    broken = not_finite({**best.tensors, **head}, {k for k, _ in backbone.named_parameters()})
    if broken:
        raise WeightsError(
            f"{source} holds values that are no finite numbers, or above {LARGEST:g}, or variances below 0: "
            f"{len(broken)} of its tensors, such as {some(broken)}. A training that diverged leaves such a file; "
            "nothing was loaded"
        )
    with torch.no_grad():
        for name, tensor in best.tensors.items():
            own[name].copy_(tensor)
    said = [*notes, *best.notes]
    if best.misshapen:
        said.append(f"left out for their shape: {some(best.misshapen.values())}")
    backbone.head_state, backbone.head_classes = {}, 0
    if best.head is not None:
        backbone.head_state = {k: v.detach().cpu().clone() for k, v in best.head[0].items()}
        backbone.head_classes = best.head[1]
        said.append(f"the original classifier of {best.head[1]} classes is kept aside")
    if best.unexpected:
        said.append(f"{len(best.unexpected)} tensors that are no part of the backbone were dropped")
    further = deeper(own, best)
    return LoadReport(source, best.share, best.missing, best.unexpected, tuple(said), lacking, further)


def deeper(own: Mapping[str, Tensor], best: Fit) -> tuple[str, ...]:
    """Weights that were left although they stand in modules of the backbone, where they hold more than FURTHER of its
    values: a file of ResNet-34 fills a ResNet-18 to the last tensor."""
    modules = {name.partition(".")[0] for name in own}
    left = [(name, best.state[name]) for name in best.unexpected if name.partition(".")[0] in modules]
    weights = {name: tensor.numel() for name, tensor in left if tensor.is_floating_point() and tensor.ndim > 1}
    return tuple(weights) if sum(weights.values()) > FURTHER * best.share.of_values else ()


def vital(backbone: Backbone, best: Fit) -> tuple[str, ...]:
    """What of the missing makes another network of the backbone, each kind as a phrase: the convolutions that read the
    image, statistics of batch norm, tables of positions, and what the file holds in another shape."""
    convs, other = set(image_convs(backbone)), best.misshapen
    kinds = {
        "its first convolution": [k for k in best.missing if k in convs and k not in other],
        "the statistics of its batch norm": [k for k in best.missing if k.endswith(STATISTICS)],
        "its tables of positions": [k for k in best.missing if positions.NAMES.search(k) and k not in other],
        "in the shape that it needs": [text for k, text in other.items() if k in best.missing],
    }
    return tuple(f"{what} ({len(names)}: {some(names)})" for what, names in kinds.items() if names)


def not_finite(tensors: Mapping[str, Tensor], parameters: Container[str]) -> list[str]:
    """Names of the tensors that hold NaN, of those that hold what is above LARGEST, infinity too, and may not, and of
    variances below 0, whose root is NaN.

    parameters: names that may not. Statistics of batch norm may not either; masks among the buffers hold infinities.
    """
    found = []
    for name, value in tensors.items():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        value = torch.view_as_real(value) if value.is_complex() else value  # which cannot be compared
        try:
            value = value.float() if value.element_size() == 1 else value  # eight bits know no isnan
        except NotImplementedError:  # four bits, which torch only carries
            found.append(name)
            continue
        strict = name in parameters or name.endswith(STATISTICS)
        sound = value.abs() <= LARGEST if strict else ~torch.isnan(value)  # of NaN neither
        if not sound.all() or (name.endswith("running_var") and (value < 0).any()):
            found.append(name)
    return found


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
    state, more = adapted(backbone, own, state)
    said += more
    tensors = {k: state[k] for k, v in own.items() if k in state and serves(state[k], v)}
    counted = {k: v.numel() for k, v in own.items() if v.is_floating_point() or v.is_complex()}
    head = backbone.own_head(state)
    known = {*own, *(head[0] if head else ()), *NORMALIZATION}
    given = [size for k, size in counted.items() if k in tensors]
    return Fit(
        tensors,
        Share(len(given), len(counted), sum(given), sum(counted.values())),
        tuple(k for k in counted if k not in tensors),
        {
            k: f"{k} {shown(state[k], v)}, expected {shown(v, v)}"
            for k, v in own.items()
            if k in state and k not in tensors
        },
        tuple(k for k in state if k not in known),
        head,
        tuple(said),
        state,
    )


def serves(given: Tensor, own: Tensor) -> bool:
    """Whether a file's tensor can be copied as it is: whole numbers are no weights, nor are parts of a sparse one."""
    kinds = not own.is_floating_point() or given.is_floating_point()
    return given.shape == own.shape and kinds


def shown(tensor: Tensor, own: Tensor) -> str:
    """A tensor's shape, and its type where that is what tells it from `own`."""
    kind = "" if tensor.is_floating_point() == own.is_floating_point() else f" of {str(tensor.dtype).split('.')[-1]}"
    return f"{tuple(tensor.shape)}{kind}"


def readings(found: Mapping[str, Any], own: Mapping[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
    """Every table of tensors in a checkpoint, under every prefix that could hold the backbone.

    A candidate has at least half as many tensors as the backbone. Best guesses first.
    """
    candidates = []
    for path, table in tables(found):
        for prefix, names in prefixed(table, least=len(own) / 2).items():
            inside, said = plain_names({name[len(prefix) :]: table[name] for name in names}, own)
            where = [f"taken from {path!r} of the file"] if path else []
            known = len(own.keys() & inside.keys())
            order = -known, _preference(f"{path}.{prefix}"), len(prefix)
            candidates.append((order, table, prefix, names, inside, where, said))
    candidates.sort(key=lambda one: one[0])
    for _, table, prefix, names, inside, where, said in candidates[:12]:
        yield inside, [*where, *stripped(table, prefix, names), *said]


def stripped(table: Mapping[str, Any], prefix: str, names: Sequence[str]) -> list[str]:
    """What is said of a reading under a prefix. names: those of the table that begin with it."""
    if not prefix:
        return []
    others = sorted({name.partition(".")[0] for name in table.keys() - set(names)})
    return [f"prefix {prefix!r} stripped", *([f"other parts of the file were left: {some(others)}"] if others else [])]


def tables(found: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(path, table) of each mapping from names to tensors within nested mappings."""
    tensors = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor) and is_dense(v)}
    if tensors:
        yield path, tensors
    if depth < 3:
        for key, value in found.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from tables(value, f"{path}.{key}" if path else key, depth + 1)


def tensors_in(found: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The tensors of a whole model in a checkpoint: its largest table, of equal ones the averaged, without what a
    wrapper puts before all names. Raises WeightsError where there are none."""
    known = sorted(tables(found), key=lambda one: (-len(one[1]), _preference(one[0])))
    if not known:
        raise WeightsError(f"{source}: holds no tensors by name; save model.state_dict()")
    table = known[0][1]
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in table):
            table = {name.removeprefix(prefix): tensor for name, tensor in table.items()}
    return table


def is_dense(tensor: Tensor) -> bool:
    """Whether its values lie there one by one: neither sparse, nor quantized, nor without values."""
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


def prefixed(table: Mapping[str, Any], least: float) -> dict[str, list[str]]:
    """{prefix: the names that begin with it}: '' and every dotted prefix, up to four words long, of `least` names or
    more. One pass over the names, however odd they are."""
    found: dict[str, list[str]] = {"": list(table)}
    for name in table:
        words = name.split(".", 4)[:4]
        for n in range(1, min(name.count("."), 4) + 1):
            found.setdefault(".".join(words[:n]) + ".", []).append(name)
    return {prefix: names for prefix, names in found.items() if not prefix or len(names) >= least}


def refusal(backbone: Backbone, best: Fit, source: str) -> str:
    """Why a file is not loaded, in words."""
    text = (
        f"{source} gives {best.share} of {backbone.name}; at least {ENOUGH:.0%} of both are needed, and nothing was "
        f"loaded. Missing: {some(best.missing)}."
    )
    if best.misshapen:
        text += f" Of another shape: {some(best.misshapen.values())}."
        cause = "a variant of another width, depth or image size"
    else:
        cause = "another architecture, or the same one in another library"
    if best.unexpected:
        text += f" In the file but not in the backbone: {some(best.unexpected)}."
    if best.notes:
        text += f" It was read so: {'; '.join(best.notes)}."
    guess = owners(best)
    if backbone.name in guess:
        return f"{text} {of_other_names(backbone, best)}"
    if guess:
        cause = f"{' or '.join(guess[:3])}, whose number of parameters it has"
    elif is_numbered(best.state):
        return f"{text} {of_other_names(backbone, best)}"
    return f"{text} The file is likely that of {cause}: choose backbone.name to fit it"


def of_other_names(backbone: Backbone, best: Fit) -> str:
    """What to do with a file that may be the chosen backbone's own, under names that are not understood."""
    own, numbers = own_tensors(backbone), ""
    known = some([k for k in own if not k.endswith(COUNTER)])
    if any(own[k].is_floating_point() and not best.state[k].is_floating_point() for k in best.misshapen):
        return "The file holds whole numbers, as quantization leaves them: give the weights as they were before it"
    if is_numbered(best.state):
        numbers = (
            "Its names begin with numbers, as nn.Sequential(*model.children()) gives them, and in their order their "
            "parts have other names or shapes than the backbone's. "
        )
    return (
        f"{numbers}Other names hold the same values, or another network does: save model.state_dict() of the bare "
        f"model of {backbone.name}, or rename the file's tensors to its names, such as {known}"
    )


def owners(best: Fit) -> list[str]:
    """Architectures of the catalog with as many parameters as the file, or the file without its classifier."""
    weights = {k: v for k, v in best.state.items() if not k.endswith((COUNTER, *STATISTICS))}
    count = sum(v.numel() for v in weights.values())
    counts = {count}
    for name, value in weights.items():
        if name.endswith(".weight") and value.dim() in (2, 4) and value.shape[2:].numel() == 1:
            bias = weights.get(f"{name.removesuffix('weight')}bias")
            counts.add(count - value.numel() - (0 if bias is None else bias.numel()))
    return [name for name, row in catalog.read().rows.items() if row.params in counts]


def _preference(path: str) -> int:
    words = re.split(r"[._]", path.lower()) + path.lower().split(".")
    return next((i for i, word in enumerate(PREFERRED) if word in words), len(PREFERRED))
