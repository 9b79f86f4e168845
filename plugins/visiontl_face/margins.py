"""Softmax over cosines with a margin: ArcFace, CosFace, SphereFace's factor, all in one formula."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Where the arccosine's derivative, -1 / sqrt(1 - c^2), is cut off: 2,200 at most. fp32 has a spacing of 6e-8 there.
EDGE = 1e-7


class MarginHead(nn.Module):
    """Class weights on the unit sphere, and the logits that a margin softmax is trained on.

    weight: (C, K, d), K sub-centers per identity (Deng et al. 2020, sub-center ArcFace); not normalized itself.
    """

    def __init__(self, classes: int, sub_centers: int, width: int, margins: tuple[float, float, float], scale: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, sub_centers, width))
        nn.init.normal_(self.weight, std=0.01)  # as in ArcFace's code; only the direction counts
        self.margins, self.scale = margins, scale

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """embedding: (B, d), normalized; label: (B,). Logits (B, C) in fp32, also under autocast."""
        with torch.autocast(embedding.device.type, enabled=False):
            cosine = self.cosines(embedding.float())  # (B, C)
            return margin_logits(cosine, label, self.margins, self.scale)

    def cosines(self, embedding: Tensor) -> Tensor:
        """(B, C): to the nearest sub-center of each class."""
        directions = F.normalize(self.weight.float(), dim=2)  # (C, K, d)
        return (embedding @ directions.flatten(0, 1).T).unflatten(1, directions.shape[:2]).amax(2)


def margin_logits(cosine: Tensor, label: Tensor, margins: tuple[float, float, float], scale: float) -> Tensor:
    """scale * cos(t) for the angle t to each class, and scale * (cos(m1 t + m2) - m3) for the own one.

    cosine: (B, C), fp32; label: (B,) class indices; margins: (m1, m2 in radians, m3), Deng et al. 2019, eq. 4. Beyond
    m1 t + m2 = pi the cosine would rise again; there it goes on falling as (-1)^k cos(m1 t + m2) - 2k with
    k = floor((m1 t + m2) / pi), Liu et al. 2017 (SphereFace), eq. 7.
    """
    m1, m2, m3 = margins
    own = cosine.gather(1, label[:, None])  # (B, 1)
    if m1 == 1 and m2 == 0:
        moved = own
    else:
        angle = m1 * torch.acos(own.clamp(-1 + EDGE, 1 - EDGE)) + m2  # (B, 1) radians
        turns = torch.floor(angle.detach() / math.pi)  # k
        moved = (1 - 2 * (turns % 2)) * torch.cos(angle) - 2 * turns
    return scale * cosine.scatter(1, label[:, None], moved - m3)
