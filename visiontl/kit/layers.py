"""Named layers of a body, caught while it runs: the `layers` that a Backbone is asked for."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn

from visiontl.errors import BackboneError, did_you_mean


class Captured:
    """Outputs by module, filled while the body runs."""

    def __init__(self, layers: Sequence[str], backbone: str):
        self.layers, self.backbone = layers, backbone
        self.found: dict[str, Any] = {}

    def outputs(self) -> dict[str, Tensor]:
        for layer in self.layers:
            if layer not in self.found:
                raise BackboneError(
                    f"{self.backbone}: module {layer!r} is a container that is never called itself; "
                    "name one of the modules inside it"
                )
            if not isinstance(self.found[layer], Tensor):
                raise BackboneError(f"{self.backbone}: module {layer!r} gives no single tensor")
        return {layer: self.found[layer] for layer in self.layers}


def modules_of(body: nn.Module) -> dict[str, nn.Module]:
    """Its modules by name, itself under ""; typed, which torch leaves out."""
    return dict(cast(Any, body).named_modules())


@contextmanager
def capture(body: nn.Module, layers: Sequence[str], backbone: str) -> Generator[Captured, None, None]:
    """Within the block the outputs of the named modules of a body are kept. What runs after them gets a copy, so an
    in-place activation does not change what was captured. Raises BackboneError for what it has no single output of.

    backbone: its name, for the message.
    """
    captured = Captured(layers, backbone)
    modules = modules_of(body) if layers else {}
    for layer in layers:
        if layer not in modules or not layer:
            raise BackboneError(f"{backbone} has no module {layer!r}{did_you_mean(layer, modules)}")

    def keep(layer: str):
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            captured.found[layer] = output
            return output.clone() if isinstance(output, Tensor) else None

        return hook

    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
