"""Text within the width of a terminal: broken between words, never within one, and whole where there is no terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.shared import ROOT
from visiontl.report.layout import table_lines, tell, width_of, wrapped

TEXTS = st.text("ab .`-\u6f22", max_size=200)


@given(TEXTS, st.integers(20, 120))
@example("`" * 13 + "\u6f22" * 4, 20)
def test_no_word_is_lost_or_cut_and_no_line_is_too_long(text, width):
    lines = wrapped(text, width).split("\n")
    assert " ".join(lines).split() == text.split()
    for line in lines:
        wide = len(line) + line.count("\u6f22")
        assert wide <= width or len(line.split()) == 1 or line == text.rstrip(), "a word longer than a line is alone"


def test_lines_that_follow_are_indented_as_far_as_the_text_begins():
    assert wrapped("plain words that go on", 20) == "plain words that go\n  on"
    assert wrapped("  - an item that is too long", 20) == "  - an item that is\n    too long"
    assert wrapped("  train  trains a model of a run", 24) == "  train  trains a model\n         of a run"
    pairs = "epoch 1  val  accuracy 0.5  loss 1.5  AP 0.1"
    assert wrapped(pairs, 32) == "epoch 1  val  accuracy 0.5\n         loss 1.5  AP 0.1"
    assert wrapped("to go on: `visiontl train a.yaml`", 30) == "to go on:\n  `visiontl train a.yaml`"
    assert wrapped("see runs/a/very/long/path/of/a/file.html now", 20).split() == [
        *("see", "runs/a/very/long/path/of/a/file.html", "now"),
    ]
    assert wrapped("a" * 500 + " b", None) == "a" * 500 + " b"
    assert wrapped("one\n\ntwo", 20) == "one\n\ntwo"


ROWS = [["classification/quickstart", "Quick start without data, weights and network", "12"], ["b", "Two words", "3"]]


def test_a_table_gives_way_between_words():
    def table(width, rows=ROWS):
        return table_lines("A title", ["name", "what it is", "n"], rows, [False, False, True], width)

    whole = table(None)
    assert whole == table(200)
    assert max(map(len, whole)) == 2 + 25 + 2 + 45 + 2 + 2
    for width in (76, 60, 44):
        lines = table(width)
        assert max(map(len, lines)) <= width
        assert lines[1].split() == ["name", "what", "it", "is", "n"]
        words = {word for line in lines for word in line.split()}
        assert {word for row in ROWS for cell in row for word in cell.split()} <= words
        assert lines[3].endswith("12"), "numbers stay to the right"
    lines = table(36)
    assert "  name        classification/quickstart" not in lines, "38 columns"
    assert "  n           12" in lines
    assert "" in lines
    many = table(36, ROWS * 30)
    assert "  classification/" in "\n".join(many)
    assert max(map(len, many)) <= 36


def test_what_is_no_terminal_has_no_width(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = io.StringIO()
    assert width_of(stream) is None
    assert width_of(None) is None
    tell("word " * 100 + "\x1b[2J", stream)
    assert stream.getvalue() == "word " * 100 + "\\x1b[2J\n"
    stream.isatty = lambda: True  # type: ignore[method-assign]
    assert width_of(stream) == 80
    monkeypatch.setenv("COLUMNS", "132")
    assert width_of(stream) == 132


SHOWN = """
import fcntl, os, struct, sys, termios
from visiontl import cli
from visiontl.report.console import Console
os.environ.pop("COLUMNS", None)
for width in (60, 80, 120):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    for words in ("--help", "train --help", "doctor --help", "configs", "list tasks", "list policies", "list commands",
                  "list plugins", "list backbones tf_efficientnet_*", "config classification/quickstart",
                  "train classification/quickstart --epochs 5 device=1 a=2", "train nowhere/at/all.yaml"):
        print(f"#### {width} {words}", flush=True)
        cli.main(words.split())
    print(f"#### {width} console", flush=True)
    console = Console()
    console.warn("a long warning about many things " * 6)
    console.say("epoch 1  " + "  ".join(f"score_{n} 0.1234" for n in range(30)))
    with console.progress(total=9) as bar:
        bar.update(3, 5, {f"part_{n}": 0.5 for n in range(9)})
"""


def test_all_that_is_printed_fits_a_terminal():
    """One process for all widths and commands: a terminal may change while it runs."""
    master, slave = pty.openpty()
    paths = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": paths}
    command = [sys.executable, "-c", SHOWN]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=ROOT)
    os.close(slave)
    output = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux's way to say that the other end was closed
            break
        output += part
        if not part:
            break
    os.close(master)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.decode()).replace("\r\n", "\n")
    pages = re.split(r"^#### (\d+) (.*)\n", text, flags=re.MULTILINE)[1:]
    found = list(zip(pages[::3], pages[1::3], pages[2::3], strict=True))
    assert len(found) == 3 * 13
    for width, words, page in found:
        assert len(page.splitlines()) > 1, words
        for line in page.replace("\r", "\n").split("\n"):
            assert len(line) <= int(width) or len(line.split()) == 1, (width, words, line)
    printed = {(width, words): " ".join(page.split()) for width, words, page in found}
    for width in ("60", "80", "120"):  # the same words, in other lines
        assert "a long warning about many things a long" in printed[width, "console"]
        assert "print the whole config, all warnings and the trace of an error" in printed[width, "train --help"]
        assert "visiontl train classification/quickstart train.epochs=5" in printed[width, found[10][1]]


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["list", "commands"]])
def test_a_file_gets_whole_lines(words, capsys, monkeypatch):
    from visiontl import cli

    monkeypatch.setenv("COLUMNS", "30")
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) > 60
    assert not any(line.startswith(" " * 12) and line[12:13].isalpha() for line in lines if words[0] == "--help")
