"""Whether a function can be called as the core will call it: seen from its signature, before anything calls it; and
functions named by their place, whose turn comes at the first call. Imports no torch."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from visiontl.errors import PluginError, did_you_mean

WIDTH = 120  # characters of a signature in a message


def arguments_of(protocol: type) -> tuple[str, ...]:
    """The names of a protocol's arguments, as its `__call__` states them."""
    return tuple(inspect.signature(protocol.__call__).parameters)[1:]


def misfit(name: str, function: Any, arguments: Sequence[str], keywords: Sequence[str] = ()) -> str | None:
    """Why `function` cannot be called with these arguments by position, and these by keyword, in words that begin with
    `name`; None where it can, or where nobody can know (some functions written in C).

    Names of arguments are the function's own business, but for one of ours that stands at another's place.
    """
    expected = f"expected {name}({', '.join([*arguments, *(f'{word}=' for word in keywords)])})"
    if not callable(function):
        found = "None" if function is None else f"{shortly(repr(function))} ({type(function).__name__})"
        return f"{name} is {found}; {expected}"
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # the wrapper is what will be called
    except (TypeError, ValueError):
        return None
    try:
        bound = signature.bind(*arguments, **dict.fromkeys(keywords))
    except TypeError:
        return f"{name} is {described(function, signature)}; {expected}"
    if any(own in arguments and own != given for own, given in bound.arguments.items() if isinstance(given, str)):
        return f"{name} is {described(function, signature)}, in another order; {expected}"
    return None


def described(function: Callable[..., Any], signature: inspect.Signature) -> str:
    """`loss(outputs, batch) at visiontl_x/steps.py:12`: without types, and with the place where there is one."""
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    own = getattr(function, "__name__", None) or type(function).__name__
    found = shortly(f"{own.strip('<>')}{inspect.Signature(bare)}")
    code = code_of(function)
    return f"{found} at {'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno}" if code else found


def code_of(function: Any) -> Any:
    """The code behind a function, method, class, partial or object with `__call__`; None for what is written in C."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type):
        function = function.__init__
    elif not hasattr(function, "__code__") and not hasattr(function, "__func__"):
        function = type(function).__call__
    return getattr(function, "__code__", None)


def shortly(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 4]} ..."


@dataclass(frozen=True)
class lazy:
    """A function named by its place, imported at the first call: `lazy("package.module:function")`.

    Lets a plugin's top module describe its task without importing torch, and pickles by name, so that
    workers started by spawn can be handed one. What it is a step of (`bound`) is checked at the first call.
    """

    place: str
    owner: str = field(default="", repr=False)  # "task 'x'"
    step: str = field(default="", repr=False)  # "loss"
    arguments: tuple[str, ...] | None = field(default=None, repr=False)  # ("cfg", "outputs", "batch", "meta")

    def __post_init__(self) -> None:
        module, colon, name = self.place.partition(":")
        if not (module and colon and name.isidentifier()):
            raise PluginError(f"lazy({self.place!r}): a place is written 'package.module:function'")

    def bound(self, owner: str, step: str, arguments: tuple[str, ...]) -> lazy:
        """The same place, as a step that is called with these arguments."""
        return replace(self, owner=owner, step=step, arguments=arguments)

    def resolve(self) -> Callable[..., Any]:
        """The function. Raises PluginError where the place does not exist, or its signature is another one."""
        _check_place(self)
        module, _, name = self.place.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.resolve()(*args, **kwargs)


@cache
def _check_place(named: lazy) -> None:
    """Once per place and step; a refusal is said each time."""
    module, _, name = named.place.partition(":")
    where = f"{named.owner}: {named.step} is {named!r}" if named.owner else repr(named)
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise PluginError(f"{where}: importing {module} failed: {error}; install what it needs") from error
        raise PluginError(f"{where}: there is no module {error.name!r}") from None
    if not hasattr(imported, name):
        names = [one for one in vars(imported) if not one.startswith("_")]
        raise PluginError(f"{where}: {module} has no {name!r}{did_you_mean(name, names)}")
    if named.arguments is not None:
        problem = misfit(named.step, getattr(imported, name), named.arguments)
        if problem:
            raise PluginError(f"{named.owner}: {problem}")


def settle(described: Any, owner: str, steps: Mapping[str, tuple[Any, tuple[str, ...]]]) -> None:
    """Check the functions of a frozen dataclass that was just made: {field: (function, names of its arguments)}. Those
    that are lazy are told whose step they are, to be checked at the first call. Raises PluginError naming all that
    misfit."""
    problems: list[str] = []
    for step, (function, arguments) in steps.items():
        if isinstance(function, lazy):
            object.__setattr__(described, step, function.bound(owner, step, arguments))
        elif problem := misfit(step, function, arguments):
            problems.append(problem)
    if problems:
        *others, last = problems
        head, *below = [*(f"{problem};" for problem in others), last]
        raise PluginError(f"{owner}: {head}", lines=below)


def settled(owner: str, field: str, steps: Mapping[str, Any], arguments: tuple[str, ...]) -> Mapping[str, Any]:
    """As `settle`, for a field that maps names to functions: the mapping with what is lazy bound."""
    if not isinstance(steps, Mapping):  # type: ignore[reportUnnecessaryIsInstance]
        raise PluginError(f"{owner}: {field} is a {type(steps).__name__}; expected a mapping from names to functions")
    named = {name: (step, f"{field}[{name!r}]") for name, step in steps.items()}
    problems = [misfit(place, step, arguments) for step, place in named.values() if not isinstance(step, lazy)]
    if said := "; ".join(problem for problem in problems if problem):
        raise PluginError(f"{owner}: {said}")
    return {
        name: step.bound(owner, place, arguments) if isinstance(step, lazy) else step
        for name, (step, place) in named.items()
    }


def check_fields(described: type, unnamed: Sequence[Any], given: Mapping[str, Any], contracts: Sequence[int]) -> None:
    """Whether a dataclass whose fields are given by name can be made of these. contracts: the versions that are served,
    of which `given` may name one. Raises PluginError with all fields that are unknown or missing, and with the version
    where that explains them."""
    own = {one.name: one for one in fields(described)}
    needed = [name for name, one in own.items() if one.default is MISSING and one.default_factory is MISSING]
    problems = [f"no field {name!r}{did_you_mean(name, own)}" for name in given if name not in own]
    if unnamed:
        problems.insert(0, f"{len(unnamed)} fields without their names; give each by name")
    missing = [name for name in needed if name not in given]
    problems += [f"lacks {', '.join(missing)}"] if missing else []
    if problems:
        who = f"{described.__name__.lower()} {given.get('name')!r}"
        raise PluginError(other_contract(who, given.get("contract", 1), contracts) or f"{who}: {'; '.join(problems)}")


def other_contract(what: str, written_for: Any, served: Sequence[int]) -> str | None:
    """Why what was written for a version of the contract cannot be used; None where that version is served."""
    if type(written_for) is int and written_for in served:
        return None
    span = " and ".join(map(str, served))
    newer = isinstance(written_for, int) and written_for > max(served)
    mend = "update visiontl, or install an older version" if newer else "install a newer version"
    return f"{what} was written for contract {written_for}; this visiontl serves contract {span}; {mend} of the package"
