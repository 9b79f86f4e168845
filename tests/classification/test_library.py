"""torchvision's data sets, read from files written here in their own formats."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from visiontl_classification.config import TORCHVISION

from tests.classification.helpers import read
from visiontl import DataError


def idx(path, array):
    """MNIST's file format: two zero bytes, type, dimensions, sizes, values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def test_a_set_with_train_and_test(tmp_path):
    rng = np.random.default_rng(0)
    raw = tmp_path / "MNIST/raw"
    pixels = {"train": rng.integers(0, 256, (100, 28, 28)), "t10k": rng.integers(0, 256, (20, 28, 28))}
    labels = {"train": np.arange(100) % 10, "t10k": np.arange(20) % 10}
    for part in ("train", "t10k"):
        idx(raw / f"{part}-images-idx3-ubyte", pixels[part])
        idx(raw / f"{part}-labels-idx1-ubyte", labels[part])
    source = {"torchvision": "MNIST", "root": str(tmp_path), "val_fraction": 0.2}
    data = read(source, augment="none")
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 80, "val": 20, "test": 20}
    assert data.meta["counts"] == [8] * 10
    assert data.meta["classes"][3] == "3 - three"
    assert not set(data.train.names) & set(data.val.names)
    number = int(data.val.names[0].split("/")[1])
    image = data.val.image(0)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image)[..., 0], pixels["train"][number])
    assert data.val.targets[0] == labels["train"][number]
    assert data.test[5, 0]["size"] == (28, 28)
    clone = pickle.loads(pickle.dumps(data.test))
    assert np.array_equal(clone[5, 0]["image"], data.test[5, 0]["image"])
    used = read({**source, "val_from": "test"})
    assert (len(used.train), len(used.val), used.test) == (100, 20, None)
    assert read(source, data.meta).test.targets.tolist() == (np.arange(20) % 10).tolist()


def test_a_set_of_one_part(tmp_path):
    for label in ("Forest", "River"):
        for i in range(10):
            path = tmp_path / f"eurosat/2750/{label}/{label}_{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (i, 0, 0)).save(path)
    data = read({"torchvision": "EuroSAT", "root": str(tmp_path), "val_fraction": 0.2, "test_fraction": 0.2})
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 12, "val": 4, "test": 4}
    assert data.meta["classes"] == ["Forest", "River"]


def test_a_set_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"CIFAR10 cannot be read.*task\.data\.download=true"):
        read({"torchvision": "CIFAR10", "root": str(tmp_path)})
    with pytest.raises(DataError, match=r"ImageNet must be fetched by hand"):
        read({"torchvision": "ImageNet", "root": str(tmp_path)})


def test_the_listed_sets_exist_with_the_listed_arguments():
    import inspect

    from torchvision import datasets

    for name, kind in TORCHVISION.items():
        arguments = inspect.signature(getattr(datasets, name).__init__).parameters
        assert ("train" in arguments) == (kind == "train="), name
        assert ("split" in arguments) == isinstance(kind, dict), name
        assert "download" in arguments or name == "ImageNet", name
