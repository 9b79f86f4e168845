"""What wrappers and containers do to the names of a network's tensors, undone where nothing is left to doubt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from visiontl.kit.words import some

# Words that torch.compile, activation checkpointing, FSDP and DataParallel put before what they wrap
WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_fpw_module", "module")
COUNTER = "num_batches_tracked"  # absent from old files; says nothing about the weights

State = dict[str, Tensor]


def plain_names(state: State, own: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """A table of tensors without what wrappers and nn.Sequential did to its names, and notes of what was undone.

    own: the backbone's tensors by their library's names, in the order of its modules.
    """
    state, said = unwrapped(state, own)
    numbered, more = unnumbered(state, own)
    return (state, said) if numbered is None else (numbered, said + more)


def unwrapped(state: State, own: Iterable[str]) -> tuple[State, list[str]]:
    """Take wrappers' words out of the inside of names (before them all they are a prefix like others). As it is where
    the backbone's own names hold such words, or where two names would become one."""
    known = {word for name in own for word in name.split(".")}
    taken = [word for word in WRAPPERS if word not in known]
    if not taken:
        return state, []
    changed, found, count = {}, set[str](), 0
    for name, value in state.items():
        first, *rest = name.split(".")
        wrapped = [word for word in rest if word in taken]
        found.update(wrapped)
        count += bool(wrapped)
        changed[".".join([first, *(word for word in rest if word not in taken)])] = value
    if not found or len(changed) != len(state):
        return state, []
    return changed, [f"wrappers' words taken out of {count} names: {some(sorted(found))}"]


def unnumbered(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[State | None, list[str]]:
    """Names as nn.Sequential(*model.children()) gives them -> the library's. None unless the numbered parts are, in
    their order, the backbone's own with the same names inside and the same shapes; parts behind them stay."""
    if not all(name[:1].isdecimal() for name in state) or not is_numbered(state) or any(name in state for name in own):
        return None, []
    theirs, ours = _groups(state), _groups(own)
    numbers = sorted(theirs, key=int)[: len(ours)]
    if len(numbers) == len(ours) and all(
        _shapes(theirs[number]) == _shapes(part) for number, part in zip(numbers, ours.values(), strict=True)
    ):
        names = dict(zip(numbers, ours, strict=True))
        pairs = ", ".join(f"{number} is {name}" for number, name in list(names.items())[:4])
        renamed = {f"{names.get((parts := k.split('.', 1))[0], parts[0])}.{parts[1]}": v for k, v in state.items()}
        return renamed, [
            f"numbers of nn.Sequential understood by order and shapes: {pairs}{', ...' * (len(names) > 4)}"
        ]
    if len(ours) == 1:  # the children of the one part that holds all, saved by themselves
        (only, inside), given = next(iter(ours.items())), _shapes(state)
        if all(given.get(name) == shape for name, shape in _shapes(inside).items()):
            return {f"{only}.{k}": v for k, v in state.items()}, [f"the names lack {only!r} before them: put there"]
    return None, []


def is_numbered(state: Iterable[str]) -> bool:
    """Whether all names begin with a number, behind the words that they all begin with."""
    words = [name.split(".") for name in state]
    shared = 0
    while words and len({tuple(one[: shared + 1]) for one in words}) == 1 and not words[0][shared].isdecimal():
        shared += 1
        if any(len(one) <= shared for one in words):
            return False
    return bool(words) and all(len(one) > shared + 1 and one[shared].isdecimal() for one in words)


def _groups(state: Mapping[str, Tensor]) -> dict[str, State]:
    """{first word: {the rest of the name: tensor}} in the order of first appearance."""
    found: dict[str, State] = {}
    for name, value in state.items():
        first, _, rest = name.partition(".")
        found.setdefault(first, {})[rest] = value
    return found


def _shapes(part: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in part.items() if not name.endswith(COUNTER)}
