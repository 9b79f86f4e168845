"""Configs that people write, generators generate and disks damage."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOOD = """\
task:
  name: classification
  data: photos
backbone: {name: visiontl/tiny, weights: none}
"""
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)  # 10^12 values
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], y{i}: *a{i - 1}}}\n" for i in range(1, 40)
)


class Marks:
    """Pickled, it makes a file when it is read."""

    def __init__(self, marker: str):
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (self.marker,)


@dataclass(frozen=True)
class Text:
    """name: of the case. content: of run.yaml, or a function that makes that path. overrides: on the command line.
    words: what the error says of it; None: it is a config."""

    name: str
    content: str | bytes | Callable[[Path], Any]
    words: tuple[str, ...] | None
    overrides: tuple[str, ...] = ()


def more(text: str) -> str:
    return GOOD + text


def override(text: str, *words: str) -> Text:
    return Text(f"override {text[:40]!r}", GOOD, words or None, (text,))


MANY = "".join(f"key_{i}: {i}\n" for i in range(60))
WRONG = """\
task: {name: classification, data: photos, augmnt: none, labels: many, mixup: -1}
backbone: {name: visiontl/tiny, wieghts: none}
optim: {lr: fast, betas: 3}
train: {epochs: -1, batch_size: 2.5}
frezze: {policy: all}
"""

CONFIGS = [
    Text("1e-3 is a number", more("optim: {lr: 1e-3}\n"), None),
    Text("1E5 is a number", more("optim: {lr: 1E-5, weight_decay: 1e-2}\n"), None),
    Text("a byte order mark", b"\xef\xbb\xbf" + GOOD.encode(), None),
    Text("lines that end as on Windows", GOOD.replace("\n", "\r\n").encode(), None),
    Text("an alias", GOOD.replace("name: classification", "name: &x classification") + "run: {name: *x}\n", None),
    Text("numbers in quotes", more("run: {name: '2026'}\n"), None),
    Text("no line end", GOOD.rstrip().encode(), None),
    Text("empty", b"", ("run.yaml: is empty",)),
    Text("only blanks", b"\n \n\n", ("run.yaml", "empty")),
    Text("only a comment", b"# nothing\n", ("run.yaml", "empty")),
    Text("a list", b"- a\n- b\n", ("run.yaml:1: holds a list",)),
    Text("a word", b"hello", ("run.yaml:1: holds the value hello",)),
    Text("a number", b"42", ("holds the value 42",)),
    Text("null", b"null", ("run.yaml",)),
    Text("JSON cut short", b'{"task": {"name": "classifi', ("run.yaml", "not valid YAML")),
    Text("an HTML page", b"<!DOCTYPE html>\n<html><body>404</body></html>", ("run.yaml:1",)),
    Text("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ("run.yaml:1: is not UTF-8 text",)),
    Text("a pickle", lambda path: path.write_bytes(pickle.dumps(Marks(str(path.with_name("ran"))))), ("run.yaml:1",)),
    Text(
        "a pickle as text",
        lambda path: path.write_bytes(pickle.dumps(Marks(str(path.with_name("ran"))), 0)),
        ("run.yaml",),
    ),
    Text("UTF-16", GOOD.encode("utf-16"), ("run.yaml:1: is not UTF-8 text",)),
    Text("Latin-1", GOOD.replace("photos", "fotos_für").encode("latin-1"), ("run.yaml:3: is not UTF-8",)),
    Text("NUL bytes", b"task: \0\0\0", ("run.yaml:1: the character", "not allowed")),
    Text("an escape code", b"task: \x1b[31m", ("run.yaml:1", "not allowed")),
    Text("a lone surrogate", b'task: "\\uD800"', ("not allowed",)),
    Text("tabs", b"task:\n\tname: x\n", ("run.yaml:2: a tab indents this line",)),
    Text("a million characters", b"a: " + b"x" * 1_000_001, ("run.yaml: 1,000,00",)),
    Text("a key of 100,000 characters", ("k" * 100_000 + ": 1\n").encode(), ("run.yaml",)),
    Text("a value of 100,000 characters", more("run: {name: " + "v" * 100_000 + ", x: 1}\n"), ("run.x",)),
    Text("a merge conflict", more("<<<<<<< HEAD\ntrain: {epochs: 1}\n=======\n"), ("run.yaml:6: not valid YAML",)),
    Text("two documents", more("---\na: 1\n"), ("run.yaml:5: a second document",)),
    Text("a bracket left open", more("run: {name: [\n"), ("run.yaml", "not valid YAML")),
    Text("a quote left open", more("run: {name: 'x\n"), ("run.yaml", "not valid YAML")),
    Text("indented wrongly", b"task:\n  name: x\n data: y\n", ("run.yaml:3: not valid YAML",)),
    Text("a colon in a value", b"task: name: x\n", ("run.yaml:1: not valid YAML",)),
    Text("an unknown alias", more("run: {name: *nobody}\n"), ("run.yaml:5", "undefined alias 'nobody'")),
    Text("an alias bomb", BOMB, ("run.yaml", "more than 100,000 values")),
    Text("a bomb of merges", MERGE_BOMB, ("run.yaml", "more than 100,000 values")),
    Text("an alias within itself", b"a: &a {b: *a}\n", ("run.yaml:1", "within itself")),
    Text("nested 1,500 deep", "a: " + "[" * 1500 + "]" * 1500, ("run.yaml", "nested more than 50")),
    Text("indented 1,000 deep", "".join(" " * i + "a:\n" for i in range(1000)), ("run.yaml", "nested more than 50")),
    Text("a Python object", b"a: !!python/object/apply:os.mkdir [ran]\n", ("run.yaml:1: a: the tag !!python/object",)),
    Text("a Python object as key", b"!!python/object/apply:os.mkdir [ran]: a\n", ("run.yaml:1",)),
    Text("a Python name", more("train: {epochs: !!python/name:os.system }\n"), ("run.yaml:5", "!!python/name")),
    Text("a Python module", more("train: !!python/module:os\n"), ("run.yaml:5", "not allowed")),
    Text("a Python tuple", more("optim: {betas: !!python/tuple [0.9, 0.99]}\n"), ("optim.betas", "not allowed")),
    Text("a tag of one's own", more("train: !mine {epochs: 1}\n"), ("run.yaml:5: train: the tag !mine",)),
    Text("binary data", more("run: {name: !!binary aGVsbG8=}\n"), ("run.name", "!!binary is not allowed")),
    Text("a set", more("train: !!set {a, b}\n"), ("run.yaml:5", "not allowed")),
    Text(
        "a key twice",
        more("train: {epochs: 1}\ntrain: {epochs: 2}\n"),
        ("run.yaml:6: train: stands twice; the first is in line 5",),
    ),
    Text("an inner key twice", more("train: {epochs: 1, epochs: 2}\n"), ("train.epochs: stands twice",)),
    Text("a number as key", more("5: x\n"), ("run.yaml:5: 5: got 5; expected a key that is text",)),
    Text("a boolean as key", more("true: x\n"), ("the key 'true' must be text",)),
    Text("a list as key", more("? [a, b]\n: c\n"), ("cannot be a key",)),
    Text("a key of nothing", more("train: {'': 1}\n"), ("run.yaml:5", "unknown key")),
    Text("a key with a newline", more('train: {"epo\\nchs": 1}\n'), ("run.yaml:5", "unknown key")),
    Text(
        "a misspelt section", more("trian: {epochs: 1}\n"), ("run.yaml:5: trian: unknown key; did you mean 'train'?",)
    ),
    Text("a misspelt key", more("train: {epoch: 1}\n"), ("train.epoch: unknown key; did you mean 'epochs'?",)),
    Text("a key of another section", more("train: {lr: 1}\n"), ("did you mean 'optim.lr'?",)),
    Text(
        "a misspelt key of the task", GOOD.replace("data:", "dta:"), ("task.dta: unknown key", "task.data: is missing")
    ),
    Text("no task", b"backbone: {name: visiontl/tiny}\n", ("task: is missing",)),
    Text("no backbone", b"task: {name: classification, data: x}\n", ("backbone: is missing",)),
    Text("a task that is text", b"task: classification\nbackbone: {name: x}\n", ("task: got classification",)),
    Text("a task that is a list", b"task: [classification]\nbackbone: {name: x}\n", ("task: got [classification]",)),
    Text("an unknown task", GOOD.replace("classification", "clasification"), ("did you mean 'classification'?",)),
    Text("a backbone that is a number", GOOD.replace("visiontl/tiny", "50"), ("backbone.name: got 50; expected text",)),
    Text("an unknown backbone", GOOD.replace("visiontl/tiny", "resnet5O"), ("resnet5O", "did you mean")),
    Text("a section of null", more("train: null\n"), ("train: got null; expected a mapping",)),
    Text("a section that is text", more("train: fast\n"), ("train: got fast; expected a mapping",)),
    Text("a section that is a list", more("train: [1, 2]\n"), ("train: got [1, 2]; expected a mapping",)),
    Text("text for a number", more("train: {epochs: many}\n"), ("train.epochs: got many; expected a whole number",)),
    Text("a fraction for a count", more("train: {batch_size: 2.5}\n"), ("train.batch_size: got 2.5",)),
    Text("true for a count", more("train: {epochs: true}\n"), ("train.epochs: got true or false",)),
    Text("a number for a switch", more("train: {compile: 7}\n"), ("train.compile: got 7; expected true or false",)),
    Text("yes for a switch", more("train: {compile: yse}\n"), ("train.compile: got yse",)),
    Text("minus one", more("train: {epochs: -1}\n"), ("train.epochs: got -1; expected a number of at least 0",)),
    Text("a rate of zero", more("optim: {lr: 0}\n"), ("optim.lr: got 0; expected a number above 0",)),
    Text("not a number", more("optim: {lr: .nan}\n"), ("run.yaml:5: optim.lr: .nan is not a finite number",)),
    Text("infinity", more("optim: {lr: .inf}\n"), ("optim.lr", "not a finite number")),
    Text("beyond all numbers", more("optim: {lr: 1e999}\n"), ("optim.lr", "not a finite number")),
    Text("a number of 5,000 digits", more("train: {epochs: " + "9" * 5000 + "}\n"), ("train.epochs", "5000 digits")),
    Text("a huge number of epochs", more("train: {epochs: 99999999999999999999999}\n"), ("train.epochs",)),
    Text("a huge seed", more("train: {seed: 4294967296}\n"), ("train.seed: got 4294967296; expected a number below",)),
    Text("a date", more("train: {epochs: 2026-11-24}\n"), ("train.epochs: got ",)),
    Text("an unknown choice", more("optim: {name: adamm}\n"), ("did you mean 'adamw'?",)),
    Text("an unknown policy", more("freeze: {policy: frist}\n"), ("freeze.policy",)),
    Text("two policies", more("freeze: {policy: {first: 1, until: stem}}\n"), ("policy takes one name",)),
    Text("a policy of a list", more("freeze: {policy: [first]}\n"), ("freeze.policy: got [first]",)),
    Text("a policy of nothing", more("freeze: {policy: {}}\n"), ("policy takes one name",)),
    Text("a schedule that is no mapping", more("freeze: {policy: {schedule: 3}}\n"), ("freeze.policy",)),
    Text("a schedule of rubbish", more("freeze: {policy: {schedule: {x: y}}}\n"), ("freeze.policy",)),
    Text(
        "an image size of three", more("").replace("weights: none", "image_size: [1, 2, 3]"), ("backbone.image_size",)
    ),
    Text("a negative image size", more("").replace("weights: none", "image_size: -32"), ("backbone.image_size",)),
    Text(
        "a deviation of zero",
        more("").replace("weights: none", "preprocessing: {std: [0, 1, 1]}"),
        ("std must be positive",),
    ),
    Text("an interval in miles", more("train: {evaluate_every: 3 miles}\n"), ("'3 miles' is no interval",)),
    Text("an interval of zero", more("train: {evaluate_every: 0}\n"), ("train.evaluate_every",)),
    Text(
        "a name with a path in it", more("run: {name: ../../outside}\n"), ("'../../outside' is no plain folder name",)
    ),
    Text(
        "several mistakes",
        WRONG,
        ("9 errors", "augmnt", "labels", "mixup", "wieghts", "lr", "betas", "epochs", "batch_size", "frezze"),
    ),
    Text("sixty mistakes", more(MANY), ("60 errors", "key_0", "key_59")),
    Text("a folder", lambda path: path.mkdir(), ("run.yaml: is a folder",)),
    Text(
        "absent",
        lambda path: path.with_name("run.yml").write_text(GOOD),
        ("run.yaml: no such file; did you mean", "run.yml"),
    ),
    Text("a link to nothing", lambda path: path.symlink_to("gone.yaml"), ("run.yaml: no such file",)),
    Text("a link to itself", lambda path: path.symlink_to(path.name), ("run.yaml: cannot be read",)),
    Text("a pipe", lambda path: os.mkfifo(path), ("run.yaml: is no regular file",)),
    Text("a device", lambda path: path.symlink_to("/dev/zero"), ("run.yaml: is no regular file",)),
    override("train.epochs=1e1"),
    override("optim.lr=1e-3"),
    override("epochs=5", "override 'epochs=5': epochs: unknown key; did you mean 'train.epochs'?"),
    override("train.epochs", "train.epochs"),
    override("train.epochs=", "no value"),
    override("train..epochs=5", "a.b=value was expected"),
    override("train.epochs=5=6", "train.epochs"),
    override("train.epochs.x=5", "train.epochs"),
    override("train.epochs=[1", "override 'train.epochs=[1': not valid YAML"),
    override("train.epochs=*x", "train.epochs: got "),
    override("run.name=!!python/object/apply:os.mkdir [ran]"),
    override("run.name=[!!python/object/apply:os.mkdir [ran]]", "the tag !!python/object"),
    override("train.epochs={a: 1, a: 2}", "stands twice"),
    override("task=detect", "task"),
    override("train.epochs=" + "9" * 5000, "train.epochs"),
    override("freeze.policy={first: many}", "freeze.policy"),
    override("run.name=\x1b[31m/x", "is no plain folder name"),
]
