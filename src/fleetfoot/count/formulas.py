"""Multiply-accumulates of an operator from its shapes: one short function each, by ATen name.

A multiply and its add are one MAC, the figure that most papers print as "FLOPs". Biases, norms,
activations and pooling are not MACs here, as in the published tables; they move bytes all the same.
Formulas: FasterNet (https://arxiv.org/abs/2303.03667) section 3.1, ShuffleNetV2
(https://arxiv.org/abs/1807.11164) section 3.

B batch · C channels · H W space · K kernel · M K N the sides of a matrix product
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fleetfoot.count import vocabulary

Shape = Sequence[int]
Formula = Callable[[Sequence[Any], Any], int]


def convolution(args: Sequence[Any], out: Any) -> int:
    """(B, Co, Ho, Wo) outputs, each a sum over K·K·Ci/groups products; transposed: each input."""
    x, weight, transposed = args[0], args[1], args[6]
    if transposed:  # weight (Ci, Co / groups, K, K): every input value meets each of them
        return x.numel() * math.prod(weight.shape[1:])
    return out.numel() * math.prod(weight.shape[1:])  # weight (Co, Ci / groups, K, K)


def mm(args: Sequence[Any], out: Any) -> int:
    """(M, K) x (K, N)"""
    return out.numel() * args[0].shape[-1]


def addmm(args: Sequence[Any], out: Any) -> int:
    """bias + (M, K) x (K, N)"""
    return out.numel() * args[1].shape[-1]


def linear(args: Sequence[Any], out: Any) -> int:
    """(..., Ci) -> (..., Co), weight (Co, Ci)"""
    return out.numel() * args[1].shape[-1]


def attention(args: Sequence[Any], out: Any) -> int:
    """Q Kᵀ and A V of fused attention. Q (..., L, D), K (..., S, D), V (..., S, Dv)"""
    q, k, v = args[0], args[1], args[2]
    *batch, length, depth = q.shape
    return math.prod(batch) * length * k.shape[-2] * (depth + v.shape[-1])


def deformable_convolution(args: Sequence[Any], out: Any) -> int:
    """Those of a convolution; the bilinear sampling is not counted, as for a resize."""
    return out.numel() * math.prod(args[1].shape[1:])


def addbmm(args: Sequence[Any], out: Any) -> int:
    """bias + the sum of (B, M, K) x (B, K, N) over B"""
    return args[1].numel() * args[2].shape[-1]


def addmv(args: Sequence[Any], out: Any) -> int:
    """bias + (M, K) x (K,)"""
    return args[1].numel()


def recurrent(args: Sequence[Any], out: Any) -> int:
    """(L, B, Ci): each step of each row meets the weights of the input and of the state."""
    steps = args[0].shape[0] * args[0].shape[1]
    return steps * (args[1].numel() + args[2].numel())


def quantized_convolution(args: Sequence[Any], out: Any) -> int:
    """``convolution``; ``args[1]`` holds the weight (Co, Ci / groups, K, K) and the bias."""
    return out.numel() * math.prod(args[1][0].shape[1:])


def quantized_linear(args: Sequence[Any], out: Any) -> int:
    """``linear``; ``args[1]`` holds the weight (Co, Ci) and the bias."""
    return out.numel() * args[1][0].shape[-1]


MACS: dict[str, Formula] = {
    "aten.convolution": convolution,
    "aten._convolution": convolution,
    "aten.linear": linear,
    "aten.mm": mm,
    "aten.bmm": mm,
    "aten.mv": mm,
    "aten.dot": mm,
    "aten.addmm": addmm,
    "aten.baddbmm": addmm,
    "aten.addbmm": addbmm,
    "aten.addmv": addmv,
    "aten.mkldnn_rnn_layer": recurrent,
    **dict.fromkeys(sorted(vocabulary.QUANTIZED_CONVOLUTIONS), quantized_convolution),
    **dict.fromkeys(
        sorted(vocabulary.QUANTIZED_LINEAR | vocabulary.DYNAMIC_LINEAR | vocabulary.HALF_LINEAR),
        quantized_linear,
    ),
    **dict.fromkeys(sorted(vocabulary.ATTENTION), attention),
    "torchvision.deform_conv2d": deformable_convolution,
}

FIRST_OUTPUT_ONLY = (
    vocabulary.NORMS
    | vocabulary.WEIGHT_NORMS
    | vocabulary.POOLS
    | vocabulary.ATTENTION
    | vocabulary.RECURRENT
    | {"aten.native_dropout"}
)
"""Operators whose further outputs (saved statistics, indices) only a backward pass would read."""
