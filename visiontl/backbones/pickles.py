"""Pickles read as data: every opcode is carried out on plain containers, and nothing that a pickle names is imported,
called or built. What it would have called stands there as `Made`, to be looked at."""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

STEPS = 50_000_000  # opcodes of one pickle; a checkpoint of a large model has some hundred thousand


class Unreadable(ValueError):
    """What is not read, in words."""


@dataclass(frozen=True)
class Named:
    """A class or function that a pickle names."""

    name: str


@dataclass(eq=False)
class Made:
    """What a pickle would have made by calling `what` with `args`: its state, and what was put into it since."""

    what: Any
    args: Any
    state: Any = None
    items: list[Any] = field(default_factory=list[Any])
    pairs: list[tuple[Any, Any]] = field(default_factory=list[tuple[Any, Any]])

    @property
    def name(self) -> str:
        what = self.what
        if isinstance(what, Stored) and isinstance(what.id, tuple) and len(what.id) > 1:  # a class with its source text
            what = what.id[1]
        return what.name if isinstance(what, Named | Made) else type(what).__name__


@dataclass(frozen=True)
class Stored:
    """Something that lies outside of the pickle, by the id that it is known by."""

    id: Any


MARK = object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PASSED_OVER = ("PROTO", "FRAME")


def read(
    file: IO[bytes], outside: list[Stored] | None = None, calls: list[Made] | None = None, steps: int = STEPS
) -> Any:
    """The object of the pickle that begins here; the file stands behind it then. Raises Unreadable.

    outside: takes what the pickle refers to outside of it, in the order of its appearance. calls: takes all that the
    pickle would have made by a call, wherever it is in the object. steps: that the pickle may have at most.
    """
    machine = Machine([] if outside is None else outside, [] if calls is None else calls)
    bounded: Any = Bounded(file)
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(bounded)):
            if step > steps:
                raise Unreadable(f"its pickle has more than {steps:,} steps")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except Unreadable:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        text = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise Unreadable(f"its pickle is damaged ({text})") from None
    raise Unreadable("its pickle has no end")


class Bounded:
    """A file of which no more is asked than it has: damaged lengths are as large as they come."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        place = file.tell()
        self.size = file.seek(0, io.SEEK_END)
        file.seek(place)
        self.tell, self.readline = file.tell, file.readline

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.size - self.file.tell()))


class Machine:
    """The stack machine of the pickle format, as pickletools describes its opcodes."""

    def __init__(self, outside: list[Stored], calls: list[Made]) -> None:
        self.outside, self.calls = outside, calls
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        found = self.stack.pop()
        if found is MARK:
            raise Unreadable("its pickle is damaged (a mark where a value was expected)")
        return found

    def marked(self) -> list[Any]:
        """What lies above the last mark; both are taken off."""
        place = max(i for i, item in enumerate(self.stack) if item is MARK)
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def step(self, name: str, argument: Any) -> None:
        if name in PASSED_OVER:
            return
        if name in LITERALS:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            count = TUPLES[name]
            values = [self.pop() for _ in range(count)]
            self.stack.append(tuple(reversed(values)))
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(argument)])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        else:
            special = getattr(self, f"do_{name.lower()}", None)
            if special is None:
                raise Unreadable(f"its pickle uses {name}, which is not read as data")
            special(argument)

    def called(self, made: Made) -> None:
        self.calls.append(made)
        self.stack.append(made)

    def do_mark(self, _: Any) -> None:
        self.stack.append(MARK)

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, _: Any) -> None:
        self.marked()

    def do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.marked()))

    def do_list(self, _: Any) -> None:
        self.stack.append(self.marked())

    def do_dict(self, _: Any) -> None:
        made: dict[Any, Any] = {}
        put_pairs(made, self.marked())
        self.stack.append(made)

    def do_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(self.marked()))

    def do_append(self, _: Any) -> None:
        value = self.pop()
        put_items(self.stack[-1], [value])

    def do_appends(self, _: Any) -> None:
        values = self.marked()
        put_items(self.stack[-1], values)

    do_additems = do_appends

    def do_setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        put_pairs(self.stack[-1], [key, value])

    def do_setitems(self, _: Any) -> None:
        values = self.marked()
        put_pairs(self.stack[-1], values)

    def do_global(self, argument: Any) -> None:
        self.stack.append(Named(argument.replace(" ", ".", 1)))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(Named(f"{module}.{name}"))

    def do_reduce(self, _: Any) -> None:
        arguments, what = self.pop(), self.pop()
        self.called(Made(what, arguments))

    do_newobj = do_reduce

    def do_newobj_ex(self, _: Any) -> None:
        keywords, arguments, what = self.pop(), self.pop(), self.pop()
        self.called(Made(what, arguments, {"arguments": keywords} if keywords else None))

    def do_inst(self, argument: Any) -> None:
        arguments = tuple(self.marked())
        self.called(Made(Named(argument.replace(" ", ".", 1)), arguments))

    def do_obj(self, _: Any) -> None:
        what, *arguments = self.marked()
        self.called(Made(what, tuple(arguments)))

    def do_build(self, _: Any) -> None:
        state = self.pop()
        if isinstance(self.stack[-1], Made):
            self.stack[-1].state = state

    def do_persid(self, argument: Any) -> None:
        self.outside.append(Stored(argument))
        self.stack.append(self.outside[-1])

    def do_binpersid(self, _: Any) -> None:
        self.do_persid(self.pop())


def put_items(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, set):
        target.update(values)
    elif isinstance(target, Made):
        target.items.extend(values)
    else:
        raise Unreadable(f"its pickle is damaged (items are put into a {type(target).__name__})")


def put_pairs(target: Any, values: list[Any]) -> None:
    """values: key, value, key, value ..."""
    pairs = list(zip(values[::2], values[1::2], strict=True))
    if isinstance(target, dict):
        target.update(pairs)
    elif isinstance(target, Made):
        target.pairs.extend(pairs)
    else:
        raise Unreadable(f"its pickle is damaged (keys are put into a {type(target).__name__})")
