"""For each rule, a network that breaks it, and the same network with the change made.

``docs/rules.md`` shows them; ``explain.price_check`` runs both and compares what the change saves
with the price. Each is ``REPEATS`` blocks, so that the broken part is most of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.machine.machine import Compute, Level, Machine, Rate
from fleetfoot.ops.pconv import PConv
from fleetfoot.ops.squeeze_excite import SqueezeExcite

REPEATS = 4
Shape = tuple[int, int, int, int]


def _rate(value: float) -> Rate:
    return Rate(value=value, low=value, high=value, samples=1)


ROUND = Machine(
    cpu="round numbers",
    device="cpu",
    threads=2,
    compute={"float32": Compute(precision="float32", matmul_flops_per_s=_rate(100e9))},
    levels=(
        Level(
            name="memory",
            capacity_bytes=None,
            working_set_bytes=1 << 28,
            read_bytes_per_s=_rate(10e9),
            copy_bytes_per_s=_rate(10e9),
        ),
    ),
    region_s=_rate(5e-6),
    elementwise_bytes_per_s=_rate(10e9),
    measured_at="2000-01-01T00:00:00+00:00",
    instruction_set="avx512",
)
"""A machine that does not exist, for counting by hand: 100 GFLOP/s, 10 GB/s, 5 µs a start."""


class Unequal(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(16, 256, 1), nn.Conv2d(256, 16, 1))


class Equal(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 1))


class Grouped(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(256, 256, 1, groups=16))


class Ungrouped(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(64, 64, 1))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(64, 16, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class OneBranch(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(64, 64, 1))


class ActivationFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.relu(x))


class ActivationAfter(ActivationFirst):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv(x))


class NormFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(64)
        self.conv = nn.Conv2d(64, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.norm(x))


class NormFolded(ActivationFirst):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Attention(nn.Module):
    def __init__(self, pool: int = 1) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(pool)
        self.qkv = nn.ModuleList(nn.Conv2d(64, 64, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        kept = self.pool(x)
        q, k, v = (conv(m) for conv, m in zip(self.qkv, (x, kept, kept), strict=True))
        q, k, v = (m.reshape(len(x), 2, 32, -1).transpose(-2, -1) for m in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + mixed.transpose(-2, -1).reshape(x.shape)


class PooledAttention(Attention):
    def __init__(self) -> None:
        super().__init__(pool=4)


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.first, self.second):
            half, rest = x.chunk(2, dim=1)
            x = F.channel_shuffle(torch.cat((conv(half), rest), dim=1), 2)
        return x


class Alternating(Shuffled):
    def forward(self, x: Tensor) -> Tensor:
        half, rest = x.chunk(2, dim=1)
        return torch.cat((self.first(half), self.second(rest)), dim=1)


class InvertedResidual(nn.Module):
    def __init__(self, mix: nn.Module | None = None, depthwise: bool = True) -> None:
        super().__init__()
        wide = nn.Conv2d(144, 144, 3, padding=1, groups=144)
        self.layers = nn.Sequential(
            nn.Identity() if mix is None else mix,
            nn.Conv2d(24, 144, 1),
            wide if depthwise else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(144, 24, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PartialResidual(InvertedResidual):
    def __init__(self) -> None:
        super().__init__(mix=PConv(24), depthwise=False)


class Permuted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.linear(x.permute(0, 2, 3, 1).contiguous())
        return F.relu(tokens.permute(0, 3, 1, 2).contiguous())


class InOrder(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(64, 64, 1), nn.ReLU())


class Excited(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(64, 64, 1), nn.ReLU(), SqueezeExcite(64, 16))


class EmptyLanes(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(64, 36, 3, padding=1), nn.Conv2d(36, 64, 3, padding=1))


class FullLanes(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(48, 48, 3, padding=1), nn.Conv2d(48, 48, 3, padding=1))


class Pooled(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(64, 64, 1), nn.AvgPool2d(3, 1, 1))


class Decayed(nn.Sequential):
    def __init__(self) -> None:
        conv = nn.Conv2d(64, 64, 1)
        super().__init__(conv)
        with torch.no_grad():
            conv.weight[:, ::2] *= 1e-39


@dataclass(frozen=True, kw_only=True)
class Example:
    rule: str
    """Code of the rule."""
    broken: type[nn.Module]
    """Class of a block that breaks the rule."""
    shape: Shape
    mended: type[nn.Module] | None = None
    """Class of the block with the change made; None if the change is not to the network."""
    mended_shape: Shape | None = None
    """Shape of the mended block's input, if the widths differ."""
    times_floor: float = 0.0
    """Times its floor that a layer is said to have taken, for a rule that needs measured times."""
    engine_note: str = ""
    """Note of the engine, for a rule that needs one."""
    denormals: bool = False
    """Whether the rule looks at the numbers themselves."""

    def networks(self) -> tuple[tuple[nn.Module, Tensor], tuple[nn.Module, Tensor]]:
        """The broken and the mended network with an input each: ``REPEATS`` blocks in eval mode,
        weights from a fixed seed. If the widths differ, both read an image and give a mean, so that
        no engine pays at the border for the wider one.

        Raises:
            ValueError: there is no mended block.
        """
        if self.mended is None:
            raise ValueError(f"rule {self.rule} has no example with the change made")
        if self.mended_shape is None:
            example = torch.zeros(self.shape)
            return (repeated(self.broken), example), (repeated(self.mended), example)
        image = torch.zeros(self.shape[0], 3, *self.shape[2:])
        return (
            (repeated(self.broken, width=self.shape[1]), image),
            (repeated(self.mended, width=self.mended_shape[1]), image),
        )


