"""Feature pyramid: coarse maps are added to finer ones, so that every map knows the whole picture.

Lin et al. 2017, "Feature Pyramid Networks for Object Detection", https://arxiv.org/abs/1612.03144.
The two coarser maps of FCOS and RetinaNet: https://arxiv.org/abs/1904.01355, section 3.2.

B batch · C channels · H W space
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Top = Literal["none", "pool", "convs"]
"""What follows the coarsest map: nothing; one map more, every other pixel of it, for the proposals
of Faster R-CNN; or two maps more by convolutions of stride 2, for FCOS."""


class FeaturePyramid(nn.Module):
    """Maps of a backbone, fine to coarse, at equal channels. [(B, C_i, H_i, W_i)] -> [(B, C, H_i,
    W_i)], and the maps of ``top``

    A 1×1 convolution brings each map to C channels, the next coarser result is added to it at its
    size by the nearest pixel, and a 3×3 convolution smooths the sum.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int = 256, *, top: Top = "none"
    ) -> None:
        super().__init__()
        self.top = top
        self.lateral = nn.ModuleList(nn.Conv2d(ci, channels, 1) for ci in in_channels)
        self.smooth = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )
        self.coarser = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1)
            for _ in range(2 if top == "convs" else 0)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        sums = [conv(x) for conv, x in zip(self.lateral, maps, strict=True)]
        for i in range(len(sums) - 2, -1, -1):
            size = sums[i].shape[-2:]
            sums[i] = sums[i] + F.interpolate(sums[i + 1], size=size, mode="nearest")
        found = [conv(x) for conv, x in zip(self.smooth, sums, strict=True)]
        if self.top == "pool":
            found.append(F.max_pool2d(found[-1], kernel_size=1, stride=2))
        for i, conv in enumerate(self.coarser):
            found.append(conv(F.relu(found[-1]) if i else found[-1]))
        return found
