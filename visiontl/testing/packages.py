"""What a package and its commands and watchers promise, one clause a check. Each takes the name of a plugin."""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from visiontl import hookspecs, plugins
from visiontl.errors import VisionTLError
from visiontl.testing.equality import difference

REPORT = {
    "run": "runs/example",
    "name": "example",
    "task": "example",
    "status": "started",
    "config": "",
    "settings": {},
}
VALUES: Mapping[str, Mapping[str, Any]] = {
    "visiontl_started": {"report": REPORT},
    "visiontl_logged": {"step": 1, "values": {"loss": 0.5, "optim.lr": 0.001, "val/accuracy": 0.25}},
    "visiontl_finished": {"report": {**REPORT, "status": "finished", "scores": {"val": {"accuracy": 0.25}}}},
}


def module_of(name: str) -> str:
    """The module that an installed package is found by, or in which a plugin that was registered by hand stands."""
    for point in importlib.metadata.entry_points(group=plugins.GROUP):
        if point.name == name:
            return point.value.partition(":")[0]
    plugin = plugins.manager().get_plugin(name)
    return plugin.__name__ if inspect.ismodule(plugin) else type(plugin).__module__


def is_found_without_torch(name: str) -> None:
    """The module of the entry point imports no torch: `visiontl --help` and config checks answer at once."""
    module = module_of(name)
    code = f"import sys, {module}; print('torch' in sys.modules)"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert done.returncode == 0, f"{module}: importing it alone fails: {done.stderr.strip().splitlines()[-1]}"
    assert done.stdout.strip().endswith("False"), (
        f"{module}: it imports torch; name functions by visiontl.lazy('module:function'), or import inside them"
    )


def watches_without_a_word(name: str) -> None:
    """A watcher raises nothing and changes nothing of what it is told."""
    plugin = plugins.manager().get_plugin(name)
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for hook, values in VALUES.items():
                if not hasattr(plugin, hook):
                    continue
                told = copy.deepcopy(dict(values))
                wanted = inspect.signature(getattr(plugin, hook)).parameters
                try:
                    getattr(plugin, hook)(**{key: value for key, value in told.items() if key in wanted})
                except Exception as error:  # a stranger's function
                    raise AssertionError(f"{hook}: it raises {type(error).__name__}: {error}") from None
                changed = difference(dict(values), told)
                assert not changed, f"{hook}: it changes what it is told: {changed}"
        finally:
            os.chdir(here)


def describes_its_commands(name: str) -> None:
    """A command has a name and one sentence of help, and its arguments can be parsed for `--help`."""
    offered = {
        key: one for key, one in plugins.commands().items() if plugins.owner(key, "visiontl_commands")[0] == name
    }
    for task in plugins.tasks().values():
        if plugins.owner(task.name)[0] == name:
            offered |= {f"{task.name} {one.name}": one for one in task.commands}
    for key, command in offered.items():
        assert command.help, f"command {key}: help is empty; expected one sentence"
        plain = len(command.help.splitlines()) == 1 and not command.help.endswith(".")
        assert plain, f"command {key}: help is {command.help!r}; expected one sentence without a full stop"
        parser = argparse.ArgumentParser(prog=f"visiontl {key}")
        try:
            command.arguments(parser)
            parser.format_help()
        except (ValueError, TypeError, KeyError, argparse.ArgumentError) as error:
            raise AssertionError(f"command {key}: its --help fails: {type(error).__name__}: {error}") from None


def offers_nothing_broken(name: str) -> None:
    """All that it offers can be used: signatures fit, contract versions too, names clash with nobody's."""
    told = [one.cause for one in plugins.broken() if one.name == name]
    assert not told, f"{name}: {told[0]}"
    for task in plugins.tasks().values():
        if plugins.owner(task.name)[0] == name:
            try:
                plugins.check_steps(task)
            except VisionTLError as error:
                raise AssertionError(str(error)) from None
            assert task.example is not None, f"task {task.name}: it has no `example`, on which the checks live"
    plugin = plugins.manager().get_plugin(name)
    implemented = [hook for hook in dir(plugin) if hook.startswith("visiontl_") and callable(getattr(plugin, hook))]
    unknown = [hook for hook in implemented if not hasattr(hookspecs, hook)]
    assert not unknown, f"{name}: {unknown[0]} is no hook of visiontl"


CHECKS: list[Callable[[str], None]] = [
    offers_nothing_broken,
    is_found_without_torch,
    describes_its_commands,
    watches_without_a_word,
]
