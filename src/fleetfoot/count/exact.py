"""Every floating point operation of an operator, by a stated convention: one short function each.

Papers count multiply-accumulates (``count.formulas``); this is the other figure, with a multiply
and an add each counted, and with biases, norms, activations and pooling. The convention:

* an add, a subtraction, a multiply, a divide, a comparison and a rounding are 1 each;
* a root, exponential, logarithm, error function or other transcendental is 1;
* a sum of n values is n - 1 adds, a mean one divide more, a maximum n - 1 comparisons;
* a choice between two values, a copy, a cast, and the index arithmetic of a memory access are 0;
* zeros of the padding are multiplied and added like other values, as in the published formulas.

B batch · C channels · K kernel · M N sides of a matrix product · n values that one output sums
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fleetfoot.count import formulas, vocabulary


@dataclass(frozen=True)
class Call:
    """One call of an ATen operator: what it was given and what it answered."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    outs: Sequence[Tensor]

    @property
    def out(self) -> int:
        """Values of the first output."""
        return self.outs[0].numel() if self.outs else 0

    @property
    def read(self) -> int:
        """Values of the first input."""
        return self.args[0].numel()

    def given(self, index: int, default: Any = None) -> Any:
        """The positional argument ``index``, or ``default`` where it was left out."""
        return self.args[index] if len(self.args) > index else default


Exact = Callable[[Call], int | None]


def convolution(call: Call) -> int:
    """(2·K²·Ci/groups - 1) an output, and 1 more with a bias.

    Transposed: the adds are the products less one an output; where the stride exceeds the kernel,
    outputs that no product reaches would count below zero, and the adds are 0 instead.
    """
    macs = formulas.convolution(call.args, call.outs[0])
    bias = call.out if call.args[2] is not None else 0
    return macs + max(0, macs - call.out) + bias


def linear(call: Call) -> int:
    """(2·Ci - 1) an output, and 1 more with a bias."""
    bias = call.out if call.given(2) is not None else 0
    return 2 * formulas.linear(call.args, call.outs[0]) - call.out + bias


def product(call: Call) -> int:
    """(M, K) x (K, N): 2·K - 1 an output."""
    return 2 * formulas.mm(call.args, call.outs[0]) - call.out


def product_plus(call: Call) -> int:
    """A product, and the add of what it is added to; factors other than 1 are not seen here."""
    return 2 * formulas.addmm(call.args, call.outs[0])


def sum_of_products(call: Call) -> int:
    """Products over a batch, their sum, and the add of what it is added to."""
    return 2 * formulas.addbmm(call.args, call.outs[0])


def vector_product_plus(call: Call) -> int:
    """(M, K) x (K,), and the add of what it is added to."""
    return 2 * formulas.addmv(call.args, call.outs[0])


def recurrent(call: Call) -> int | None:
    """Of a long short-term memory: two products with their biases and the add of both; then for
    each value of the state three sigmoids, two hyperbolic tangents, and 4 operations that mix."""
    if call.args[9] != LSTM or not call.args[12]:
        return None
    return 2 * formulas.recurrent(call.args, call.outs[0]) + (4 + 3 * 4 + 2 + 4) * call.out


LSTM = 2
"""Number of the long short-term memory among the kinds of recurrent layers."""
QUANTIZE = 5
"""Operations of quantising a value: a divide, a rounding, an add, and 2 comparisons."""


def _biased(macs: int, call: Call) -> int:
    """Products of weights, and the bias if there is one, in ``args[1]`` beside them."""
    return 2 * macs - call.out + (call.out if call.args[1][1] is not None else 0)


def quantized_convolution(call: Call) -> int:
    """A convolution of codes; each output becomes a code again."""
    macs = formulas.quantized_convolution(call.args, call.outs[0])
    return _biased(macs, call) + QUANTIZE * call.out


def quantized_linear(call: Call) -> int:
    """A linear layer of codes; each output becomes a code again."""
    return half_linear(call) + QUANTIZE * call.out


