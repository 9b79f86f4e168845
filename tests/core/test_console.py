"""What a run says, to a log file and to a terminal."""

from __future__ import annotations

import errno
import io
import math
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest

from visiontl.report import bar as bar_module
from visiontl.report import console as console_module
from visiontl.report.bar import Bar
from visiontl.report.console import Console
from visiontl.report.formats import cell, duration, human, number, scientific
from visiontl.report.terminal import LiveBars

LINE = re.compile(r"epoch 2/10  step 120/600  loss 0\.4312  lr 1\.0e-3  grad 0\.82  \d+(\.\d+)? img/s  ETA \d+:\d\d")


class Clock:
    """Time that passes only when told, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bar_module, "time", clock)
    monkeypatch.setattr(console_module, "time", clock)
    return clock


def plain(main: bool = True) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(main=main, stream=stream), stream


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1234, "1.23 k"), (3504872, "3.5 M"), (999_960, "1 M"), (86_567_656, "86.6 M")],
)
def test_human_counts(count: int, text: str) -> None:
    assert human(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (192, "3:12"), (3723, "1:02:03"), (math.nan, "-")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_keep_sensible_digits() -> None:
    assert [number(x) for x in (0.4312, 12.345678, 123456.7, 0.0, 1.0, 7, 2440)] == [
        "0.4312",
        "12.35",
        "123,457",
        "0",
        "1.000",
        "7",
        "2,440",
    ]
    assert number(0.00004) == "4.00e-5"
    assert scientific(0.001) == "1.0e-3"


def test_cells_never_show_a_bare_nan() -> None:
    assert [cell(x) for x in (None, math.nan, math.inf, -math.inf, True, 0.5, "text")] == [
        "-",
        "-",
        "infinite",
        "-infinite",
        "yes",
        "0.5000",
        "text",
    ]
    assert cell(0.000125, "lr") == "1.25e-4"
    assert cell({"per process": 32, "all": [64, None]}) == "per process: 32, all: 64, -"


def test_notes_hold_warnings_and_what_is_kept() -> None:
    console, stream = plain()
    console.say("only said")
    console.say("kept", keep=True)
    console.warn("3 files skipped")
    console.warn("3 files skipped")
    assert console.notes == ["kept", "warning: 3 files skipped"]
    assert stream.getvalue().splitlines() == [
        "only said",
        "kept",
        "warning: 3 files skipped",
    ]


def test_names_cannot_steer_the_terminal() -> None:
    console, stream = plain()
    console.say("photo\x1b[2J\u202egnp.jpg")
    console.table("t", ["file\n"], [["a\x1b[31m\r"]])
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\r" not in text
    assert "photo\\x1b[2J" in text


def test_a_narrow_encoding_gets_escapes_instead_of_an_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(stream=stream).say("Löwe \udcff")
    stream.flush()
    assert raw.getvalue() == b"L\\xf6we \\udcff\n"


def test_tables_are_aligned_with_numbers_to_the_right() -> None:
    console, stream = plain()
    rows = [["stem", "frozen", 864, None], ["日本", "train", 3504872, 1e-3]]
    console.table("Trainability", ["stage", "mode", "parameters", "lr"], rows)
    title, head, rule, *body = stream.getvalue().splitlines()
    assert title == "Trainability"
    assert head.split() == ["stage", "mode", "parameters", "lr"]
    assert set(rule) == {" ", "-"}
    assert body[0] == "  stem   frozen         864       -"
    assert body[1] == "  日本   train    3,504,872  1.0e-3"


def test_progress_prints_the_agreed_line(clock: Clock) -> None:
    console, stream = plain()
    values = {"loss": 0.43121, "lr": 1e-3, "grad_norm": 0.8234}
    with console.progress(total=600, start=110, every=10, epochs=10) as bar:
        for step in range(111, 121):
            clock.now += 0.4
            bar.update(step, images=32, values=values if step == 120 else None)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert LINE.fullmatch(lines[0])
    assert "80 img/s" in lines[0]  # 32 images in 0.4 s
    assert lines[0].endswith("ETA 3:12")  # 480 updates of 0.4 s
    assert "\x1b" not in lines[0]


def test_every_and_the_last_update_print(clock: Clock) -> None:
    console, stream = plain()
    with console.progress(total=25, every=10) as bar:
        for step in range(1, 26):
            clock.now += 1
            bar.update(step, images=4)
    steps = [int(re.search(r"step (\d+)/25", line)[1]) for line in stream.getvalue().splitlines()]  # type: ignore[index]
    assert steps == [10, 20, 25]


def test_a_loop_that_stops_early_leaves_its_last_line(clock: Clock) -> None:
    console, stream = plain()

    def loop() -> None:
        with console.progress(total=100, every=10) as bar:
            for step in range(1, 14):
                clock.now += 1
                bar.update(step)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()] == ["step 10/100", "step 13/100"]


def test_images_per_second_leaves_out_the_first_step_and_evaluation(clock: Clock) -> None:
    console, _ = plain()
    with console.progress(total=100, every=1000) as bar:
        clock.now += 60  # the first update compiles, fills caches ...
        bar.update(1, images=10)
        assert bar.images_per_second is None
        for step in range(2, 12):
            clock.now += 0.5
            bar.update(step, images=10)
        with console.progress(total=2, what="val") as inner:
            clock.now += 30
            inner.update(2, images=100)
        clock.now += 0.5
        bar.update(12, images=10)
        assert bar.images_per_second == pytest.approx(20.0)


def test_images_per_second_follows_a_change_of_pace(clock: Clock) -> None:
    console, _ = plain()
    with console.progress(total=10_000, every=100_000) as bar:
        for step in range(1, 1001):
            clock.now += 0.1 if step <= 500 else 0.4
            bar.update(step, images=8)
        assert bar.images_per_second == pytest.approx(20.0)


@pytest.mark.parametrize(("seconds", "lines"), [(1.0, 0), (6.0, 1)])
def test_a_short_bar_speaks_only_when_it_was_slow(clock: Clock, seconds: float, lines: int) -> None:
    console, stream = plain()
    with console.progress(total=3, what="val") as bar:
        for batch in range(1, 4):
            clock.now += seconds
            bar.update(batch, images=6)
    assert stream.getvalue().count("\n") == lines
    assert stream.getvalue().startswith("val 3/3" if lines else "")


def test_a_loss_that_is_not_finite_is_said_in_words(clock: Clock) -> None:
    console, stream = plain()
    with console.progress(total=1, every=1) as bar:
        bar.update(1, images=1, values={"loss": math.nan, "lr": math.inf, "grad_norm": math.nan})
    assert stream.getvalue() == "step 1/1  loss nan  lr inf  grad nan\n"


def test_an_unknown_total_is_left_out(clock: Clock) -> None:
    console, stream = plain()
    with console.progress(total=None, every=2, unit="image") as bar:
        for step in (1, 2):
            clock.now += 1
            bar.update(step, images=1)
    assert stream.getvalue() == "image 2  1 img/s\n"


def test_other_processes_print_nothing_and_still_count(clock: Clock) -> None:
    console, stream = plain(main=False)
    console.say("x", keep=True)
    console.warn("y")
    console.table("t", ["a"], [[1]])
    with console.progress(total=2, every=1) as bar:
        for step in (1, 2):
            clock.now += 1
            bar.update(step, images=3)
        with console.progress(total=1, what="val") as inner:
            clock.now += 60
            inner.update(1)
    assert stream.getvalue() == ""
    assert bar.images_per_second == pytest.approx(3.0)


ON_A_TERMINAL = """
import time
from visiontl.report.console import Console
console = Console()
console.say("[bold]as it is[/bold]")
console.warn("careful")
console.table("[red]Phases", ["stage", "lr"], [["[blue]stem", 0.001]])
try:
    with console.progress(total=4, epochs=2) as bar:
        for step in (1, 2, 3):
            time.sleep(0.15)
            bar.update(step, images=2, values={"loss": 0.5})
            with console.progress(total=2, what="val") as inner:
                inner.update(1)
                time.sleep(0.15)
            console.say(f"said {step}")
        raise KeyboardInterrupt
