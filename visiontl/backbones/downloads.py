"""Weights from the network, through the caches of torch and of the hub, and what went wrong in words."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiontl.backbones.files import read_file
from visiontl.errors import VisionTLError, WeightsError, first_line
from visiontl.kit.statements import sound
from visiontl.spec import ImageSpec

HUB = "hf-hub:"
NETWORK_SECONDS = 15.0  # to wait for a server's answer


ASKED = [True]  # whether what is not on disk may be downloaded; the last one counts


class NotCached(OSError):
    """A file of the hub that is not in the cache, while the hub cannot be asked for it."""


def read_cached(url: str, hashed: bool = False) -> Mapping[str, Any]:
    """A file of weights through torch's cache, as torch.hub.load_state_dict_from_url has it, read without code.

    hashed: the name states the first digits of the file's SHA-256; a file with others is refused. Raises WeightsError
    naming the cached file.
    """
    path = cached_file(url)
    stated = re.search(r"-([a-f0-9]{8,})\.", path.name) if hashed else None
    digits = stated[1] if stated else None
    if not path.exists():
        if not ASKED[-1]:
            raise NotCached(f"{path} is not there, and nothing is downloaded now")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digits, progress=False)
    elif digits and path.is_file():
        require_digits(path, digits)
    try:
        return read_file(path)
    except WeightsError as error:
        raise WeightsError(f"{error}. It lies in the cache; remove it, and it is downloaded again") from None


def cached_file(url: str) -> Path:
    """Where torch keeps the file of a URL, downloaded or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urllib.parse.urlsplit(url).path).name


def in_cache(source: str) -> bool:
    """Whether what a URL or hf-hub:owner/name leads to was downloaded before; no byte of it is read."""
    if source.startswith(HUB):
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.file_download import repo_folder_name

        name = source.removeprefix(HUB).partition("@")[0]
        folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
        return any(path.suffix in (".safetensors", ".bin") for path in folder.glob("snapshots/*/*"))
    return "://" in source and cached_file(source).is_file()


def require_digits(path: Path, digits: str) -> None:
    """Raise WeightsError unless the file's SHA-256 begins with the digits. Costs about a second for each GB, once a
    process for a file that stays as it is."""
    try:
        stat = path.stat()
        found = sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"weights file {path}: cannot be read ({error.strerror or error})") from None
    if not found.startswith(digits):
        raise WeightsError(
            f"weights file {path}: is not what its name states: the name says that its SHA-256 begins with {digits}, "
            f"it begins with {found[: len(digits)]}. It is damaged or another file. It lies in the cache; remove it, "
            "and it is downloaded again; to use it as it is, give it another name and set backbone.weights to its path"
        )


@lru_cache
def sha256(path: Path, size: int, modified: int) -> str:
    """Of the file as it was at that size (bytes) and time (ns)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hub_state(repository: str, filename: str | None = None) -> Mapping[str, Any]:
    """The weights of a hub repository (owner/name[@revision]), from the cache where they are there.

    Raises WeightsError for a repository that has none, NotCached where the hub cannot say so.
    """
    names = [filename] if filename else ["model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin"]
    unknown: NotCached | None = None
    for one in names:
        try:
            path = hub_file(repository, one, offline=unknown is not None)
        except NotCached as error:  # the cache may hold the weights in another format
            unknown = error
            continue
        if path is not None:
            return read_file(path)
    if unknown is not None:
        raise NotCached(f"{unknown}: none of {', '.join(names)} is there; {cached_revisions(repository)}")
    raise WeightsError(f"{HUB}{repository} has none of {', '.join(names)}")


def hub_file(repository: str, filename: str, offline: bool = False) -> Path | None:
    """A file of a hub repository, through the hub's cache; None if the repository has no such file. offline: the hub
    is not asked. Raises NotCached for one that is not in the cache while the hub cannot be asked."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name, _, revision = repository.partition("@")
    offline = offline or not ASKED[-1] or not resolvable(ENDPOINT)
    try:
        found = hf_hub_download(
            name,
            filename,
            revision=revision or None,
            etag_timeout=NETWORK_SECONDS,
            local_files_only=offline,
        )
    except LocalEntryNotFoundError:
        known = try_to_load_from_cache(name, filename, revision=revision or None)
        if known is not None and not isinstance(known, str):  # the hub has said before that there is none
            return None
        raise NotCached(f"{ENDPOINT} cannot be reached, or must not be, and the cache lacks what is needed") from None
    except EntryNotFoundError:
        return None
    return Path(found)


