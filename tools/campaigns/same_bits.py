"""Whether a change of code changes results: fixed-seed runs of every task under every policy, as hashes of weights.

    python tools/campaigns/same_bits.py before.tsv                        on the old code
    python tools/campaigns/same_bits.py after.tsv --compare before.tsv    on the new; exit 1 where a hash differs

Hashes hold for one machine and one set of library versions, so no table of them is kept. Runs are tiny: the bundled
backbone on each task's example data, two epochs, fp32.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import sys
import tempfile
from pathlib import Path

import visiontl
from visiontl import plugins
from visiontl.testing.case import Case
from visiontl.testing.checks import POLICIES

MORE = {  # what the engine does beside policies
    "accumulate, ema, clip": ("train.accumulate=2", "train.ema={decay: 0.9}", "optim.clip_norm=1.0"),
    "cached features": ("freeze.policy=all", "features.cache=memory"),
    "sgd, layer decay": ("optim.name=sgd", "optim.layer_decay=0.75"),
}


def hashed(folder: Path) -> str:
    """sha256 over names, shapes, types and bytes of a file's tensors, in the order of their names."""
    from safetensors.torch import load_file

    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def runs(case: Case) -> dict[str, tuple[str, ...]]:
    found = {policy: (f"freeze.policy={policy}",) for policy in case.policies(POLICIES)}
    more = {name: settings for name, settings in MORE.items() if "all" not in name or case.refusal("all") is None}
    return found | {name: one for name, one in more.items() if name != "cached features" or "all" in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="where the hashes go, one line a run")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="a table made before")
    parser.add_argument("--task", action="append", help="only this task; repeatable")
    arguments = parser.parse_args()
    before = {}
    if arguments.compare:
        before = dict(line.rsplit("\t", 1) for line in arguments.compare.read_text(encoding="utf-8").splitlines())
    differing, lines = [], []
    for task in arguments.task or sorted(plugins.tasks()):
        with tempfile.TemporaryDirectory() as place:
            case = Case(task, Path(place))
            for name, settings in runs(case).items():
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    report = visiontl.train(case.resolved(*settings))
                key, found = f"{task}\t{name}", hashed(Path(report["run"]) / "model")
                lines.append(f"{key}\t{found}\n")
                state = "" if key not in before else "same" if before[key] == found else "DIFFERS"
                differing += [key] if state == "DIFFERS" else []
                print(f"{task:<16} {name:<34} {found} {state}", flush=True)
                arguments.table.write_text("".join(lines), encoding="utf-8")
    if before:
        print(f"{len(differing)} of {len(lines)} differ" + "".join(f"\n  {one}" for one in differing))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
