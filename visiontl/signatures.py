"""Whether a function can be called as the core will call it: seen from its signature, before anything calls it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
