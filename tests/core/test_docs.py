"""What the pages say: every public thing is named, every link leads somewhere, every command line parses."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from types import ModuleType

import pytest

import visiontl
from tests.core.test_architecture import CHAIN, LEVEL
from tests.shared import ROOT
from visiontl import cli, hookspecs, plugins

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
GUIDES = "\n".join(text for path, text in TEXTS.items() if path.parent == ROOT / "docs")


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["document_config", "document_kit"])
def test_a_page_that_is_generated_is_current(name):
    generator = tool(name)
    assert generator.page() == TEXTS[generator.PAGE], f"run `python tools/{name}.py`"


def test_every_key_of_a_config_and_every_option_is_explained():
    page = TEXTS[ROOT / "docs/config.md"]
    keys = re.findall(r"^\| `([\w.]+)` \| (?:required|`.*`) \|(.*)\|$", page, re.MULTILINE)
    assert len(keys) > 200
    assert len(keys) == len(re.findall(r"^\| `", page, re.MULTILINE))
    assert [key for key, meaning in keys if not meaning.strip()] == []
    for task in ("classification", "detection", "face", "segmentation", "style"):
        assert f"## task: {task}\n" in page


@pytest.mark.parametrize("name", visiontl.__all__)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(visiontl, name).__doc__, f"{name} has no docstring"
    assert re.search(rf"\b{name}\b", GUIDES), f"docs/ says nothing about visiontl.{name}"


def test_every_hook_is_documented():
    hooks = [name for name in vars(hookspecs) if name.startswith("visiontl_")]
    assert len(hooks) == 7
    for name in hooks:
        assert getattr(hookspecs, name).__doc__
        assert f"`{name}(" in TEXTS[ROOT / "docs/plugins.md"], f"docs/plugins.md says nothing about {name}"


def test_every_command_is_documented():
    page = TEXTS[ROOT / "docs/commands.md"]
    assert [name for name in cli.COMMANDS if f"`visiontl {name} " not in page] == []
    own = [f"{task.name} {one.name}" for task in plugins.tasks().values() for one in task.commands]
    assert len(own) >= 8
    assert [name for name in own if f"`visiontl {name} " not in page] == []


def test_every_public_function_of_the_kit_is_documented():
    page = TEXTS[ROOT / "docs/kit.md"]
    found = 0
    for path in (ROOT / "visiontl/kit").glob("[a-z]*.py"):
        section = page.partition(f"## `visiontl.kit.{path.stem}`")[2].partition("\n## ")[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found += 1
                assert re.search(rf"^\| `{node.name}[`(].* \| \S", section, re.MULTILINE), f"{path.name}: {node.name}"
    assert found > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    prose = re.sub(r"^```.*?^```|^    .*?$|`[^`\n]*`", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in target:
            continue
        file, _, place = target.partition("#")
        found = page.parent / file if file else page
        assert found.exists(), f"{page}: {target}"
        assert not place or place in anchors(found.read_text(encoding="utf-8")), f"{page}: no heading {target}"


def anchors(text: str) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_index():
    index = ROOT / "docs/index.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", TEXTS[index])}
    assert [str(page.relative_to(ROOT)) for page in PAGES if page != index and page.resolve() not in linked] == []


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """(place, words after `visiontl`) of each such line in a fenced or indented block, without launchers and comments.

    Lines of grammar (`[a.b=c ...]`, `a|b`) are no commands.
    """
    line = re.compile(r"(?:\$ |.*&& )?(?:\S*(?:accelerate|torchrun)\b.* -m |python -m )?visiontl ([a-z-].*)")
    for page, text in TEXTS.items():
        if page.name == "CHANGELOG.md":  # it also has old ones
            continue
        fenced = False
        for number, written in enumerate(text.replace("\\\n", "  ").splitlines(), start=1):
            fenced ^= written.startswith("```")
            found = line.fullmatch(written.strip()) if fenced or written.startswith("    ") else None
            if found and not re.search(r"\[[a-zA-Z]|\||: ", found[1].partition("#")[0]):
                yield f"{page.name}:{number}", shlex.split(found[1], comments=True)


def test_every_command_line_parses():
    lines = list(command_lines())
    assert len(lines) > 30
    assert {words[0] for _, words in lines} >= {"train", "predict", "doctor", "face", "style"}
    for place, words in lines:
        try:
            cli.parse(words)
        except visiontl.VisionTLError as error:
            pytest.fail(f"{place}: visiontl {shlex.join(words)}: {error}")


def test_the_picture_and_the_page_of_the_architecture_show_the_chain():
    picture = re.findall(r'class="room"[^>]*>(\w+)<', (ROOT / "docs/rooms.svg").read_text(encoding="utf-8"))
    assert sorted(picture) == sorted(LEVEL)
    assert [LEVEL[name] for name in picture] == sorted((LEVEL[name] for name in picture), reverse=True)
    page = TEXTS[ROOT / "docs/architecture.md"]
    for name in (name for rooms in CHAIN for name in rooms):
        assert re.search(rf"^\*\*`{name}`\*\*", page, re.MULTILINE), f"docs/architecture.md says nothing about {name}"


def test_the_places_that_the_architecture_page_names_exist():
    """`room/file.py`, and `room/file.py` (`name`, `name`) with what is defined in it."""
    text = TEXTS[ROOT / "docs/architecture.md"]
    places = re.findall(r"`([\w/]+\.py)`(?: \(((?:`\w+`(?:, )?)+)\))?", text)
    assert len(places) > 25
    for file, names in places:
        places_of = [base / file for base in (ROOT / "visiontl", ROOT, ROOT / "plugins")]
        path = next((one for one in places_of if one.is_file()), None)
        assert path is not None, f"{file} is nowhere"
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert set(re.findall(r"\w+", names)) <= defined, f"{file} defines no {names}"
