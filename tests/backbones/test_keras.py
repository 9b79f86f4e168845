"""Files of keras-applications and Keras models as backbones, against Keras itself on its torch backend."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from visiontl import plugins
from visiontl.backbones import hdf5
from visiontl.backbones.keras import prepared
from visiontl.backbones.weights import make_backbone
from visiontl.errors import BackboneError, WeightsError

ROOT = Path(__file__).resolve().parents[2]
h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'visiontl[keras]'")

# writes NAME.h5, the picture and what Keras computes of it, of each architecture: (class, layer of a map, form)
CASES = {
    "resnet50": ("ResNet50", "conv4_block6_out", "weights.h5", 3),
    "mobilenetv2": ("MobileNetV2", "block_13_expand_relu", "h5", None),
    "efficientnetb0": ("EfficientNetB0", "block4a_expand_activation", "weights.h5", None),
    "vgg16": ("VGG16", "block5_conv3", "h5", 4),
}
SCRIPT = """
import sys
import numpy as np, keras
from keras import applications

folder, cases = sys.argv[1], eval(sys.argv[2])
random = np.random.default_rng(0)
for kind, (name, layer, form, _) in cases.items():
    whole = getattr(applications, name)(weights=None, include_top=False, pooling="avg", input_shape=(64, 96, 3))
    values = []
    for one in whole.weights:
        shape, path = tuple(one.shape), one.path
        if path.endswith(("variance", "var")):
            value = random.uniform(0.5, 2, shape)
        elif path.endswith("gamma"):
            value = random.uniform(0.5, 1.5, shape)
        elif path.endswith("count"):
            value = np.zeros(shape)
        elif len(shape) == 1:
            value = random.normal(0, 0.1, shape)
        else:
            value = random.normal(0, np.sqrt(2 / np.prod(shape[:-1] if shape[-1] != 1 else shape[:2])), shape)
        one.assign(value.astype("float32") if path.endswith("count") is False else value)
    picture = random.integers(0, 256, (2, 64, 96, 3)).astype("float32")
    module = {"ResNet50": "resnet", "MobileNetV2": "mobilenet_v2", "EfficientNetB0": "efficientnet", "VGG16": "vgg16"}
    prepared = getattr(applications, module[name]).preprocess_input(picture.copy())
    both = keras.Model(whole.input, [whole.get_layer(layer).output, whole.output])
    found, pooled = (np.asarray(keras.ops.convert_to_numpy(one)) for one in both(prepared, training=False))
    (whole.save if form == "h5" else whole.save_weights)(f"{folder}/{kind}.{form}")
    np.savez(f"{folder}/{kind}.npz", picture=picture, found=found, pooled=pooled)
