"""The tables of ``docs/counting.md``, every figure counted by ``count.trace``.

    python -m tools.counting docs/counting.md benchmarks/other-counters.json

The formulas are shown beside the counts and compared with them here: a formula that does not hold
is an error.

C Ci Co channels · M bottleneck channels · H W space · K kernel · g groups · P convolved channels
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fleetfoot.count import Trace, count
from fleetfoot.models import create_model
from fleetfoot.ops.pconv import PConv, TShapedConv
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.transform import fuse

CHANNELS, SIDE, KERNEL, GROUPS, RATIO = 192, 28, 3, 16, 4
"""Channels and size of the layers in the table; FasterNet's table 1 has this width at this size."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is aligned left, figures right."""
    return "\n".join(markdown_table(head, rows))


@dataclass(frozen=True)
class Layer:
    """A layer, the values of its formulas, and how the formulas are written."""

    name: str
    module: nn.Module
    params: tuple[str, int]
    macs: tuple[str, int]
    elements: tuple[str, int] | None
    """Memory access; None if eager torch has no single operator for the layer."""
    in_features: bool = False
    """Whether the layer takes (B, C) instead of (B, C, H, W)."""


def _conv(ci: int, co: int, kernel: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(ci, co, kernel, padding=kernel // 2, groups=groups, bias=False)


def layers() -> list[Layer]:
    """The layers of the table, at Ci = Co = C, without biases."""
    c, k, g, hw = CHANNELS, KERNEL, GROUPS, SIDE * SIDE
    p = c // RATIO
    maps = 2 * hw * c
    pconv = PConv(c, ratio=RATIO, kernel=k)
    one = _conv(c, c)
    return [
        Layer(
            "convolution",
            _conv(c, c, k),
            ("K²·Ci·Co", k * k * c * c),
            ("K²·Ci·Co·H·W", k * k * c * c * hw),
            ("H·W·(Ci + Co) + K²·Ci·Co", maps + k * k * c * c),
        ),
        Layer(
            f"grouped, g = {g}",
            _conv(c, c, k, g),
            ("K²·Ci·Co/g", k * k * c * c // g),
            ("K²·Ci·Co·H·W/g", k * k * c * c * hw // g),
            ("H·W·(Ci + Co) + K²·Ci·Co/g", maps + k * k * c * c // g),
        ),
        Layer(
            "depthwise",
            _conv(c, c, k, c),
            ("K²·C", k * k * c),
            ("K²·C·H·W", k * k * c * hw),
            ("2·H·W·C + K²·C", maps + k * k * c),
        ),
        Layer(
            "pointwise",
            _conv(c, c),
            ("Ci·Co", c * c),
            ("Ci·Co·H·W", c * c * hw),
            ("H·W·(Ci + Co) + Ci·Co", maps + c * c),
        ),
        Layer(
            "depthwise separable",
            nn.Sequential(_conv(c, c, k, c), _conv(c, c)),
            ("K²·Ci + Ci·Co", k * k * c + c * c),
            ("H·W·(K²·Ci + Ci·Co)", hw * (k * k * c + c * c)),
            ("H·W·(3·Ci + Co) + weights", 2 * maps + k * k * c + c * c),
        ),
        Layer(
            f"PConv, P = C/{RATIO}: its convolution",
            pconv.conv,
            ("K²·P²", k * k * p * p),
            ("H·W·K²·P²", hw * k * k * p * p),
            ("2·H·W·P + K²·P²", 2 * hw * p + k * k * p * p),
        ),
        Layer(
            "PConv in eager torch, with its concat",
            pconv,
            ("K²·P²", k * k * p * p),
            ("H·W·K²·P²", hw * k * k * p * p),
            ("2·H·W·P + K²·P² + 2·H·W·C", 2 * hw * p + k * k * p * p + maps),
        ),
        Layer(
            "PConv, then pointwise",
            nn.Sequential(pconv, one),
            ("K²·P² + C²", k * k * p * p + c * c),
            ("H·W·(K²·P² + C²)", hw * (k * k * p * p + c * c)),
            (
                "the two above, and a pointwise",
                2 * hw * p + k * k * p * p + maps + maps + c * c,
            ),
        ),
        Layer(
            "the same as one T-shaped kernel",
            TShapedConv(c, c, ratio=RATIO, kernel=k),
            ("K²·P·C + (C - P)·C", k * k * p * c + (c - p) * c),
            ("H·W·(K²·P·C + C·(C - P))", hw * (k * k * p * c + c * (c - p))),
            None,
        ),
        Layer(
            "linear",
            nn.Linear(c, c, bias=False),
            ("Ci·Co", c * c),
            ("Ci·Co", c * c),
            ("Ci + Co + Ci·Co", 2 * c + c * c),
            in_features=True,
        ),
    ]


def _traced(layer: Layer) -> Trace:
    p = CHANNELS // RATIO
    partial = isinstance(layer.module, nn.Conv2d) and layer.module.in_channels == p
    channels = p if partial else CHANNELS
    shape = (1, channels) if layer.in_features else (1, channels, SIDE, SIDE)
    return count(layer.module, torch.empty(shape, device="meta"))


def layer_tables() -> str:
    """Tables of the formulas, then of the figures.

    Raises:
        ValueError: a formula gives another figure than the trace.
    """
    found = []
    for layer in layers():
        made = _traced(layer)
        _same(f"{layer.name}: params", layer.params[1], made.params)
        _same(f"{layer.name}: MACs", layer.macs[1], made.macs)
        if layer.elements:
            _same(f"{layer.name}: elements", layer.elements[1], made.memory_access_elements)
        found.append((layer, made))
    plain = found[0][1]
    formulas = table(
        ("layer", "params", "MACs", "memory access, elements"),
        (
            (
                a.name,
                a.params[0],
                a.macs[0],
                a.elements[0] if a.elements else "one kernel: see text",
            )
            for a, _ in found
        ),
    )
    figures = table(
        (
            "layer",
            "params",
            "MACs",
            "exact FLOPs",
            "elements",
            "MACs ÷ convolution's",
            "elements ÷ convolution's",
        ),
        (
            (
                layer.name,
                f"{made.params:,}",
                f"{made.macs:,}",
                f"{made.exact_flops:,}",
                f"{made.memory_access_elements:,}" if layer.elements else "-",
                f"{made.macs / plain.macs:.4f}",
                f"{made.memory_access_elements / plain.memory_access_elements:.3f}"
                if layer.elements
                else "-",
            )
            for layer, made in found
        ),
    )
    return (
        f"{formulas}\n\nCounted at C = {CHANNELS}, H = W = {SIDE}, K = {KERNEL}, g = {GROUPS}; "
        f"the formulas agree to the last digit:\n\n{figures}"
    )


def _same(what: str, formula: int, counted: int) -> None:
    if formula != counted:
        raise ValueError(f"{what}: the formula gives {formula:,}, the trace {counted:,}")


def laws() -> str:
    """A table of ratios that follow from the formulas, with the counted ones."""
    c, k, hw = CHANNELS, KERNEL, SIDE * SIDE

    def run(module: nn.Module, channels: int = c) -> Trace:
        return count(module, torch.empty(1, channels, SIDE, SIDE, device="meta"))

    plain = run(_conv(c, c, k))
    separable = run(nn.Sequential(_conv(c, c, k, c), _conv(c, c)))
    partial = run(_conv(c // RATIO, c // RATIO, k), c // RATIO)
    maps = (plain.memory_access_elements - k * k * c * c) // (2 * hw)
    partial_maps = (partial.memory_access_elements - partial.params) // (2 * hw)
    wide = 6 * c
    widened = run(_conv(wide, wide, k, wide), wide)
    rows = (
        ("depthwise separable / convolution, MACs", "1/Co + 1/K²", 1 / c + 1 / k**2,
         separable.macs / plain.macs),
        ("PConv / convolution, MACs", f"1/{RATIO}²", 1 / RATIO**2, partial.macs / plain.macs),
        ("PConv / convolution, elements of the maps", f"1/{RATIO}", 1 / RATIO,
         partial_maps / maps),
        ("depthwise at 6·C / convolution at C, elements of the maps", "6", 6.0,
         (widened.memory_access_elements - widened.params)
         / (plain.memory_access_elements - plain.params)),
        ("depthwise at 6·C / convolution at C, MACs", "6/C", 6 / c, widened.macs / plain.macs),
    )  # fmt: skip
    for name, _, law, counted in rows:
        if abs(law - counted) > 1e-12:
            raise ValueError(f"{name}: the law gives {law}, the trace {counted}")
    return table(
        ("ratio", "law", "counted"),
        ((name, law, f"{counted:.5g}") for name, law, _, counted in rows),
    )


MOBILENET_V1 = {
    (1.0, 224): 569, (1.0, 192): 418, (1.0, 160): 290, (1.0, 128): 186,
    (0.75, 224): 325, (0.5, 224): 149, (0.5, 160): 76, (0.25, 224): 41,
}  # fmt: skip
"""Millions of multiply-adds by α and ρ·224, from MobileNetV1's tables 6, 7 and 8."""


def multipliers() -> str:
    """A table of the width multiplier α and the resolution multiplier ρ: work falls about as α²
    and ρ²."""
    rows = []
    with torch.device("meta"):
        full = count(create_model("mobilenetv1_100"), torch.empty(1, 3, 224, 224)).macs
        for (alpha, size), published in MOBILENET_V1.items():
            name = f"mobilenetv1_{round(100 * alpha):03d}"
            made = count(create_model(name), torch.empty(1, 3, size, size))
            rho = size / 224
            rows.append(
                (
                    f"α = {alpha:g}, ρ = {rho:.3g} ({size} px)",
                    f"{made.params:,}",
                    f"{made.macs:,}",
                    f"{published} M",
                    f"{made.macs / full:.3f}",
                    f"{alpha**2 * rho**2:.3f}",
                )
            )
    return table(("MobileNetV1", "params", "MACs", "paper", "of the full", "α²·ρ²"), rows)


def shuffle_units() -> str:
    """A table of bottlenecks of ResNet, ResNeXt and ShuffleNet at equal C and M.

    Raises:
        ValueError: a formula gives another figure than the trace.
    """
    c, m, g, hw = 240, 60, 3, SIDE * SIDE
    units = (
        ("ResNet bottleneck", "H·W·(2·C·M + 9·M²)", hw * (2 * c * m + 9 * m * m), 1, 1),
        ("ResNeXt, g = 3", "H·W·(2·C·M + 9·M²/g)", hw * (2 * c * m + 9 * m * m // g), 1, g),
        ("ShuffleNet unit, g = 3", "H·W·(2·C·M/g + 9·M)", hw * (2 * c * m // g + 9 * m), g, m),
    )
    rows = []
    for name, text, formula, pointwise, spatial in units:
        module = nn.Sequential(
            _conv(c, m, 1, pointwise), _conv(m, m, 3, spatial), _conv(m, c, 1, pointwise)
        )
        made = count(module, torch.empty(1, c, SIDE, SIDE, device="meta"))
        _same(name, formula, made.macs)
        rows.append((name, text, f"{made.macs:,}", f"{made.memory_access_elements:,}"))
    return f"At C = {c}, M = {m}, H = W = {SIDE}:\n\n" + table(
        ("unit", "MACs", "counted", "elements"), rows
    )


PUBLISHED = (
    ("fasternet_t0", 224, "3.9 M", "0.34 G", "readme"),
    ("fasternet_t1", 224, "7.6 M", "0.85 G", "readme"),
    ("fasternet_t2", 224, "15.0 M", "1.90 G", "readme; paper 1.91"),
    ("fasternet_s", 224, "31.1 M", "4.55 G", "readme; paper 4.56"),
    ("fasternet_m", 224, "53.5 M", "8.72 G", "readme; paper 8.74"),
    ("fasternet_l", 224, "93.4 M", "15.49 G", "readme; paper 15.52"),
    ("mobileone_s0, folded", 224, "2.1 M", "275 M", "paper"),
    ("mobilenetv1_100", 224, "4.2 M", "569 M", "paper"),
    ("mobilenetv2_100", 224, "3.4 M", "300 M", "paper"),
    ("mobilenetv2_140", 224, "6.9 M", "585 M", "paper"),
    ("mobilenetv3_large_100", 224, "5.4 M", "219 M", "paper"),
    ("mobilenetv3_small_100", 224, "2.9 M", "66 M", "paper"),
    ("shufflenet_v1_g1_x1_0", 224, "-", "143 M", "paper"),
    ("shufflenet_v1_g3_x1_0", 224, "-", "137 M", "paper"),
    ("shufflenet_v1_g8_x1_0", 224, "-", "137 M", "paper"),
    ("shufflenet_v2_x0_5_authors", 224, "1.4 M", "41 M", "paper"),
    ("shufflenet_v2_x1_0_authors", 224, "2.3 M", "146 M", "paper"),
    ("shufflenet_v2_x1_5_authors", 224, "3.5 M", "299 M", "paper"),
    ("shufflenet_v2_x2_0_authors", 224, "7.4 M", "591 M", "paper"),
    ("shufflenet_v2_plus_large", 224, "6.7 M", "360 M", "readme"),
    ("cyclemlp_b1", 224, "15 M", "2.1 G", "readme"),
    ("cyclemlp_b2", 224, "27 M", "3.9 G", "readme"),
    ("micronet_m0", 224, "1.0 M", "4 M", "readme"),
    ("micronet_m3", 224, "2.6 M", "21 M", "readme"),
    ("mobile_former_26m", 224, "3.2 M", "26 M", "readme"),
    ("mobile_former_294m", 224, "11.4 M", "294 M", "readme"),
    ("mobile_former_508m", 224, "14.0 M", "508 M", "readme"),
    ("torchvision:resnet50", 224, "25,557,032", "4.089 G", "torchvision"),
    ("torchvision:convnext_tiny", 224, "-", "4.456 G", "torchvision"),
    ("torchvision:swin_t", 224, "-", "4.491 G", "torchvision"),
)
"""Network, pixels, and the parameters and operations that its authors or library print."""


def published() -> str:
    """A table of our counts beside those that the papers print."""
    rows = []
    for name, size, params, macs, source in PUBLISHED:
        made = _counted(name, size)
        rows.append((name, f"{made.params:,}", params, f"{made.macs:,}", macs, source))
    return table(("network", "params", "printed", "MACs", "printed", "where"), rows)


def _counted(name: str, size: int) -> Trace:
    """The trace of a network, built without weights if its library can do that."""
    bare, comma, _ = name.partition(", folded")
    if comma:  # folding computes with the weights, and checks itself on an image of 64 pixels
        model = fuse(create_model(bare), torch.zeros(1, 3, 64, 64)).model
        return count(model, torch.empty(1, 3, size, size, device="meta"))
    try:
        with torch.device("meta"):
            model = create_model(name)
    except (NotImplementedError, RuntimeError):
        model = create_model(name)
    return count(model, torch.empty(1, 3, size, size, device="meta"))


def _biases(trace: Trace) -> int:
    """Number of outputs of convolutions and linear layers that a bias is added to."""
    total = 0
    for op in trace.operators:
        if op.name in ("aten.convolution", "aten.addmm") and len(op.input_shapes) == 3:
            out = 1
            for side in op.shape:
                out *= side
            total += out
    return total


PRODUCTS = ("conv", "linear", "matmul", "bmm", "einsum", "addmm")
"""fvcore's names for operations that we count as MACs."""


def other_counters(record: dict[str, Any]) -> str:
    """A table of other programs' counts beside ours, with each difference divided by its causes."""
    rows = []
    for row in record["rows"]:
        ours = _counted(row["model"], row["size"])
        kinds = row["fvcore_by_operator"]
        attention = ours.macs - sum(kinds.get(kind, 0) for kind in PRODUCTS)
        norms = sum(n for kind, n in kinds.items() if kind.endswith("_norm"))
        pools = sum(n for kind, n in kinds.items() if "pool" in kind)
        biases = _biases(ours)
        rows.append(
            (
                row["model"],
                f"{ours.macs:,}",
                f"{row['fvcore'] - ours.macs:+,}",
                f"{norms:,}",
                f"{pools:,}",
                f"{-attention:,}" if attention else "0",
                f"{row['fvcore'] - (ours.macs - attention + norms + pools):,}",
                f"{row['ptflops_aten'] - ours.macs:+,}",
                f"{biases:,}",
                f"{row['ptflops_aten'] - (ours.macs - attention + biases):,}",
                f"{row['ptflops_pytorch'] - ours.macs:+,}",
                f"{row['torch'] - ours.macs:+,}",
            )
        )
    head = (
        "network", "our MACs", "fvcore", "norms", "pooling", "fused attention", "unexplained",
        "ptflops, ATen", "biases", "unexplained", "ptflops, modules", "torch",
    )  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"By {versions}; differences from our count:\n\n{table(head, rows)}"


def markdown(record: dict[str, Any]) -> str:
    """All generated tables with their headings."""
    return "\n\n".join(
        (
            "### Layers",
            layer_tables(),
            "### What follows from them",
            laws(),
            "### Width and resolution multipliers",
            multipliers(),
            "### The ShuffleNet unit",
            shuffle_units(),
            "### Published figures",
            published(),
            "### Other counters",
            other_counters(record),
        )
    )


def main(document: str, record: str) -> None:
    """Puts the tables between the markers of ``document``."""
    text = markdown(json.loads(Path(record).read_text()))
    changed = update_between_markers(document, text)
    print(f"{document}: {'updated' if changed else 'already what the code gives'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
