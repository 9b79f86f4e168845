"""torchvision's own segmentation heads, but for their last layer, on a backbone's maps."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontl import Backbone, BackboneError
from visiontl_segmentation.config import DecoderConfig

STRIDE = 8  # of the finer map that LR-ASPP reads (Howard et al. 2019, Searching for MobileNetV3, section 6.4)


class LibraryDecoder(nn.Module):
    """Image -> decoded map (B, width, h, w), and the (H, W) that it stands for: torchvision's FCN, DeepLabV3 or LR-ASPP
    without the layer that says a class for each pixel."""

    def __init__(self, cfg: DecoderConfig, backbone: Backbone):
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead
        from torchvision.models.segmentation.fcn import FCNHead

        super().__init__()
        if backbone.in_channels != 3:
            raise BackboneError(f"backbone.in_channels: {backbone.in_channels}: segmentation reads RGB photos, so 3")
        self.name, self.backbone = cfg.name, backbone
        self.neck: nn.Module | None = None
        self.patch: int | None = None
        channels, self.low = backbone.channels[-1], ""
        if cfg.name == "torchvision_lraspp":
            self.low = finer(backbone)
            with torch.no_grad():
                training = backbone.training
                found = backbone.eval()(torch.zeros(1, 3, 64, 64, device=backbone.mean.device), layers=(self.low,))
                backbone.train(training)
            self.decoder: nn.Module = Pooled(channels, cfg.width or 128)
            self.width = found.layers[self.low].shape[1] + (cfg.width or 128)
        elif cfg.name == "torchvision_fcn":
            self.decoder = nn.Sequential(*list(FCNHead(channels, 1))[:-1])
            self.width = channels // 4
        else:
            self.decoder = nn.Sequential(*list(DeepLabHead(channels, 1, cfg.rates or (12, 24, 36)))[:-1])
            self.width = 256

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        extent = int(image.shape[2]), int(image.shape[3])
        layers = (self.low,) if self.low else ()
        features = self.backbone(image, maps=[len(self.backbone.channels) - 1], layers=layers)
        if not self.low:
            return self.decoder(features.maps[0]), extent
        low = features.layers[self.low]
        high = functional.interpolate(
            self.decoder(features.maps[0]), size=low.shape[-2:], mode="bilinear", align_corners=False
        )
        return torch.cat([low, high], dim=1), extent


class Pooled(nn.Module):
    """(B, C, h, w) -> (B, width, h, w), each channel weighed by what the whole image holds: LR-ASPP."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        norm = [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.cbr = nn.Sequential(*norm)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, width, 1, bias=False), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.cbr(x) * self.scale(x)


def finer(backbone: Backbone) -> str:
    """The module that gives LR-ASPP's finer map: of a MobileNetV3 the block that torchvision reads."""
    body: Any = getattr(backbone, "body", None)
    features = getattr(body, "features", None)
    strided = [i for i, block in enumerate(cast(Any, features) or ()) if getattr(block, "_is_cn", False)]
    if len(strided) < 2 or not backbone.name.startswith("torchvision/mobilenet_v3"):
        raise BackboneError(
            f"{backbone.name}: torchvision_lraspp reads blocks of torchvision/mobilenet_v3_large; choose "
            "task.decoder=fpn"
        )
    return f"features.{strided[-3] if len(strided) > 2 else strided[0]}"
