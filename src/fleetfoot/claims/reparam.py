"""The claims of FastViT and MobileOne: what folding gains at inference, and where attention pays.

Vasu et al. 2023, "FastViT", https://arxiv.org/abs/2303.14189, sections 3.2 and 3.3, and
"MobileOne", https://arxiv.org/abs/2206.04040, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from fleetfoot.claims.base import Claim, Experiment, Ratio, Subject
from fleetfoot.models import create_model
from fleetfoot.ops.attention import Attention

FASTVIT = "FastViT (https://arxiv.org/abs/2303.14189)"
MOBILEONE = "MobileOne (https://arxiv.org/abs/2206.04040)"
GPU = "RTX 4090 (timm)"
"""Column of images a second of the folded network over those of the training form: batch 1024,
mixed precision, from timm's tables for PyTorch 2.9 and 2.4. Neither paper prints such a ratio."""
VARIANTS: tuple[tuple[str, int, float, bool], ...] = (
    # name, size, timm's ratio, spare
    ("mobileone_s0", 224, 5.32, False),
    ("mobileone_s1", 224, 2.37, False),
    ("fastvit_t8", 256, 1.89, False),
    ("fastvit_sa12", 256, 1.75, False),
    ("mobileone_s2", 224, 2.33, True),
    ("mobileone_s3", 224, 2.31, True),
    ("mobileone_s4", 224, 2.19, True),
    ("fastvit_t12", 256, 1.88, True),
    ("fastvit_s12", 256, 1.80, True),
    ("fastvit_sa24", 256, 1.75, True),
    ("fastvit_sa36", 256, 1.75, True),
    ("fastvit_ma36", 256, 1.73, True),
)
STAGES = ((64, 64), (128, 32), (256, 16), (512, 8))
"""Channels, and height and width, of FastViT-S12's stages at 256 pixels."""
STACK = 10


class WithSkip(nn.Module):
    """A module with a skip connection: x + f(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def depthwise(channels: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


def with_skip(channels: int) -> WithSkip:
    return WithSkip(depthwise(channels))


def reparam() -> Claim:
    return Claim(
        name="reparam",
        source=f"{FASTVIT}, section 3.2; {MOBILEONE}, section 3; ratios from timm's tables",
        asserts="The folded network is faster than its training form, which gives the same output.",
        method="batch 1. The training form runs in eval mode with its batch norms and branches in "
        "place, so an engine that folds some of them by itself shows less. The direction alone is "
        "judged: no paper prints the ratio, and timm's is of a GPU.",
        experiments=tuple(
            Experiment(
                name=name,
                subjects=(
                    Subject(
                        name=f"{name}, training form", build=_network(name), size=size, fold=False
                    ),
                    Subject(name=f"{name}, folded", build=_network(name), size=size),
                ),
                ratios=(
                    Ratio(
                        text=f"{name}, training form / folded",
                        over=f"{name}, training form",
                        under=f"{name}, folded",
                        published={GPU: ratio},
                    ),
                ),
                spare=spare,
            )
            for name, size, ratio, spare in VARIANTS
        ),
    )


def repmixer_skip() -> Claim:
    return Claim(
        name="repmixer-skip",
        source=f"{FASTVIT}, section 3.2",
        asserts="Folding RepMixer's skip connection into its depthwise convolution makes it "
        "faster: "
        "the addition costs memory traffic, not arithmetic.",
        method=f"stacks of {STACK} folded RepMixers (a depthwise 3×3 each) at FastViT-S12's "
        "stages, "
        "against the same with x added after each; batch 1. The paper prints no time of the two: "
        "the direction alone is judged.",
        experiments=tuple(
            _against(
                channels, size,
                ("with skip", _stack(partial(with_skip, channels))),
                ("folded", _stack(partial(depthwise, channels))),
            )
            for channels, size in STAGES
        ),
    )  # fmt: skip


def attention() -> Claim:
    whole = Experiment(
        name="last stage",
        subjects=tuple(
            Subject(name=name, build=_network(name), size=256, published={"iPhone 12 Pro ms": ms})
            for name, ms in (("fastvit_sa12", 1.6), ("fastvit_s12", 1.4))
        ),
        ratios=(
            Ratio(
                text="fastvit_sa12 / fastvit_s12",
                over="fastvit_sa12",
                under="fastvit_s12",
                published={"iPhone 12 Pro": 1.6 / 1.4},
                judged_by="iPhone 12 Pro",
            ),
        ),
        spare=True,
    )
    return Claim(
        name="attention",
        source=f"{FASTVIT}, section 3.3; latencies of the authors' repository",
        asserts="Self-attention is dear where maps are large, so a 7×7 depthwise convolution "
        "stands "
        "in for it in the early stages; in the last stage it costs little (SA12 against S12).",
        method="one self-attention against one 7×7 depthwise convolution at each of FastViT-S12's "
        "stages, batch 1: the direction alone is judged; and the two whole networks, folded.",
        experiments=(
            *(
                _against(
                    channels, size,
                    ("attention", partial(Attention, channels)),
                    ("7×7 depthwise", partial(depthwise, channels, 7)),
                )
                for channels, size in STAGES
            ),
            whole,
        ),
    )  # fmt: skip


def _against(
    channels: int,
    size: int,
    over: tuple[str, Callable[[], nn.Module]],
    under: tuple[str, Callable[[], nn.Module]],
) -> Experiment:
    """An experiment with two things at one stage, the slower first."""
    place = f"{channels}×{size}²"
    named = [(f"{name}, {place}", build) for name, build in (over, under)]
    return Experiment(
        name=place,
        subjects=tuple(
            Subject(name=name, build=build, size=size, channels=channels, fold=False)
            for name, build in named
        ),
        ratios=(
            Ratio(text=f"{over[0]} / {under[0]}, {place}", over=named[0][0], under=named[1][0]),
        ),
    )


def _stack(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(layer() for _ in range(STACK)))


def _network(name: str) -> Callable[[], nn.Module]:
    return lambda: create_model(name)