import json, pathlib
from tests.backbones.keras_model import seen
place = pathlib.Path(folder, "seen")
place.mkdir()
place.with_suffix(".json").write_text(json.dumps(seen(place)))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed: pip install 'visiontl[keras]' keras")
    folder = tmp_path_factory.mktemp("keras")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder)}
    asked = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), repr(CASES)]
    done = subprocess.run(asked, capture_output=True, text=True, env=environment, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("kind", CASES)
def test_a_file_of_keras_computes_what_keras_computes(kind, made):
    _, _, form, level = CASES[kind]
    entry, _ = plugins.backbone_entry(f"keras/{kind}")
    backbone, report = make_backbone(entry, str(made / f"{kind}.{form}"), image_size=(64, 96))
    assert report.fraction == 1.0
    assert report.unexpected == ()
    assert backbone.embed_dim == entry.facts["embed_dim"]
    assert backbone.strides == entry.facts["strides"]
    assert sum(one.numel() for one in backbone.parameters()) == entry.facts["params"]
    wanted = np.load(made / f"{kind}.npz")
    image = torch.from_numpy(wanted["picture"].transpose(0, 3, 1, 2) / 255).float()
    levels = (level,) if level is not None else ()
    with torch.no_grad():
        found = backbone.eval()(image, maps=levels, pooled=True)
    close(found.pooled.numpy(), wanted["pooled"])
    if levels:
        close(found.maps[0].numpy(), wanted["found"].transpose(0, 3, 1, 2))


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Within 1e-4 of the largest value."""
    assert np.abs(found - wanted).max() / np.abs(wanted).max() < 1e-4


def test_a_keras_model_is_a_backbone_whose_features_are_those_that_keras_predicts(made):
    seen = json.loads((made / "seen.json").read_text())
    assert (seen["stages"], seen["channels"], seen["strides"]) == (["stem", "level1", "final"], [8, 16], [2, 4])
    assert max(seen["apart"]) < 1e-5  # of a model loaded from Keras' own file, statistics included
    assert seen["loaded"] == 1.0
    assert seen["layer"] == [2, 8, 24, 32]
    assert seen["read"] == 16
    # every weight in one stage, statistics no parameters, and nothing of the classifier that is left out
    assert {seen["stage_of"][name] for name in seen["parameters"]} == {"stem", "level1"}
    assert set(seen["buffers"]) - {"mean", "std"} == {
        f"body.{layer}.moving_{value}" for layer in ("norm", "block_norm") for value in ("mean", "variance")
    }
    assert not [name for name in seen["stage_of"] if "classes" in name]


def test_a_keras_model_trains_freezes_and_resumes_as_others_do(made):
    seen = json.loads((made / "seen.json").read_text())
    assert seen["moved"]["stem"] == 0
    assert seen["moved"]["level1"] == 8  # two kernels, a bias each, gamma, beta and both statistics
    assert seen["moved"]["head"] > 0
    assert seen["resumed"] == []
    assert seen["predicted"]
    assert seen["exported"] < 1e-4  # as ONNX


def test_every_weight_of_a_keras_model_is_held_once_whatever_layers_are_called(made):
    """One that was not held would stay in Keras: it would neither train nor be saved."""
    seen = json.loads((made / "seen.json").read_text())["alike"]
    assert seen["names"] == ["forward_", "block_norm", "block_norm_", "graph_", "training_"]
    assert seen["ours"] == seen["keras"]
    assert seen["moves"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("code", "Lambda, which is not Keras' own and is never run"),
        ("other", "os:system, which is not Keras' own"),
        ("nothing", "no .keras file, or it cannot be read"),
        ("two", "one image (B, H, W, C) and one output was expected; it has 2"),
        ("size", "takes images of 32 x 32 pixels only; 64 x 64 was asked for"),
        ("no model", "was to give a keras.Model of Keras 3; got int"),
        ("half size", "takes images of 32 x 224 pixels only; 64 x 64 was asked for"),
        ("small", "Keras cannot compute an image of 1 x 1 pixels"),
        ("half precision", "layer thin computes in float16; float32 was expected"),
        ("spoiled", "make() gave weights that are no finite numbers: body."),
        ("failing", "make() failed (ZeroDivisionError"),
        ("nested", "no .keras file, or it cannot be read"),
        ("large", "its config.json has 68,157,440 bytes"),
    ],
)
def test_a_keras_model_that_cannot_serve_is_told_why(case, words, made):
    assert words in json.loads((made / "seen.json").read_text())["refused"][case]


def test_a_stride_or_an_epsilon_that_is_not_keras_is_seen(made):
    """The check can fail: timm's own MobileNetV2 with the same tensors is another function."""
    ours, _ = make_backbone(plugins.backbone_entry("keras/mobilenetv2")[0], str(made / "mobilenetv2.h5"), (64, 96))
    theirs, _ = make_backbone(plugins.backbone_entry("timm/mobilenetv2_100")[0], "none", (64, 96))
    theirs.load_state_dict(ours.state_dict())
    wanted = np.load(made / "mobilenetv2.npz")
    image = torch.from_numpy(wanted["picture"].transpose(0, 3, 1, 2) / 255).float()
    with torch.no_grad():
        found = theirs.eval()(image, pooled=True).pooled.numpy()
    with pytest.raises(AssertionError):
        close(found, wanted["pooled"])


def test_an_efficientnet_of_imagenet_is_normalized_as_keras_does():
    """Its file holds ImageNet's deviation as the variance, and Keras divides by the root of that deviation again."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = torch.rand(3, dtype=torch.float64)
    wanted = (x - mean) / deviation.sqrt() / deviation.sqrt()
    stated = prepared(mean, deviation)
    found = (x - torch.tensor(stated["mean"])) / torch.tensor(stated["std"])
    torch.testing.assert_close(found, wanted.double(), atol=1e-6, rtol=1e-5)
    assert prepared(torch.zeros(3), torch.full((3,), 4.0))["std"] == (2.0, 2.0, 2.0)


def legacy(path, layers):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/w{i}:0".encode() for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                group.create_dataset(f"{name}/w{i}:0", data=array)
    return path


def test_a_file_of_another_network_is_refused(tmp_path):
    entry, _ = plugins.backbone_entry("keras/vgg16")
    path = legacy(tmp_path / "other.h5", {"dense": [np.ones((3, 4), np.float32), np.ones(4, np.float32)]})
    with pytest.raises(WeightsError, match="0 of"):
        make_backbone(entry, str(path))
    (tmp_path / "none.h5").write_bytes(b"no such thing")
    with pytest.raises(WeightsError, match="cannot be read as HDF5"):
        make_backbone(entry, str(tmp_path / "none.h5"))
    with pytest.raises(WeightsError, match="no pretrained weights"):
        make_backbone(entry, "default")
    with pytest.raises(BackboneError, match="none of timm's"):
        entry.build().library_call(10)


def test_what_leads_out_of_a_file_is_not_followed(tmp_path):
    secret = legacy(tmp_path / "secret.h5", {"a": [np.ones(3, np.float32)]})
    path = legacy(tmp_path / "hostile.h5", {"a": [np.ones(3, np.float32)]})
    with h5py.File(path, "a") as file:
        del file["a/a/w0:0"]
        file["a/a/w0:0"] = h5py.ExternalLink(str(secret), "a/a/w0:0")
    with pytest.raises(WeightsError, match="is a link"):
        hdf5.read(path)
    with h5py.File(path, "a") as file:
        del file["a/a/w0:0"]
        (tmp_path / "raw").write_bytes(bytes(12))
        file["a/a"].create_dataset("w0:0", (3,), "f4", external=[(str(tmp_path / "raw"), 0, 12)])
    with pytest.raises(WeightsError, match="lies in another file"):
        hdf5.read(path)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file.create_group("a").attrs["weight_names"] = [b"w"]
        file["a"].create_dataset("w", (1 << 31,), "f4", chunks=(1 << 20,))
    with pytest.raises(WeightsError, match="claims more than"):
        hdf5.read(path)
