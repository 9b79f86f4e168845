"""Train one config by several methods and seeds, and write a table: score, trained parameters, memory, time.

    python tools/methods.py tools/methods/hymenoptera.yaml

The file names a `config`, `seeds`, `common` overrides and `methods` (a name with its overrides; TEACHER in one stands
for the folder of the method `teacher`'s run of the same seed, which is trained first). Each run is a process of its
own, so that its memory and its processor seconds are its own; one that was stopped is begun again, what is done stays.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from visiontl.runs.environment import cpu_name
from visiontl.runs.files import read_lines

ROOT = Path(__file__).resolve().parents[1]


def run(plan: dict[str, Any], method: str, seed: int, runs: Path) -> dict[str, Any]:
    """Train one, and say what came of it."""
    folder = runs / place(method, seed)
    shutil.rmtree(folder, ignore_errors=True)
    words = [*plan.get("common", []), *plan["methods"][method], f"train.seed={seed}"]
    words = [word.replace("TEACHER", str(runs / place("teacher", seed))) for word in words]
    command = ["train", str(ROOT / plan["config"]), *words, f"run.folder={runs}", f"run.name={folder.name}"]
    process = subprocess.Popen([sys.executable, "-m", "visiontl", *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{method}, seed {seed}: ended with {os.waitstatus_to_exitcode(status)}")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    lines, score = read_lines(folder)[0], report["best"]["score"]
    epochs = max(line["epoch"] for line in lines)
    return {
        "method": method,
        "seed": seed,
        "score": score,
        "best": report["best"]["value"],
        "last": [line[score] for line in lines if line["kind"] == "val"][-1],
        "trained": max(sum(row["trainable"] for row in phase["rows"]) for phase in trainability(report)),
        "memory_mb": round(usage.ru_maxrss / 1024),
        "seconds_an_epoch": round((usage.ru_utime + usage.ru_stime) / epochs, 1),  # of the processor, start included
        "date": date.today().isoformat(),
        "device": cpu_name(),
    }


def trainability(report: dict[str, Any]) -> list[dict[str, Any]]:
    return report.get("trainability") or report["training"]["trainability"]


def place(method: str, seed: int) -> str:
    return "".join(one if one.isalnum() else "_" for one in method) + f"-{seed}"


def table(plan: dict[str, Any], done: list[dict[str, Any]]) -> list[str]:
    score = done[0]["score"]
    lines = [
        f"| method | seeds | {score}, last epoch | best epoch | trained | memory, MB "
        "| processor s an epoch | overrides |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, words in plan["methods"].items():
        found = [one for one in done if one["method"] == method]
        if not found:
            continue
        both = [spread([one[key] for one in found]) for key in ("last", "best")]
        means = [statistics.mean([one[key] for one in found]) for key in ("trained", "memory_mb", "seconds_an_epoch")]
        cells = [method, str(len(found)), *both, f"{means[0]:,.0f}", f"{means[1]:,.0f}", f"{means[2]:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {' '.join(f'`{word}`' for word in words)} |")
    return lines


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "methods", help="where the runs go")
    parser.add_argument("--most", type=int, default=10**6, help="runs of this call")
    given = parser.parse_args()
    plan = yaml.safe_load(given.plan.read_text(encoding="utf-8"))
    target = ROOT / "docs" / "results" / f"methods_{given.plan.stem}.jsonl"
    done = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
    runs = (given.runs / given.plan.stem).absolute()
    for seed in plan["seeds"]:
        for method in plan["methods"]:
            if given.most > 0 and not any((one["method"], one["seed"]) == (method, seed) for one in done):
                given.most -= 1
                done.append(run(plan, method, seed, runs))
                target.write_text("".join(json.dumps(one) + "\n" for one in done), encoding="utf-8")
                print(json.dumps(done[-1]), flush=True)
    when = " and ".join(sorted({one["date"] for one in done}))
    machine = " and ".join(sorted({one["device"] for one in done}))
    measured = (
        f"`python tools/methods.py tools/methods/{given.plan.name}`, {machine}, one core, {when}. Score: mean and "
        "standard deviation of the seeds on val; the best epoch may be the start. Memory is the process's peak; "
        "processor seconds include start and evaluation."
    )
    page = [f"# {plan['title']}", "", plan["about"].strip(), "", measured, "", *table(plan, done), ""]
    target.with_suffix(".md").write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
