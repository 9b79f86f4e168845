"""The child processes of features.py.

    python tools/benchmarks/feature_loops.py '{"loop": "run", "photos": "FOLDER", "cache": "disk", ...}'

run: a whole run of visiontl. scikit: features once and a logistic regression, as one writes them without a toolkit.
updates: the engine's loop and a bare one on the same stored features, in turns. heads: fifty heads, one head and a bare
loop of one, in turns.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any


def config(spec: dict[str, Any], **train: Any) -> dict[str, Any]:
    return {
        "task": {"name": "classification", "data": {"folder": spec["photos"], "format": "splits"}, "augment": "none"},
        "backbone": {"name": "torchvision/mobilenet_v2", "weights": spec["weights"], "image_size": spec["size"]},
        "freeze": {"policy": "all"},
        "optim": {"lr": 0.01},
        "train": {"batch_size": spec["batch"], "epochs": spec["epochs"], "precision": "fp32", **train},
        "features": {"cache": spec["cache"], "folder": str(Path(spec["folder"], "features"))},
        "run": {"folder": str(Path(spec["folder"], "runs"))},
    }


def run(spec: dict[str, Any]) -> dict[str, Any]:
    import visiontl

    report = visiontl.train(config(spec))
    from safetensors.torch import load_file

    newest = max(Path(report["run"], "checkpoints").glob("step-*"))
    weights = load_file(newest / "model.safetensors")
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(weights[name].numpy().tobytes())
    return {"head": found.hexdigest()}


def scikit(spec: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from torchvision import datasets, models, transforms

    steps = [transforms.Resize(256), transforms.CenterCrop(spec["size"]), transforms.ToTensor()]
    steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    model = models.mobilenet_v2()
    model.load_state_dict(torch.load(spec["weights"], weights_only=True))
    model.classifier = torch.nn.Sequential()
    model.eval()
    features, labels = {}, {}
    for split in ("train", "val"):
        photos = datasets.ImageFolder(Path(spec["photos"], split), transforms.Compose(steps))
        found, truth = [], []
        with torch.no_grad():
            for images, classes in torch.utils.data.DataLoader(photos, batch_size=spec["batch"]):
                found.append(model(images).numpy())
                truth.append(classes.numpy())
        features[split], labels[split] = np.concatenate(found), np.concatenate(truth)
    head = LogisticRegression(max_iter=1000).fit(features["train"], labels["train"])
    return {"accuracy": head.score(features["val"], labels["val"])}


def stored(plain: dict[str, Any]) -> tuple[Any, Any]:
    """(N, E) features and (N,) class numbers of the training photos."""
    import torch

    from visiontl.config.resolve import resolve
    from visiontl.engine.prepare import set_up

    cache = set_up(resolve(plain, ())).caches["train"]
    assert cache.pooled is not None
    return cache.pooled[torch.arange(cache.images)], torch.tensor([int(sample["label"]) for sample in cache.samples])


def bare_loop(pooled: Any, labels: Any, batch: int) -> Any:
    """(epochs) -> processor seconds an update of one head, as one writes it without a toolkit."""
    import torch

    def bare(epochs: int) -> float:
        head = torch.nn.Linear(pooled.shape[1], 2)
        optimizer = torch.optim.AdamW(head.parameters(), lr=0.01, weight_decay=0.01, fused=True)
        count, began = 0, time.process_time()
        for _ in range(epochs):
            order = torch.randperm(len(labels))
            for at in range(0, len(labels), batch):
                ids = order[at : at + batch]
                loss = torch.nn.functional.cross_entropy(head(pooled[ids]), labels[ids])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                count += 1
        return (time.process_time() - began) / count

    return bare


def heads(spec: dict[str, Any]) -> dict[str, Any]:
    from visiontl.config.schema import OptimConfig
    from visiontl.search.heads import Features, Plan, train_heads
    from visiontl.search.heads import heads as settings

    pooled, labels = stored(config(spec))
    found = Features({"pooled": pooled}, labels)
    plan = Plan(OptimConfig(lr=0.01), spec["epochs"], spec["batch"], 0)
    updates = spec["epochs"] * -(-len(labels) // spec["batch"])

    def ours(count: int) -> float:
        began = time.process_time()
        train_heads(found, found, settings(count, ["pooled"]), plan)
        return (time.process_time() - began) / updates

    bare = bare_loop(pooled, labels, spec["batch"])
    turns = [(bare(spec["epochs"]), ours(1), ours(10), ours(50)) for _ in range(6)][1:]  # the first warms up
    names = ("bare", "one", "ten", "fifty")
    told = {name: statistics.median(turn[i] for turn in turns) * 1000 for i, name in enumerate(names)}
    ratios = {f"{name} / bare": statistics.median(turn[i] / turn[0] for turn in turns) for i, name in enumerate(names)}
    return {**told, **ratios}


def updates(spec: dict[str, Any]) -> dict[str, Any]:

    from visiontl.config.resolve import resolve
    from visiontl.engine.prepare import set_up
    from visiontl.engine.train import fit

    never = {"evaluate_every": "1000000 steps", "checkpoint_every": "1000000 steps"}

    def engine(epochs: int) -> tuple[float, int]:
        """Processor seconds and updates."""
        made = set_up(resolve(config({**spec, "epochs": epochs}, **never), ()))
        gc.freeze()
        began = time.process_time()
        fit(made)
        return time.process_time() - began, made.total

    bare = bare_loop(*stored(config(spec, **never)), spec["batch"])
    few, many = max(1, spec["epochs"] // 30), max(2, spec["epochs"] // 3)
    engine(few), bare(few)
    turns = []
    for _ in range(5):
        first, (short, start), (long, end), second = bare(many), engine(few), engine(many), bare(many)
        turns.append(((long - short) / (end - start), (first + second) / 2))
    return {
        "engine": statistics.median(turn[0] for turn in turns) * 1000,
        "bare": statistics.median(turn[1] for turn in turns) * 1000,
        "ratio": statistics.median(ours / theirs for ours, theirs in turns),
    }


def main() -> None:
    spec = json.loads(sys.argv[1])
    with contextlib.redirect_stdout(io.StringIO()):
        told = {"run": run, "scikit": scikit, "updates": updates, "heads": heads}[spec["loop"]](spec)
    told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(told))


if __name__ == "__main__":
    main()