def dynamic_linear(call: Call) -> int:
    """The least and the largest of n inputs are 2 n - 2 comparisons; then n inputs become codes,
    and each output is scaled."""
    read = call.read
    return half_linear(call) + max(0, 2 * read - 2) + QUANTIZE * read + call.out


def half_linear(call: Call) -> int:
    """A linear layer whose weights are in half precision."""
    return _biased(formulas.quantized_linear(call.args, call.outs[0]), call)


def attention(call: Call) -> int:
    """Q Kᵀ, the scale, the mask where there is one, a softmax a row, and A V.

    The online softmax of a fused kernel rescales its partial sums; those operations are the
    kernel's own and not counted.
    """
    q, k, v = call.args[:3]
    *batch, length, depth = q.shape
    keys = k.shape[-2]
    rows = math.prod(batch) * length
    mask = any(isinstance(one, Tensor) for one in (*call.args[3:], *call.kwargs.values()))
    a_row = keys * (2 * depth - 1) + keys + keys * mask + _softmax_row(keys)
    return rows * (a_row + v.shape[-1] * (2 * keys - 1))


def _softmax_row(n: int) -> int:
    """n - 1 comparisons, n subtractions, n exponentials, n - 1 adds, n divides."""
    return 5 * n - 2


def softmax(call: Call) -> int:
    """5 n - 2 a row of n."""
    n = call.args[0].shape[call.args[1]] if call.args[0].dim() else 1
    return call.read // n * _softmax_row(n) if n else 0


def log_softmax(call: Call) -> int:
    """n - 1 comparisons, n subtractions, n exponentials, n - 1 adds, a logarithm, n subtractions a
    row."""
    n = call.args[0].shape[call.args[1]] if call.args[0].dim() else 1
    return call.read // n * (5 * n - 1) if n else 0


