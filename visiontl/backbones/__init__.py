"""The bundled backbones: every timm and torchvision architecture that gives a pyramid, and visiontl/tiny."""

from __future__ import annotations

from typing import Any

from visiontl.hookspecs import hookimpl


@hookimpl
def visiontl_backbones() -> list[Any]:
    from visiontl.backbones.registry import entries

    return entries()
