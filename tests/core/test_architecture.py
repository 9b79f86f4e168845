"""The shape of the code, read from its syntax trees: layers, public names, and a core that knows no task."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import visiontl
from tests.shared import ROOT
from visiontl import hookspecs

CORE = ROOT / "visiontl"
PLUGINS = ROOT / "plugins"

# A module imports only from layers above its own line here. A folder is one entry, free inside itself.
LAYERS = [
    {"errors", "report", "console", "colours", "hookspecs", "randomness", "interrupts", "duplicates"},
    {"distributed", "entry", "schema", "sentences", "task", "yaml_text", "html"},
    {"backbone", "policies", "liveness"},
    {"freeze", "images", "probe", "backbones"},
    {"plugins", "optim", "data", "checkpoint", "device", "ema"},
    {"config", "features", "environment"},
    {"model", "runs", "scan"},
    {"inspection"},
    {"evaluation"},
    {"record"},
    {"setup"},
    {"saving"},
    {"training"},
    {"prediction"},
    {"dryrun", "doctor"},
    {"cli"},
    {"testing"},
]
# train(dry_run=True) hands over to the rehearsal, which runs the loop, saves, loads and predicts
UPWARD = {("training", "dryrun")}
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}

TASK_NAMES = {"classification", "detection", "segmentation", "face", "style"}
# PyYAML and rich have arguments of this name
FOREIGN_IDENTIFIERS = {"style"}


def modules(root: Path) -> dict[str, Path]:
    """{dotted name within the package: file}"""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def for_types_only(tree: ast.AST) -> set[ast.AST]:
    """All nodes under `if TYPE_CHECKING:`; a type's name costs no dependency."""
    return {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and isinstance(test.test, ast.Name) and test.test.id == "TYPE_CHECKING"
        for statement in test.body
        for node in ast.walk(statement)
    }


def imports(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(line, module, names) of each import that runs; names is empty for `import module`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = for_types_only(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
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
                place = visiontl._PLACES.get(name, "visiontl.").removeprefix("visiontl.")
                yield line, name if name in known and name not in visiontl._PLACES else place
        elif module.startswith("visiontl."):
            yield line, module.split(".")[1]


CORE_FILES = {name: path for name, path in modules(CORE).items() if name}


@pytest.mark.parametrize("name", CORE_FILES)
def test_a_core_module_imports_only_from_layers_below(name):
    own = name.partition(".")[0]
    assert own in LAYER, f"visiontl/{own} has no layer yet: add it to LAYERS in {Path(__file__).name}"
    for line, used in core_modules_used(CORE_FILES[name]):
        if used in ("", own) or (own, used) in UPWARD:
            continue
        assert used in LAYER, f"{CORE_FILES[name]}:{line}: visiontl.{used} has no layer"
        assert LAYER[used] < LAYER[own], (
            f"{CORE_FILES[name]}:{line}: {name} (layer {LAYER[own]}) imports {used} (layer {LAYER[used]}), "
            f"which is not below it"
        )


def test_every_layer_is_about_a_module_that_exists():
    there = {name.partition(".")[0] for name in CORE_FILES}
    for user, used in UPWARD:
        assert used in {name for _, name in core_modules_used(CORE_FILES[user])}, "an exception that is not needed"
    assert set(LAYER) - there == set()
    assert len(LAYER) == sum(map(len, LAYERS))


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
        assert not module.startswith("visiontl."), f"{path}:{line}: {module} is not public; import from visiontl"
        if module == "visiontl":
            private = set(names) - set(visiontl.__all__)
            assert not private, f"{path}:{line}: {', '.join(private)}: not among visiontl's public names"


@pytest.mark.parametrize("name", CORE_FILES)
def test_the_core_knows_no_task_and_no_plugin(name):
    path = CORE_FILES[name]
    for line, module, _ in imports(path):
        assert not module.startswith("visiontl_"), f"{path}:{line}: the core imports {module}"
    for line, word in words(ast.parse(path.read_text(encoding="utf-8"))):
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
    assert list(core_modules_used(bad)) == [(4, "training"), (5, "cli")]
    assert not [module for _, module, _ in imports(bad) if module.startswith("visiontl_")]
    found = {word for _, word in words(ast.parse(bad.read_text()))}
    assert {"face", "segmentation"} <= found


def test_import_visiontl_costs_no_torch():
    script = (
        "import sys, visiontl, visiontl.cli, visiontl.config, visiontl.plugins, visiontl.task, visiontl.policies\n"
        "import visiontl.sentences, visiontl.colours\n"
        "print([name for name in ('torch', 'torchvision', 'timm', 'accelerate', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", visiontl.__all__)
def test_every_public_name_exists_and_is_documented(name):
    value = getattr(visiontl, name)
    assert value.__doc__, f"{name} has no docstring"


def test_every_hook_is_documented():
    hooks = [name for name in vars(hookspecs) if name.startswith("visiontl_")]
    assert len(hooks) == 5
    if not (ROOT / "docs" / "plugins.md").exists():
        pytest.skip("docs/plugins.md is not written yet")
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    for name in hooks:
        assert getattr(hookspecs, name).__doc__
        assert name in pages, f"docs/ says nothing about {name}"
