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


def attention(args: Sequence[Any], out: Any) -> int:
    """Q Kᵀ and A V of fused attention. Q (..., L, D), K (..., S, D), V (..., S, Dv)"""
    q, k, v = args[0], args[1], args[2]
    *batch, length, depth = q.shape
    return math.prod(batch) * length * k.shape[-2] * (depth + v.shape[-1])


def deformable_convolution(args: Sequence[Any], out: Any) -> int:
    """As a convolution; the bilinear sampling is not counted, as for a resize."""
    return out.numel() * math.prod(args[1].shape[1:])


MACS: dict[str, Formula] = {
    "aten.convolution": convolution,
    "aten._convolution": convolution,
    "aten.mm": mm,
    "aten.bmm": mm,
    "aten.addmm": addmm,
    "aten.baddbmm": addmm,
    "aten._scaled_dot_product_flash_attention": attention,
    "aten._scaled_dot_product_flash_attention_for_cpu": attention,
    "aten._scaled_dot_product_efficient_attention": attention,
    "aten._scaled_dot_product_cudnn_attention": attention,
    "torchvision.deform_conv2d": deformable_convolution,
}

MOVES = frozenset(
    f"aten.{name}"
    for name in """
    add add_ sub sub_ rsub mul mul_ div div_ neg pow sqrt rsqrt exp log abs sign maximum
    minimum clamp clamp_ clamp_min clamp_max floor ceil round sin cos tanh erf where eq ne lt
    le gt ge logical_and logical_or logical_not bitwise_not masked_fill masked_fill_ relu relu_
    relu6 hardtanh hardtanh_ hardswish hardswish_ hardsigmoid hardsigmoid_ sigmoid sigmoid_
    silu silu_ gelu elu leaky_relu mish mish_ softplus prelu _prelu_kernel _softmax
    _safe_softmax _log_softmax native_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm native_layer_norm
    native_group_norm _fused_rms_norm linalg_vector_norm mean sum amax amin max min argmax var
    var_mean std cumsum prod max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d
    adaptive_max_pool2d avg_pool1d avg_pool3d _adaptive_avg_pool3d max_pool3d_with_indices
    upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d cat stack constant_pad_nd
    reflection_pad2d replication_pad2d roll flip index index_select index_put index_put_ gather
    scatter scatter_ embedding im2col col2im copy_ clone contiguous repeat _to_copy
    pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle sort topk tril triu
    addcmul lerp fill_ zero_ nonzero native_dropout bernoulli
    """.split()
)
"""Operators that read and write tensors without a multiply-accumulate by the convention above."""

FREE = frozenset(
    f"aten.{name}"
    for name in """
    view _unsafe_view reshape _reshape_alias expand permute transpose t squeeze unsqueeze slice
    select split split_with_sizes unbind alias detach lift_fresh as_strided unfold chunk narrow
    diagonal as_strided_ view_as_real view_as_complex _conj empty empty_like new_empty zeros
    zeros_like ones ones_like full full_like new_zeros new_ones new_full arange scalar_tensor
    eye linspace empty_strided is_same_size sym_size sym_stride sym_numel
    """.split()
)
"""Operators that only look at memory in another way, or make a constant: no traffic is counted."""

FIRST_OUTPUT_ONLY = frozenset(
    f"aten.{name}"
    for name in """
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    cudnn_batch_norm native_layer_norm native_group_norm max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool2d _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention
    _scaled_dot_product_cudnn_attention native_dropout
    """.split()
)
"""Operators whose further outputs (saved statistics, indices) only a backward pass would read."""
