"""FastViT: a hybrid of convolutions and attention whose convolutional branches fold away.

Vasu et al. 2023, "FastViT: A Fast Hybrid Vision Transformer using Structural Reparameterization",
https://arxiv.org/abs/2303.14189, section 3 and table 2. This file has the training form.

Where paper and released code differ, this file follows the code, with which the weights were
trained:

- no activation follows the 7×7 of the patch embedding: the authors' code computes one and discards
  it (https://github.com/apple/ml-fastvit/pull/2);
- RepMixer's norm comes after its convolution; in figure 2 it comes before;
- the head's squeeze-and-excitation comes before the activation;
- the parameters are those of the code (4.0 to 44.1 M), not those of the paper's tables (3.6 to
  42.7 M), which no released network has.

B batch · C channels · H W space
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.ops.attention import Attention
from fleetfoot.ops.branches import (
    ConditionalPositionalEncoding,
    LargeKernelConv,
    MobileOneBlock,
    RepMixer,
    layer_scale,
)
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.drop_path import drop_path, drop_path_rates


@dataclass(frozen=True, kw_only=True)
class FastViTConfig(Config):
    width: int
    """Channels of the first stage; each later stage doubles them."""
    depths: tuple[int, int, int, int]
    """Blocks in each stage."""
    mlp_ratio: int
    """Channels inside a feed-forward network over the block's own channels."""
    attention: bool = False
    """Whether the last stage mixes tokens by attention, after a conditional positional encoding."""
    layer_scale: float = 1e-5
    """Initial value of every layer scale."""
    input_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.depths) != 4:
            raise ValueError(f"depths must name 4 stages, not {len(self.depths)}")


VARIANTS: dict[str, Config] = {
    "fastvit_t8": FastViTConfig(width=48, depths=(2, 2, 4, 2), mlp_ratio=3),
    "fastvit_t12": FastViTConfig(width=64, depths=(2, 2, 6, 2), mlp_ratio=3),
    "fastvit_s12": FastViTConfig(width=64, depths=(2, 2, 6, 2), mlp_ratio=4),
    "fastvit_sa12": FastViTConfig(
        width=64, depths=(2, 2, 6, 2), mlp_ratio=4, attention=True, drop_path_rate=0.1
    ),
    "fastvit_sa24": FastViTConfig(
        width=64, depths=(4, 4, 12, 4), mlp_ratio=4, attention=True, drop_path_rate=0.1
    ),
    "fastvit_sa36": FastViTConfig(
        width=64, depths=(6, 6, 18, 6), mlp_ratio=4, attention=True, drop_path_rate=0.2,
        layer_scale=1e-6,
    ),
    "fastvit_ma36": FastViTConfig(
        width=76, depths=(6, 6, 18, 6), mlp_ratio=4, attention=True, drop_path_rate=0.35,
        layer_scale=1e-6,
    ),
}  # fmt: skip


class ConvFFN(nn.Module):
    """A depthwise 7×7 with norm, then two 1×1 with a GELU between. (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv = conv_norm_act(channels, channels, 7, groups=channels, act="identity")
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.act = nn.GELU()
        self.project = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.act(self.expand(self.conv(x))))


class RepMixerBlock(nn.Module):
    """RepMixer, then a scaled feed-forward branch; stochastic depth drops only the branch.

    (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, config: FastViTConfig, drop: float) -> None:
        super().__init__()
        self.mixer = RepMixer(channels, scale=config.layer_scale)
        self.ffn = ConvFFN(channels, channels * config.mlp_ratio)
        self.layer_scale = layer_scale(channels, config.layer_scale)
        self.drop_path = drop_path(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixer(x)
        return x + self.drop_path(self.layer_scale * self.ffn(x))


class AttentionBlock(nn.Module):
    """Attention over a normed map, then a feed-forward branch, both scaled. (B, C, H, W) -> (B, C,
    H, W)"""

    def __init__(self, channels: int, config: FastViTConfig, drop: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.attention = Attention(channels)
        self.layer_scale_1 = layer_scale(channels, config.layer_scale)
        self.ffn = ConvFFN(channels, channels * config.mlp_ratio)
        self.layer_scale_2 = layer_scale(channels, config.layer_scale)
        self.drop_path = drop_path(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.layer_scale_1 * self.attention(self.norm(x)))
        return x + self.drop_path(self.layer_scale_2 * self.ffn(x))


def convolutional_stem(in_channels: int, channels: int) -> nn.Sequential:
    """The stem: dense 3×3 and depthwise 3×3, both of stride 2, and a 1×1. (B, Ci, H, W) -> (B, C,
    H/4, W/4)"""
    return nn.Sequential(
        MobileOneBlock(in_channels, channels, 3, stride=2, act="gelu"),
        MobileOneBlock(channels, channels, 3, stride=2, groups=channels, act="gelu"),
        MobileOneBlock(channels, channels, act="gelu"),
    )


def patch_embedding(in_channels: int, channels: int) -> nn.Sequential:
    """A grouped 7×7 of stride 2, no activation, and a 1×1. (B, Ci, H, W) -> (B, C, H/2, W/2)"""
    return nn.Sequential(
        LargeKernelConv(in_channels, channels, stride=2, groups=in_channels),
        MobileOneBlock(channels, channels, act="gelu"),
    )


class FastViT(Backbone):
    """FastViT. (B, 3, H, W) -> (B, num_classes); feature maps at strides 4, 8, 16, 32 with C, 2C,
    4C, 8C channels.

    A stage begins with its patch embedding and, if it has attention, its positional encoding, so
    map 3 is the last stage's output in every variant.
    """

    def __init__(self, config: FastViTConfig) -> None:
        widths = [config.width << i for i in range(4)]
        super().__init__(
            config,
            [FeatureInfo(width, 4 << i, f"stages.{i}") for i, width in enumerate(widths)],
        )
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        self.stem = convolutional_stem(config.in_chans, config.width)
        self.stages = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, config.depths, strict=True)):
            attends = config.attention and i == 3
            stage = nn.Sequential()
            if i:
                stage.add_module("embed", patch_embedding(widths[i - 1], width))
            if attends:
                stage.add_module("position", ConditionalPositionalEncoding(width))
            block = AttentionBlock if attends else RepMixerBlock
            blocks = [block(width, config, next(rates)) for _ in range(depth)]
            stage.add_module("blocks", nn.Sequential(*blocks))
            self.stages.append(stage)
        wide = 2 * widths[-1]
        body = nn.Sequential(
            MobileOneBlock(widths[-1], wide, 3, groups=widths[-1], reduced=wide // 16, act="gelu"),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = ClassifierHead(body, wide, config.num_classes, drop_rate=config.drop_rate)
        self.apply(_init)


def _init(module: nn.Module) -> None:
    """Initialises linear layers and feed-forward convolutions; others keep torch's start values."""
    if isinstance(module, nn.Linear):
        weighted: list[nn.Linear | nn.Conv2d] = [module]
    elif isinstance(module, ConvFFN):
        weighted = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    else:
        return
    for layer in weighted:
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
