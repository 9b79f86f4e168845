"""Every command and block of code of README.md and docs/ runs, a page at a time, in a folder that holds what the page
speaks of. Networks and data are small ones; what cannot run here stands in NEVER with the reason."""

from __future__ import annotations

import importlib
import io
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
from matplotlib.figure import Figure as Drawing

from tests.core.pages import PAGES, Block, blocks, commands, prepare
from visiontl import cli, plugins
from visiontl.config import resolve as resolving
from visiontl.errors import VisionTLError

INSTALLS = "installs packages"
DOWNLOADS = "downloads data and weights"
MACHINES = "several GPUs or machines"
REPOSITORY = "runs the repository's own tools, which have tests of their own or take minutes"

# how a command begins, on any page: why it is only parsed
NEVER = {
    "pip install": INSTALLS,
    ".venv/bin/pip install": INSTALLS,
    "python3 -m venv": INSTALLS,
    ". .venv/bin/activate": INSTALLS,
    "visiontl train classification/cifar10": DOWNLOADS,
    "visiontl evaluate classification/imagenet": "needs ImageNet",
    "torchrun --nnodes 2": MACHINES,
    "srun torchrun": MACHINES,
    ".venv/bin/python -m pytest": REPOSITORY,
    "VISIONTL_TEST_DATA=../shared python tools/benchmark.py": REPOSITORY,
    "python tools/benchmark.py": REPOSITORY,
    "for n in 1 2 3": "starts six processes; tests/core/test_processes.py does the same",
    "torchrun --standalone": "in that loop",
    "done": "in that loop",
}
RUN = {"sh", "python", "yaml", "toml"}
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
        values["task"]["decoder"] = {"name": section.get("decoder", "unet"), "width": 64}
    if section.get("data") == "samples":
        values["task"]["data"] = "example"
    values["backbone"] = {"name": "visiontl/tiny", "weights": "none", "image_size": 64}
    values["train"] = {**values.get("train", {}), "epochs": 1, "batch_size": 8}
    values["loader"] = {"workers": 0}
    return values


def unless_inline(savefig: Any) -> Any:
    """The figures of a report cost more than its training here; tests of the report draw them."""

    def save(self: Drawing, out: Any, **options: Any) -> None:
        out.write("<svg></svg>") if isinstance(out, io.StringIO) else savefig(self, out, **options)

    return save


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
    monkeypatch.setattr(Drawing, "savefig", unless_inline(Drawing.savefig))
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


def left_out(command: str) -> bool:
    return command.startswith(tuple(NEVER))


def run_commands(block: Block, capsys: Any) -> None:
    for command in commands(block):
        if left_out(command):
            INSTEAD.get((block.page, command), lambda: None)()
            continue
        found = LAUNCHED.fullmatch(command)
        assert found, f"{block.place}: no way to run {command!r}: mend it, or give a reason in NEVER"
        visiontl(shlex.split(found[1]), block.place, capsys)


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
    for number, block in enumerate(page):
        name = block.file
        if block.language == "yaml" and not name:
            after = "\n".join([block.text.partition("\n")[0], *(one.text for one in page[number + 1 :])])
            found = re.search(r"(?<![\w/])\w+\.yaml", after)
            name = found[0] if found and "task:" in block.text else None
        if name and not Path(name).exists():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(block.text)


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))])
def test_the_blocks_of_a_page_run(page, folder, capsys):
    for words in prepare(page, folder):
        visiontl(words, page, capsys)
    found = list(blocks(page))
    write_files(found)
    names: dict[str, Any] = {"__name__": "page"}
    for block in found:
        if block.language == "sh":
            run_commands(block, capsys)
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
                task = {"name": "classification", "data": "photos", **values.pop("task", {})}
                resolving.resolve({**base, **values, "task": task})
        except (VisionTLError, ValueError) as error:
            pytest.fail(f"{block.place}: {error}")


def test_every_block_has_a_language_that_is_run_or_shown():
    for block in (block for page in PAGES for block in blocks(page)):
        assert block.language in RUN | SHOWN, f"{block.place}: {block.language!r}"
        if block.language == "toml":
            tomllib.loads(block.text)


def test_what_is_left_out_is_still_there():
    shown = [block for page in PAGES for block in blocks(page) if block.language == "sh"]
    found = [command for block in shown for command in commands(block)]
    assert [begins for begins in NEVER if not any(command.startswith(begins) for command in found)] == []
