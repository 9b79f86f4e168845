"""Names are spelled as the libraries spell them; the old spelling of a key is refused with the new one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import visiontl
from tests.shared import ROOT
from visiontl import ConfigError, Section, Task, cli, plugins
from visiontl.config.resolve import resolve
from visiontl.config.schema import Config
from visiontl.errors import did_you_mean, respelled


def keys(model: type[BaseModel]) -> Iterator[str]:
    """All keys of a section and of those within it, and the words that a key may take."""
    for name, field in model.model_fields.items():
        yield name
        yield from words(field.annotation)


def words(kind: Any) -> Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from keys(kind)
    for one in get_args(kind):
        yield from [one] if isinstance(one, str) else words(one)


def test_no_name_has_an_old_spelling():
    found = [*keys(Config), *visiontl.__all__]
    for task in plugins.tasks().values():
        found += [*keys(task.config), *(keys(task.options) if task.options else ()), *(c.name for c in task.commands)]
    assert len(found) > 150
    assert [name for name in found if respelled(name) != name] == []


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("keep_colours", "keep_colors"),
        ("licence", "license"),
        ("enrol", "enroll"),
        ("grey", "gray"),
        ("centred", "centered"),
    ],
)
def test_an_old_name_is_told_with_the_new_one(old, now):
    assert did_you_mean(old, ["size", now]) == f"; it is {now!r} now"
    assert respelled(now) == now


def test_an_old_key_of_a_config_is_refused_with_the_new_one(monkeypatch):
    class Small(Section):
        data: str = ""
        normalize: bool = True

    functions = dict.fromkeys(("data", "sample", "collate", "model", "loss", "rows", "score", "predict"), print)
    small = Task(name="small", config=Small, best=("x", "max"), **functions)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(plugins, "task", lambda name: small)
    with pytest.raises(ConfigError, match=r"task\.normalise: unknown key; it is 'normalize' now"):
        resolve({"task": {"name": "small", "normalise": False}})


def test_an_old_command_is_refused_with_the_new_one(capsys):
    assert "face" in {path.name for path in (ROOT / "configs").iterdir()}
    assert cli.main(["face", "enrol", "x"]) == 2
    assert "'enroll' now" in capsys.readouterr().err