except KeyboardInterrupt:
    console.say("stopped")
"""


def test_on_a_terminal_a_live_line_is_drawn_and_taken_away() -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": ""}
    process = subprocess.Popen([sys.executable, "-c", ON_A_TERMINAL], stdout=slave, env=environment)
    os.close(slave)
    output = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux's way to say that the other end was closed
            break
        if not part:
            break
        output += part
    os.close(master)
    assert process.wait() == 0
    text = output.decode()
    assert "[bold]as it is[/bold]" in text  # no markup is read from what is said
    assert "[blue]stem" in text
    assert "[red]Phases" in text
    assert "\x1b[" in text
    for said in ("said 1", "said 3", "epoch 2/2  step 3/4", "val 1/2", "stopped"):
        assert said in text
    hidden, shown = text.rfind("\x1b[?25l"), text.rfind("\x1b[?25h")
    assert shown > hidden  # the cursor is back
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()[-1] == "stopped"


def refusing(code: int, times: int) -> Any:
    """A stream whose first `times` writes fail."""

    class Stream(io.StringIO):
        left = times

        def write(self, text: str) -> int:
            if self.left:
                self.left -= 1
                raise OSError(code, os.strerror(code))
            return super().write(text)

    return Stream()


def test_what_cannot_be_printed_is_lost_and_noted_once() -> None:
    stream = refusing(errno.ENOSPC, 3)
    console = Console(stream=stream)
    console.say("kept", keep=True)
    console.table("t", ["a"], [[1]])
    with console.progress(total=2) as bar:
        bar.update(1)
        bar.update(2)  # there is room again
    console.warn("careful")
    assert stream.getvalue().splitlines() == ["step 2/2", "warning: careful"]
    lost, *others = [note for note in console.notes if "could not be printed" in note]
    assert "No space left" in lost
    assert lost.startswith("warning: ")
    assert not others
    assert {"kept", "warning: careful"} <= set(console.notes)


def test_a_closed_stream_and_none_at_all_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = plain()
    console.say("one")
    stream.close()
    console.say("two")
    console.say("three")
    assert len(console.notes) == 1
    monkeypatch.setattr(sys, "stdout", None)
    silent = Console()
    silent.say("nowhere")
    assert silent.notes == []


TALKING = """
import sys
from visiontl.report.console import Console
console = Console()
for number in range(20_000):
    console.say(f"line {number}")
