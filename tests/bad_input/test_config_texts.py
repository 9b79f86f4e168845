"""Arbitrary text, mappings and damaged configs: a config or a ConfigError of few lines, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bad_input.configs import GOOD
from tests.bad_input.outcome import COLUMNS, LINES
from tests.shared import ROOT
from visiontl.config.problems import all_keys
from visiontl.config.resolve import resolve
from visiontl.config.schema import Config
from visiontl.config.write import to_plain, to_yaml
from visiontl.config.yaml_text import parse_text
from visiontl.errors import ConfigError

moderate = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SIGNS = "ab01.eE-+_:#,[]{}&*!|>%@'\"\\ \t\n\r~<\0\x85\u2028ä?=xn"
KEYS = sorted({part for keys in all_keys(Config) for part in keys} | {"name", "data", "labels"})

words = st.text(st.sampled_from(SIGNS) | st.characters(), max_size=30)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.sampled_from(KEYS)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | words | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=15,
)
SECTIONS = st.sampled_from(list(Config.model_fields)) | words
GOOD_CONFIGS = [GOOD, *(path.read_text() for path in sorted((ROOT / "configs/classification").glob("*.yaml")))]


def attempt(source, overrides=()):
    """(run, []), or (None, problems) where a ConfigError of bounded length says why not."""
    try:
        return resolve(source, overrides), []
    except ConfigError as caught:
        error = caught
    lines = str(error).splitlines()
    assert 1 <= len(lines) <= LINES
    assert all(len(line) <= COLUMNS for line in lines)
    assert error.problems
    assert all(line.strip() for line in error.problems)
    return None, error.problems


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.yaml"


@moderate
@given(st.data())
def test_mutated_configs(path, data):
    """A valid config with a few of its characters or lines taken out, doubled or replaced."""
    text = data.draw(st.sampled_from(GOOD_CONFIGS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(words | st.just(text[start:end] * 2) | st.just("")) + text[end:]
    raw = text.encode("utf-8", "surrogatepass")
    path.write_bytes(raw)
    before = sorted(path.parent.iterdir())
    _, problems = attempt(path)
    assert all(str(path) in problem for problem in problems)
    assert sorted(path.parent.iterdir()) == before


@moderate
@given(st.binary(max_size=200))
def test_arbitrary_bytes(path, content):
    path.write_bytes(content)
    run, problems = attempt(path)
    assert run is None
    assert all(str(path) in problem for problem in problems)


@moderate
@given(st.dictionaries(SECTIONS, values, max_size=5))
def test_arbitrary_mappings(mapping):
    run, problems = attempt(mapping)
    assert (run is None) == bool(problems)


@moderate
@given(st.sampled_from([keys for keys in all_keys(Config) if keys[0] != "task"]), values)
def test_arbitrary_values_of_known_keys(keys, value):
    """Whatever the value, either the run takes it and prints it so that it reads back, or the key is named."""
    given_here = value
    for part in reversed(keys):
        given_here = {part: given_here}
    sections = parse_text(GOOD, "good").values
    section = sections.get(keys[0])
    merged = {**section, **given_here[keys[0]]} if isinstance(section, dict) and len(keys) > 1 else given_here[keys[0]]
    run, problems = attempt({**sections, keys[0]: merged})
    if run is None:
        assert any(keys[0] in problem for problem in problems)
    else:
        check_round_trip(run)


@moderate
@given(st.lists(st.builds("{}={}".format, st.sampled_from(KEYS) | words, words) | words, max_size=4))
def test_arbitrary_overrides(overrides):
    run, _ = attempt(parse_text(GOOD, "good").values, overrides)
    if run is not None:
        check_round_trip(run)


@moderate
@given(st.sampled_from([".".join(keys) for keys in all_keys(Config) if keys[0] != "task"]), words | values)
def test_arbitrary_values_of_overridden_keys(key, value):
    run, _ = attempt(parse_text(GOOD, "good").values, [f"{key}={value}"])
    if run is not None:
        check_round_trip(run)


def check_round_trip(run):
    again = resolve(parse_text(to_yaml(run), "printed").values)
    assert to_plain(again) == to_plain(run)
    assert to_yaml(again) == to_yaml(run)
