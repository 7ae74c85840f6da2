"""Cycle fully-connected layer: a 1×1 convolution that reads each channel at its own pixel offset.

Chen et al. 2022, "CycleMLP: A MLP-like Architecture for Dense Prediction",
https://arxiv.org/abs/2107.10224, section 3.1.

Channel c is read at d(c) = (c + S // 2) mod S - S // 2 pixels along one axis, so that S
neighbouring channels read S neighbouring pixels; outside the map everything is 0. The phase is that
of the released code, in which channel 0 has offset 0; the paper's formula, (c mod S) - 1, starts
at -1. The released code calls a deformable convolution, which interpolates between pixels, although
these offsets are whole: the same function, but a slow general operator that few engines have. Here
the channels of one offset are sliced from the padded map together, without extra multiply-adds.

B batch · H W space · C channels · S step
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Axis = Literal["height", "width"]


class CycleFC(nn.Module):
    """Linear layer over channels that reads channel c at d(c) pixels further along ``axis``.

    (B, H, W, C) -> (B, H, W, C')

    The weight's columns are in the order in which the channels are sliced, those of one offset
    together: column i belongs to channel ``order[i]``. All offsets are multiplied by ``dilation``.

    Raises:
        ValueError: ``step`` is even or less than 1, or ``axis`` is no known name.
    """

    def __init__(self, channels: int, out_channels: int, *, step: int, axis: Axis) -> None:
        super().__init__()
        if step < 1 or step % 2 == 0:
            raise ValueError(f"CycleFC: step ({step}) must be odd and 1 or more")
        if axis not in ("height", "width"):
            raise ValueError(f"CycleFC: axis must be 'height' or 'width', not {axis!r}")
        self.step = step
        self.axis = axis
        self.dilation = 1
        self.order = [c for first in range(step) for c in range(first, channels, step)]
        self.linear = nn.Linear(channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        reach = self.step // 2 * self.dilation
        starts = [  # d + reach
            (first + self.step // 2) % self.step * self.dilation for first in range(self.step)
        ]
        if self.axis == "height":
            height = x.shape[1]
            padded = F.pad(x, (0, 0, 0, 0, reach, reach))
            parts = [
                padded[:, start : start + height, :, first :: self.step]
                for first, start in enumerate(starts)
            ]
        else:
            width = x.shape[2]
            padded = F.pad(x, (0, 0, reach, reach))
            parts = [
                padded[:, :, start : start + width, first :: self.step]
                for first, start in enumerate(starts)
            ]
        return self.linear(torch.cat(parts, dim=-1))

    def extra_repr(self) -> str:
        dilation = "" if self.dilation == 1 else f", dilation={self.dilation}"
        return f"step={self.step}, axis={self.axis!r}{dilation}"