def repeated(block: Callable[[], nn.Module], *, width: int = 0) -> nn.Module:
    """``REPEATS`` blocks; with ``width``, placed between a convolution of 3 channels and a mean."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = [block() for _ in range(REPEATS)]
        if width:
            blocks = [nn.Conv2d(3, width, 1), *blocks, nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*blocks).eval()


LARGE = (1, 64, 56, 56)
EXAMPLES: dict[str, Example] = {
    one.rule: one
    for one in (
        Example(
            rule="G1",
            broken=Unequal,
            shape=(1, 16, 112, 112),
            mended=Equal,
            mended_shape=(1, 64, 112, 112),
        ),
        Example(
            rule="G2",
            broken=Grouped,
            shape=(1, 256, 28, 28),
            mended=Ungrouped,
            mended_shape=(1, 64, 28, 28),
        ),
        Example(rule="G3", broken=Branches, shape=LARGE, mended=OneBranch),
        Example(rule="G4", broken=ActivationFirst, shape=LARGE, mended=ActivationAfter),
        Example(rule="A1", broken=Attention, shape=(1, 64, 28, 28), mended=PooledAttention),
        Example(rule="B1", broken=NormFirst, shape=LARGE, mended=NormFolded),
        Example(rule="C1", broken=Shuffled, shape=(1, 128, 56, 56), mended=Alternating),
        Example(rule="D1", broken=InvertedResidual, shape=(1, 24, 56, 56), mended=PartialResidual),
        Example(
            rule="E1", broken=Pooled, shape=LARGE, times_floor=2, engine_note="outside XNNPACK: "
            "4 aten.avg_pool2d.default",
        ),
        Example(rule="F1", broken=Grouped, shape=(1, 256, 28, 28), times_floor=10),
        Example(rule="L1", broken=Permuted, shape=LARGE, mended=InOrder),
        Example(rule="N1", broken=Decayed, shape=LARGE, times_floor=100, denormals=True),
        Example(rule="S1", broken=Excited, shape=LARGE, mended=InOrder),
        Example(
            rule="V1",
            broken=EmptyLanes,
            shape=LARGE,
            mended=FullLanes,
            mended_shape=(1, 48, 56, 56),
        ),
    )
}  # fmt: skip
