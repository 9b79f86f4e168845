"""Exported models against the run: the largest difference, the file, the start of a process, memory, time an image.

    python tools/exports.py runs/flowers runs/streets --out exported --photos 16

Each run is exported to ONNX (float32, float16, int8) and to torch.export. A Markdown table is printed, a line each, and
written to OUT/table.md. Times are medians on one thread, of photos of val, from the decoded photo to the answer; start
and memory are those of a process that answers for one photo, the best of three.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import visiontl
from visiontl.engine.exporting import Program, Wanted, data_of, export_run, photos_of
from visiontl.engine.model import load_model
from visiontl.engine.resizing import resized
from visiontl.errors import VisionTLError
from visiontl.report.console import Console
from visiontl.runtime import load

KINDS = {
    "ONNX": Wanted(),
    "ONNX, fp16": Wanted(precision="fp16"),
    "ONNX, int8": Wanted(precision="int8"),
    ".pt2": Wanted(format="torch"),
}
HEAD = [
    "run",
    "format",
    "outputs differ by",
    "answers alike",
    "score on val",
    "MB",
    "start, s",
    "memory, MB",
    "ms a photo",
]
OF_RUN = "import sys, visiontl; visiontl.load(sys.argv[1]).predict(sys.argv[2])"
OF_ONNX = "import sys; from visiontl.runtime import load; load(sys.argv[1], threads=1).predict(sys.argv[2])"
# its own peak: what the system says of a child begins with the memory of who started it
PEAK = "; print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True)
    lines = [HEAD, ["---"] * len(HEAD)]
    for run in given.runs:
        for line in measured(run, given.out, given.photos):
            lines.append(line)
            print(" | ".join(line), flush=True)
    (given.out / "table.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


def measured(run: Path, out: Path, most: int) -> list[list[str]]:
    """A line for the run itself, and one for each way to export it."""
    built, console = load_model(run), Console(main=False)
    photos = list(photos_of(data_of(built, run, console), "val", most, console))
    photo = out / f"{run.name}.png"
    photos[0].save(photo)
    predictor = visiontl.load(run)
    start, memory = process(OF_RUN, run, photo)
    size = (run / "model" / "model.safetensors").stat().st_size / 1e6
    score = built.scores.get(built.resolved.task.best[0])
    own = number(score) if score is not None else ""
    lines = [
        [
            run.name,
            "the run",
            "",
            "",
            own,
            f"{size:.1f}",
            f"{start:.1f}",
            f"{memory:.0f}",
            ms(predictor.predict, photos),
        ]
    ]
    for name, wanted in KINDS.items():
        folder = out / f"{run.name}-{name.replace(', ', '-').strip('.')}"
        try:
            about = export_run(run, folder, wanted)
        except VisionTLError as error:
            lines.append([run.name, name, f"refused: {str(error)[:200]}", *[""] * 6])
            continue
        lines.append([run.name, name, *of_export(folder, about, photos, photo, built.resolved.task.best[0])])
    return lines


def of_export(folder: Path, about: dict[str, Any], photos: Sequence[Any], photo: Path, best: str) -> list[str]:
    """best: the score that is shown."""
    compared, path = about["compared"], folder / about["file"]
    scores = about.get("scores", {}).get(about["precision"], {})
    score = number(scores[best]) if best in scores else ""
    start, memory, predict = "", "", None
    if path.suffix == ".onnx":
        seconds, bytes = process(OF_ONNX, path, photo)
        start, memory = f"{seconds:.1f}", f"{bytes:.0f}"
        predict = load(path, resized, 1).predict
    else:
        predict = Program(path, about).predict
    alike = f"{compared['alike']} of {compared['photos']}"
    size = f"{path.stat().st_size / 1e6:.1f}"
    return [f"{compared['outputs']:.1e}", alike, score, size, start, memory, ms(predict, photos)]


def number(value: float) -> str:
    return f"{value:.4f}"


def ms(predict: Callable[[Any], Any], photos: Sequence[Any]) -> str:
    predict(photos[0])
    times = []
    for photo in photos:
        began = time.perf_counter()
        predict(photo)
        times.append(1000 * (time.perf_counter() - began))
    return f"{statistics.median(times):.1f}"


def process(script: str, *words: Path) -> tuple[float, float]:
    """(seconds, peak memory in MB) of a process that runs the script to its end, the least of three."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = []
    for _ in range(3):
        began = time.perf_counter()
        asked = [sys.executable, "-c", script + PEAK, *map(str, words)]
        done = subprocess.run(asked, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"the process for {words[0]} ended with {done.returncode}")
        found.append((time.perf_counter() - began, int(done.stdout.split()[-1]) / 1024))
    return min(one for one, _ in found), min(one for _, one in found)


if __name__ == "__main__":
    main()
