"""ShuffleNetV2+: ShuffleNetV2 with searched kernels, hard swish and squeeze-and-excitation.

https://github.com/megvii-model/ShuffleNet-Series, folder ShuffleNetV2+; there is no paper. A search
found the kernels: Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform
Sampling", https://arxiv.org/abs/1904.00420, whose choice blocks these are.

There is no max-pool. The activation is ReLU in the first stage and hard swish from the second on;
from the third on, squeeze-and-excitation follows the last activation of a branch. The released code
applies a unit's stride to each depthwise convolution of an Xception unit, which would be wrong at
the start of a stage; the plan has none there, and here that is an error. Its fixed 7×7 average pool
is a global mean here.

B batch · C channels · H W space
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from fleetfoot.models.base import ClassifierHead, Config
from fleetfoot.models.shufflenet_v1 import ShuffleNet, ShuffleNetConfig, initialise_
from fleetfoot.models.shufflenet_v2 import AuthorsBranchUnit, AuthorsSplitUnit
from fleetfoot.ops.activations import Activation, activation
from fleetfoot.ops.conv import conv2d, conv_norm_act

Choice = Literal[3, 5, 7, "xception"]

PLAN: tuple[tuple[Choice, ...], ...] = (
    (3, 3, "xception", 5),
    (5, 5, 3, 3),
    (7, 3, 7, 5, 5, 3, 7, 3),
    (7, 5, "xception", 7),
)
"""Main branch of each unit, stage by stage: one depthwise convolution with the given kernel, or
three of 3×3."""


@dataclass(frozen=True, kw_only=True)
class ShuffleNetV2PlusConfig(ShuffleNetConfig):
    stem: tuple[int, ...] = (16,)
    depths: tuple[int, ...] = (4, 4, 8, 4)
    plan: tuple[tuple[Choice, ...], ...] = PLAN
    head_width: int = 1280
    """Channels of the 1×1 before the pooling and of the linear layer after it."""
    drop_rate: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        planned = tuple(len(choices) for choices in self.plan)
        if planned != self.depths:
            raise ValueError(f"plan has {planned} units a stage, but depths has {self.depths}")
        if any(width % 2 for width in self.widths):
            raise ValueError(f"widths must be even, since units halve them; not {self.widths}")
        if self.drop_path_rate:
            raise ValueError(
                f"drop_path_rate must be 0, not {self.drop_path_rate}: "
                "ShuffleNetV2+ has no shortcut beside which a branch could be dropped"
            )


VARIANTS: dict[str, Config] = {
    "shufflenet_v2_plus_small": ShuffleNetV2PlusConfig(widths=(36, 104, 208, 416)),
    "shufflenet_v2_plus_medium": ShuffleNetV2PlusConfig(widths=(48, 128, 256, 512)),
    "shufflenet_v2_plus_large": ShuffleNetV2PlusConfig(widths=(68, 168, 336, 672)),
}


class NormedSqueezeExcite(nn.Module):
    """Squeeze-and-excitation with a norm: x · hard_sigmoid(expand(relu(norm(reduce(mean(x)))))),
    with a quarter of C inside.

    (B, C, H, W) -> (B, C, H, W)

    The batch norm gets one value a channel and image, so training needs two images or more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.reduce = conv_norm_act(channels, channels // 4)
        self.expand = conv2d(channels // 4, channels)
        self.gate = activation("hard_sigmoid")

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.reduce(self.squeeze(x))))


def depthwise_norm(channels: int, kernel: int, stride: int) -> nn.Sequential:
    """A K×K depthwise convolution and norm. (B, C, H, W) -> (B, C, ceil(H / stride), ceil(W /
    stride))"""
    return conv_norm_act(channels, channels, kernel, stride=stride, groups=channels, act="identity")


def main_branch(
    choice: Choice,
    channels: int,
    hidden: int,
    out_channels: int,
    stride: int,
    act: Activation,
    squeeze_excite: bool,
) -> nn.Sequential:
    """One of the search's choices of main branch. (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W
    / stride))

    Raises:
        ValueError: an Xception branch is asked for a stride.
    """
    branch = nn.Sequential()
    if choice == "xception":
        if stride != 1:
            raise ValueError(f"an Xception branch keeps the size; its stride cannot be {stride}")
        branch.add_module("depthwise_1", depthwise_norm(channels, 3, 1))
        branch.add_module("pointwise_1", conv_norm_act(channels, hidden, act=act))
        branch.add_module("depthwise_2", depthwise_norm(hidden, 3, 1))
        branch.add_module("pointwise_2", conv_norm_act(hidden, hidden, act=act))
        branch.add_module("depthwise_3", depthwise_norm(hidden, 3, 1))
        branch.add_module("pointwise_3", conv_norm_act(hidden, out_channels, act=act))
    else:
        branch.add_module("first", conv_norm_act(channels, hidden, act=act))
        branch.add_module("depthwise", depthwise_norm(hidden, choice, stride))
        branch.add_module("last", conv_norm_act(hidden, out_channels, act=act))
    if squeeze_excite:
        branch.add_module("squeeze_excite", NormedSqueezeExcite(out_channels))
    return branch


def side_branch(channels: int, kernel: int, stride: int, act: Activation) -> nn.Sequential:
    """A side branch: K×K depthwise, 1×1. (B, C, H, W) -> (B, C, ceil(H / stride), ceil(W /
    stride))"""
    branch = nn.Sequential()
    branch.add_module("depthwise", depthwise_norm(channels, kernel, stride))
    branch.add_module("last", conv_norm_act(channels, channels, act=act))
    return branch


class ShuffleNetV2Plus(ShuffleNet):
    """ShuffleNetV2+. (B, 3, H, W) -> (B, num_classes); feature maps as ``ShuffleNet`` states, each
    made by units.

    Raises:
        ValueError: ``drop_path_rate`` is not 0, a width is odd, ``plan`` and ``depths`` disagree,
        or a stage of stride 2 opens with an Xception unit.
    """

    def __init__(self, config: ShuffleNetV2PlusConfig) -> None:
        stages = iter(enumerate(config.plan))

        def units(channels: int, width: int, depth: int, stride: int) -> Iterator[nn.Module]:
            stage, choices = next(stages)
            act: Activation = "hard_swish" if stage >= 1 else "relu"
            excite = stage >= 2
            half = width // 2
            first, *others = choices
            side_kernel = 3 if first == "xception" else first
            yield AuthorsBranchUnit(
                side_branch(channels, side_kernel, stride, act),
                main_branch(first, channels, half, width - channels, stride, act, excite),
            )
            for choice in others:
                yield AuthorsSplitUnit(main_branch(choice, half, half, half, 1, act, excite))

        super().__init__(config, units, max_pool=False, act="hard_swish")
        wide = config.head_width
        body = nn.Sequential()
        body.add_module("conv", conv_norm_act(config.widths[-1], wide, act="hard_swish"))
        body.add_module("pool", nn.AdaptiveAvgPool2d(1))
        body.add_module("squeeze_excite", NormedSqueezeExcite(wide))
        body.add_module("flatten", nn.Flatten())
        body.add_module("linear", nn.Linear(wide, wide, bias=False))
        body.add_module("act", activation("hard_swish"))
        self.head = ClassifierHead(
            body,
            wide,
            config.num_classes,
            drop_rate=config.drop_rate,
            bias=config.classifier_bias,
        )
        initialise_(self)
