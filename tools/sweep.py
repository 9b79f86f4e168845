"""Train one config in several variants and seeds, and write the table of their scores.

    python tools/sweep.py tools/sweeps/hymenoptera_policies.yaml

The sweep file names a `config`, `seeds`, `variants` (a name with its overrides), and optionally `columns`: further
numbers of the report by their place, such as `test accuracy: scores.test.accuracy`. Every finished run is a line in
the .jsonl beside the table, so that a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import yaml


def run_one(sweep: dict, variant: str, seed: int, runs: str) -> dict:
    """One training; its scores at the best and at the last evaluation."""
    import visiontl
    from visiontl.runs.metrics import Metrics

    overrides = [*sweep.get("overrides", []), *sweep["variants"][variant], f"train.seed={seed}", f"run.folder={runs}"]
    began = time.perf_counter()
    report = visiontl.train(sweep["config"], *overrides)
    values = [record for record in Metrics.read(Path(report["run"])) if record["kind"] == "val"]
    key = report["best"]["score"]
    return {
        "variant": variant,
        "seed": seed,
        "score": key,
        "best": report["best"]["value"],
        "best_epoch": report["best"]["epoch"],
        "last": values[-1][key],
        "test": report["scores"].get("test", {}).get(key),
        **{name: at(report, path) for name, path in sweep.get("columns", {}).items()},
        "seconds": round(time.perf_counter() - began, 1),
        "processes": report["environment"]["processes"],
        "threads": report["environment"]["threads"],
        "device": report["environment"]["device"],
        "precision": report["environment"]["precision"],
        "torch": report["environment"]["torch"],
        "date": date.today().isoformat(),
    }


def at(report: dict, path: str) -> float:
    """A number of the report by its place: "scores.test.accuracy"."""
    value: Any = report
    for key in path.split("."):
        value = value[key]
    return float(value)


def mean_spread(values: list[float]) -> str:
    """Mean and sample standard deviation, to four digits."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {spread:.4f}"


def table(sweep: dict, path: Path, records: list[dict]) -> str:
    """The Markdown table of all finished runs."""
    first = records[0]
    hardware = f"{first['device']}, {first['threads']} threads, {first['processes']} process, {first['precision']}"
    named, more = [f"{first['score']}, {epoch} epoch" for epoch in ("last", "best")], list(sweep.get("columns", {}))
    lines = [
        f"# {sweep['title']}",
        "",
        sweep["about"].strip(),
        "",
        f"Command: `python tools/sweep.py {path}`. {hardware}, torch {first['torch']}, {records[-1]['date']}. "
        "Mean ± standard deviation over seeds. The best epoch is chosen on the same validation images that it is "
        "scored on, which flatters it a little; the last epoch is not chosen.",
        "",
        "| variant | seeds | " + " | ".join([*named, *more, "seconds", "overrides"]) + " |",
        "|" + " --- |" * (6 + len(more)),
    ]
    for name, overrides in sweep["variants"].items():
        mine = [record for record in records if record["variant"] == name]
        if mine:
            last, best = mean_spread([r["last"] for r in mine]), mean_spread([r["best"] for r in mine])
            seconds = statistics.median(r["seconds"] for r in mine)
            shown = " ".join(f"`{override}`" for override in overrides)
            extra = [mean_spread([r[column] for r in mine]) for column in more]
            lines.append(
                f"| {name} | {len(mine)} | " + " | ".join([last, best, *extra]) + f" | {seconds:.0f} | {shown} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="a sweep file")
    parser.add_argument("--runs", default="runs", help="where run folders go")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="where the table goes")
    arguments = parser.parse_args()
    sweep = yaml.safe_load(arguments.sweep.read_text(encoding="utf-8"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.out / f"{arguments.sweep.stem}.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(record["variant"], record["seed"]) for record in records}
    for seed in sweep["seeds"]:
        for variant in sweep["variants"]:
            if (variant, seed) in done:
                continue
            records.append(run_one(sweep, variant, seed, arguments.runs))
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(records[-1]) + "\n")
            log.with_suffix(".md").write_text(table(sweep, arguments.sweep, records), encoding="utf-8")
    print(table(sweep, arguments.sweep, records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
