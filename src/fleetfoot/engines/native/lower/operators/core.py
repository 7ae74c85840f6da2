"""Core ATen's forms of layers: what PyTorch's decompositions and functionalisation call where a
network calls the layer itself. Each is that layer's lowering with its arguments in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators import products, reductions, volumes, windows
from fleetfoot.engines.native.lower.operators.arguments import Operand
from fleetfoot.engines.native.lower.operators.windows import Padded
from fleetfoot.engines.native.lower.values import Value


def convolution(
    build: Builder,
    x: Value,
    weight: Operand,
    bias: Operand | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    """Lowers convolution, which is every kind of it in one."""
    kind = len(x.shape) - 3
    if transposed:
        back = (
            windows.transposed_convolution_1d,
            windows.transposed_convolution,
            volumes.transposed_convolution_3d,
        )[kind]
        return back(build, x, weight, bias, stride, padding, output_padding, groups, dilation)
    forth = (windows.convolution_1d, windows.convolution, volumes.convolution_3d)[kind]
    return forth(build, x, weight, bias, stride, padding, dilation, groups)


def layer_norm(
    build: Builder,
    x: Value,
    shape: Sequence[int],
    weight: Operand | None,
    bias: Operand | None,
    eps: float,
) -> tuple[Value, None, None]:
    return reductions.layer_norm(build, x, shape, weight, bias, eps, False), None, None


def group_norm(
    build: Builder,
    x: Value,
    weight: Operand | None,
    bias: Operand | None,
    batch: int,
    channels: int,
    space: int,
    groups: int,
    eps: float,
) -> tuple[Value, None, None]:
    return reductions.group_norm(build, x, groups, weight, bias, eps, False), None, None


def attention(
    build: Builder,
    q: Operand,
    k: Operand,
    v: Operand,
    dropout: float,
    causal: bool,
    mask: Operand | None,
    scale: float | None,
) -> tuple[Value, None]:
    return products.attention(build, q, k, v, mask, dropout, causal, scale, False), None


def constant_pad(build: Builder, x: Value, amounts: Sequence[int], value: float) -> Value | Padded:
    return windows.pad(build, x, amounts, "constant", value)


def pad(mode: str) -> Callable[..., Value | Padded]:
    def lowered(build: Builder, x: Value, amounts: Sequence[int]) -> Value | Padded:
        return windows.pad(build, x, amounts, mode, None)

    return lowered


OPERATORS: dict[str, Callable[..., Any]] = {
    "convolution.default": convolution,
    "native_layer_norm.default": layer_norm,
    "native_group_norm.default": group_norm,
    "_adaptive_avg_pool2d.default": windows.adaptive_average_pool,
    "_scaled_dot_product_flash_attention_for_cpu.default": attention,
    "constant_pad_nd.default": constant_pad,
    **{f"reflection_pad{n}d.default": pad("reflect") for n in (1, 2, 3)},
    **{f"replication_pad{n}d.default": pad("replicate") for n in (1, 2, 3)},
}
