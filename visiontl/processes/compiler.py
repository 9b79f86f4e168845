"""torch's compiler, which takes as long to import as torch itself, waits until something is compiled.

Much imports it for what a run without `train.compile` never does: torch's optimizers and its tensors without memory,
torchvision and timm to keep functions of theirs out of compiled code, Accelerate to ask whether a model is compiled.
A module stands in for it that knows the answers while nothing is; who asks for anything else gets the compiler itself.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch

COMPILER = "torch._dynamo"
UTILITIES = f"{COMPILER}.utils"
MARK = "__dynamo_disable"  # where torch keeps a function as the compiler leaves it alone, once it was called


def let_wait() -> None:
    """From here on the compiler is imported by whoever compiles, and by nobody else. Does nothing a second time, or
    where it was imported already."""
    if COMPILER in sys.modules:
        return
    waiting = StandIn(COMPILER)
    waiting.__dict__.update(
        disable=functools.partial(_left_alone, waiting),
        graph_break=_nothing,
        eval_frame=SimpleNamespace(OptimizedModule=type("OptimizedModule", (), {})),  # nothing is one
    )
    utilities = StandIn(UTILITIES)
    utilities.__dict__["is_compile_supported"] = _passed_on
    sys.modules[COMPILER], sys.modules[UTILITIES] = waiting, utilities
    sys.meta_path.insert(0, Finder())
    torch._dynamo = waiting  # type: ignore[assignment]


class StandIn(ModuleType):
    """A module that is imported when something is wanted of it that it does not know."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__dict__["spared"] = list[Callable[..., Any]]()

    def __getattr__(self, name: str) -> Any:
        if name == "__path__" and self.__name__ == COMPILER:  # a module of the compiler's is looked for: see Finder
            return []
        if name.startswith("__"):  # what is asked of every module there is
            raise AttributeError(f"{self.__name__} is not imported yet and has no {name}")
        return getattr(_imported(self.__name__), name)


class Finder(MetaPathFinder):
    """Is asked for a module of the compiler's while the stand-in is there: imports the compiler, which brings it."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{COMPILER}."):
            return None
        compiler = _imported(COMPILER)
        there = sys.modules.get(fullname)
        if there is None:
            return PathFinder.find_spec(fullname, compiler.__path__)
        spec = ModuleSpec(fullname, Found(there))
        there.__dict__["__spec__"] = spec  # Python takes that of a module which came while it was looked for
        return spec


class Found(Loader):
    """Hands out a module that is imported already; another copy of it would know nothing of what the first was told."""

    def __init__(self, module: ModuleType):
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__spec__"] = self.spec


def _imported(name: str) -> ModuleType:
    """All is as if nothing had stood in for the compiler."""
    waiting = sys.modules.get(COMPILER)
    if isinstance(waiting, StandIn):
        for inner in waiting.spared:
            inner.__dict__.pop(MARK, None)
        for one in (COMPILER, UTILITIES):
            sys.modules.pop(one, None)
        if torch.__dict__.get("_dynamo") is waiting:
            del torch._dynamo
        sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, Finder)]
    return importlib.import_module(name)


def _left_alone(waiting: StandIn, fn: Any = None, recursive: bool = True, *, wrapping: bool = True, **more: Any) -> Any:
    """A function that is to be kept out of compiled code, from when there may be some."""
    if fn is None:
        return lambda fn: _left_alone(waiting, fn, recursive, wrapping=wrapping, **more)
    if not isinstance(fn, FunctionType):  # a whole module or class
        return _imported(COMPILER).disable(fn, recursive, wrapping=wrapping, **more)
    if not wrapping:  # torch's own, marked until the compiler is there
        waiting.spared.append(fn)
        return fn
    kept: list[Any] = []

    @functools.wraps(fn)
    def either(*given: Any, **named: Any) -> Any:
        if isinstance(sys.modules.get(COMPILER), StandIn):
            return fn(*given, **named)
        if not kept:
            kept.append(torch._dynamo.disable(fn, recursive, **more))
        return kept[0](*given, **named)

    return either


def _nothing(*arguments: Any, **more: Any) -> None:
    pass


def _passed_on(device: Any) -> Any:
    return _imported(UTILITIES).is_compile_supported(device)
