"""The shape of the code, read from its syntax trees: layers, public names, and a core that knows no task."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import visiontl
from tests.shared import ROOT

CORE = ROOT / "visiontl"
PLUGINS = ROOT / "plugins"

# Rooms, the highest first: a room imports from those below its own line alone, and rooms of one line know nothing of
# each other. Each with the one sentence that says what it is for.
CHAIN = [
    {"__main__": "python -m visiontl"},
    {"cli": "arguments, errors in words, exit codes"},
    {"commands": "one file per command"},
    {"testing": "the contract as checks, for whoever writes a plugin"},
    {
        "doctor": "what is wrong with the data, before the first training second",
        "search": "which settings, which backbone: many short runs, or features",
        "serving": "a model behind HTTP, in a process of its own",
    },
    {"engine": "from a config to a trained model, and what it says of images"},
    {"methods": "what training adds to a task's own loss, and to its backbone's layers"},
    {"runs": "what a run leaves on disk"},
    {"config": "from text to a validated run"},
    {"plugins": "who offers what"},
    {
        "backbones": "every source of backbones behind one contract",
        "features": "features on disk, found again by what they belong to",
        "freezing": "what trains, when and how fast",
        "runtime": "exported models in use, without torch",
    },
    {"kit": "what authors of tasks and of backbones share by calling it"},
    {"hookspecs": "the hooks"},
    {"task": "the contract of a task"},
    {"entry": "a backbone on offer", "whole": "a whole model as a start"},
    {"backbone": "the contract of a backbone"},
    {"spec": "how weights want their images", "export": "what a task says of its model for use elsewhere"},
    {"processes": "what ranks say to each other", "report": "what a run shows"},
    {"signatures": "whether a function can be called as it will be"},
    {"errors": "what can go wrong, in words", "outlet": "streams that may lose words and end no run"},
]
LEVEL = {name: level for level, rooms in enumerate(reversed(CHAIN)) for name in rooms}

TASK_NAMES = {"classification", "detection", "segmentation", "face", "style"}
# PyYAML and rich have arguments of this name
FOREIGN_IDENTIFIERS = {"style"}


@cache
def modules(root: Path) -> dict[str, Path]:
    """{dotted name within the package: file}"""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(line, module, names) of each import, those for types alone too; names is empty for `import module`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            yield node.lineno, node.module or "", [alias.name for alias in node.names]


def core_modules_used(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module of the core, its first part) behind each import of visiontl."""
    known = {name.partition(".")[0] for name in modules(CORE)} - {""}
    for line, module, names in imports(path):
        if module == "visiontl":
            for name in names:  # a submodule, a public name that stands for one, or the package's own
                place = visiontl._PLACES.get(name, "visiontl.").split(".")[1]
                yield line, name if name in known and name not in visiontl._PLACES else place
        elif module.startswith("visiontl."):
            yield line, module.split(".")[1]


CORE_FILES = {name: path for name, path in modules(CORE).items() if name}


@pytest.mark.parametrize("name", CORE_FILES)
def test_a_room_imports_only_from_rooms_below(name):
    own = name.partition(".")[0]
    assert own in LEVEL, f"visiontl/{own} has no room yet: add it to CHAIN in {Path(__file__).name}"
    for line, used in core_modules_used(CORE_FILES[name]):
        if used in ("", own):
            continue
        assert used in LEVEL, f"{CORE_FILES[name]}:{line}: visiontl.{used} has no room"
        assert LEVEL[used] < LEVEL[own], (
            f"{CORE_FILES[name]}:{line}: {name} (level {LEVEL[own]}) imports {used} (level {LEVEL[used]}), "
            f"which is not below it"
        )


def test_every_room_exists_and_says_what_it_is_for():
    assert set(LEVEL) == {name.partition(".")[0] for name in CORE_FILES}
    assert len(LEVEL) == sum(map(len, CHAIN))
    for path in sorted(CORE.glob("*/__init__.py")):
        door = ast.get_docstring(tree_of(path))
        assert door, f"{path} says nothing"


def test_modules_of_the_core_import_each_other_in_no_circle():
    """Not even for types, nor within a room."""
    files = {f"visiontl.{name}": path for name, path in CORE_FILES.items()}
    arrows: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for _, module, names in imports(path):
            found = {f"{module}.{one}" if f"{module}.{one}" in files else module for one in names} or {module}
            arrows[name] |= found & files.keys()
    assert arrows["visiontl.backbone"] == {"visiontl.errors", "visiontl.spec"}
    graph = TopologicalSorter(arrows)
    try:
        graph.prepare()
    except CycleError as circle:
        pytest.fail(" <- ".join(circle.args[1]))


# The heart: what somebody reads in one sitting to know how a run works.
HEART = (
    *("task", "hookspecs", "entry", "backbone", "spec"),
    *(f"freezing.{name}" for name in ("policies", "layout", "apply", "probe", "rates")),
    *(f"engine.{name}" for name in ("train", "prepare", "ledger", "wrapping", "order", "loader", "optim", "device")),
    *(f"engine.{name}" for name in ("model", "start", "evaluate", "rows", "ema", "caching", "feature_cache")),
)
LINES, FUNCTION_LINES, PARAMETERS = 3300, 60, 6
# What may be longer or take more, and why
LONGER = {
    "visiontl/engine/train.py: fit": "the loop, read from top to bottom; its parts are marked",
    "plugins/visiontl_style/optimize.py: optimize": "a loop of its own, read from top to bottom",
}
MORE_PARAMETERS = {
    "visiontl/backbones/torchvision.py: run_pass": "one pass under hooks; its parts are used nowhere else",
}


