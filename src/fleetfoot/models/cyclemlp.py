"""CycleMLP: linear layers over channels only; some read each channel at its own pixel offset.

Chen et al. 2022, "CycleMLP: A MLP-like Architecture for Dense Prediction",
https://arxiv.org/abs/2107.10224, section 3 and the appendix's table of B1 to B5.

Where the paper and the released code (https://github.com/ShoufaChen/CycleMLP) differ, the rows
follow the code, since its weights need it: the steps along the two axes are 3 in the code, 7 in the
paper (``step``), at the same parameters and multiply-adds; the layer of step 1 has no bias. The
code writes the shifted reads as a deformable convolution, ``ops.cycle_fc`` the same function as
slices, so timings of this network do not compare with timings of the code's operator.
FasterNet's paper prints 79.1 for B1, the authors 78.9.

B batch · C channels · H W space
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fleetfoot.models.base import Backbone, ClassifierHead, Config, FeatureInfo
from fleetfoot.ops.cycle_fc import CycleFC
from fleetfoot.ops.drop_path import drop_path, drop_path_rates


@dataclass(frozen=True, kw_only=True)
class CycleMLPConfig(Config):
    widths: tuple[int, ...] = (64, 128, 320, 512)
    """Channels of each stage."""
    depths: tuple[int, ...]
    """Blocks in each stage."""
    mlp_ratios: tuple[int, ...] = (4, 4, 4, 4)
    """Channels inside a block's MLP over the block's own channels; one entry a stage."""
    step: int = 3
    """Number of pixels over which neighbouring channels are spread along each axis."""
    drop_path_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.widths) == len(self.depths) == len(self.mlp_ratios) > 0:
            raise ValueError(
                "widths, depths and mlp_ratios must have one entry a stage; they have "
                f"{len(self.widths)}, {len(self.depths)} and {len(self.mlp_ratios)}"
            )


VARIANTS: dict[str, Config] = {
    "cyclemlp_b1": CycleMLPConfig(depths=(2, 2, 4, 2)),
    "cyclemlp_b2": CycleMLPConfig(depths=(2, 3, 10, 3)),
    "cyclemlp_b3": CycleMLPConfig(depths=(3, 4, 18, 3), mlp_ratios=(8, 8, 4, 4)),
    "cyclemlp_b4": CycleMLPConfig(depths=(3, 8, 27, 3), mlp_ratios=(8, 8, 4, 4)),
    "cyclemlp_b5": CycleMLPConfig(depths=(3, 4, 24, 3), widths=(96, 192, 384, 768)),
}


def mlp(channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    """A linear layer, GELU and a second linear layer. (..., C) -> (..., C')"""
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, out_channels))


class CycleMixer(nn.Module):
    """Three linear layers over channels, which read along the width, along the height and in place;
    their sum, weighted per channel by the mean of the map; then a linear layer.

    (B, H, W, C) -> (B, H, W, C)
    """

    def __init__(self, channels: int, step: int) -> None:
        super().__init__()
        self.along_width = CycleFC(channels, channels, step=step, axis="width")
        self.along_height = CycleFC(channels, channels, step=step, axis="height")
        self.in_place = nn.Linear(channels, channels, bias=False)
        self.weigh = mlp(channels, channels // 4, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        wide, high, here = self.along_width(x), self.along_height(x), self.in_place(x)
        mean = (wide + high + here).mean((1, 2))
        weights = self.weigh(mean).unflatten(-1, (-1, 3)).softmax(-1)  # (B, C, 3)
        w, h, c = weights[:, None, None].unbind(-1)  # each (B, 1, 1, C)
        return self.project(wide * w + high * h + here * c)


class Block(nn.Module):
    """A residual block: x + mixer(norm(x)), then x + mlp(norm(x)). (B, H, W, C) -> (B, H, W, C)"""

    def __init__(self, channels: int, mlp_ratio: int, step: int, drop: float) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(channels)
        self.mixer = CycleMixer(channels, step)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = mlp(channels, channels * mlp_ratio, channels)
        self.drop_path = drop_path(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.mixer(self.mixer_norm(x)))
        return x + self.drop_path(self.mlp(self.mlp_norm(x)))


class Stage(nn.Module):
    """Blocks, preceded by a 3×3 convolution of stride 2 in all stages but the first. (B, C, H, W)
    -> (B, C', ceil(H / 2), ceil(W / 2))"""

    def __init__(self, merge: nn.Module, blocks: list[Block]) -> None:
        super().__init__()
        self.merge = merge
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.merge(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NormMean(nn.Module):
    """Layer norm of each pixel's channels, then the mean over pixels. (B, C, H, W) -> (B, C)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).mean((1, 2))


class CycleMLP(Backbone):
    """CycleMLP. (B, 3, H, W) -> (B, num_classes); feature maps at strides 4, 8, 16, 32.

    The first map has floor((H + 1) / 4) rows, each later one half of them, rounded up. The last
    norm belongs to the head.

    Raises:
        ValueError: ``step`` is even.
    """

    def __init__(self, config: CycleMLPConfig) -> None:
        widths = config.widths
        super().__init__(
            config,
            [FeatureInfo(width, 4 << i, f"stages.{i}") for i, width in enumerate(widths)],
        )
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        self.stem = nn.Conv2d(config.in_chans, widths[0], 7, stride=4, padding=2)
        self.stages = nn.ModuleList()
        for i, (width, depth, ratio) in enumerate(
            zip(widths, config.depths, config.mlp_ratios, strict=True)
        ):
            merge = nn.Conv2d(widths[i - 1], width, 3, stride=2, padding=1) if i else nn.Identity()
            blocks = [Block(width, ratio, config.step, next(rates)) for _ in range(depth)]
            self.stages.append(Stage(merge, blocks))
        self.head = ClassifierHead(
            nn.Sequential(NormMean(widths[-1])),
            widths[-1],
            config.num_classes,
            drop_rate=config.drop_rate,
        )
        self.apply(_init)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
