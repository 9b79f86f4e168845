"""Weights into backbones, from a tag, a local file or the hub. What matched is counted; too little is an error."""

from __future__ import annotations

import json
import pickle
import re
import socket
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiontl.backbone import Backbone
from visiontl.backbones import catalog
from visiontl.backbones.library import LibraryBackbone, first_line
from visiontl.entry import BackboneEntry, ImageSpec
from visiontl.errors import BackboneError, VisionTLError, WeightsError, did_you_mean

ENOUGH = 0.9  # of the backbone's elements; below it the file is that of another architecture
FILE_TYPES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
HUB = "hf-hub:"
NORMALIZATION = ("mean", "std")  # the backbone's own buffers: never in a file
COUNTER = "num_batches_tracked"  # absent from old files; says nothing about the weights
NETWORK_SECONDS = 15.0  # to wait for a server's answer

# Which copy of a network to take where a checkpoint holds several: the averaged one, as their papers evaluate it
# (DINO, BYOL, iBOT: teacher or target; MoCo: encoder_q; training scripts with EMA: *_ema).
PREFERRED = ("ema", "teacher", "target", "encoder_q", "model", "state_dict", "student", "online", "encoder_k")


@dataclass(frozen=True)
class LoadReport:
    """What came of loading.

    matched, total: elements of the backbone's tensors; fraction: their quotient, 0..1.
    missing: the backbone's names that the source did not give. unexpected: names of the source that were left.
    """

    source: str
    matched: int = 0
    total: int = 0
    fraction: float = 0.0
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.source == "none":
            return "the backbone starts from random weights: nothing pretrained is loaded"
        lines = [f"weights {self.source}: {self.fraction:.1%} of the backbone's values loaded"]
        if self.missing:
            lines.append(f"  missing: {some(self.missing)}")
        if self.unexpected:
            lines.append(f"  not used: {some(self.unexpected)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@dataclass(frozen=True)
class Fit:
    """One reading of a checkpoint: which of its tables, without which prefix, and what of it fits."""

    tensors: dict[str, Tensor]
    matched: int
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    head: tuple[dict[str, Tensor], int] | None
    unexpected: tuple[str, ...]
    notes: tuple[str, ...]
    total: int
    state: Mapping[str, Tensor]  # all of the reading

    @property
    def fraction(self) -> float:
        return self.matched / max(self.total, 1)


def make_backbone(
    entry: BackboneEntry,
    source: str = "default",
    image_size: tuple[int, int] | None = None,
    in_channels: int = 3,
    output_stride: int | None = None,
) -> tuple[Backbone, LoadReport]:
    """Build an entry's backbone for the weights of `source`, with their specification, and load them.

    source: default | a tag | none | a local file | hf-hub:owner/name.
    image_size: (H, W) in pixels; None: the size that the weights' specification states.
    Raises BackboneError and WeightsError.
    """
    kind, value = resolve(entry, source)
    spec = tag_spec(entry, value) if kind == "tag" else None
    state = downloaded(value) if kind == "hub" else None
    if state is not None:
        spec = state[1]
    backbone = entry.build(spec=spec, in_channels=in_channels, output_stride=output_stride, image_size=image_size)
    if not isinstance(backbone, Backbone):
        raise BackboneError(
            f"{entry.name}: its build function made a {type(backbone).__name__}; a visiontl.Backbone was expected"
        )
    chosen = backbone.spec.size
    report = _load(backbone, entry, source, kind, value, state)
    if backbone.spec.size != chosen:
        backbone.set_spec(replace(backbone.spec, size=chosen))
    return backbone, report


def load_weights(backbone: Backbone, entry: BackboneEntry, source: str) -> LoadReport:
    """Load a source's weights into a backbone that is already built, and take over their specification.

    Nothing is changed unless at least ENOUGH of the backbone's values are there. Raises WeightsError.
    """
    kind, value = resolve(entry, source)
    state = downloaded(value) if kind == "hub" else None
    return _load(backbone, entry, source, kind, value, state)


def resolve(entry: BackboneEntry, source: str) -> tuple[str, str]:
    """A `weights:` value -> ("none" | "tag" | "file" | "hub", tag, path or repository). Raises WeightsError."""
    source = str(source).strip()
    tags = [one.tag for one in entry.weights]
    if source == "none":
        return "none", ""
    if source == "default":
        if not tags:
            raise WeightsError(
                f"{entry.name} has no pretrained weights; set backbone.weights to none, to a local file "
                f"({', '.join(FILE_TYPES[:3])}) or to {HUB}owner/name"
            )
        return "tag", tags[0]
    if source.startswith(HUB):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", source.removeprefix(HUB)):
            raise WeightsError(f"weights {source!r}: expected {HUB}owner/name")
        return "hub", source.removeprefix(HUB)
    if source in tags:
        return "tag", source
    path = Path(source).expanduser()
    if path.suffix.lower() in FILE_TYPES or path.is_file() or "/" in source or "\\" in source:
        return "file", str(path)
    hint = did_you_mean(source, [*tags, "default", "none"])
    raise WeightsError(
        f"{entry.name} has no weights {source!r} (known: default, none, its tags ({some(tags) or 'it has none'}), "
        f"a local file, {HUB}owner/name){hint}"
    )


def tag_spec(entry: BackboneEntry, tag: str) -> ImageSpec | None:
    """The input specification of a tag's weights, for the libraries' own backbones."""
    family = _family(entry.name)
    return None if family is None else family.default_spec(entry.name.partition("/")[2], tag)


def _family(name: str) -> Any:
    library = name.partition("/")[0]
    if library == "timm":
        from visiontl.backbones import timm as family
    elif library == "torchvision":
        from visiontl.backbones import torchvision as family
    else:
        return None
    return family


def load_tag(backbone: Backbone, tag: str) -> Backbone:
    """BackboneEntry.load for the libraries' backbones: download, check, load, take over the specification."""
    _load_library_tag(backbone, tag, tag)
    return backbone


def _load(
    backbone: Backbone,
    entry: BackboneEntry,
    source: str,
    kind: str,
    value: str,
    hub: tuple[dict[str, Tensor], ImageSpec | None] | None,
) -> LoadReport:
    if kind == "none":
        return LoadReport("none", 0, _total(backbone), 0.0)
    if kind == "file":
        found = read_file(Path(value))
        kept = "the file states no input specification: the architecture's own is kept"
        return adopt(backbone, entry, found, str(source), (kept,))
    if kind == "hub":
        assert hub is not None
        report = adopt(backbone, entry, hub[0], str(source), ())
        if hub[1] is not None:
            _take_spec(backbone, hub[1])
        return report
    shown = source if source == value else f"{source} ({value})"
    if isinstance(backbone, LibraryBackbone):
        return _load_library_tag(backbone, value, shown)
    if entry.load is None:
        raise WeightsError(f"{entry.name} names weights {value!r} but offers no way to load them")
    entry.load(backbone, value)
    total = _total(backbone)
    note = f"loaded by {entry.name}'s own function, which answers for completeness"
    return LoadReport(shown, total, total, 1.0, notes=(note,))


def _load_library_tag(backbone: Backbone, tag: str, shown: str) -> LoadReport:
    if not isinstance(backbone, LibraryBackbone):
        raise WeightsError(f"{backbone.name} is no backbone of timm or torchvision; it has no tag {tag!r}")
    with network(f"the weights {tag!r} of {backbone.name}"):
        state = fetch(backbone, tag)
    report = adopt(backbone, None, state, shown, ())
    _take_spec(backbone, _family(backbone.name).default_spec(backbone.arch, tag))
    return report


def _take_spec(backbone: Backbone, spec: ImageSpec) -> None:
    """Set the weights' specification; the size only where the body takes it."""
    own = backbone.spec
    fits = own.sizing == "any" or (own.sizing == "multiple" and not any(s % own.pad_to for s in spec.size))
    size = spec.size if fits else own.size
    backbone.set_spec(replace(spec, size=size, pad_to=own.pad_to, sizing=own.sizing))


# ---- matching


def adopt(
    backbone: Backbone,
    entry: BackboneEntry | None,
    found: Mapping[str, Any],
    source: str,
    notes: Sequence[str],
) -> LoadReport:
    """Find the backbone's weights in a checkpoint, whatever it is wrapped in, and load them.

    Raises WeightsError, and changes nothing, if less than ENOUGH of the backbone is there.
    """
    fits = [fit(backbone, entry, state, said) for state, said in readings(found, _own_names(backbone))]
    if not fits:
        raise WeightsError(f"{source} holds no tensors; expected the state dict of {backbone.name}")
    best = max(fits, key=lambda one: one.matched)  # the first of equals: readings come in order of preference
    if best.fraction < ENOUGH:
        raise WeightsError(refusal(backbone, best, source))
    own = _inner(backbone).state_dict()
    with torch.no_grad():
        for name, tensor in best.tensors.items():
            own[name].copy_(tensor)
    said = [*notes, *best.notes]
    if best.misshapen:
        said.append(f"left out for their shape: {some(best.misshapen)}")
    if isinstance(backbone, LibraryBackbone):
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
    return LoadReport(source, best.matched, best.total, best.fraction, best.missing, best.unexpected, tuple(said))


def fit(backbone: Backbone, entry: BackboneEntry | None, state: dict[str, Tensor], notes: Sequence[str]) -> Fit:
    """Compare one reading of a checkpoint with the backbone, name by name and shape by shape."""
    said = list(notes)
    if isinstance(backbone, LibraryBackbone):
        state, more = backbone.adopted(state)
        said += more
    elif entry is not None and entry.load_file is not None:
        state, note = entry.load_file(backbone, state)
        said += [note] if note else []
    own = {k: v for k, v in _inner(backbone).state_dict().items() if k not in NORMALIZATION}
    tensors = {k: state[k] for k, v in own.items() if k in state and state[k].shape == v.shape}
    counted = {k: v for k, v in own.items() if not k.endswith(COUNTER)}
    head = backbone.fitting_head(state) if isinstance(backbone, LibraryBackbone) else None
    known = {*own, *(head[0] if head else ())}
    return Fit(
        tensors,
        sum(v.numel() for k, v in counted.items() if k in tensors),
        tuple(k for k in counted if k not in tensors),
        tuple(
            f"{k} {tuple(state[k].shape)}, expected {tuple(v.shape)}"
            for k, v in own.items()
            if k in state and state[k].shape != v.shape
        ),
        head,
        tuple(k for k in state if k not in known and k not in NORMALIZATION),
        tuple(said),
        sum(v.numel() for v in counted.values()),
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
    names = [k for k in best.missing if not k.endswith(COUNTER)]
    text = (
        f"{source} matches {best.fraction:.1%} of {backbone.name} ({best.matched:,} of {best.total:,} values; at "
        f"least {ENOUGH:.0%} is needed); nothing was loaded. Missing: {some(names)}."
    )
    if best.misshapen:
        text += f" Of another shape: {some(best.misshapen)}."
        cause = "a variant of another width, depth or image size"
    else:
        cause = "another architecture, or the same one in another library"
    if best.unexpected:
        text += f" In the file but not in the backbone: {some(best.unexpected)}."
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


def _inner(backbone: Backbone) -> torch.nn.Module:
    """The module whose names a file uses: the library's model, or the backbone itself."""
    return backbone.body if isinstance(backbone, LibraryBackbone) else backbone


def _own_names(backbone: Backbone) -> set[str]:
    return {k for k in _inner(backbone).state_dict() if k not in NORMALIZATION}


def _total(backbone: Backbone) -> int:
    return sum(
        v.numel()
        for k, v in _inner(backbone).state_dict().items()
        if k not in NORMALIZATION and not k.endswith(COUNTER)
    )


def some(names: Sequence[str], count: int = 4) -> str:
    """The first few, and how many more."""
    text = ", ".join(names[:count])
    return text if len(names) <= count else f"{text} and {len(names) - count} more"


# ---- files and downloads


def read_file(path: Path) -> Mapping[str, Any]:
    """A .safetensors or pickled checkpoint, on the CPU. A pickle may hold tensors and plain values only; one
    that would run code is refused unread. Raises WeightsError naming the file."""
    if not path.exists():
        folder = path.parent
        names = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        where = "" if folder.is_dir() else f" (there is no folder {folder})"
        raise WeightsError(f"weights file {path}: no such file{where}{did_you_mean(path.name, names)}")
    if path.is_dir():
        raise WeightsError(f"weights file {path}: is a folder; name the file in it")
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"weights file {path}: cannot be read as safetensors ({first_line(error)})") from None
    return _read_pickle(path)


def _read_pickle(path: Path) -> Mapping[str, Any]:
    import argparse

    with path.open("rb") as file:
        head = file.read(2)
    if not head.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of protocol 2 and later
        raise WeightsError(f"weights file {path}: damaged, or no file of weights (it begins with {head!r})")
    try:
        # plain values; DINO and MAE save their options
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        named = re.search(r"(?:GLOBAL|global:?|class:?)\s+([\w.]+\.[\w.]+)", text)
        if named or "Unsupported" in text:
            what = f"it asks for {named[1]}" if named else "it holds objects"
            raise WeightsError(
                f"weights file {path}: refused, because loading it would run code from the file ({what}). Only "
                "tensors and plain values are read; save model.state_dict() alone, best as .safetensors"
            ) from None
        raise WeightsError(f"weights file {path}: damaged, or no file of weights ({first_line(error)})") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        if "TorchScript" in str(error):
            raise WeightsError(
                f"weights file {path}: a TorchScript program, which holds code; save its state_dict() instead"
            ) from None
        raise WeightsError(f"weights file {path}: damaged, or no file of weights ({first_line(error)})") from None
    if not isinstance(found, Mapping):
        raise WeightsError(
            f"weights file {path}: holds a {type(found).__name__}; expected a state dict (names -> tensors)"
        )
    return found


def fetch(backbone: LibraryBackbone, tag: str) -> Mapping[str, Any]:
    """The state dict of a tag, through the library's own place and cache."""
    if backbone.family == "torchvision":
        from visiontl.backbones.torchvision import weights_enum

        return read_cached(weights_enum(backbone.arch)[tag].url, hashed=True)
    import timm

    found: Any = timm.get_pretrained_cfg(f"{backbone.arch}.{tag}")
    if found.hf_hub_id:
        return hub_state(found.hf_hub_id, found.hf_hub_filename)
    if found.custom_load or str(found.url).endswith(".npz"):
        raise WeightsError(
            f"{backbone.name}: the weights {tag!r} are published in a JAX format only; choose another tag"
        )
    return read_cached(found.url)


def read_cached(url: str, hashed: bool = False) -> Mapping[str, Any]:
    """A file of weights through torch's cache, as torch.hub.load_state_dict_from_url has it, read without code.

    hashed: the name states the first digits of the file's SHA-256. Raises WeightsError naming the cached file.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urllib.parse.urlsplit(url).path).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        digits = re.search(r"-([a-f0-9]+)\.", path.name) if hashed else None
        torch.hub.download_url_to_file(url, str(path), digits[1] if digits else None, progress=False)
    try:
        return read_file(path)
    except WeightsError as error:
        raise WeightsError(f"{error}. It lies in the cache; remove it, and it is downloaded again") from None


def hub_state(repository: str, filename: str | None = None) -> Mapping[str, Any]:
    """The weights of a hub repository (owner/name[@revision]), from the cache where they are there."""
    names = [filename] if filename else ["model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin"]
    for one in names:
        path = hub_file(repository, one)
        if path is not None:
            return read_file(path)
    raise WeightsError(f"{HUB}{repository} has none of {', '.join(names)}")


def hub_file(repository: str, filename: str) -> Path | None:
    """A file of a hub repository, through the hub's cache; None if the repository has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name, _, revision = repository.partition("@")
    offline = not resolvable(ENDPOINT)
    try:
        found = hf_hub_download(
            name,
            filename,
            revision=revision or None,
            etag_timeout=NETWORK_SECONDS,
            local_files_only=offline,
        )
    except LocalEntryNotFoundError:
        if offline:
            raise OSError(f"{ENDPOINT} cannot be reached, and {filename} is not in the cache") from None
        raise
    except EntryNotFoundError:
        return None
    return Path(found)


def resolvable(address: str) -> bool:
    """False where the host's name has no address and no proxy could know it. The hub's own client retries for
    20 seconds before it says so."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(address).hostname, 443)
    except OSError:
        return False
    return True


def downloaded(repository: str) -> tuple[dict[str, Tensor], ImageSpec | None]:
    """Weights and input specification (from its config.json, as timm writes it) of a hub repository."""
    with network(f"{HUB}{repository}"):
        state = hub_state(repository)
        config = hub_file(repository, "config.json")
    if config is None:
        return dict(state), None
    return dict(state), hub_spec(json.loads(config.read_text(encoding="utf-8")))


def hub_spec(config: Mapping[str, Any]) -> ImageSpec | None:
    """The input specification in a timm config.json; None where it states none."""
    stated = config.get("pretrained_cfg", config)
    if not {"input_size", "mean", "std"} <= set(stated):
        return None
    interpolation = stated.get("interpolation", "bicubic")
    return ImageSpec(
        size=tuple(stated["input_size"][1:]),
        mean=tuple(stated["mean"]),
        std=tuple(stated["std"]),
        interpolation=interpolation if interpolation in ("bilinear", "nearest", "lanczos") else "bicubic",
        crop=float(stated.get("crop_pct") or 0.875),
    )


@contextmanager
def network(what: str) -> Iterator[None]:
    """Turn a failed download into words, and do not wait long for a server that does not answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)
    try:
        yield
    except VisionTLError:
        raise
    except Exception as error:  # each library raises its own kinds
        raise WeightsError(
            f"{what} could not be downloaded ({type(error).__name__}: {first_line(error)}). Without a network set "
            "backbone.weights to a local file (.safetensors, .pth), or to none for random weights"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
