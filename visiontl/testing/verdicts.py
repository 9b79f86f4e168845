"""All checks of a plugin, or of one thing that it offers, with a verdict each."""

from __future__ import annotations

import contextlib
import gc
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from visiontl import plugins
from visiontl.errors import BackboneError, ConfigError, VisionTLError, did_you_mean, shortened
from visiontl.processes.garbage import left_out
from visiontl.testing import backbones, packages, policies
from visiontl.testing.case import Case
from visiontl.testing.checks import CHECKS, LONG

WORDS = 600  # characters of what a check says


@dataclass(frozen=True)
class Verdict:
    """of: what was checked, such as `task keypoints`; clause: the sentence of the contract; said: what is wrong, ""
    where it holds."""

    of: str
    check: str
    clause: str
    said: str
    seconds: float


Todo = tuple[str, Callable[..., None], Callable[[], None]]
"""(what is checked, the check, the check with its arguments)"""


def verdicts(name: str, quick: bool = False) -> Iterator[Verdict]:
    """One after the other. name: a plugin, task, backbone, freeze policy or command. quick: without those checks that
    train many times. Raises ConfigError for a name that nobody offers."""
    with tempfile.TemporaryDirectory(prefix="visiontl-check-") as folder:
        for of, check, call in todo(name, quick, Path(folder)):
            began = time.perf_counter()
            gc.collect()
            with left_out():  # each phase edge collects garbage; walking all imported modules took half of the time
                said = outcome(call)
            clause = " ".join((check.__doc__ or "").split())
            yield Verdict(of, check.__name__.replace("_", " "), clause, said, time.perf_counter() - began)


def require_known(names: Iterable[str]) -> None:
    """Raises ConfigError with every name that nobody offers."""
    problems: list[str] = []
    for name in names:
        try:
            todo(name, True, Path())
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def outcome(call: Callable[[], None]) -> str:
    """ "" or what is wrong; nothing is printed meanwhile."""
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            call()
    except AssertionError as error:
        return shortened(str(error), WORDS)
    except VisionTLError as error:
        return shortened(f"refused: {error}", WORDS)
    except (Exception, SystemExit) as error:  # a stranger's function
        return shortened(f"{type(error).__name__}: {error} ({_place(error)})", WORDS)
    return ""


def _place(error: BaseException) -> str:
    """file:line of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "no trace"


def todo(name: str, quick: bool, folder: Path) -> list[Todo]:
    found: list[Todo] = []
    tasks, factories, commands = plugins.tasks(), plugins.policies(), plugins.commands()
    installed = {one.name for one in plugins.installed()} | {
        str(key) for key, plugin in plugins.manager().list_name_plugin() if plugin is not None
    }
    if name in installed:
        found += _calls(f"plugin {name}", packages.CHECKS, name)
        tasks = {key: one for key, one in tasks.items() if plugins.owner(key)[0] == name}
        mine = [key for key in factories if plugins.owner(key, "visiontl_freeze_policies")[0] == name]
        entries = [key for key in plugins.backbones() if plugins.owner(key, "visiontl_backbones")[0] == name]
    else:
        tasks = {key: one for key, one in tasks.items() if key == name}
        mine = [key for key in factories if key == name]
        owner = plugins.owner(name)[0] if tasks else ""
        owner = owner or (plugins.owner(name, "visiontl_commands")[0] if name in commands else "")
        if owner:
            found += _calls(f"plugin {owner}", packages.CHECKS, owner)
        entries = (
            [] if tasks or mine or owner else _entries(name, [*plugins.tasks(), *factories, *commands, *installed])
        )
    for key in tasks:
        chosen = [check for check in CHECKS if not (quick and check in LONG)]
        found += [
            (f"task {key}", check, partial(check, Case(key, folder / f"{key}-{i}"))) for i, check in enumerate(chosen)
        ]
    for key in entries[: 3 if quick else None]:
        found += _calls(f"backbone {key}", backbones.CHECKS, plugins.backbone_entry(key)[0])
    for key in mine:
        found += _calls(f"policy {key}", policies.CHECKS, key, factories[key])
    return found


def _calls(of: str, checks: Any, *given: Any) -> list[Todo]:
    return [(of, check, partial(check, *given)) for check in checks]


def _entries(name: str, known: list[str]) -> list[str]:
    try:
        return [plugins.backbone_entry(name)[0].name]
    except BackboneError as error:
        near = did_you_mean(name, known)
        raise ConfigError(f"{name!r} is no plugin, task, policy or command{near}; as a backbone: {error}") from None
