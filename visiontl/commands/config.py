"""visiontl config"""

from __future__ import annotations

import argparse
import os
import sys

from visiontl.commands.arguments import OVERRIDES, read_config, warn_of_plugins
from visiontl.commands.results import answer, json_flag
from visiontl.errors import ConfigError
from visiontl.report.layout import width_of
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        help="a YAML file, or the name of a ready config; with --schema also a task's name",
    )
    parser.add_argument("overrides", metavar="a.b=c", nargs="*", default=[], help="config values to replace")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of configs instead")
    json_flag(parser, "the values")


def run(given: argparse.Namespace) -> None:
    from visiontl import plugins
    from visiontl.config.write import WIDTH, json_schema, to_yaml

    if given.config is None and not given.schema:
        raise ConfigError("no config; name a file: visiontl config CONFIG")
    warn_of_plugins()
    if not given.schema and given.json:
        resolved = read_config(given.config or "", given.overrides)
        answer(resolved.config.model_dump(mode="json"))
        return
    if not given.schema:
        width = min(width_of(sys.stdout) or WIDTH, WIDTH)
        print(to_yaml(read_config(given.config or "", given.overrides), width=width), end="")
        return
    import json

    name = given.config or None
    if name and (os.path.exists(name) or name not in plugins.tasks()):
        name = read_config(name, given.overrides).task.name
    print(json.dumps(json_schema(name), indent=2))


COMMAND = Command("config", "print a config complete, with the meaning of each key", arguments, run, OVERRIDES)
