"""What the photo is to be changed by, from the backbone's maps and the photo itself."""

import torch
from torch import nn
from torch.nn import functional as F

from visiontl import BackboneError

DEEPEST = 16  # stride of the deepest map that is read: noise is a matter of neighbors


class Restorer(nn.Module):
    """A U-Net's way up (Ronneberger et al. 2015) that ends at the photo's own pixels and adds to them."""

    def __init__(self, cfg, backbone, meta):
        super().__init__()
        self.backbone = backbone
        self.levels = [level for level, stride in enumerate(backbone.strides) if stride <= DEEPEST]
        if not self.levels:
            raise BackboneError(f"{backbone.name} has no map of stride {DEEPEST} or less; noise needs a finer one")
        self.side = nn.ModuleList(nn.Conv2d(backbone.channels[level], cfg.width, 1) for level in self.levels)
        self.up = nn.ModuleList(nn.Conv2d(cfg.width, cfg.width, 3, padding=1) for _ in self.levels)
        self.photo = nn.Conv2d(3, cfg.width, 3, padding=1)
        self.mix = nn.Conv2d(2 * cfg.width, cfg.width, 3, padding=1)
        self.last = nn.Conv2d(cfg.width, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # it begins with the photo as it is

    def forward(self, batch):
        image = batch["image"].float() / 255  # (B, 3, H, W)
        maps = self.backbone(batch["image"], maps=self.levels).maps
        x = torch.zeros_like(self.side[-1](maps[-1]))
        for side, up, found in zip(reversed(self.side), reversed(self.up), reversed(maps), strict=True):
            x = F.gelu(up(F.interpolate(x, found.shape[2:], mode="bilinear", align_corners=False) + side(found)))
        x = F.interpolate(x, image.shape[2:], mode="bilinear", align_corners=False)  # (B, C, H, W)
        x = F.gelu(self.mix(torch.cat([x, F.gelu(self.photo(image))], 1)))
        return {"restored": image + self.last(x)}  # (B, 3, H, W), about 0..1
