"""FasterNet: partial convolution and two 1×1 convolutions a block, and as little else as possible.

Chen et al. 2023, "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks",
https://arxiv.org/abs/2303.03667, section 3.4 and table 8 (the third version; the first was timed
with an in-place PConv that also wrote into the shortcut).

Batch norm and activation occur only between the two 1×1 convolutions: PConv is followed directly by
a 1×1, and nothing follows the block's sum. Layer scale is in the authors' code but off in each of
their configurations, so it is not here.

B batch · C channels · H W space
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.ops.activations import Activation, activation
from fleetfoot.ops.drop_path import drop_path, drop_path_rates
from fleetfoot.ops.pconv import PConv


@dataclass(frozen=True, kw_only=True)
class FasterNetConfig(Config):
    width: int
    """Channels of the first stage; each later stage doubles them."""
    depths: tuple[int, ...]
    """Blocks in each stage."""
    act: Activation = "relu"
    mlp_ratio: int = 2
    """Channels between a block's two 1×1 convolutions over the block's own channels."""
    pconv_ratio: int = 4
    """Divisor of the channel count: one channel in ``pconv_ratio`` is convolved."""
    head_width: int = 1280
    """Channels of the 1×1 after the pooling."""


VARIANTS: dict[str, Config] = {
    "fasternet_t0": FasterNetConfig(width=40, depths=(1, 2, 8, 2), act="gelu"),
    "fasternet_t1": FasterNetConfig(width=64, depths=(1, 2, 8, 2), act="gelu", drop_path_rate=0.02),
    "fasternet_t2": FasterNetConfig(width=96, depths=(1, 2, 8, 2), drop_path_rate=0.05),
    "fasternet_s": FasterNetConfig(width=128, depths=(1, 2, 13, 2), drop_path_rate=0.1),
    "fasternet_m": FasterNetConfig(width=144, depths=(3, 4, 18, 3), drop_path_rate=0.2),
    "fasternet_l": FasterNetConfig(width=192, depths=(3, 4, 18, 3), drop_path_rate=0.3),
}


class Block(nn.Module):
    """A residual block: x + mlp(pconv(x)); the mlp is two 1×1 convolutions. (B, C, H, W) -> (B, C,
    H, W)"""

    def __init__(self, channels: int, config: FasterNetConfig, drop: float) -> None:
        super().__init__()
        hidden = channels * config.mlp_ratio
        self.pconv = PConv(channels, ratio=config.pconv_ratio)
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.act = activation(config.act)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.drop_path = drop_path(drop)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.pconv(x)
        mixed = self.project(self.act(self.norm(self.expand(mixed))))
        return x + self.drop_path(mixed)


def patch_conv(in_channels: int, out_channels: int, patch: int) -> nn.Sequential:
    """A convolution over non-overlapping patches, then a norm. (B, Ci, H, W) -> (B, Co, H / patch,
    W / patch)"""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, patch, stride=patch, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class FasterNet(Backbone):
    """FasterNet. (B, 3, H, W) -> (B, num_classes); feature maps at strides 4, 8, 16, 32 with C, 2C,
    4C, 8C channels.

    Raises:
        ValueError: ``pconv_ratio`` does not divide the width of a stage.
    """

    def __init__(self, config: FasterNetConfig) -> None:
        widths = [config.width << i for i in range(len(config.depths))]
        super().__init__(
            config,
            [FeatureInfo(width, 4 << i, f"stages.{i}") for i, width in enumerate(widths)],
        )
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        self.stem = patch_conv(config.in_chans, config.width, patch=4)
        self.stages = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, config.depths, strict=True)):
            stage = nn.Sequential()
            if i:
                stage.add_module("merge", patch_conv(widths[i - 1], width, patch=2))
            blocks = [Block(width, config, next(rates)) for _ in range(depth)]
            stage.add_module("blocks", nn.Sequential(*blocks))
            self.stages.append(stage)
        body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(widths[-1], config.head_width, 1, bias=False),
            activation(config.act),
            nn.Flatten(),
        )
        self.head = ClassifierHead(
            body, config.head_width, config.num_classes, drop_rate=config.drop_rate
        )
        self.apply(_init)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
