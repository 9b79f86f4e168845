"""The tests under settings that stand in for other processors: a sample, and the record."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.shared import ROOT
from tools.campaigns import processors

# where rounding, or a choice of kernels, would be seen first
DELICATE = (
    "tests/core/test_double.py",
    "tests/face/test_losses.py",
    "tests/segmentation/test_losses.py",
    "tests/style/test_formulas.py",
    "tests/style/test_networks.py",
)


def test_the_delicate_tests_pass_on_a_processor_without_avx512_and_bf16(tmp_path):
    page = tmp_path / "page.md"
    command = [sys.executable, "tools/campaigns/processors.py", tmp_path, "--setting", "AVX2+avx2", "--workers", "0"]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*command, "--page", page, "--tests", *DELICATE],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| AVX2+avx2")]
    _, torch, _, _, files, passed, failed, skipped, _ = [cell.strip() for cell in row.strip("|").split("|")]
    assert torch in ("AVX2", "DEFAULT"), "DEFAULT on a processor that has no AVX2"
    assert files.startswith(f"{len(DELICATE)} of ")
    assert int(passed) > 50
    assert (failed, skipped) == ("0", "0")


def test_what_ended_is_not_run_again_and_what_changed_is(tmp_path, monkeypatch):
    started = []

    def run(files, setting, name, workers):
        started.append((setting, *files))
        return [processors.Result(name, setting, file, passed=1) for file in files]

    monkeypatch.setattr(processors, "run", run)
    monkeypatch.setattr(processors, "commit", lambda: "one")
    monkeypatch.setattr(processors, "GROUP", 2)
    processors.campaign(tmp_path, ["AVX2+avx2"], ["a", "b", "c"], 0)
    with (tmp_path / "processors.jsonl").open("a") as file:
        file.write('{"commit": "one", "setting": "AVX2+avx2", "fi')
    results = processors.campaign(tmp_path, ["AVX2+avx2"], ["a", "c", "d"], 0)
    assert [one.file for one in results] == ["a", "c", "d"]
    assert started == [("AVX2+avx2", "a", "b"), ("AVX2+avx2", "c"), ("AVX2+avx2", "d")]
    monkeypatch.setattr(processors, "commit", lambda: "two")
    processors.campaign(tmp_path, ["AVX2+avx2"], ["a"], 0)
    assert started[-1] == ("AVX2+avx2", "a")


def test_what_is_not_run_stands_as_it_was_run_last():
    old, new = (processors.Result(name, "AVX2+avx2", "a") for name in ("one", "two"))
    beside = processors.Result("one", "AVX2+avx2", "b")
    other = processors.Result("one", "AVX512_CORE+avx512", "a")
    assert processors.earlier([old, other, beside, new], []) == [new, other, beside]
    assert processors.earlier([old, other, beside], [new]) == [other, beside]


def test_results_are_counted_by_file(tmp_path):
    xml = tmp_path / "results.xml"
    case = '<testcase classname="{}" name="{}" time="0.5">{}</testcase>'
    cases = [
        case.format("tests.core.test_a", "one", ""),
        case.format("tests.core.test_a.Group", "two", "<failure/>"),
        case.format("tests.core.test_a", "three", "<skipped/>"),
        case.format("tests.core.test_ab", "four", ""),
        case.format("", "tests.core.test_c", "<error/>"),
    ]
    xml.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    files = [f"tests/core/test_{name}.py" for name in ("a", "ab", "c")]
    found = list(processors.counted(xml, files, "AVX2+avx2", "x"))
    assert [(one.passed, one.failed, one.skipped, one.seconds) for one in found] == [
        (1, 1, 1, 1.5),
        (1, 0, 0, 0.5),
        (0, 1, 0, 0.5),
    ]
    assert [one.failures for one in found] == [["two"], [], ["tests.core.test_c"]]


def test_the_page_names_failures_and_what_this_processor_lacks(monkeypatch):
    monkeypatch.setattr(processors, "cpu_flags", lambda: ["avx2", "avx512bw"])
    monkeypatch.setattr(processors, "used", lambda setting: ("A", "B"))
    result = processors.Result("x", "AVX512_CORE_AMX+default", "tests/t.py", 3, 1, 2, 4.4, ["test_a"])
    text = processors.page([result], 7, "2026-01-01")
    assert "| AVX512_CORE_AMX+default | A | B | x | 1 of 7 | 3 | 1 | 2 | 4 |" in text
    assert "this CPU has no amx_tile: AVX512_CORE_AMX is no limit here" in text
    assert "FAILED tests/t.py::test_a" in text
    assert processors.lacking("AVX2+avx2", ["avx2"]) == processors.lacking("AVX2+avx2", []) == ""
