"""Configs that are none, each refused in words, and none of them does anything."""

from __future__ import annotations

import pytest

from tests.bad_input.configs import CONFIGS
from tests.bad_input.outcome import check_refused, check_served, command
from tests.bad_input.sources import sound


@pytest.mark.parametrize("config", CONFIGS, ids=lambda one: one.name)
def test_configs(capsys, place, config):
    path = place / "run.yaml"
    if callable(config.content):
        config.content(path)
    else:
        path.write_bytes(config.content if isinstance(config.content, bytes) else config.content.encode())
    done = command(capsys, place, "config", path, *config.overrides)
    if config.words is None:
        check_served(done)
        return
    if done.code == 0:  # what only a run can know
        sound(place / "photos")
        done = command(capsys, place, "train", path, *config.overrides)
    check_refused(done, *config.words)
    assert not (place / "ran").exists()
