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
    """As a convolution; the bilinear sampling is not counted, as for a resize."""
    return out.numel() * math.prod(args[1].shape[1:])


ATTENTION = tuple(
    f"aten._scaled_dot_product_{kind}"
    for kind in """
    flash_attention flash_attention_for_cpu efficient_attention cudnn_attention
    fused_attention_overrideable
    """.split()
)
"""Fused attention as the CPU, CUDA and other devices name it."""

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
    **dict.fromkeys(ATTENTION, attention),
    "torchvision.deform_conv2d": deformable_convolution,
}

FREE = frozenset(
    f"aten.{name}"
    for name in """
    view _unsafe_view reshape _reshape_alias expand permute transpose t squeeze unsqueeze slice
    select split split_with_sizes unbind alias detach lift_fresh as_strided unfold chunk narrow
    diagonal as_strided_ view_as_real view_as_complex _conj empty empty_like new_empty zeros
    zeros_like ones ones_like full full_like new_zeros new_ones new_full arange scalar_tensor
    eye linspace empty_strided is_same_size sym_size sym_stride sym_numel new_empty_strided
    empty_permuted randint rand randn _shape_as_tensor unsafe_split unsafe_split_with_sizes
    """.split()
)
"""Operators that only look at memory in another way, or make a constant: no traffic is counted."""

FIRST_OUTPUT_ONLY = frozenset(
    f"aten.{name}"
    for name in """
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    cudnn_batch_norm native_layer_norm native_group_norm max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool2d native_dropout
    _weight_norm_interface
    """.split()
).union(ATTENTION)
"""Operators whose further outputs (saved statistics, indices) only a backward pass would read."""
