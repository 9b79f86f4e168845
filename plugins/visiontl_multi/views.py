"""What the network is shown of a photo: each part's own view, kept once where several are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from visiontl import ImageSpec
from visiontl_multi.config import MultiConfig

if TYPE_CHECKING:
    from torch import Tensor


def shown_alike(parts: Mapping[str, dict[str, Any]], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """{part: its sample} -> {"image": the first one's, "parts": the samples, without "image" where it is the same,
    "size": of the photo, where it is told}. base: the first part's sample of a photo that it has no label of."""
    first = base or next(iter(parts.values()))
    image = first["image"]
    kept = {
        name: {key: value for key, value in sample.items() if key != "image" or not alike(value, image)}
        for name, sample in parts.items()
    }
    size = next((sample["size"] for sample in (first, *parts.values()) if "size" in sample), None)
    return {"image": image, "parts": kept, **({} if size is None else {"size": size})}


def alike(one: Any, other: Any) -> bool:
    import torch

    if one is other:
        return True
    both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return both and one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def with_color(parts: Mapping[str, dict[str, Any]], share: float) -> dict[str, dict[str, Any]]:
    """Brightness, contrast, saturation and hue changed in that share of photos, in all views of a photo alike: a
    function of what torch's generator starts from."""
    import torch
    from torchvision.transforms import v2

    if float(torch.rand(())) >= share:
        return dict(parts)
    start = torch.get_rng_state()
    change = v2.RandomPhotometricDistort()

    def changed(image: Tensor) -> Tensor:
        torch.set_rng_state(start)
        return change(image)

    return {name: {**sample, "image": changed(sample["image"])} for name, sample in parts.items()}


@dataclass(frozen=True)
class Views:
    """photo -> sample, as in validation."""

    own: Mapping[str, Callable[[Image.Image], dict[str, Any]]]
    views: Mapping[str, str]

    def __call__(self, photo: Image.Image) -> dict[str, Any]:
        parts = {name: dict(prepare(photo)) for name, prepare in self.own.items()}
        for name, other in self.views.items():
            parts[name]["image"] = parts[other]["image"]
        return shown_alike(parts)


def sample(cfg: MultiConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    own = {name: part.task.sample(part.section, spec, meta["parts"][name]["meta"]) for name, part in cfg.tasks.items()}
    return Views(own, cfg.views)
