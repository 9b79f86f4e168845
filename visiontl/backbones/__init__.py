"""Every source of backbones behind one contract, and those that ship with visiontl."""

from __future__ import annotations

from typing import Any

from visiontl.hookspecs import hookimpl


@hookimpl
def visiontl_backbones() -> list[Any]:
    from visiontl.backbones.registry import entries

    return entries()
