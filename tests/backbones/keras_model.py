"""Keras models as backbones, in a process whose Keras computes by torch: what tests/backbones/test_keras.py asks."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from keras import layers

import visiontl
from visiontl import plugins
from visiontl.engine.exporting import Wanted, export_run
from visiontl.engine.train import fit
from visiontl.errors import VisionTLError
from visiontl.kit import kerasmodels
from visiontl.testing.case import Case, same, stage_states, state


def make(size: tuple[int | None, int | None] = (None, None)) -> Any:
    """Two strides, one of them within a model of its own, dropout, statistics, and a classifier."""
    image = keras.Input((*size, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(8, 3, strides=2, name="first")(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=0.01, name="norm")(x))
    inside = keras.Input((None, None, 8))
    y = layers.DepthwiseConv2D(3, strides=2, padding="same", name="wide")(inside)
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(16, 1, name="point")(y))
    x = layers.ReLU(name="coarse")(keras.Model(inside, y, name="block")(x))
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.3)(x))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="classes")(x))


def alike() -> Any:
    """Its layers' names are what a module has anyway, or differ in a slash alone, or stand in two models; and somebody
    froze it in Keras."""
    inside, image = keras.Input((None, None, 4)), keras.Input((None, None, 3))
    block = keras.Model(inside, layers.Conv2D(4, 1, name="norm")(inside), name="block")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="forward")(image)
    x = layers.Conv2D(4, 1, name="block_norm")(block(x))
    x = layers.Conv2D(4, 1, name="graph")(block.layers[-1](x))
    model = keras.Model(image, layers.Conv2D(6, 1, name="training")(x))
    model.trainable = False
    return model


def own_weights() -> dict[str, Any]:
    """How many parameters `alike` has, by Keras and here; whether each has a gradient."""
    backbone = kerasmodels.entry("a/b", alike).build(image_size=(16, 16)).train()
    backbone(torch.rand(2, 3, 16, 16), pooled=True).pooled.square().sum().backward()
    return {
        "names": [name for name, _ in backbone.body.named_children()],
        "keras": alike().count_params(),
        "ours": sum(one.numel() for one in backbone.parameters()),
        "moves": all(one.grad is not None for one in backbone.parameters()),
    }


def halved() -> Any:
    image = keras.Input((None, None, 3))
    return keras.Model(image, layers.Conv2D(4, 3, dtype="mixed_float16", name="thin")(image))


def spoiled() -> Any:
    model = make()
    model.weights[0].assign(model.weights[0] * float("nan"))
    return model


def written(path: Path, config: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
    return path


def refusals(folder: Path) -> dict[str, str]:
    """What each model or file that cannot serve is told."""
    two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    code = keras.Sequential([keras.Input((8, 8, 3)), layers.Lambda(lambda x: x), layers.Conv2D(2, 1)])
    code.save(folder / "code.keras")
    with zipfile.ZipFile(folder / "other.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "system", "module": "os", "config": {}}))
    asked = {
        "code": lambda: kerasmodels.read(folder / "code.keras"),
        "other": lambda: kerasmodels.read(folder / "other.keras"),
        "nothing": lambda: kerasmodels.read(folder / "none.keras"),
        "two": lambda: kerasmodels.entry("a/b", lambda: keras.Model(two, layers.Add()(list(two)))).build(),
        "size": lambda: kerasmodels.entry("a/b", lambda: make((32, 32))).build(image_size=(64, 64)),
        "no model": lambda: kerasmodels.entry("a/b", lambda: 1).build(),
        "half size": lambda: kerasmodels.entry("a/b", lambda: make((32, None))).build(image_size=(64, 64)),
        "small": lambda: kerasmodels.entry("a/b", make).build(image_size=(1, 1)),
        "half precision": lambda: kerasmodels.entry("a/b", halved).build(),
        "spoiled": lambda: kerasmodels.entry("a/b", spoiled).build(),
        "failing": lambda: kerasmodels.entry("a/b", lambda: 1 // 0).build(),
        "nested": lambda: kerasmodels.read(written(folder / "nested.keras", "[" * 100_000)),
        "large": lambda: kerasmodels.read(written(folder / "large.keras", " " * (65 << 20))),
    }
    told = {}
    for name, ask in asked.items():
        try:
            ask()
            told[name] = "nothing"
        except VisionTLError as error:
            told[name] = str(error)
    return told


def trained(folder: Path) -> dict[str, Any]:
    """A head on it, its stem frozen: what moved, and whether a run that was resumed ends with the same bits."""
    settings = ("backbone.name=mine/net", "freeze.policy={first: 1}", "optim.schedule=constant")
    case = Case("classification", folder, settings=settings)
    begun = case.run()
    before = stage_states(begun)
    fit(begun)
    moved = {stage: len(same(held, before[stage])) for stage, held in stage_states(begun).items()}
    other = Case("classification", folder / "again", settings=settings)
    part = other.run(limit=30)
    fit(part)
    resumed = other.run(f"resume={part.folder}")
    fit(resumed)
    photo = begun.data.val.image(0)
    ours = visiontl.load(begun.folder).predict(photo)
    try:
        exported = export_run(begun.folder, folder / "exported", Wanted())["compared"]["outputs"]
    except VisionTLError as error:
        exported = str(error)
    return {
        "moved": moved,
        "resumed": same(state(resumed), state(begun)),
        "predicted": ours["top"][0]["label"] in begun.built.meta["classes"],
        "exported": exported,
    }


def offering(entry: Any) -> Any:
    class Plugin:
        @visiontl.hookimpl
        def visiontl_backbones(self):
            return [entry]

    return Plugin()


def seen(folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    entry = kerasmodels.entry("mine/net", make, weights=visiontl.Weights("model"))
    plugins.register(offering(entry), "mine")
    backbone = entry.build(image_size=(48, 64)).eval()
    model = make()
    kept = {layer.name: layer for layer in model.layers}
    random = np.random.default_rng(0)
    for one in model.weights:  # statistics as no model begins with them
        one.assign(random.uniform(0.5, 1.5, tuple(one.shape)) if "moving" in one.path or "gamma" in one.path else one)
    model.save(folder / "whole.h5")
    again, report = visiontl_backbone(entry, str(folder / "whole.h5"))
    both = keras.Model(model.inputs, [kept["coarse"].output, kept["classes"].input])
    image = torch.rand(2, 3, 48, 64)
    wanted = both.predict(image.permute(0, 2, 3, 1).numpy() * 255, verbose=0)
    with torch.no_grad():
        found = again.eval()(image, maps=[1], pooled=True, layers=["norm"])
    apart = [np.abs(found.maps[0].permute(0, 2, 3, 1).numpy() - wanted[0]), np.abs(found.pooled.numpy() - wanted[1])]
    model.save(folder / "plain.keras")
    return {
        "stages": backbone.stages,
        "stage_of": dict(backbone.stage_of),
        "channels": backbone.channels,
        "strides": backbone.strides,
        "parameters": [name for name, _ in backbone.named_parameters()],
        "buffers": [name for name, _ in backbone.named_buffers()],
        "apart": [float(one.max()) for one in apart],
        "loaded": report.fraction,
        "layer": list(found.layers["norm"].shape),
        "read": kerasmodels.entry("a/b", lambda: kerasmodels.read(folder / "plain.keras")).build().embed_dim,
        "refused": refusals(folder),
        "alike": own_weights(),
        **trained(folder),
    }


def visiontl_backbone(entry: Any, weights: str) -> Any:
    from visiontl.backbones.weights import make_backbone

    return make_backbone(entry, weights, image_size=(48, 64))


if __name__ == "__main__":
    print(json.dumps(seen(Path(sys.argv[1])), indent=1))
