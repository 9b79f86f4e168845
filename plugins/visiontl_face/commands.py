"""The subcommands `visiontl face ...`. Imports no torch."""

from __future__ import annotations

from visiontl import Command

COMMANDS: tuple[Command, ...] = ()
