"""The two blocks of the MobileNets: the depthwise separable convolution and the inverted residual.

Howard et al. 2017, "MobileNets", https://arxiv.org/abs/1704.04861, section 3.1 and figure 3.
Sandler et al. 2018, "MobileNetV2", https://arxiv.org/abs/1801.04381, section 3.3 and table 1.
Howard et al. 2019, "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244, figure 4.

B batch · C channels · E expanded channels · H W space · S stride
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from fleetfoot.ops.conv import conv_norm_act, make_divisible
from fleetfoot.ops.drop_path import drop_path as make_drop_path
from fleetfoot.ops.squeeze_excite import SqueezeExcite

Brick = Callable[..., nn.Sequential]
"""``conv_norm_act``, or a ``functools.partial`` of it that fixes the arguments which all
convolutions of one network share."""


class DepthwiseSeparable(nn.Module):
    """A 3×3 convolution within each channel, then a 1×1 across them; norm and activation after
    both. (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S))

    Costs 1 / C' + 1 / 9 of the multiply-adds of the plain 3×3 convolution that it replaces
    (section 3.1). There is no shortcut.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, brick: Brick = conv_norm_act
    ) -> None:
        super().__init__()
        self.depthwise = brick(in_channels, in_channels, 3, stride=stride, groups=in_channels)
        self.pointwise = brick(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class InvertedResidual(nn.Module):
    """Widen by a 1×1, filter each channel, narrow by a 1×1 with no activation after it.

    (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S))

    The shortcut joins the narrow ends, and exists only if the shape does not change: at stride 1
    with C' = C. A block that does not widen (E = C) has no first 1×1.

    Args:
        expanded: E, the channels of the depthwise convolution.
        reduced: channels between the two layers of a squeeze-excite with a hard-sigmoid gate, which
            stands after the depthwise activation; 0 for none.
        drop_path: rate at which the branch is dropped; has no effect without a shortcut.

    Raises:
        ValueError: ``drop_path`` is outside [0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        reduced: int = 0,
        drop_path: float = 0.0,
        brick: Brick = conv_norm_act,
    ) -> None:
        super().__init__()
        self.shortcut = stride == 1 and in_channels == out_channels
        self.expand = brick(in_channels, expanded) if expanded != in_channels else nn.Identity()
        self.depthwise = brick(expanded, expanded, kernel, stride=stride, groups=expanded)
        self.squeeze_excite = (
            SqueezeExcite(expanded, reduced, gate="hard_sigmoid") if reduced else nn.Identity()
        )
        self.project = brick(expanded, out_channels, act="identity")
        dropped = make_drop_path(drop_path)
        self.drop_path = dropped if self.shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + self.drop_path(mixed) if self.shortcut else mixed


def squeezed(expanded: int) -> int:
    """Channels inside MobileNetV3's squeeze-excite: a quarter of the expansion (section 5.3),
    rounded."""
    return make_divisible(expanded / 4)


def initialise_(module: nn.Module) -> None:
    """Initialises a convolution, linear layer or batch norm in place; for ``Module.apply``.

    Convolutions are normal with variance 2 over the outputs that each input reaches (He et al.
    2015, https://arxiv.org/abs/1502.01852); in a depthwise one those are K², not K²·C.
    """
    if isinstance(module, nn.Conv2d):
        reached = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / reached))
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
