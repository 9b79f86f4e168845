"""Every command and block of code of README.md and docs/ runs, a page at a time, in a folder that holds what the page
speaks of. Networks and data are small ones; what cannot run here stands in NEVER with the reason."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from tests.core.pages import NEVER, PAGES, Block, blocks, commands, left_out, prepare
from visiontl import cli, plugins
from visiontl.config import resolve as resolving
from visiontl.errors import VisionTLError
from visiontl.report import page as report_page

RUN = {"sh", "bash", "python", "yaml", "toml"}
SHOWN = {"", "console", "text"}  # what is printed

# what a command is given in addition, to be small
SMALLER = {
    "style optimize": {"backbone": "visiontl/tiny", "weights": "none", "size": "64", "steps": "4"},
    "style judge": {"backbone": "visiontl/tiny", "weights": "none", "size": "64", "style_size": "64"},
}
# what happens in place of a command that is left out
INSTEAD = {
    ("task.md", "pip install -e ."): lambda: plugins.register(importlib.import_module("visiontl_rotation")),
}
LAUNCHED = re.compile(r"(?:(?:\S*/)?(?:accelerate|torchrun)\b.* -m |python -m )?visiontl (.*)")


def small(values: dict[str, Any]) -> dict[str, Any]:
    """A config as the pages write it, on the bundled network, on drawn data, for an epoch."""
    section = values.get("task")
    if not isinstance(section, dict) or section.get("name") not in plugins.tasks():
        return values
    task = plugins.task(section["name"])
    sizes = {key for key in task.small if key in section and key not in ("decoder", "head")}
    values["task"] = {**task.small, **section, **{key: task.small[key] for key in sizes}}
    if section["name"] == "detection":
        values["task"]["size"] = {"short": 64}
    if section["name"] == "segmentation":
        decoder = section.get("decoder", "unet")
        values["task"]["decoder"] = {"name": decoder["name"] if isinstance(decoder, dict) else decoder, "width": 64}
    if section.get("data") == "samples":
        values["task"]["data"] = "example"
    values["backbone"] = {"name": "visiontl/tiny", "weights": "none", "image_size": 64}
    values["train"] = {**values.get("train", {}), "epochs": 1, "batch_size": 8}
    values["loader"] = {"workers": 0}
    return values


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """The current folder of a page's blocks."""
    parsed = resolving._parsed

    def made_small(config: Any) -> Any:
        found = parsed(config)
        if not isinstance(config, resolving.Resolved) and Path(str(config)).name != "config.yaml":
            small(found.values)
        return found

    override = resolving.apply_override

    def one_epoch(values: Any, text: str, *more: Any, **named: Any) -> None:
        override(values, "train.epochs=1" if text.startswith("train.epochs=") else text, *more, **named)

    monkeypatch.setattr(resolving, "_parsed", made_small)
    monkeypatch.setattr(resolving, "apply_override", one_epoch)
    # the figures and pictures of a report cost more than its training here; tests of the report draw them
    monkeypatch.setattr(report_page, "shown_items", lambda *given, **named: [])
    monkeypatch.setattr(report_page, "drawn_curves", lambda *given, **named: [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    plugins.reset()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def visiontl(words: list[str], place: str, capsys: Any) -> str:
    """What the command prints."""
    more = next((keys for name, keys in SMALLER.items() if words[:2] == name.split()), {})
    words = [word for word in words if word.partition("=")[0] not in more] + [f"{k}={v}" for k, v in more.items()]
    capsys.readouterr()
    code = cli.main(words)
    printed = capsys.readouterr()
    assert code == 0, f"{place}: visiontl {shlex.join(words)}: exit code {code}\n{printed.out[-2000:]}{printed.err}"
    return printed.out


def run_commands(block: Block, capsys: Any) -> str:
    """What they print together."""
    said = ""
    for command in commands(block):
        if left_out(command):
            INSTEAD.get((block.page, command), lambda: None)()
            continue
        found = LAUNCHED.fullmatch(command)
        assert found, f"{block.place}: no way to run {command!r}: mend it, or give a reason in NEVER"
        said += visiontl(shlex.split(found[1]), block.place, capsys)
    return said


def masked(line: str) -> str:
    """A printed line without what the small network and data make different: numbers and labels."""
    return " ".join(re.sub(r"label \w+", "label L", re.sub(r"\d[\d.,e-]*", "N", line)).split())


def check_printed(block: Block, said: str) -> None:
    """The lines of the block are printed in this order; `...` stands for any others."""
    lines = iter([masked(line) for line in said.splitlines()])
    for line in block.text.splitlines():
        assert line == "..." or masked(line) in lines, f"{block.place}: {line!r} is not printed there:\n{said}"


def run_python(block: Block, names: dict[str, Any]) -> None:
    exec(compile(block.text, block.place, "exec"), names)
    if "@hookimpl" in block.text or "@visiontl.hookimpl" in block.text:
        plugin = types.ModuleType(block.place)
        vars(plugin).update({name: value for name, value in names.items() if name != "__name__"})
        plugins.register(plugin, block.place)
        assert plugins.failures() == []
        for name in list(names):
            if name.startswith("visiontl_"):  # another block of the page is another plugin
                del names[name]


def write_files(page: list[Block]) -> None:
    """Blocks that are files, under the names that the page gives them; a config's is in the commands after it."""
    written: set[str] = set()
    for number, block in enumerate(page):
        name = block.file
        if block.language == "yaml" and not name:
            after = "\n".join([block.text.partition("\n")[0], *(one.text for one in page[number + 1 :])])
            found = re.search(r"(?<![\w/])\w+\.yaml", after)
            name = found[0] if found and "task:" in block.text else None
        if name and name not in written:
            written.add(name)
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(block.text)


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))])
def test_the_blocks_of_a_page_run(page, folder, capsys):
    for words in prepare(page, folder):
        visiontl(words, page, capsys)
    found = list(blocks(page))
    write_files(found)
    names: dict[str, Any] = {"__name__": "page"}
    said = ""
    for block in found:
        if block.language in SHOWN and block.after and said:
            check_printed(block, said)
        elif block.language in ("sh", "bash"):
            said = run_commands(block, capsys)
        elif block.language == "python" and not block.file:
            run_python(block, names)
        elif block.language == "python":
            compile(block.text, block.place, "exec")


