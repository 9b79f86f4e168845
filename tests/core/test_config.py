"""The config file: what it may hold, what is said when it does not, and that it survives a round trip."""

from __future__ import annotations

import importlib.util
import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator

from tests.shared import ROOT
from visiontl import Section, Task, hookimpl, plugins
from visiontl.config import ready
from visiontl.config.problems import all_keys
from visiontl.config.resolve import resolve, with_task_data
from visiontl.config.schema import Config
from visiontl.config.write import WIDTH, config_hash, json_schema, to_plain, to_yaml
from visiontl.config.yaml_text import dump_value, parse_text, parse_value
from visiontl.errors import ConfigError, PluginError


class Shape(Section):
    corners: int = Field(4, ge=3, description="how many corners")
    size: tuple[float, float] | None = Field(None, description="range of sizes, in pixels")


class ToyConfig(Section):
    """Sorts drawings. For the tests."""

    data: str = Field(description="a folder")
    names: list[str] = Field(["a", "b"], description="class names")
    shape: Shape = Field(default_factory=Shape, description="what is drawn")
    mixed: int | Shape | None = Field(None, description="a number or a mapping")

    @field_validator("data")
    @classmethod
    def no_slash_at_the_end(cls, value: str) -> str:
        if value.endswith("/"):
            raise ValueError(f"{value!r} ends with a slash")
        return value


def nothing(*_: object) -> None:
    return None


def make_task(name: str = "toy", **changes: object) -> Task:
    functions = ("data", "sample", "collate", "model", "loss", "rows", "score", "predict")
    values: dict = {
        "name": name,
        "config": ToyConfig,
        "best": ("accuracy", "max"),
        **dict.fromkeys(functions, nothing),
    }
    return Task(**{**values, **changes})


class ToyPlugin:
    def __init__(self, *tasks: Task):
        self.tasks = list(tasks)

    @hookimpl
    def visiontl_tasks(self) -> list[Task]:
        return self.tasks


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Only the toy task is there: the core needs no installed plugin."""
    monkeypatch.setenv("VISIONTL_PLUGINS", "")
    plugins.reset()
    defaults = {"freeze.norm_stats": "fixed", "optim.lr": 0.5, "train.ema.decay": 0.9}
    plugins.register(ToyPlugin(make_task(), make_task("opinionated", defaults=defaults)), "toy")
    yield
    plugins.reset()


GOOD = """
task:
  name: toy
  data: pictures
backbone:
  name: resnet18
"""


def write(folder: Path, text: str | bytes, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems_of(source, overrides=()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(source, overrides)
    return caught.value.problems


def test_a_minimal_file_is_a_complete_run(tmp_path):
    path = write(tmp_path, GOOD)
    run = resolve(path)
    assert run.task.name == "toy"
    assert run.cfg == ToyConfig(data="pictures")
    assert run.source == str(path)
    assert to_plain(run)["train"]["epochs"] == 10
    assert run.config.task == {"name": "toy", **ToyConfig(data="pictures").model_dump(mode="json")}


SCALARS = {
    "1e-3": 0.001,
    "1E5": 100000.0,
    "-.5": -0.5,
    "5": 5,
    "010": 10,
    "0x10": 16,
    "1_000": 1000,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "none": "none",
    "no": "no",
    "on": "on",
    "2026-11-24": "2026-11-24",
    "12:30:45": "12:30:45",
    "'5'": "5",
    '"a\\tb"': "a\tb",
    "[1, 2e0, x]": [1, 2.0, "x"],
    "{first: 2}": {"first": 2},
    "{0: all, 1: none}": {0: "all", 1: "none"},
    "resnet50": "resnet50",
    "a photo": "a photo",
}


@pytest.mark.parametrize("text", SCALARS)
def test_values_read_the_same_in_a_file_and_on_the_command_line(text):
    read = [parse_text(f"key: {text}", "f").values["key"], parse_value(text)]
    for value in read:
        assert value == SCALARS[text]
        assert type(value) is type(SCALARS[text])


@pytest.mark.parametrize(
    "text",
    [
        "*.jpg",
        "@home",
        "100%",
        "a #b",
        "#5",
        "C:\\photos",
        "a]b",
        "`x`",
        "x: [",
        "a: b",
        "-",
        "?",
        "a'b",
        "!!int x",
        "&x",
        "|",
    ],
)
def test_bare_text_of_an_override_needs_no_quotes(text):
    assert parse_value(text) == text.strip()


def test_everything_wrong_is_said_at_once_with_line_and_expectation(tmp_path):
    path = write(
        tmp_path,
        """\
