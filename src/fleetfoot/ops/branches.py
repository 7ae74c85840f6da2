"""Sums of linear branches: several layers while training, one convolution once folded.

Ding et al. 2021, "RepVGG", https://arxiv.org/abs/2101.03697, introduced the idea. The forms here
are those of Vasu et al. 2023, "MobileOne", https://arxiv.org/abs/2206.04040, section 3.2 and
figure 3, and "FastViT", https://arxiv.org/abs/2303.14189, sections 3.2 and 3.3.

Each module below is the training form alone. Every branch is linear, so in eval mode each sum
equals one convolution; ``transform.fuse`` finds it and proves it.

B batch · C channels · H W space · K kernel · S stride
"""

from __future__ import annotations

import operator
from functools import reduce

import torch
from torch import Tensor, nn

from fleetfoot.ops.activations import Activation, activation
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.drop_path import drop_path
from fleetfoot.ops.squeeze_excite import SqueezeExcite


def _check_odd(owner: str, kernel: int) -> None:
    if kernel % 2 == 0:
        raise ValueError(f"{owner}: kernel ({kernel}) must be odd, or the branches share no centre")


class BranchSum(nn.Module):
    """Sum of ``count`` K×K convolutions, a 1×1 and the input itself, each with its batch norm.

    (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S)). The 1×1 (``scale``) exists if K > 1; the
    input branch (``skip``, a batch norm alone) exists if its shape equals the output's.

    ``drop`` is the rate of stochastic depth on the branches beside the skip; a sum without a skip
    is never dropped, since nothing would be left of the sample.

    Raises:
        ValueError: ``kernel`` is even, ``count`` is less than 1, ``groups`` does not divide the
        channels, or ``drop`` is outside [0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        count: int = 1,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        _check_odd("BranchSum", kernel)
        if count < 1:
            raise ValueError(f"BranchSum: count must be 1 or more, not {count}")

        def branch(k: int) -> nn.Sequential:
            return conv_norm_act(
                in_channels, out_channels, k, stride=stride, groups=groups, act="identity"
            )

        self.branches = nn.ModuleDict({f"conv{i}": branch(kernel) for i in range(count)})
        if kernel > 1:
            self.branches["scale"] = branch(1)
        if in_channels == out_channels and stride == 1:
            self.branches["skip"] = nn.BatchNorm2d(out_channels)
        self.drop_path = drop_path(drop) if "skip" in self.branches else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        outputs = {name: branch(x) for name, branch in self.branches.items()}
        skip = outputs.pop("skip", None)
        convolved = self.drop_path(reduce(operator.add, outputs.values()))
        return convolved if skip is None else convolved + skip


class MobileOneBlock(nn.Module):
    """A sum of branches, optional squeeze-and-excitation, then the activation.

    (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S)). ``reduced`` is the number of channels between
    the two layers of the squeeze-excite, which comes before the activation; 0 for none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        count: int = 1,
        reduced: int = 0,
        drop: float = 0.0,
        act: Activation = "relu",
    ) -> None:
        super().__init__()
        self.sum = BranchSum(
            in_channels, out_channels, kernel, stride=stride, groups=groups, count=count, drop=drop
        )
        self.squeeze_excite = SqueezeExcite(out_channels, reduced) if reduced else nn.Identity()
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.squeeze_excite(self.sum(x)))


def layer_scale(channels: int, value: float) -> nn.Parameter:
    """Layer scale: one learned factor for each channel of a branch, (C, 1, 1).

    Touvron et al. 2021, "Going deeper with Image Transformers", https://arxiv.org/abs/2103.17239.
    """
    return nn.Parameter(torch.full((channels, 1, 1), value))


class RepMixer(nn.Module):
    """Token mixing by one depthwise convolution: x + s · (mix(x) − norm(x)). (B, C, H, W) -> the
    same

    ``mix`` is a depthwise sum of branches and s a factor a channel. All of it is linear, so it
    folds into one depthwise convolution, shortcut included; this saves the memory traffic of the
    shortcut. The paper's figure 2 has the norm before the convolution; the released code and
    weights have it after, and so does this module.

    Raises:
        ValueError: ``kernel`` is even.
    """

    def __init__(self, channels: int, *, kernel: int = 3, scale: float = 1e-5) -> None:
        super().__init__()
        self.mix = BranchSum(channels, channels, kernel, groups=channels)
        self.norm = nn.BatchNorm2d(channels)
        self.layer_scale = layer_scale(channels, scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale * (self.mix(x) - self.norm(x))


class ConditionalPositionalEncoding(nn.Module):
    """x + depthwise(x): position is encoded by a token's neighbours. (B, C, H, W) -> the same

    Chu et al. 2021, https://arxiv.org/abs/2102.10882; FastViT section 3.3 folds the shortcut away.

    Raises:
        ValueError: ``kernel`` is even.
    """

    def __init__(self, channels: int, *, kernel: int = 7) -> None:
        super().__init__()
        _check_odd("ConditionalPositionalEncoding", kernel)
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class LargeKernelConv(nn.Module):
    """A large grouped convolution and a small one (3×3), each with its batch norm, summed.

    (B, C, H, W) -> (B, C', ceil(H / S), ceil(W / S)). Ding et al. 2022, "RepLKNet",
    https://arxiv.org/abs/2203.06717, section 3.

    Raises:
        ValueError: a kernel is even, the small one is the larger, or ``groups`` does not divide the
        channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 7,
        small_kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        _check_odd("LargeKernelConv", kernel)
        _check_odd("LargeKernelConv", small_kernel)
        if small_kernel > kernel:
            raise ValueError(
                f"LargeKernelConv: small_kernel ({small_kernel}) must not exceed kernel ({kernel})"
            )
        self.large, self.small = (
            conv_norm_act(
                in_channels, out_channels, k, stride=stride, groups=groups, act="identity"
            )
            for k in (kernel, small_kernel)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.large(x) + self.small(x)