def cached_revisions(repository: str) -> str:
    """What the hub's cache holds of a repository, in words: where to look, and which revision could be named."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    name, _, revision = repository.partition("@")
    folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
    snapshots = sorted(path.name for path in folder.glob("snapshots/*") if path.is_dir())
    if not snapshots:
        return f"{folder} holds nothing of it"
    wanted, reference = revision or "main", folder / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8", errors="replace").strip() if reference.is_file() else wanted
    if commit in snapshots:
        files = sorted(path.name for path in (folder / "snapshots" / commit).iterdir())
        return f"{folder / 'snapshots' / commit} holds {', '.join(files[:5]) or 'no file'}"
    return (
        f"{folder} holds no revision {wanted!r}, but {', '.join(snapshots[:3])}: name one, as in "
        f"{HUB}{name}@{snapshots[0]}"
    )


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
    """Weights and input specification (from its config.json) of a hub repository; None where it states none, or is
    not in the cache while the hub cannot be asked."""
    with network(f"{HUB}{repository}"):
        state = hub_state(repository)
        try:
            config = hub_file(repository, "config.json")
        except NotCached:
            config = None
    if config is None:
        return dict(state), None
    try:
        return dict(state), hub_spec(json.loads(config.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:  # not JSON, or no specification
        raise WeightsError(f"{HUB}{repository}: its config.json ({config}): {first_line(error)}") from None


def hub_spec(config: Any) -> ImageSpec | None:
    """The input specification in a model's config.json on the hub; None where it states none. Raises ValueError for
    one that is none, saying why."""
    if not isinstance(config, Mapping):
        raise ValueError(f"holds a {type(config).__name__}; a mapping was expected")
    stated: Any = config.get("pretrained_cfg", config)
    if not isinstance(stated, Mapping) or not {"input_size", "mean", "std"} <= set(stated):
        return None
    values: list[Any] = [stated[key] for key in ("input_size", "mean", "std")]  # `sound` says which is none
    size, mean, std = (tuple(value) if isinstance(value, list) else value for value in values)
    if not isinstance(size, tuple) or len(size) != 3:
        raise ValueError(f"input_size is {stated['input_size']!r:.80}; expected channels, height and width")
    interpolation, crop = stated.get("interpolation", "bicubic"), stated.get("crop_pct") or 0.875
    known = interpolation if interpolation in ("bilinear", "nearest", "lanczos") else "bicubic"
    return sound(ImageSpec(size=size[1:], mean=mean, std=std, interpolation=known, crop=crop))


@contextmanager
def offline() -> Iterator[None]:
    """Within the block nothing is downloaded: what is not on disk raises NotCached, or WeightsError in `network`."""
    ASKED.append(False)
    try:
        yield
    finally:
        ASKED.pop()


@contextmanager
def network(what: str, instead: str = "", way: str = "") -> Iterator[None]:
    """Turn a failed download into words, and do not wait long for a server that does not answer.

    instead: what else `backbone.weights` could be, without a network, before a comma. way: what to do where it is not
    about backbone.weights.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)
    try:
        yield
    except VisionTLError:
        raise
    except Exception as error:  # each library raises its own kinds
        known = isinstance(error, NotCached)
        reason = f": {error}" if known else f" ({type(error).__name__}: {first_line(error)})"
        raise WeightsError(
            f"{what} could not be downloaded{reason}. Without a network "
            + (
                way
                or f"set backbone.weights to {instead}a local file (.safetensors, .pth), or to none for random weights"
            )
        ) from None
    finally:
        socket.setdefaulttimeout(before)