def deformable_convolution(call: Call) -> int:
    """A convolution of K²·Ci sampled values: 7 a sample by bilinear weights, 1 more with a mask;
    and 12 an offset pair: 2 adds, and the four weights from 6 differences and 4 products."""
    x, weight, offset, _, bias = call.args[:5]
    positions = call.outs[0].shape[0] * math.prod(call.outs[0].shape[2:])
    samples = positions * x.shape[1] * math.prod(weight.shape[2:])
    sums = 2 * formulas.deformable_convolution(call.args, call.outs[0]) - call.out
    with_bias = call.out if bias is not None and bias.numel() else 0
    masked = samples if call.given(13, True) else 0
    return sums + with_bias + 7 * samples + masked + 12 * (offset.numel() // 2)


def batch_norm(call: Call) -> int:
    """In eval mode x·s + t: 2 a value; s = gamma / sqrt(var + eps), t = beta - mean·s: 5 a channel.

    With batch statistics there are the mean and the variance too, 4 a value.
    """
    channels = call.args[0].shape[1]
    training = next((value for value in call.args[3:] if isinstance(value, bool)), False)
    return (6 if training else 2) * call.read + 5 * channels


def _normalised(values: int, rows: int, affine: int) -> int:
    """A row of n: mean n; differences n, squares n, their mean n; add eps and root 2; products n.
    ``affine`` is 1 a value for each of scale and shift."""
    return 5 * values + 2 * rows + affine * values


def layer_norm(call: Call) -> int:
    """5 n + 2 a row of n, and 2 n more with scale and shift."""
    n = math.prod(call.args[1])
    affine = sum(one is not None for one in call.args[2:4])
    return _normalised(call.read, call.read // n, affine)


def group_norm(call: Call) -> int:
    """(x, scale, shift, B, C, H·W, groups, eps): a row is one group of one image."""
    affine = sum(one is not None for one in call.args[1:3])
    return _normalised(call.read, call.args[3] * call.args[6], affine)


def rms_norm(call: Call) -> int:
    """Squares n, their mean n, add eps and root 2, products n a row; n more with a scale."""
    n = math.prod(call.args[1])
    scale = call.given(2) is not None
    return (3 + scale) * call.read + 2 * (call.read // n)


def gelu(call: Call) -> int:
    """x/2·(1 + erf(x/√2)) is 5; by tanh, x/2·(1 + tanh(c·(x + d·x³))) is 9."""
    return call.out * (9 if call.kwargs.get("approximate") == "tanh" else 5)


def _window(call: Call, dims: int) -> int:
    kernel = call.args[1]
    return int(math.prod(kernel if len(kernel) == dims else [kernel[0]] * dims))


def max_pool(dims: int) -> Exact:
    """K² - 1 comparisons an output."""
    return lambda call: call.out * (_window(call, dims) - 1)


def average_pool(dims: int) -> Exact:
    """K² - 1 adds and a divide an output."""
    return lambda call: call.out * _window(call, dims)


def _windows(call: Call, dims: int) -> int:
    """Values that all windows of an adaptive pooling hold: output i of an axis of ``size`` reads
    floor(i·size/n) up to ceil((i + 1)·size/n)."""
    x, out = call.args[0].shape, call.outs[0].shape
    held = math.prod(x[:-dims])
    for size, n in zip(x[-dims:], out[-dims:], strict=True):
        held *= sum(-(-(i + 1) * size // n) - i * size // n for i in range(n))
    return held


def adaptive_average(dims: int) -> Exact:
    """A window of n values: n - 1 adds and a divide."""
    return lambda call: _windows(call, dims)


def adaptive_max(dims: int) -> Exact:
    """A window of n values: n - 1 comparisons."""
    return lambda call: _windows(call, dims) - call.out


def fold_to_one(call: Call) -> int:
    """Sum, product, maximum: n - 1 an output."""
    return max(0, call.read - call.out)


def mean(call: Call) -> int:
    """n - 1 adds and a divide an output."""
    return call.read


def variance(call: Call) -> int:
    """Mean n, differences n, squares n, their mean n."""
    return 4 * call.read


def deviation(call: Call) -> int:
    """A variance and a root."""
    return 4 * call.read + call.out


def vector_norm(call: Call) -> int:
    """Squares n, n - 1 adds, a root an output; orders other than 2 alike."""
    return 2 * call.read


def weight_norm(call: Call) -> int:
    """w·g/|w|: a norm of n values 2 n, a divide and n products for each of g."""
    return 3 * call.read + call.args[1].numel()


def running_sum(call: Call) -> int:
    """n - 1 adds a row."""
    n = call.args[0].shape[call.args[1]] if call.args[0].dim() else 1
    return call.read - call.read // n if n else 0


def grid_sample(call: Call) -> int | None:
    """Bilinear: 7 an output, and 18 a point: 8 for its place in pixels, 10 for four weights."""
    mode = call.given(2, 0)
    points = call.args[1].numel() // 2
    return {0: 7 * call.out + 18 * points, 1: 8 * points}.get(mode)


def roi_align(call: Call) -> int | None:
    """s² bilinear samples an output, 7 each, their adds and a divide; not known where the number
    of samples follows the size of each region."""
    s = call.given(5, call.kwargs.get("sampling_ratio", -1))
    return 8 * s * s * call.out if s > 0 else None


def _each(names: str, operations: int) -> dict[str, Exact]:
    """Operators that do the same for each value of their output."""
    return {f"aten.{name}": lambda call: operations * call.out for name in names.split()}


EXACT: dict[str, Exact] = {
    **_each(
        """_to_copy clone contiguous copy cat stack constant_pad_nd reflection_pad2d
        replication_pad2d roll flip index index_select index_put gather scatter embedding im2col
        repeat pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle tril triu fill
        zero native_dropout where masked_fill upsample_nearest2d _upsample_nearest_exact2d
        upsample_nearest1d upsample_nearest3d view_copy index_fill _local_scalar_dense
        slice_scatter select_scatter masked_select take argsort _pad_circular""",
        0,
    ),
    **_each(
        """add sub rsub mul div neg sqrt rsqrt exp exp2 expm1 log log2 log1p abs sign maximum
        minimum floor ceil round trunc sin cos tan tanh atan atan2 erf eq ne lt le gt ge pow
        reciprocal square logical_and logical_or logical_not logical_xor bitwise_not bitwise_and
        bitwise_or isnan isinf clamp_min clamp_max relu remainder fmod floor_divide""",
        1,
    ),
    **_each("quantize_per_tensor quantize_per_channel", QUANTIZE),
    **_each("addr dequantize", 2),
    **_each("clamp relu6 hardtanh leaky_relu prelu _prelu_kernel addcmul lerp", 2),
    **_each("softplus addcdiv hypot", 3),
    **_each("sigmoid silu hardsigmoid elu celu selu", 4),
    **_each("hardswish mish logit", 5),
    **_each("upsample_bilinear2d", 7),  # 4 products, 3 adds
    **_each("upsample_linear1d", 3),
    **_each("upsample_trilinear3d", 15),
    **_each("upsample_bicubic2d", 31),  # 16 products, 15 adds
    "aten.convolution": convolution,
    "aten._convolution": convolution,
    "aten.linear": linear,
    "aten.mm": product,
    "aten.bmm": product,
    "aten.mv": product,
    "aten.dot": product,
    "aten.addmm": product_plus,
    "aten.baddbmm": product_plus,
    "aten.addbmm": sum_of_products,
    "aten.addmv": vector_product_plus,
    "aten.mkldnn_rnn_layer": recurrent,
    **dict.fromkeys(sorted(vocabulary.QUANTIZED_CONVOLUTIONS), quantized_convolution),
    **dict.fromkeys(sorted(vocabulary.QUANTIZED_LINEAR), quantized_linear),
    **dict.fromkeys(sorted(vocabulary.DYNAMIC_LINEAR), dynamic_linear),
    **dict.fromkeys(sorted(vocabulary.HALF_LINEAR), half_linear),
    **dict.fromkeys(sorted(vocabulary.ATTENTION), attention),
    "aten._softmax": softmax,
    "aten._safe_softmax": softmax,
    "aten._log_softmax": log_softmax,
    "torchvision.deform_conv2d": deformable_convolution,
    **dict.fromkeys(sorted(vocabulary.BATCH_NORMS), batch_norm),
    "aten.native_layer_norm": layer_norm,
    "aten.native_group_norm": group_norm,
    "aten._fused_rms_norm": rms_norm,
    "aten.gelu": gelu,
    "aten.max_pool2d_with_indices": max_pool(2),
    "aten.max_pool3d_with_indices": max_pool(3),
    "aten.avg_pool1d": average_pool(1),
    "aten.avg_pool2d": average_pool(2),
    "aten.avg_pool3d": average_pool(3),
    "aten._adaptive_avg_pool2d": adaptive_average(2),
    "aten._adaptive_avg_pool3d": adaptive_average(3),
    "aten.adaptive_max_pool2d": adaptive_max(2),
    "aten.sum": fold_to_one,
    "aten.prod": fold_to_one,
    "aten.max": fold_to_one,
    "aten.min": fold_to_one,
    "aten.amax": fold_to_one,
    "aten.amin": fold_to_one,
    "aten.argmax": fold_to_one,
    "aten.argmin": fold_to_one,
    "aten.any": fold_to_one,
    "aten.all": fold_to_one,
    "aten.mean": mean,
    "aten.var": variance,
    "aten.var_mean": variance,
    "aten.std": deviation,
    "aten.linalg_vector_norm": vector_norm,
    "aten.cumsum": running_sum,
    "aten._weight_norm_interface": weight_norm,
    "aten.grid_sampler_2d": grid_sample,
    "torchvision.roi_align": roi_align,
}
"""By ATen name, without the underscore of an operator that writes into its input."""

WITHOUT = vocabulary.QUANTIZED_OTHERS | frozenset(
    """aten._upsample_bilinear2d_aa aten._upsample_bicubic2d_aa aten.col2im aten.sort aten.topk
    aten.nonzero aten.bernoulli aten._unique2 aten.unique_dim torchvision.nms""".split()
)
"""Operators without multiply-accumulates whose exact count depends on values, or on a window that
their shapes do not give. Their bytes are counted; their exact operations are said to be unknown."""


def exact_flops(name: str, call: Call) -> int | None:
    """Operations of that call; None where no formula has them."""
    formula = EXACT.get(name) or EXACT.get(vocabulary.bare(name))
    return formula(call) if formula else None
