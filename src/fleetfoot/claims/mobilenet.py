"""MobileNetV1's claims: what depthwise separable convolutions and the two multipliers save.

Howard et al. 2017, https://arxiv.org/abs/1704.04861, sections 3.1 to 3.4, tables 4, 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fleetfoot.claims.base import Claim, Experiment, Ratio, Subject
from fleetfoot.models import create_model
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.ops.separable import DepthwiseSeparable

PAPER = "MobileNetV1 (https://arxiv.org/abs/1704.04861)"
LAYERS = ((128, 56), (256, 28), (512, 14), (1024, 7))
"""Channels, and height and width, of the network's blocks with stride 1."""
BLOCKS = 2
BODY = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Channels and stride of each block, from table 1."""
ALPHAS = (
    ("mobilenetv1_075", 0.75, 325e6),
    ("mobilenetv1_050", 0.5, 149e6),
    ("mobilenetv1_025", 0.25, 41e6),
)
RHOS = ((192, 418e6), (160, 290e6), (128, 186e6))
WHOLE = "mobilenetv1_100"
WHOLE_MACS, PLAIN_MACS = 569e6, 4866e6


def plain_network() -> nn.Module:
    """MobileNet with a plain 3×3 convolution for every separable block (table 4).
    (B, 3, H, W) -> (B, 1000)"""
    layers = [conv_norm_act(3, 32, 3, stride=2)]
    channels = 32
    for width, stride in BODY:
        layers.append(conv_norm_act(channels, width, 3, stride=stride))
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def separable() -> Claim:
    return Claim(
        name="separable",
        source=f"{PAPER}, sections 3.1 to 3.4, tables 4, 6 and 7",
        asserts="A depthwise separable convolution needs 1/N + 1/K² of the MACs of a plain one of "
        "N "
        "outputs; the width multiplier α takes them by about α², the resolution multiplier ρ by "
        "ρ². "
        "Whether the time falls alike is what is asked here.",
        method=f"stacks of {BLOCKS} blocks, and whole networks, folded, batch 1; the predicted "
        "ratio "
        "of MACs is held against the ratio of times.",
        experiments=(
            *(_layers(channels, size) for channels, size in LAYERS),
            _whole(),
            _alpha(),
            _rho(),
        ),
    )


def _layers(channels: int, size: int) -> Experiment:
    place = f"{channels}×{size}²"
    kinds: dict[str, Callable[[], nn.Module]] = {
        f"plain, {place}": lambda: conv_norm_act(channels, channels, 3),
        f"separable, {place}": lambda: DepthwiseSeparable(channels, channels),
    }
    plain, light = kinds
    return Experiment(
        name=place,
        subjects=tuple(
            Subject(name=name, build=_stack(block), size=size, channels=channels)
            for name, block in kinds.items()
        ),
        ratios=(
            Ratio(
                text=f"plain / separable, {place}",
                over=plain,
                under=light,
                published={"1 / (1/N + 1/K²)": 1 / (1 / channels + 1 / 9)},
                judged_by="1 / (1/N + 1/K²)",
            ),
        ),
    )


def _stack(block: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(block() for _ in range(BLOCKS)))


def _whole() -> Experiment:
    plain, light = "plain network", WHOLE
    return Experiment(
        name="whole network",
        subjects=(
            Subject(name=plain, build=plain_network, size=224, published_macs=PLAIN_MACS),
            _network(WHOLE, 224, WHOLE_MACS),
        ),
        ratios=(
            Ratio(
                text=f"{plain} / {light}",
                over=plain,
                under=light,
                published={"MACs, table 4": PLAIN_MACS / WHOLE_MACS},
                judged_by="MACs, table 4",
            ),
        ),
    )


def _alpha() -> Experiment:
    whole = f"{WHOLE}, α 1"
    return Experiment(
        name="width multiplier",
        subjects=(
            _network(WHOLE, 224, WHOLE_MACS, label=whole),
            *(_network(name, 224, macs) for name, _, macs in ALPHAS),
        ),
        ratios=tuple(
            Ratio(
                text=f"α 1 / α {alpha:g}",
                over=whole,
                under=name,
                published={"1/α²": alpha**-2, "MACs, table 6": WHOLE_MACS / macs},
                judged_by="1/α²",
            )
            for name, alpha, macs in ALPHAS
        ),
    )


def _rho() -> Experiment:
    whole = f"{WHOLE}, 224 pixels"
    return Experiment(
        name="resolution multiplier",
        subjects=(
            _network(WHOLE, 224, WHOLE_MACS, label=whole),
            *(_network(WHOLE, size, macs, label=f"{WHOLE}, {size} pixels") for size, macs in RHOS),
        ),
        ratios=tuple(
            Ratio(
                text=f"224 / {size} pixels",
                over=whole,
                under=f"{WHOLE}, {size} pixels",
                published={"1/ρ²": (224 / size) ** 2, "MACs, table 7": WHOLE_MACS / macs},
                judged_by="1/ρ²",
            )
            for size, macs in RHOS
        ),
    )


def _network(name: str, size: int, macs: float, label: str = "") -> Subject:
    def build() -> nn.Module:
        return create_model(name)

    return Subject(name=label or name, build=build, size=size, published_macs=macs)
