"""Train one config in named variants and several seeds with `visiontl sweep`'s machinery, and write a table of scores.

    python tools/sweep.py tools/sweeps/hymenoptera_policies.yaml

The file names a `config`, `seeds`, `variants` (a name with its overrides), and optionally `columns`: further numbers of
the report by their place, such as `test accuracy: scores.test.accuracy`. A sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from visiontl.config.resolve import ranked, resolve
from visiontl.report.console import Console
from visiontl.runs.files import read_lines
from visiontl.search.sampling import Listed
from visiontl.search.sweep import Sweep, check, run_trials
from visiontl.search.trials import Part, Trial


def record(sweep: Sweep, trial: Trial, part: Part, columns: dict[str, str]) -> dict[str, Any]:
    """What a finished run reached, at the best and at the last evaluation."""
    folder = sweep.place(trial, part)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    values = [line[sweep.score] for line in read_lines(folder)[0] if line["kind"] == "val"]
    environment = report["environment"]
    return {
        "variant": trial.name,
        "seed": part.seed,
        "score": sweep.score,
        "best": report["best"]["value"],
        "best_epoch": report["best"]["epoch"],
        "last": values[-1],
        "test": report["scores"].get("test", {}).get(sweep.score),
        **{name: at(report, path) for name, path in columns.items()},
        "seconds": round(report["seconds"], 1),
        **{name: environment[name] for name in ("processes", "threads", "device", "precision", "torch")},
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


def table(asked: dict, path: Path, records: list[dict]) -> str:
    """The Markdown table of all finished runs."""
    first = records[0]
    hardware = f"{first['device']}, {first['threads']} threads, {first['processes']} process, {first['precision']}"
    named, more = [f"{first['score']}, {epoch} epoch" for epoch in ("last", "best")], list(asked.get("columns", {}))
    lines = [
        f"# {asked['title']}",
        "",
        asked["about"].strip(),
        "",
        f"Command: `python tools/sweep.py {path}`. {hardware}, torch {first['torch']}, {records[-1]['date']}. "
        "Mean ± standard deviation over seeds. The best epoch is chosen on the same validation images that it is "
        "scored on, which flatters it a little; the last epoch is not chosen.",
        "",
        "| variant | seeds | " + " | ".join([*named, *more, "seconds", "overrides"]) + " |",
        "|" + " --- |" * (6 + len(more)),
    ]
    for name, overrides in asked["variants"].items():
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
    asked = yaml.safe_load(arguments.sweep.read_text(encoding="utf-8"))
    settings = {name: tuple(words) for name, words in asked["variants"].items()}
    fixed = tuple(asked.get("overrides", []))
    resolved = resolve(asked["config"], fixed)
    scores = ranked(resolved.task, resolved.cfg)
    score = resolved.config.train.best or next(iter(scores))
    parts = tuple(Part(seed) for seed in asked["seeds"])
    folder = Path(arguments.runs) / arguments.sweep.stem
    sweep = Sweep(asked["config"], fixed, parts, folder, score, scores[score])
    check(sweep, list(settings.values()))
    folder.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    page = arguments.out / f"{arguments.sweep.stem}.md"

    def told(trials: Any) -> None:
        whole = [(one, part) for one in trials for part in parts if part.label in one.values]
        records = [record(sweep, one, part, asked.get("columns", {})) for one, part in whole]
        if records:
            lines = "".join(json.dumps(one) + "\n" for one in records)
            page.with_suffix(".jsonl").write_text(lines, encoding="utf-8")
            page.write_text(table(asked, arguments.sweep, records), encoding="utf-8")

    trials = run_trials(sweep, Listed(list(settings.values()), list(settings)), Console(), told, len(settings))
    print(page.read_text(encoding="utf-8") if page.exists() else "no run has ended")
    return 1 if any(one.failed for one in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
