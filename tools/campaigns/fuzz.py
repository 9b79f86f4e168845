"""Inputs that are almost right: each is read, or refused in words; in less than 2 s and 500 MB, and no number is NaN.

    python tools/campaigns/fuzz.py FOLDER [--reader NAME ...] [--number 20000] [--seed 0]

A small valid folder is made for each reader, with the writers of `visiontl samples` and of runs. Then one file of it at
a time is changed: its bytes, the values of its JSON or YAML, the cells of its tables, the chunks of its pictures, the
opcodes of its pickles. `--number` inputs are shared out over the readers (commands on a run get a tenth of what the
others get, for they take as much longer). Goes on where it was. FOLDER/fuzz.jsonl has a line for each block of inputs
and for each failure, FOLDER/failed their content. Exits with 1 where there is a failure.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tools.campaigns.fuzzing.readers import READERS
from tools.campaigns.fuzzing.workers import Place, verdicts

BLOCK = 100  # inputs of a line in the record
LESS = 10  # times fewer inputs for commands


def shares(names: Sequence[str], number: int) -> dict[str, int]:
    """Inputs for each reader."""
    weight = {name: 1 if name.startswith("run-") else LESS for name in names}
    return {name: max(1, round(number * weight[name] / sum(weight.values()))) for name in names}


def campaign(folder: Path, names: Sequence[str], number: int, seed: int = 0) -> list[dict[str, Any]]:
    """The lines of FOLDER/fuzz.jsonl, those of an earlier call with them."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "fuzz.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    done = {(line["reader"], line["begin"]) for line in lines if "begin" in line and line["seed"] == seed}
    with record.open("a") as file:
        for name, count in shares(names, number).items():
            place = Place(READERS[name], folder.absolute() / "readers" / name)
            for begin in range(0, count, BLOCK):
                numbers = range(begin, min(begin + BLOCK, count))
                if (name, begin) in done:
                    continue
                found = list(verdicts(place, seed, numbers, folder / "failed"))
                failed = [{**asdict(one), "seed": seed} for one in found if one.failed]
                kinds = collections.Counter("failed" if one.failed else one.kind for one in found)
                slowest, most = max(one.seconds for one in found), max(one.bytes for one in found)
                block = {"reader": name, "seed": seed, "begin": begin, "inputs": len(found), **kinds}
                lines += [*failed, {**block, "seconds": slowest, "bytes": most}]
                for line in lines[-len(failed) - 1 :]:
                    file.write(json.dumps(line) + "\n")
                file.flush()
            print(f"{name}: {summary(name, lines)}", flush=True)
    return lines


def summary(name: str, lines: Iterable[dict[str, Any]]) -> str:
    blocks = [line for line in lines if line["reader"] == name and "begin" in line]
    said = {key: sum(line.get(key, 0) for line in blocks) for key in ("inputs", "read", "refused", "failed")}
    return ", ".join(f"{value:,} {key}" for key, value in said.items())


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each reader."""
    rows = ["| reader | inputs | read | refused in words | failed | slowest | most memory |", "|" + " --- |" * 7]
    names = dict.fromkeys(line["reader"] for line in lines)
    total = collections.Counter[str]()
    for name in names:
        blocks = [line for line in lines if line["reader"] == name and "begin" in line]
        sums = {key: sum(line.get(key, 0) for line in blocks) for key in ("inputs", "read", "refused", "failed")}
        total.update(sums)
        slowest, most = max(line["seconds"] for line in blocks), max(line["bytes"] for line in blocks)
        counts = " | ".join(f"{value:,}" for value in sums.values())
        rows.append(f"| {name} | {counts} | {slowest:.2f} s | {most / 1e6:.0f} MB |")
    rows.append(f"| all | {' | '.join(f'{total[key]:,}' for key in ('inputs', 'read', 'refused', 'failed'))} | | |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reader", action="append", choices=list(READERS), help="of these alone; repeatable")
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a process that is forked has none of the others
    lines = campaign(given.folder, given.reader or list(READERS), given.number, given.seed)
    print(table(lines))
    failed = [line for line in lines if "begin" not in line]
    for kind, count in collections.Counter(f"{line['reader']}: {line['kind']}" for line in failed).most_common():
        print(f"{count} x {kind}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