def test_the_heart_can_be_read_in_one_sitting():
    lines = {name: len(CORE_FILES[name].read_text(encoding="utf-8").splitlines()) for name in HEART}
    assert sum(lines.values()) <= LINES, f"{sum(lines.values())} lines: {lines}"
    assert lines["engine.train"] <= 400


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """(file: name, lines, parameters but for self and cls) of each function."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            given = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len(given) - (given[:1] in (["self"], ["cls"]))
            assert node.end_lineno is not None
            yield f"{path.relative_to(ROOT)}: {node.name}", node.end_lineno - node.lineno + 1, count


def test_functions_are_short_and_take_little():
    found = [one for root in (CORE, PLUGINS) for path in sorted(root.rglob("*.py")) for one in functions(path)]
    assert len(found) > 1000
    assert {name: lines for name, lines, _ in found if lines > FUNCTION_LINES}.keys() == LONGER.keys()
    assert {name: count for name, _, count in found if count > PARAMETERS}.keys() == MORE_PARAMETERS.keys()


@cache
def plugin_files() -> dict[str, Path]:
    return {
        f"{package.name}/{name or '__init__'}": path
        for package in sorted(PLUGINS.iterdir())
        if package.is_dir()
        for name, path in modules(package).items()
    }


@pytest.mark.parametrize("name", plugin_files())
def test_a_plugin_uses_public_names_and_no_other_plugin(name):
    path, own = plugin_files()[name], name.partition("/")[0]
    others = {package.name for package in PLUGINS.iterdir() if package.is_dir()} - {own}
    for line, module, names in imports(path):
        first = module.partition(".")[0]
        assert first not in others, f"{path}:{line}: imports the plugin {first}"
        public = ("visiontl.kit", "visiontl.testing")
        assert not module.startswith("visiontl.") or module.startswith(public), (
            f"{path}:{line}: {module} is not public; import from visiontl, {' or '.join(public)}"
        )
        if module == "visiontl":
            private = set(names) - set(visiontl.__all__)
            assert not private, f"{path}:{line}: {', '.join(private)}: not among visiontl's public names"


@pytest.mark.parametrize("name", CORE_FILES)
def test_the_core_knows_no_task_and_no_plugin(name):
    path = CORE_FILES[name]
    for line, module, _ in imports(path):
        assert not module.startswith("visiontl_"), f"{path}:{line}: the core imports {module}"
    for line, word in words(tree_of(path)):
        assert word not in TASK_NAMES, f"{path}:{line}: the core names a task: {word!r}"


def words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """String literals as they are, and identifiers other than those that libraries prescribe."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield line, node.value
        for attribute in ("id", "attr", "arg", "name", "module"):
            identifier = getattr(node, attribute, None)
            if isinstance(identifier, str) and identifier not in FOREIGN_IDENTIFIERS:
                yield line, identifier


def test_the_checks_can_fail(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import visiontl_x\n"
        "from visiontl import train\nimport visiontl.cli\ndef f(face): return 'segmentation'\n"
    )
    assert list(core_modules_used(bad)) == [(4, "engine"), (5, "cli")]
    assert [module for _, module, _ in imports(bad) if module.startswith("visiontl_")] == ["visiontl_x"]
    found = {word for _, word in words(ast.parse(bad.read_text()))}
    assert {"face", "segmentation"} <= found


def test_import_visiontl_costs_no_torch():
    script = (
        "import sys, visiontl, visiontl.cli, visiontl.config.resolve, visiontl.plugins, visiontl.task\n"
        "import visiontl.freezing.policies, visiontl.kit.words, visiontl.kit.drawing\n"
        "print([name for name in ('torch', 'torchvision', 'timm', 'accelerate', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr


# Files of visiontl/backbones that serve timm's and torchvision's architectures alone
LIBRARIES_OWN = {
    "timm": "timm's architectures",
    "torchvision": "torchvision's architectures",
    "library": "what these two share",
    "catalog": "the table of both, which ships with the package",
    "packages": "packages that carry weights of timm's architectures",
    "keras": "Keras' architectures, made out of timm's",
    "kerasnames": "their layers by timm's names",
    "remap": "torchvision's weights for timm's architectures",
}


def test_a_source_of_backbones_is_named_in_its_own_files_alone():
    """All else treats every source alike, so it need not know whose a backbone is. Comments count too."""
    files = {path.stem: path for path in sorted((CORE / "backbones").glob("*.py"))}
    assert set(LIBRARIES_OWN) < set(files)
    naming = {name for name, path in files.items() if re.search(r"timm|torchvision", path.read_text(encoding="utf-8"))}
    assert naming == set(LIBRARIES_OWN)
