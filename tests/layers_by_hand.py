"""A machine of round numbers, a network small enough to count, and engines that take the times they
are told."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fleetfoot.engines import Engine, NodeTime, Options
from fleetfoot.machine.machine import Compute, Level, Machine, Rate


def exactly(value: float) -> Rate:
    return Rate(value=value, low=value, high=value, samples=1)


def machine(threads: int = 1) -> Machine:
    """100 GFLOP/s; 1000 bytes at 200 GB/s, 10,000 at 100, the rest at 20; 1 µs a start."""
    levels = (("L1", 1000, 200e9), ("L2", 10_000, 100e9), ("memory", None, 20e9))
    return Machine(
        cpu="by hand",
        device="cpu",
        threads=threads,
        compute={"float32": Compute(precision="float32", matmul_flops_per_s=exactly(100e9))},
        levels=tuple(
            Level(
                name=name,
                capacity_bytes=capacity,
                working_set_bytes=1,
                read_bytes_per_s=exactly(rate),
                copy_bytes_per_s=exactly(rate / 2),
            )
            for name, capacity, rate in levels
        ),
        region_s=exactly(1e-6),
        elementwise_bytes_per_s=exactly(20e9),
        measured_at="2026-01-01T00:00:00+00:00",
    )


class Block(nn.Module):
    """(B, 4, H, W) -> (B, 4, H, W)"""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) + x


class Net(nn.Module):
    """(B, 4, H, W) -> (B, 3)"""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(x).mean((2, 3)))


X = torch.zeros(1, 4, 8, 8)
"""256 values, 1024 bytes."""


def node(name: str, *modules: str, us: float, **more: object) -> NodeTime:
    return NodeTime(name=name, kind="test", modules=modules, seconds=us * 1e-6, **more)


NODES = (
    node("a", "block.conv", "block.act", "block", us=10),
    node("b", "", us=3),
    node("c", "fc", us=2),
    node("d", us=1),  # of which the engine does not tell the module
)


class Told(Engine):
    """Answers zeros; its profiles are those of ``runs``, over and over."""

    name = "eager"
    package = "torch"

    def __init__(self, *runs, model=None, example=X):
        super().__init__(model or Net(), example, Options())
        self.runs, self.calls = runs, 0

    @classmethod
    def missing(cls):
        return None

    def _run(self, inputs):
        return torch.zeros(len(inputs[0]), 3)

    def _profile(self, inputs):
        self.calls += 1
        return list(self.runs[(self.calls - 1) % len(self.runs)])


class Seconds:
    """A clock on which every call takes ``seconds``, and ``more`` than the call before it."""

    def __init__(self, seconds: float, more: float = 0.0) -> None:
        self.seconds, self.more, self.calls = seconds, more, 0

    def time(self, call) -> float:
        call()
        self.calls += 1
        return self.seconds + self.more * (self.calls - 1)
