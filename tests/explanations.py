"""An explanation as a run would leave it: a small network, truly traced, on a machine and with
times of nodes that are written here by hand."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fleetfoot.count.trace import trace
from fleetfoot.engines import EngineInfo, NodeTime
from fleetfoot.explain.explanation import Explanation
from fleetfoot.explain.findings import Finding
from fleetfoot.explain.layers import join
from fleetfoot.machine.machine import Compute, Level, Machine, Rate


def rate(value: float) -> Rate:
    return Rate(value=value, low=0.9 * value, high=1.02 * value, samples=9)


def machine(**changes) -> Machine:
    """One thread at 100 GFLOP/s, and levels at 200, 50, 20 and 10 GB/s."""
    levels = (("L1", 32 << 10, 200e9), ("L2", 1 << 20, 50e9), ("L3", 32 << 20, 20e9),
              ("memory", None, 10e9))  # fmt: skip
    return Machine(
        **{
            **dict(
                cpu="Example CPU @ 2.50GHz", device="cpu", threads=1,
                compute={"float32": Compute(precision="float32", matmul_flops_per_s=rate(80e9),
                                            fma_flops_per_s=rate(100e9))},
                levels=tuple(
                    Level(name=name, capacity_bytes=size, working_set_bytes=(size or 1 << 28) // 2,
                          read_bytes_per_s=rate(speed), copy_bytes_per_s=rate(speed))
                    for name, size, speed in levels
                ),
                region_s=rate(5e-6), elementwise_bytes_per_s=rate(15e9),
                measured_at="2025-01-02T03:00:00+00:00", instruction_set="avx512",
            ),
            **changes,
        }
    )  # fmt: skip


class Block(nn.Module):
    """Depthwise, 1×1, activation, and a sum: (B, 16, H, W) -> (B, 16, H, W)"""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.project = nn.Conv2d(16, 16, 1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.project(self.depthwise(x)))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1))
        self.blocks = nn.Sequential(Block(), Block())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))


TIMES_US = {
    "stem.0": 5.0,
    "blocks.0.depthwise": 4.0,
    "blocks.0.project": 2.0,
    "blocks.1.depthwise": 4.0,
    "blocks.1.project": 2.0,
    "pool": 0.5,
    "head": 2.5,
}
"""By module; 20 µs together. A block's activation and sum run within its 1×1."""


def finding(module: str = "blocks.0.depthwise", price_s: float = 3e-6, **changes) -> Finding:
    row = dict(
        rule="D1", name="depthwise-below-ridge", module=module, number=2.1, bound=10.0,
        unit="flop/byte", price_s=price_s,
        text=f"{module}: 2.1 FLOP/byte, below this machine's ridge of 10.",
        change="Send fewer channels through it.",
    )  # fmt: skip
    return Finding(**{**row, **changes})


def explanation(**changes) -> Explanation:
    """Three runs alike, of 21 µs, of which the nodes are 20."""
    model = Network().eval()
    example = torch.empty(1, 3, 32, 32, device="meta")
    traced = trace(model, example)
    nodes = []
    for module, time_us in TIMES_US.items():
        block = module.removesuffix(".project")
        held = (module, f"{block}.act", block) if block != module else (module,)
        nodes.append(
            NodeTime(name=f"conv {module}", kind="conv", modules=held, seconds=time_us / 1e6)
        )
    where = changes.pop("machine", machine())
    row = dict(
        model="example_net", folded=True,
        engine=EngineInfo(name="native", version="0.1.0", threads=1, precision="float32",
                          layout="nchw", device="cpu"),
        batch=1, input_shape=(1, 3, 32, 32), params=traced.params, macs=traced.macs,
        latency_s=2.1e-5, p90_s=2.1e-5, ci95_s=(2.1e-5, 2.1e-5), samples_s=(2.1e-5,) * 3,
        steady=True, layers=join(traced, [tuple(nodes)] * 3, where), unmapped=(), unmapped_s=0.0,
        machine=where, trace_note="", findings=(finding(), finding("head", 1e-6)),
        started="2025-01-02T03:04:05+00:00", versions={"fleetfoot": "0.1.0"}, commit="b254d22",
    )  # fmt: skip
    return Explanation(**{**row, **changes})


def renamed(found: Explanation, old: str, new: str) -> Explanation:
    """With ``new`` in place of a module's path, wherever a layer or a finding names it."""
    return replace(
        found,
        layers=tuple(
            replace(layer, module=new if layer.module == old else layer.module)
            for layer in found.layers
        ),
        findings=tuple(
            replace(one, module=new if one.module == old else one.module) for one in found.findings
        ),
    )