sys.stdout.flush()
print(len(console.notes), "noted", file=sys.stderr)
"""


@pytest.mark.parametrize("where", ["a closed pipe", "a full disk"])
def test_a_process_ends_well_where_nobody_listens(where: str) -> None:
    """Python itself flushes what is left when it ends, and would end with 120."""
    if where == "a full disk":
        if not os.path.exists("/dev/full"):
            pytest.skip("this system has no /dev/full")
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, target = os.pipe()
        os.close(reader)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", TALKING]
    done = subprocess.run(command, stdout=target, stderr=subprocess.PIPE, text=True, env=buffered)
    os.close(target)
    assert (done.returncode, done.stderr) == (0, "1 noted\n")


@pytest.mark.parametrize(("width", "shown"), [(120, True), (60, False)])
def test_a_narrow_terminal_keeps_count_and_pace(clock: Clock, width: int, shown: bool) -> None:
    from rich.console import Console as RichConsole

    console = RichConsole(file=io.StringIO(), width=width, force_terminal=False)
    bar = Bar(600, 119, epochs=10)
    for step in (119, 120):
        clock.now += 0.4
        bar.update(step, images=32, values={"loss": 0.4312, "a part\x1b": 0.25, "another part": 0.125})
    live = LiveBars(console)
    try:
        with live.drawn(bar), console.capture() as drawn:
            console.print(live.get_renderable())
    finally:
        live.stop()
    line = drawn.get()
    assert "epoch 2/10  step 120/600 " in line
    assert "80 img/s  ETA 3:12 loss 0.4312" in line
    assert ("another part 0.1250" in line) is shown
    assert ("…" in line) is not shown, "what is left out is seen to be"
    assert len(line.rstrip()) <= width
    assert "\x1b" not in line


def test_console_imports_neither_torch_nor_rich() -> None:
    code = (
        "import sys; from visiontl.report.console import Console; Console().say('x');"
        "assert not {'torch', 'rich', 'matplotlib'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_run_says_what_it_computes_on_and_how_another_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from visiontl.engine.hardware import on_device

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert on_device(torch.device("cpu")) == "device: CPU, 3 threads (torch sees no GPU)"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert "asked for by ACCELERATE_USE_CPU" in on_device(torch.device("cpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    said = on_device(torch.device("cuda", 1))
    assert said.startswith("device: GPU 1 of 2, NVIDIA H200 (ACCELERATE_USE_CPU=1")
    assert "CUDA_VISIBLE_DEVICES=1" in said
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert "CUDA_VISIBLE_DEVICES" not in on_device(torch.device("cuda", 0))