def test_every_config_and_launch_file_is_valid(tmp_path):
    """As written, not made small; a part of a config in one of classification."""
    base = {"backbone": {"name": "resnet18"}}
    found = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]
    assert len(found) > 8
    for block in found:
        values = yaml.safe_load(block.text)
        try:
            if "compute_environment" in values:
                (tmp_path / "launch.yaml").write_text(block.text)
                load_config_from_file(str(tmp_path / "launch.yaml"))
            elif values.get("task", {}).get("name") != "rotation":  # which its page writes
                given = values.pop("task", {})
                data = {} if "tasks" in given else {"data": "photos"}  # several tasks have data each
                task = {"name": "classification", **data, **given}
                resolving.resolve({**base, **values, "task": task})
        except (VisionTLError, ValueError) as error:
            pytest.fail(f"{block.place}: {error}")


def test_every_block_has_a_language_that_is_run_or_shown():
    for block in (block for page in PAGES for block in blocks(page)):
        assert block.language in RUN | SHOWN, f"{block.place}: {block.language!r}"
        if block.language == "toml":
            tomllib.loads(block.text)


def test_what_is_left_out_is_still_there():
    shown = [block for page in PAGES for block in blocks(page) if block.language in ("sh", "bash")]
    found = [command for block in shown for command in commands(block)]
    assert [begins for begins in NEVER if not any(command.startswith(begins) for command in found)] == []