task:
  name: toy
  dat: pictures
  names: cat
  shape: {corners: 2, sise: 3}
  mixed: {corners: many}
backbone:
  image_size: [224]
  in_channels: true
optim:
  lrr: 1e-3
  lr: -1
  batch_size: 8
  warmup: 3 lightyears
  betas: 3
train:
  precision: bf15
  channels_last: 7
  ema: {decai: 0.9}
  seed: 1.5
run: {name: 2026, trackers: [5]}
freeze: {policy: {firs: 2}}
epochs: 3
color: red
""",
    )
    expected = """\
1: task.data: is missing
3: task.dat: unknown key; did you mean 'data'?
4: task.names: got cat; expected a list
5: task.shape.corners: got 2; expected a number of at least 3
5: task.shape.sise: unknown key; did you mean 'size'?
6: task.mixed.corners: got many; expected a whole number
7: backbone.name: is missing
8: backbone.image_size: has 1 items; at least 2 were expected
11: optim.lrr: unknown key; did you mean 'lr'?
12: optim.lr: got -1; expected a number above 0
13: optim.batch_size: unknown key; did you mean 'train.batch_size'?
14: optim.warmup: got 3 lightyears; expected 'none' ('3 lightyears' is no interval
15: optim.betas: got 3; expected a list
17: train.precision: got bf15; expected 'auto', 'fp32', 'bf16' or 'fp16'; did you mean 'bf16'?
18: train.channels_last: got 7; expected 'auto' or true or false
19: train.ema.decai: unknown key; did you mean 'decay'?
20: train.seed: got 1.5; expected a whole number
21: run.name: got 2026; expected text; put it in quotes
21: run.trackers.0: got 5; expected text
23: epochs: unknown key; did you mean 'train.epochs'?
24: color: unknown key""".splitlines()
    found = problems_of(path)
    for line in expected:
        assert any(problem.startswith(f"{path}:{line}") for problem in found), line
    assert len(found) == len(expected)
    lines = [int(problem.removeprefix(f"{path}:").partition(":")[0]) for problem in found]
    assert lines == sorted(lines)


def test_what_only_shows_in_a_config_that_is_otherwise_valid(tmp_path):
    assert problems_of(write(tmp_path, GOOD + "  in_channels: true\n")) == [
        f"{tmp_path}/run.yaml:7: backbone.in_channels: got true or false; expected a number"
    ]
    (policy,) = problems_of(write(tmp_path, GOOD + "freeze: {policy: {firs: 2}}\n"))
    assert "7: freeze.policy: 'firs' is no policy; did you mean 'first'?" in policy
    (argument,) = problems_of(write(tmp_path, GOOD + "freeze: {policy: {first: some}}\n"))
    assert "first takes a number" in argument
    (two,) = problems_of(write(tmp_path, GOOD + "freeze: {policy: {first: 1, until: x}}\n"))
    assert "takes one name" in two
    (slash,) = problems_of(write(tmp_path, GOOD), ["task.data=x/"])
    assert slash == "override 'task.data=x/': task.data: 'x/' ends with a slash"


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "": ":1?.*empty",
        "# only a comment": "empty",
        "- a\n- b": ":1: holds a list",
        "just text": ":1: holds the value just text",
        "a: 1\nb: 2\na: 3": ":3: a: stands twice; the first is in line 1",
        "a: {b: 1, b: 2}": ":1: a.b: stands twice",
        "a: {0: x, '0': y}": "a.0: stands twice",
        "a:\n\t- b": ":2: a tab indents",
        "a: *x": "undefined alias 'x'",
        "a: !!python/object/apply:os.system [ls]": r"the tag !!python/object/apply:os\.system is not allowed",
        "a: !mine {b: 1}": "the tag !mine is not allowed",
        "a: !!binary aGk=": "the tag !!binary is not allowed",
        "a: !!int x": "'x' is no int",
        "a: &x [*x]": "nested more than 50 levels deep, or an alias within itself",
        "a: " + "[" * 5000: "nested more than 50 levels",
        "a: " + "[" * 60 + "]" * 60: "nested more than 50 levels",
        "a: [1": "not valid YAML",
        "a: 1\n---\nb: 2": ":2: a second document",
        "a: .nan": "not a finite number",
        "a: 1e999": "not a finite number",
        "a: " + "9" * 5000: "5000 digits",
        "? [1, 2]\n: b": "cannot be a key",
        "true: b": "the key 'true' must be text or a whole number",
        "<<: 3": "takes an alias of a mapping",
        "a: \x01": ":1: the character '\\\\x01' is not allowed",
        'a: "\\uD800"': "is not allowed",
        'a: "\\0"': "is not allowed",
        'a: "\\UFFFFFFFF"': "not valid YAML",
        "x" * 1_000_001: "1,000,001 characters",
    }.items(),
    ids=lambda value: value[:24],
)
def test_what_is_no_config_is_refused_in_words(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=said) as caught:
        resolve(path)
    assert str(path) in str(caught.value)


def test_aliases_work_but_cannot_unfold_without_end():
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, x: 3}\n"
    assert parse_text(text, "f").values == yaml.safe_load(text)
    assert parse_text("a: !!str 5", "f").values == {"a": "5"}
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))  # 10^12 values
    with pytest.raises(ConfigError, match="more than 100,000 values"):
        parse_text(bomb, "f")


def test_files_that_cannot_be_read(tmp_path):
    write(tmp_path, GOOD, "quickstart.yaml")
    assert "did you mean" in problems_of(tmp_path / "quickstar.yaml")[0]
    assert "quickstart.yaml" in problems_of(tmp_path / "quickstart")[0]
    assert "does not exist" in problems_of(tmp_path / "absent" / "quickstart.yaml")[0]
    assert "is a folder; name a config file; it holds quickstart.yaml" in problems_of(tmp_path)[0]
    assert "latin.yaml:2: is not UTF-8" in problems_of(write(tmp_path, b"a: 1\nb: \xe4\n", "latin.yaml"))[0]
    assert "cannot be read" in problems_of("a\0b")[0]
    assert resolve(write(tmp_path, b"\xef\xbb\xbf" + GOOD.encode()))  # an editor's byte order mark
    assert "got int" in problems_of(5)[0]


def test_overrides_win_and_make_the_mappings_on_their_way(tmp_path):
    path = write(tmp_path, GOOD + "train: {ema: null, epochs: 3}\n")
    run = resolve(
        path,
        [
            "train.epochs=7",
            "train.ema.decay=.5",
            "optim.lr=1e-2",
            "freeze.policy={first: 2}",
            "train.epochs=8",
        ],
    )
    assert (run.config.train.epochs, run.config.optim.lr, run.config.freeze.policy) == (8, 0.01, {"first": 2})
    assert run.config.train.ema is not None
    assert run.config.train.ema.decay == 0.5
    assert resolve(run, ["train.ema=null"]).config.train.ema is None
    assert resolve(path, ["run.name='2026'", "task.names=[no, 'yes']"]).config.task["names"] == [
        "no",
        "yes",
    ]


@pytest.mark.parametrize(
    ("override", "said"),
    {
        "train": "a.b=value was expected",
        "=5": "a.b=value was expected",
        "train..epochs=5": "a.b=value was expected",
        "train epochs=5": "a.b=value was expected",
        "train.epochs=": "no value; write null",
        "train.epochs=[1": "not valid YAML",
        "train.epochs='1": "not valid YAML",
        "backbone.name.x=5": "backbone.name is resnet18, which has no keys",
        "train.epoch=5": "train.epoch: unknown key; did you mean 'epochs'?",
        "ema.decay=0.9": "ema: unknown key; did you mean 'train.ema.decay'?",
        "report.trackers=tensorboard": "report: unknown key; did you mean 'run.trackers'?",
        "train.epochs=many": "train.epochs: got many; expected a whole number",
        "train=5": "train: got 5; expected a mapping",
        "task=5": "task: got 5; expected a mapping with a name",
        "task.name=tyo": "task.name: no task 'tyo'; did you mean 'toy'?",
        "task.name=5": "task.name: got 5; expected a task's name",
    }.items(),
)
def test_a_wrong_override_is_named(tmp_path, override, said):
    found = problems_of(write(tmp_path, GOOD), [override])
    assert [problem for problem in found if said in problem and f"override {override!r}" in problem], found


def test_overrides_and_file_are_reported_together(tmp_path):
    found = problems_of(write(tmp_path, GOOD + "  nme: 3\n"), ["nonsense", "train.epochs=-1"])
    assert len(found) == 3


def test_a_task_is_needed(tmp_path):
    assert "task: is missing" in problems_of({"backbone": {"name": "x"}})[0]
    assert "toy" in problems_of({"task": {}, "backbone": {"name": "x"}})[0]
    assert len(problems_of({})) == 2  # task and backbone
    assert len(problems_of({"task": 5, "backbone": {"name": "x"}})) == 1


def test_a_tasks_defaults_are_below_the_file(tmp_path):
    path = write(tmp_path, GOOD.replace("toy", "opinionated"))
    run = resolve(path)
    assert (run.config.freeze.norm_stats, run.config.optim.lr) == ("fixed", 0.5)
    assert run.config.train.ema is not None
    run = resolve(path, ["freeze.norm_stats=train", "optim={lr: 0.25}", "train.ema=null"])
    assert (run.config.freeze.norm_stats, run.config.optim.lr, run.config.train.ema) == ("train", 0.25, None)
    bad = make_task("bad", defaults={"optim.lrr": 1, "task.data": "x"})
    plugins.register(ToyPlugin(bad), "bad")
    found = problems_of(path, ["task.name=bad"])
    assert any("default of task 'bad': optim.lrr: unknown key" in problem for problem in found)
    assert any("'task.data' is no core key" in problem for problem in found)


def test_mappings_and_models_are_configs_too():
    given_ = {"task": {"name": "toy", "data": "x"}, "backbone": {"name": "a", "image_size": (32, 48)}}
    run = resolve(given_, ["train.epochs=2"])
    assert "train" not in given_  # the caller's mapping is left alone
    assert run.config.backbone.image_size == (32, 48)
    assert resolve(run) is run
    model = Config.model_validate(given_)
    assert config_hash(resolve(model)) == config_hash(resolve(given_))
    loop: dict = {}
    loop["task"] = loop
    assert "nested more than 50 levels" in problems_of(loop)[0]
    assert any("not a finite number" in p for p in problems_of({**given_, "optim": {"lr": math.inf}}))
    (nul,) = problems_of({**given_, "run": {"name": "a\0"}})
    assert nul == "mapping: run.name: the character '\\x00' is not allowed"
    assert any("a key must be text" in p for p in problems_of({**given_, "optim": {None: 1}}))


ROUND_TRIPS = [
    [],
    ["freeze.policy={schedule: {0: all, 1: layer3, 2: none}}", "task.data='1e-3'"],
    [
        "task.names=['no', '1e-3', '5', 'null', 'true', '', ' x', '#', 'ä', '010', '1:30']",
        "run.name='2026-11-24'",
    ],
    [
        "train.ema.decay=0.99",
        "optim.lr=1e-7",
        "optim.weight_decay=0",
        "task.mixed={corners: 5}",
        "task.mixed.size=[1, 2]",
    ],
    ['task.data="two\\nlines\\tand: more # than that"', "backbone.image_size=64", "train.channels_last=off"],
    [f"task.data={'long words ' * 30}"],
]


@pytest.mark.parametrize("overrides", ROUND_TRIPS)
def test_what_is_printed_is_the_same_run(tmp_path, overrides):
    run = resolve(write(tmp_path, GOOD), overrides)
    for comments in (True, False):
        text = to_yaml(run, comments=comments)
        again = resolve(write(tmp_path, text, "again.yaml"))
        assert again.config == run.config
        assert again.cfg == run.cfg
        assert to_yaml(again, comments=comments) == text
        # an independent reader agrees on every value
        assert json.loads(json.dumps(yaml.safe_load(text))) == to_plain(run)
    assert resolve(json.loads(json.dumps(to_plain(run)))).cfg == run.cfg


def test_the_printed_config_explains_every_key(tmp_path):
    text = to_yaml(resolve(write(tmp_path, GOOD)))
    words = " ".join(text.replace("#", " ").split())
    models = [
        ToyConfig,
        Shape,
        *(f.annotation for f in Config.model_fields.values() if hasattr(f.annotation, "model_fields")),
    ]
    for model in models:
        for name, info in model.model_fields.items():
            assert f"{name}:" in text
            assert " ".join(info.description.split()) in words
    assert "Sorts drawings" in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_hash_is_of_what_decides_the_numbers():
    base = {"task": {"name": "toy", "data": "x"}, "backbone": {"name": "a"}}
    plain = config_hash(resolve(base))
    for same in ["run.name=other", "loader.workers=0", "resume=auto", "train.epochs=10", "optim.lr=0.001"]:
        assert config_hash(resolve(base, [same])) == plain
    for other in ["train.seed=1", "task.data=y", "optim.lr=0.002", "freeze.policy=all", "backbone.name=b"]:
        assert config_hash(resolve(base, [other])) != plain


def test_other_data_is_put_in_its_place():
    run = resolve({"task": {"name": "toy", "data": "x", "names": ["q"]}, "backbone": {"name": "a"}})
    moved = with_task_data(run, "elsewhere")
    assert (moved.cfg.data, moved.cfg.names, moved.config.task["data"]) == ("elsewhere", ["q"], "elsewhere")
    assert run.cfg.data == "x"
    with pytest.raises(ConfigError, match=r"task\.data: 'y/' ends with a slash"):
        with_task_data(run, "y/")


def test_the_schema_knows_the_task():
    whole = json_schema("toy")
    section = whole["properties"]["task"]
    assert section["required"] == ["name", "data"]
    assert section["properties"]["name"]["const"] == "toy"
    assert section["additionalProperties"] is False
    for reference in [part.split('"')[0] for part in json.dumps(whole).split('"$ref": "#/$defs/')[1:]]:
        assert reference in whole["$defs"]
    assert json_schema()["properties"]["task"]["type"] == "object"
    with pytest.raises(ConfigError, match="did you mean 'toy'"):
        json_schema("toi")


def test_every_core_key_has_a_description_and_is_documented():
    spec = importlib.util.spec_from_file_location("document_config", ROOT / "tools" / "document_config.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    keys = {".".join(key) for key in all_keys(Config)}
    page = tool.page()
    for definition in Config.model_json_schema()["$defs"].values():
        assert all(field.get("description") for field in definition["properties"].values()), definition["title"]
    assert [key for key in keys if f"| `{key}` |" not in page] == []


# What a ready config asks for, because it can only be of one's own
ASKED = {
    "classification/folder_mobilenetv2_probe": ["task.data=photos"],
    "classification/imagenet_mobilenetv2_evaluate": ["task.data=imagenet"],
    "classification/imagenet_resnet50_until": ["task.data.folder=imagenet"],
    "detection/coco_resnet50_fasterrcnn": ["task.data.folder=coco"],
    "face/folder_mobilenetv2_arcface": ["task.data=faces"],
    "multi/photos_lite0_masks_and_tags": ["task.tasks.mask.data=photos", "task.tasks.tag.data=photos/tags.csv"],
    "ssl/photos_resnet18_simsiam": ["task.data=photos"],
    "style/coco_vgg19_adain": ["task.data.photos=coco", "task.data.styles=wikiart"],
    "style/photos_vgg16_feedforward": ["task.data.photos=photos", "task.data.styles=a.jpg"],
}
MEASURED = sorted((ROOT / "docs/results/configs").rglob("*.yaml"))  # what was run here, on data that not everybody has


def test_no_shipped_config_was_lost():
    counts: dict[str, int] = {}
    for name in ready.configs():
        folder = name.partition("/")[0]
        counts[folder] = counts.get(folder, 0) + 1
    expected = {
        "accelerate": 3,
        "classification": 6,
        "detection": 2,
        "face": 2,
        "multi": 2,
        "segmentation": 1,
        "ssl": 1,
        "style": 3,
    }
    assert counts == expected, "a config was added or lost: state the new number here"
    assert len(MEASURED) == 13
    assert set(ready.runs()) == {name for name in ready.configs() if not name.startswith("accelerate/")}


@pytest.mark.parametrize("name", ready.runs())
def test_every_ready_config_is_valid_or_says_which_keys_to_give(monkeypatch, tmp_path, name):
    monkeypatch.delenv("VISIONTL_PLUGINS")
    monkeypatch.chdir(tmp_path)  # where no file of that name is
    plugins.reset()
    header = ready.runs()[name].read_text(encoding="utf-8")
    assert header.startswith("#"), "its header says command, hardware, time and score"
    assert f"visiontl train {name}" in header or f"visiontl evaluate {name}" in header
    assert "../" not in header
    given = ASKED.get(name, [])
    if given:
        keys = {override.partition("=")[0] for override in given}
        found = problems_of(name)
        assert all("=VALUE" in line or "such as task.data=FOLDER" in line for line in found), found
        assert any(key.startswith(line.split(": ")[1]) for key in keys for line in found), found
    run = resolve(name, given)
    assert run.source == f"package:{name}.yaml"
    assert run.task.name == name.partition("/")[0]
    plugins.backbone_entry(run.config.backbone.name)


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_every_measured_config_is_valid(monkeypatch, path):
    monkeypatch.delenv("VISIONTL_PLUGINS")
    plugins.reset()
    run = resolve(path)
    assert run.task.name == path.parent.name
    header = path.read_text(encoding="utf-8")
    assert f"visiontl train {path.relative_to(ROOT)}" in header
    assert "Measured" in header or "0." in header
    plugins.backbone_entry(run.config.backbone.name)


def test_a_mistyped_ready_config_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (line,) = problems_of("classification/quikstart")
    assert line.endswith("no such file; did you mean 'classification/quickstart', which is a ready config?")
    (line,) = problems_of("quickstart")
    assert line.startswith("quickstart: no such file; ready configs of that name are classification/quickstart, det")
    (line,) = problems_of("accelerate/one_cpu")
    assert (
        "no such file; it is a file for `accelerate launch --config_file`: `visiontl configs cp accelerate/one_cpu`"
        in line
    )


@pytest.mark.parametrize("given", [5, ["train.epochs=5"], None])
def test_an_override_from_python_that_is_neither_text_nor_mapping_is_refused_in_words(tmp_path, given):
    (line,) = problems_of(write(tmp_path, GOOD), [given])
    assert line == f"override {given!r}: a.b=value was expected, such as train.epochs=5"


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_launch_files_are_accelerates(path):
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(path))
    assert loaded.num_processes == {"one_cpu": 1, "eight_gpus": 8, "two_nodes": 16}[path.stem]
    assert loaded.num_machines == (2 if path.stem == "two_nodes" else 1)
    assert loaded.use_cpu == (path.stem == "one_cpu")


def test_a_plugins_own_validator_may_fail_in_any_way(tmp_path):
    class Fragile(Section):
        data: str = "x"

        @field_validator("data")
        @classmethod
        def careless(cls, value: str) -> str:
            return {"x": "y"}[value]

    plugins.register(ToyPlugin(make_task("fragile", config=Fragile)), "fragile")
    assert "KeyError while checking" in problems_of(write(tmp_path, GOOD), ["task.name=fragile"])[0]


def test_a_policy_that_two_plugins_offer_is_refused_where_it_is_used(tmp_path):
    class Policies:
        @hookimpl
        def visiontl_freeze_policies(self):
            return {"all": nothing, "mine": lambda argument: nothing}

    plugins.register(Policies(), "policies")
    path = write(tmp_path, GOOD)
    assert resolve(path, ["freeze.policy=none"])
    assert resolve(path, ["freeze.policy=mine"])
    assert "offered by plugin 'visiontl.freezing.policies'" in problems_of(path, ["freeze.policy=all"])[0]
    with pytest.raises(PluginError, match="'policies'"):
        plugins.policy("all")


text = st.text(
    st.sampled_from("ab01.eE-+_:#,[]{}&*!|>%@'\"\\ \t\n\r~<\0\x85\u2028\ud800ä?=xn") | st.characters(),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(text)
@example("a: !!timestamp x")
@example("a: !!set {a, b}")
@example("%YAML 9.9\n---\na: 1")
@example("--- !<tag:yaml.org,2002:map>\na: 1")
@example("a: |1\n b")
@example("a: &b\n<<: [*b, *b]")
def test_no_text_raises_anything_but_config_errors(text):
    for read in (lambda: parse_text(text, "f"), lambda: parse_value(text)):
        with suppress(ConfigError):
            read()


legible = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | legible,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(legible, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_values_survive_being_written_and_read(value):
    written = dump_value(value)
    assert parse_text(f"key: {written}", "f").values["key"] == value
    assert parse_value(written) == value


@settings(max_examples=200, deadline=None)
@given(st.lists(text, max_size=3), st.dictionaries(st.sampled_from(["task", "backbone", "train", "x"]), values))
def test_no_override_or_mapping_raises_anything_but_config_errors(overrides, mapping):
    with suppress(ConfigError):
        resolve(mapping, [*overrides, *(f"train.{override}" for override in overrides)])


def test_an_override_is_blamed_for_what_it_breaks():
    for override, words in [
        ("foo.bar=1", "override 'foo.bar=1': foo: unknown key"),
        ("freeze.policy={first: 2, until: x}", "override .*: freeze: policy takes one name"),
    ]:
        with pytest.raises(ConfigError, match=words):
            resolve(ROOT / "configs/classification/quickstart.yaml", [override])


@pytest.mark.parametrize(("cache", "expected"), [("true", "auto"), ("false", "off")])
def test_the_config_of_a_run_of_an_older_version_is_read_under_todays_names(tmp_path, cache, expected):
    text = GOOD + f"train: {{epochs: 3, cache: {cache}, cache_views: 4}}\n"
    with pytest.raises(ConfigError, match=r"features\.cache"):
        resolve(write(tmp_path, text))
    (tmp_path / "run" / "model").mkdir(parents=True)
    config = resolve(write(tmp_path / "run", text, "config.yaml")).config
    assert (config.features.cache, config.features.views, config.train.epochs) == (expected, 4, 3)
