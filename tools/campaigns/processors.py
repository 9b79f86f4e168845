"""The tests under settings that stand in for other processors: limits on the instructions that torch's kernels use.

    python tools/campaigns/processors.py FOLDER [--setting NAME ...] [--tests PATH ...] [--page FILE]

oneDNN obeys ONEDNN_MAX_CPU_ISA and torch's own kernels obey ATEN_CPU_CAPABILITY; each value of both is met once in
three runs of the suite. Under AVX2 the tests also see a CPU without bf16 (in their own processes, not in those that
they start). Each setting has its own cache of compiled kernels: torch.compile takes those of another setting from a
shared one, and they crash or compute something else. Results go to FOLDER/processors.jsonl, a line per test file:
what ended under the same commit and setting is not run again. A group of files is one start of pytest, and a group
that was cut off is run again. Prints a table, writes it to the page (docs/results/processors.md), and exits with 1
when a test failed. Settings and files that are left out stand in the table as they were last run, with their commit.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

from visiontl.runs.environment import LIBRARIES, cpu_name

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/results/processors.md"
GROUP = 12  # test files of one start of pytest
ONEDNN, TORCH = "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"
# name -> what it sets
SETTINGS = {
    "AVX2+avx2": {ONEDNN: "AVX2", TORCH: "avx2"},
    "AVX512_CORE+avx512": {ONEDNN: "AVX512_CORE", TORCH: "avx512"},
    "AVX512_CORE_AMX+default": {ONEDNN: "AVX512_CORE_AMX", TORCH: "default"},
}
FLAGS = {"AVX2": "avx2", "AVX512_CORE": "avx512bw", "AVX512_CORE_AMX": "amx_tile"}  # in Linux's /proc/cpuinfo
ASK = """
import torch
print("torch:", torch.backends.cpu.get_cpu_capability())
torch.nn.functional.conv2d(torch.ones(4, 64, 32, 32), torch.ones(64, 64, 3, 3))
"""


@dataclass(frozen=True)
class Result:
    """Of a test file under a setting. seconds: of its tests, one after another; failures: names of tests."""

    commit: str
    setting: str
    file: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


def pytest_configure(config: object) -> None:
    """As a plugin of pytest: where oneDNN ends at AVX2, the CPU has no instructions for bf16 either."""
    if os.environ.get(ONEDNN) == "AVX2":
        import torch

        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            setattr(torch.cpu, probe, lambda: False)


def commit() -> str:
    """The checked out commit, and a hash of what was changed since, if anything."""
    name, changes = (_git(*words) for words in (("rev-parse", "--short=10", "HEAD"), ("diff", "HEAD")))
    return name.strip() + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def files_below(paths: Sequence[str]) -> list[str]:
    """Files of tests at or below the paths, relative to the repository."""
    found: set[Path] = set()
    for given in paths:
        path = ROOT / given
        if not path.exists():
            raise SystemExit(f"{given} does not exist; --tests takes files or folders of {ROOT}")
        found |= {path} if path.is_file() else set(path.rglob("test_*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found)


def read(file: Path) -> list[Result]:
    """A last line that was cut off is left out: its group is run again."""
    lines = file.read_text().splitlines() if file.exists() else []
    results = []
    for line in lines:
        try:
            results.append(Result(**json.loads(line)))
        except json.JSONDecodeError:
            continue
    return results


def run(files: Sequence[str], setting: str, name: str, workers: int) -> list[Result]:
    """One start of pytest on these files; raises SystemExit where it gave no results."""
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-p", "tools.campaigns.processors", "-n", str(workers)]
        done = subprocess.run(
            [*command, "--junitxml", str(xml), "--tb=short", "--show-capture=no", *files],
            cwd=ROOT, env=environment(setting), capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode not in (0, 1) or not xml.exists():
            raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}")
        if done.returncode:
            print(done.stdout[-6000:], flush=True)
        return list(counted(xml, files, setting, name))


def environment(setting: str) -> dict[str, str]:
    """That of this process under the setting; nothing of a pytest that this process itself may belong to."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    cache = Path(tempfile.gettempdir()) / f"kernels-{setting}"
    return {"OMP_NUM_THREADS": "1", **own, "TORCHINDUCTOR_CACHE_DIR": str(cache), **SETTINGS[setting]}


