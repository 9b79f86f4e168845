"""The steps of the task."""

from collections import Counter
from functools import partial

import numpy as np
import torch
from torch import nn

import visiontl
from visiontl.kit.charts import chosen_pictures, draw_confusion, file_of
from visiontl.kit.classes import place_of
from visiontl.kit.drawing import enlarged, put_lines
from visiontl.kit.folders import find_images
from visiontl.kit.images import to_tensor
from visiontl.kit.splits import hold_out
from visiontl.kit.windows import stretched
from visiontl_sound.waves import spectrogram

SHOWN = 8  # recordings


class Recordings:
    """WAV files with the place of their class. Ids are positions in the order of the names."""

    def __init__(self, cfg, spec, files, labels, train):
        self.cfg, self.spec, self.files, self.labels, self.train = cfg, spec, files, labels, train
        self.names = [str(file) for file in files]

    def __len__(self):
        return len(self.files)

    def image(self, id):
        return spectrogram(self.cfg, self.files[id])

    def __getitem__(self, key):
        id, seed = key
        made = prepared(self.image(id), self.spec)
        image = augmented(made["image"], seed, self.cfg.masked) if self.train else made["image"]
        return {**made, "image": image, "label": self.labels[id]}


def prepared(image, spec):
    whole, _ = stretched(image, spec)  # a center crop would cut off the lowest and highest bands
    return {"image": to_tensor(whole), "size": (image.height, image.width)}


def augmented(image, seed, masked):
    """Moved in time, with a stretch of time and some bands hidden (SpecAugment, Park et al. 2019). (3, H, W) uint8."""
    random = np.random.default_rng(seed)
    _, height, width = image.shape
    image = image.roll(int(random.integers(width)), 2)  # the recordings hold one kind of sound throughout
    for dim, size in ((1, height), (2, width)):
        wide = int(random.uniform(0, masked) * size)
        image.narrow(dim, int(random.integers(size - wide + 1)), wide).zero_()
    return image


def data(cfg, spec, meta=None):
    found, notes = find_images([cfg.data], "task.data", suffixes=(".wav",))
    kinds = {file: name.rpartition("/")[0].rpartition("/")[2] for file, name in found.items()}
    classes = list(meta["classes"]) if meta else sorted(set(kinds.values()))
    strange = [file for file, kind in kinds.items() if kind not in classes]
    if strange or len(classes) < 2:
        raise visiontl.DataError(f"{cfg.data}: expected a folder of WAV files for each of two or more classes")
    if meta:
        parts = {"test": list(found)}
    else:
        parts = hold_out(found, found.__getitem__, {"val": 0.2, "test": 0.2}, seed=0, stratum=kinds.__getitem__)
    splits = {
        name: Recordings(cfg, spec, files, [classes.index(kinds[file]) for file in files], name == "train")
        for name, files in parts.items()
    }
    return visiontl.Data(**splits, meta={"classes": classes}, notes=notes)


def sample(cfg, spec, meta):
    return partial(prepared, spec=spec)


def collate(cfg, samples, generator, meta):
    batch = {"image": torch.stack([one["image"] for one in samples])}  # (B, 3, H, W)
    batch["size"] = torch.tensor([one["size"] for one in samples])  # (B, 2)
    if "label" in samples[0]:
        batch["label"] = torch.tensor([one["label"] for one in samples])  # (B,)
    return batch


class Sounds(nn.Module):
    def __init__(self, cfg, backbone, meta):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(cfg.dropout), nn.Linear(backbone.embed_dim, len(meta["classes"])))

    def forward(self, batch):
        return {"logits": self.head(self.backbone(batch["image"], pooled=True).pooled)}  # (B, K)


def loss(cfg, outputs, batch, meta):
    return {"loss": nn.functional.cross_entropy(outputs["logits"], batch["label"])}


def rows(cfg, outputs, batch, meta):
    shares = outputs["logits"].softmax(1).tolist()
    return [{"true": true, "shares": own} for true, own in zip(batch["label"].tolist(), shares, strict=True)]


def called(row):
    return max(range(len(row["shares"])), key=row["shares"].__getitem__)


def score(cfg, rows, meta):
    right = [called(row) == row["true"] for row in rows]
    of_class = {
        name: float(np.mean([one for one, row in zip(right, rows, strict=True) if row["true"] == index]))
        for index, name in enumerate(meta["classes"])
        if any(row["true"] == index for row in rows)
    }
    return {"accuracy": float(np.mean(right)), "recall": of_class}


def trivial(cfg, rows, meta):
    ((most, _),) = Counter(row["true"] for row in rows).most_common(1)
    shares = [float(index == most) for index in range(len(meta["classes"]))]
    return f"always {meta['classes'][most]}", [{**row, "shares": shares} for row in rows]


def predict(cfg, model, batches, meta, options):
    for batch in batches:
        for shares in model(batch)["logits"].softmax(1).tolist():
            named = dict(zip(meta["classes"], shares, strict=True))
            label = max(named, key=named.__getitem__)
            yield {"label": label, "probability": named[label], "probabilities": named}


def draw(image, prediction, meta):
    return put_lines(enlarged(image, 200)[0], [f"{prediction['label']} {prediction['probability']:.2f}"])


def report(cfg, rows, meta, image):
    names = meta["classes"]
    counts = np.zeros((len(names), len(names)), dtype=int)
    for row in rows:
        counts[row["true"], called(row)] += 1
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    texts = [[str(number or "") for number in line] for line in counts]
    matrix = partial(draw_confusion, shares=shares, texts=texts, names=names)
    wrong = [id for id, _ in mistakes(cfg, rows, meta)]
    chosen = [*wrong, *(id for id in range(0, len(rows), max(1, len(rows) // SHOWN)) if id not in wrong)][:SHOWN]

    def shown(id):
        words = f"{names[rows[id]['true']]}, called {names[called(rows[id])]}: {file_of(image, id)}"
        return words, enlarged(image(id), 160)[0]

    caption = "Time to the right, low bands below. Those that were called wrongly come first."
    return [
        visiontl.Figure("Confusion", matrix, "Recordings of each true class (row) by what they are called.", (5, 4)),
        *chosen_pictures("Recordings", chosen, shown, caption),
    ]


def mistakes(cfg, rows, meta):
    names = meta["classes"]
    wrong = [(row["shares"][called(row)], id) for id, row in enumerate(rows) if called(row) != row["true"]]
    return [
        (id, f"is {names[rows[id]['true']]}, called {names[called(rows[id])]} ({share:.2f})")
        for share, id in sorted(wrong, reverse=True)
    ]


def explain(cfg, model, batch, meta, options):
    logits = model(batch)["logits"][0]  # (K,)
    place = int(logits.argmax()) if options.label is None else place_of(options.label, meta["classes"], "option label")
    share = float(logits.detach().softmax(0)[place])
    height, width = batch["size"][0].tolist()
    whole = (0.0, 0.0, float(width), float(height))  # the input shows all of the spectrogram
    return visiontl.Scalar(logits[place], f"class {meta['classes'][place]}, {share:.2f}", share, shown=whole)
