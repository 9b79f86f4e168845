"""The structure of visiontl in numbers, counted in its source: rooms, floors, arrows, lines, the longest functions.

    python tools/rooms.py                 of this clone
    python tools/rooms.py OTHER/visiontl  of another one, to compare with

A room is a package or a module of its own directly below visiontl/. An arrow stands between two rooms where a file of
one imports from the other, for types too. The floor of a room is 1 where it imports from none, else one above the
highest that it imports from; rooms in a circle, and those above one, have none. The order of the
rooms is held by tests/core/test_architecture.py.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "visiontl"
LONGEST = 7  # functions that are listed


def rooms(root: Path) -> dict[str, list[Path]]:
    """{room: its files}"""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Rooms that a file imports from; also names that visiontl itself offers, which are none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "visiontl":
            names = [f"visiontl.{alias.name}" for alias in node.names]
        else:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name.split(".")[1] for name in names if name.startswith("visiontl."))


def arrows(found: Mapping[str, list[Path]]) -> dict[str, set[str]]:
    """{room: those that it imports from}"""
    used = {name: {one for path in files for one in imported(parsed(path))} for name, files in found.items()}
    return {name: (ones & found.keys()) - {name} for name, ones in used.items()}


def floors(below: Mapping[str, set[str]]) -> dict[str, int]:
    """{room: its floor}, from 1, of those that have one."""
    found: dict[str, int] = {}
    for _ in below:
        for name, ones in below.items():
            if name not in found and ones <= found.keys():
                found[name] = 1 + max((found[one] for one in ones), default=0)
    return found


def functions(path: Path) -> Iterator[tuple[int, str]]:
    """(lines, place) of each function, those within others too."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{node.name}, {path.parent.name}/{path.name}"


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?", default=ROOT, help="the folder visiontl/ of a clone")
    found = rooms(parser.parse_args().package)
    below = arrows(found)
    floor = floors(below)
    print(f"{'room':<12} {'floor':>5} {'files':>5} {'lines':>6}  imports from")
    for name in sorted(found, key=lambda one: (-floor.get(one, 0), one)):
        files = found[name]
        size = sum(map(lines, files))
        print(f"{name:<12} {floor.get(name, '-'):>5} {len(files):>5} {size:>6,}  {', '.join(sorted(below[name]))}")
    everything = [path for files in found.values() for path in files]
    circling = len(found) - len(floor)
    print(f"\n{len(found)} rooms on {max(floor.values())} floors, {sum(map(len, below.values()))} arrows between them")
    if circling:
        print(f"{circling} rooms have no floor: they import each other in circles, or from those that do")
    print(f"{len(everything)} files, {sum(map(lines, everything)):,} lines; the longest functions:")
    for size, place in sorted((one for path in everything for one in functions(path)), reverse=True)[:LONGEST]:
        print(f"{size:>5} lines  {place}")


if __name__ == "__main__":
    main()
