"""Weights from the network, through the caches of torch and of the hub, and what went wrong in words."""

from __future__ import annotations

import json
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    """Weights and input specification (from its config.json) of a hub repository."""
    with network(f"{HUB}{repository}"):
        state = hub_state(repository)
        config = hub_file(repository, "config.json")
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
def network(what: str, instead: str = "") -> Iterator[None]:
    """Turn a failed download into words, and do not wait long for a server that does not answer.

    instead: what else `backbone.weights` could be, without a network, before a comma.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)
    try:
        yield
    except VisionTLError:
        raise
    except Exception as error:  # each library raises its own kinds
        raise WeightsError(
            f"{what} could not be downloaded ({type(error).__name__}: {first_line(error)}). Without a network set "
            f"backbone.weights to {instead}a local file (.safetensors, .pth), or to none for random weights"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
