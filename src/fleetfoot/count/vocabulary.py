"""What each ATen operator is: one table of the names that a trace holds, each in one class.

Whoever asks whether an operator is a product, element-wise or a copy takes a set from here: the
formulas, the rules, the latency model and the reports. What an operator costs is in ``formulas``
and ``exact``.
"""

from __future__ import annotations


def _names(text: str, library: str = "aten") -> frozenset[str]:
    return frozenset(f"{library}.{name}" for name in text.split())


# products

CONVOLUTIONS = _names("convolution _convolution") | _names("deform_conv2d", "torchvision")
LINEAR = _names("linear addmm mm")
"""Products of a map and a weight, as a network's linear layers are."""
MATRIX_PRODUCTS = _names("bmm baddbmm addbmm matmul einsum")
"""Products of two maps."""
VECTOR_PRODUCTS = _names("mv addmv dot")
ATTENTION = _names(
    """_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
    _scaled_dot_product_fused_attention_overrideable"""
)
"""Fused attention as the CPU, CUDA and other devices name it."""

RECURRENT = _names("mkldnn_rnn_layer")
"""All steps of a recurrent layer in one call."""
QUANTIZED_CONVOLUTIONS = _names(
    """conv1d conv1d_relu conv2d conv2d_relu conv2d_add conv2d_add_relu conv3d conv3d_relu""",
    "quantized",
)
QUANTIZED_LINEAR = _names("linear linear_relu", "quantized")
DYNAMIC_LINEAR = _names("linear_dynamic linear_relu_dynamic", "quantized")
"""Linear layers whose input is quantised in the same call, by its least and largest value."""
HALF_LINEAR = _names("linear_dynamic_fp16 linear_relu_dynamic_fp16", "quantized")

# each value of the output follows from one value of each input

CHEAP = _names(
    """relu relu6 hardtanh hardswish hardsigmoid leaky_relu prelu _prelu_kernel clamp clamp_min
    clamp_max abs neg square sign floor ceil round trunc logical_not bitwise_not isnan isinf"""
)
"""Functions of one input that take few operations a value."""
SMOOTH = _names(
    """gelu silu sigmoid tanh mish elu celu selu softplus exp exp2 expm1 erf log log2 log1p logit
    pow sqrt rsqrt reciprocal sin cos tan atan"""
)
"""Functions of one input by a root, an exponential or another that takes many operations."""
PAIRED = _names(
    """add addr sub rsub mul div maximum minimum addcmul addcdiv lerp atan2 hypot remainder fmod
    floor_divide eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or"""
)
"""Functions of two inputs or more."""
CHOICES = _names("where")
CONVERSIONS = _names("quantize_per_tensor quantize_per_channel dequantize")
"""Between numbers and their eight-bit codes."""
QUANTIZED_OTHERS = _names(
    """add add_relu mul mul_relu cat relu6 leaky_relu hardswish sigmoid elu celu
    batch_norm1d batch_norm2d batch_norm2d_relu batch_norm3d batch_norm3d_relu""",
    "quantized",
)
"""Functions of eight-bit codes; how many operations they take is the engine's own."""

# values are moved and stay what they are

CONCATENATIONS = _names("cat stack")
REARRANGEMENTS = _names(
    """copy roll flip index index_select gather repeat pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle slice_scatter split_copy split_with_sizes_copy"""
)
"""Values come to lie in another order or in another map."""
CLONES = _names("clone contiguous")
"""What makes a permuted view contiguous."""
FILLS = _names(
    """fill zero constant_pad_nd reflection_pad2d replication_pad2d _pad_circular masked_fill
    index_fill"""
)
OTHER_MOVES = _names(
    """_to_copy embedding im2col scatter select_scatter index_put masked_select take tril triu
    view_copy native_dropout _local_scalar_dense"""
)
RESIZES = _names(
    """upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d
    upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa"""
)
SAMPLINGS = _names("grid_sampler_2d") | _names("roi_align", "torchvision")

# many values become one, or follow from many

BATCH_NORMS = _names(
    """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    cudnn_batch_norm miopen_batch_norm batch_norm"""
)
OTHER_NORMS = _names("native_layer_norm native_group_norm _fused_rms_norm")
WEIGHT_NORMS = _names("_weight_norm_interface")
SOFTMAXES = _names("_softmax _safe_softmax")
LOG_SOFTMAXES = _names("_log_softmax")
POOLS = _names(
    """max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d"""
)
REDUCTIONS = _names(
    """sum prod mean max min amax amin argmax argmin any all var var_mean std linalg_vector_norm
    cumsum"""
)
DATA_DEPENDENT = _names("sort argsort topk nonzero bernoulli _unique2 unique_dim col2im") | _names(
    "nms", "torchvision"
)
"""Their operations follow from values, or from a window that their shapes do not give."""

# nothing is read or written

VIEWS = _names(
    """view _unsafe_view reshape _reshape_alias expand permute transpose t squeeze unsqueeze slice
    select split split_with_sizes unsafe_split unsafe_split_with_sizes unbind alias detach
    lift_fresh as_strided as_strided_ unfold chunk narrow diagonal view_as_real view_as_complex
    _conj transpose_ t_ squeeze_ unsqueeze_ swapaxes_ swapdims_ detach_"""
)
CONSTANTS = _names(
    """empty empty_like new_empty new_empty_strided empty_strided empty_permuted zeros zeros_like
    new_zeros ones ones_like new_ones full full_like new_full arange scalar_tensor eye linspace
    randint rand randn"""
)
QUESTIONS = _names("is_same_size sym_size sym_stride sym_numel _shape_as_tensor")
"""What they answer is no tensor of the network's values."""

CLASSES = (
    CONVOLUTIONS, LINEAR, MATRIX_PRODUCTS, VECTOR_PRODUCTS, ATTENTION, RECURRENT,
    QUANTIZED_CONVOLUTIONS, QUANTIZED_LINEAR, DYNAMIC_LINEAR, HALF_LINEAR, CHEAP, SMOOTH, PAIRED,
    CHOICES, CONVERSIONS, QUANTIZED_OTHERS, CONCATENATIONS, REARRANGEMENTS, CLONES, FILLS,
    OTHER_MOVES, RESIZES, SAMPLINGS, BATCH_NORMS, OTHER_NORMS, WEIGHT_NORMS, SOFTMAXES,
    LOG_SOFTMAXES, POOLS, REDUCTIONS, DATA_DEPENDENT, VIEWS, CONSTANTS, QUESTIONS,
)  # fmt: skip
"""Every set above. An operator is in one of them."""

ELEMENTWISE = CHEAP | SMOOTH | PAIRED | CHOICES
NORMS = BATCH_NORMS | OTHER_NORMS
MOVES = CONCATENATIONS | REARRANGEMENTS | CLONES | FILLS | OTHER_MOVES | CHOICES | RESIZES
"""What an engine does at the speed of memory. A choice between two values is one of them."""
FREE = VIEWS | CONSTANTS | QUESTIONS
"""Operators that only look at memory in another way, or make a constant: no traffic is counted."""


def bare(name: str) -> str:
    """The name of an operator without the mark of one that works in place."""
    return name.removesuffix("_")