def counted(xml: Path, files: Sequence[str], setting: str, name: str) -> Iterator[Result]:
    cases = list(ElementTree.parse(xml).iter("testcase"))
    for file in files:
        module = file.removesuffix(".py").replace("/", ".")
        own = [
            case for case in cases if f"{case.get('classname')}.".startswith(f"{module}.") or case.get("name") == module
        ]
        failures = [case for case in own if case.find("failure") is not None or case.find("error") is not None]
        skipped = sum(case.find("skipped") is not None for case in own)
        yield Result(
            name, setting, file, len(own) - len(failures) - skipped, len(failures), skipped,
            round(sum(float(case.get("time", 0)) for case in own), 2), [str(case.get("name")) for case in failures],
        )  # fmt: skip


def campaign(folder: Path, settings: Sequence[str], files: Sequence[str], workers: int) -> list[Result]:
    """Results of these files under these settings at this commit, run or read."""
    folder.mkdir(parents=True, exist_ok=True)
    record, name = folder / "processors.jsonl", commit()
    kept = {(one.setting, one.file): one for one in read(record) if one.commit == name}
    for setting in settings:
        left = [file for file in files if (setting, file) not in kept]
        for start in range(0, len(left), GROUP):
            for result in run(left[start : start + GROUP], setting, name, workers):
                kept[setting, result.file] = result
                with record.open("a") as stream:
                    stream.write(json.dumps(asdict(result)) + "\n")
            print(f"{setting}: {min(start + GROUP, len(left))} of {len(left)} files", flush=True)
    return [kept[setting, file] for setting in settings for file in files]


def earlier(results: Iterable[Result], now: Iterable[Result]) -> list[Result]:
    """What is not among these, of the commit under which it was run last."""
    last = {(one.setting, one.file): one for one in results}
    for one in now:
        last.pop((one.setting, one.file), None)
    return list(last.values())


def used(setting: str) -> tuple[str, str]:
    """What torch's own kernels, and what oneDNN, say that they use under the setting."""
    settings = {**environment(setting), "ONEDNN_VERBOSE": "1"}
    said = subprocess.run([sys.executable, "-c", ASK], env=settings, capture_output=True, text=True).stdout
    torch, onednn = (re.search(pattern, said) for pattern in (r"torch: (.*)", r",cpu,isa:([^,\n]*)"))
    return torch[1] if torch else "unknown", onednn[1] if onednn else "unknown"


def lacking(setting: str, flags: Iterable[str]) -> str:
    """In words, what this CPU lacks of what the setting names; empty where it has all."""
    limit, present = SETTINGS[setting][ONEDNN], set(flags)
    if not present or FLAGS[limit] in present:
        return ""
    return f"this CPU has no {FLAGS[limit]}: {limit} is no limit here, and oneDNN uses all that there is"


def cpu_flags() -> list[str]:
    """As Linux tells them; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])


def page(results: Sequence[Result], whole: int, today: str) -> str:
    """Markdown. whole: how many test files there are."""
    settings = list(dict.fromkeys(one.setting for one in results))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    lines = [
        "# The tests under settings that stand in for other processors",
        "",
        f"`python tools/campaigns/processors.py FOLDER`, {today}, on {cpu_name()} with "
        f"{os.cpu_count()} cores; Python {platform.python_version()}, {versions}. Seconds are those of the tests, one "
        "after another. Under AVX2 the tests also see a CPU without bf16.",
        "",
        "| setting | torch says | oneDNN says | commit | test files | passed | failed | skipped | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    notes = []
    for setting in settings:
        own = [one for one in results if one.setting == setting]
        passed, failed, skipped = (sum(getattr(one, name) for one in own) for name in ("passed", "failed", "skipped"))
        counts = f"{len(own)} of {whole} | {passed} | {failed} | {skipped} | {sum(one.seconds for one in own):.0f}"
        commits = ", ".join(dict.fromkeys(one.commit for one in own))
        lines.append(f"| {setting} | {' | '.join(used(setting))} | {commits} | {counts} |")
        notes += [f"{setting}: {text}." for text in [lacking(setting, cpu_flags())] if text]
        notes += [f"{setting}: FAILED {one.file}::{name}" for one in own for name in one.failures]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in notes)] if notes else [])]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where results go; an earlier campaign is continued")
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="repeatable (default: all)")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="test files or folders (default: tests)")
    parser.add_argument("--workers", type=int, default=2, help="processes of pytest (default: 2; 0: no others)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes")
    given = parser.parse_args(arguments)
    settings = given.setting or list(SETTINGS)
    files = files_below(given.tests)
    now = campaign(given.folder, settings, files, given.workers)
    before = [one for one in earlier(read(given.folder / "processors.jsonl"), now) if (ROOT / one.file).exists()]
    results = sorted(before + now, key=lambda one: list(SETTINGS).index(one.setting))
    text = page(results, len(files_below(["tests"])), date.today().isoformat())
    given.page.write_text(text)
    print(text)
    return 1 if any(one.failed for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
