// What a kernel is given, and the table of kernels that each instruction set fills.
//
// All maps are channels-last: (H, W, C), channels next to each other. Every kernel works on one
// picture and on a part of its output, so that threads and strips can share a node between them.
// Each output is computed by one thread in one order: the result does not depend on the parts.
//
// H, W space · C channels in · N channels out · K = kernel height x width x C / groups
#pragma once

#include <cstddef>
#include <cstdint>

namespace ff {

constexpr int kPanel = 16;    // output channels that lie together in packed weights
constexpr int kMaxRank = 6;

// A map in memory. `ring` rows are kept of it where it is not 0: row y lies at slot y % ring.
// Pixel x of row y starts at data + slot(y) * row + x * pixel.
template <class T>
struct MapOf {
    T* data = nullptr;
    int64_t row = 0;      // elements from one row to the next; W * pixel where rows are dense
    int64_t pixel = 0;    // elements from one pixel to the next; >= C
    int32_t height = 0, width = 0, channels = 0;
    int32_t ring = 0;

    T* at(int64_t y, int64_t x) const { return data + (ring ? y % ring : y) * row + x * pixel; }
};
using Map = MapOf<float>;
using ConstMap = MapOf<const float>;

// A tensor of any rank and stride (elements; 0 repeats).
template <class T>
struct StridedOf {
    T* data = nullptr;
    int32_t rank = 0;
    int64_t shape[kMaxRank] = {};
    int64_t stride[kMaxRank] = {};
};
using Strided = StridedOf<float>;
using ConstStrided = StridedOf<const float>;

// Activations. NaN passes through each of them, as in PyTorch.
enum class Act : int32_t {
    none, relu, relu6, hardswish, hardsigmoid, silu, gelu, gelu_tanh, sigmoid, tanh, leaky_relu,
    elu, selu, mish, softplus, clamp, abs, exp, log, sqrt, rsqrt, neg, reciprocal, square, erf, scale,
};
struct Activation {
    Act kind = Act::none;
    float a = 0, b = 0;  // leaky_relu slope a · elu alpha a · clamp to [a, b] · scale: a * x + b
};

struct Window {  // of a convolution or a pooling
    int32_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
    int32_t pad_top = 0, pad_left = 0;  // bottom and right follow from the output's shape
    int32_t dilation_h = 1, dilation_w = 1;
};

// out = post(act(conv(x * gate) + bias) + residual), grouped or not.
struct ConvArgs {
    ConstMap x;
    Map out;
    ConstMap residual;             // data is nullptr where there is none; out's shape
    const float* gate = nullptr;   // (C) or nullptr
    const float* weight = nullptr; // [groups][panels][K][16], K ordered (ky, kx, c); 64-byte aligned
    const float* bias = nullptr;   // [groups][panels * 16] or nullptr; beyond N / groups: zeros
    Window window;
    int32_t groups = 1;
    Activation act, post;
    int32_t winograd = 0;               // outputs of a tile, 2 x 2 or 4 x 4; 0: direct sums
    const float* transformed = nullptr; // weights for it: [(winograd + 2)^2][panels][C][16]
    const float* ahead = nullptr;  // weights that the next node reads, to be fetched meanwhile; or nullptr
    int64_t ahead_floats = 0;
};

// The same with one input channel an output channel: out channel n reads channel n / multiplier.
struct DepthwiseArgs {
    ConstMap x;
    Map out;
    ConstMap residual;
    const float* weight = nullptr; // [kernel_h * kernel_w][N rounded up to 16]
    const float* bias = nullptr;   // [N rounded up to 16] or nullptr
    Window window;
    int32_t multiplier = 1;
    Activation act, post;
};

enum class PoolMode : int32_t { max, average };
struct PoolArgs {
    ConstMap x;
    Map out;
    Window window;
    PoolMode mode = PoolMode::max;
    int32_t count_include_pad = 0;  // average only; the padded picture ends at H + 2 * pad
    int32_t pad_bottom = 0, pad_right = 0;
};

// out[b, m, n] = act(alpha * sum_k a[b, m, k] * b[b, k, n]); the last two dimensions of each view.
struct MatmulArgs {
    ConstStrided a, b;
    Strided out;
    float alpha = 1;
};

struct UnaryArgs {  // out = act(x); same shape
    ConstStrided x;
    Strided out;
    Activation act;
};

enum class Binary : int32_t { add, sub, mul, div, max, min, pow };
struct BinaryArgs {  // out = act(a (op) b); all of one shape, broadcast by stride 0
    ConstStrided a, b;
    Strided out;
    Binary op = Binary::add;
    Activation act;
};

struct SoftmaxArgs {  // over the last dimension
    ConstStrided x;
    Strided out;
};

enum class NormMode : int32_t { layer, rms, l2 };
struct NormArgs {  // over the last `trailing` dimensions together
    ConstStrided x;
    Strided out;
    ConstStrided weight, bias;  // x's shape by stride 0, or data nullptr
    int32_t trailing = 1;
    NormMode mode = NormMode::layer;
    // layer: (x - mean) / sqrt(var + eps) * weight + bias · rms: x / sqrt(mean(x^2) + eps) * weight + bias
    // l2: x / max(|x|_2, eps)
    float eps = 1e-5f;
};

enum class Reduce : int32_t { sum, mean, max, min };
struct ReduceArgs {  // over the last `trailing` dimensions; out has the others
    ConstStrided x;
    Strided out;
    int32_t trailing = 1;
    Reduce op = Reduce::mean;
};

struct CopyArgs {  // out = x, same shape
    ConstStrided x;
    Strided out;
};

struct FillArgs {
    Strided out;
    float value = 0;
};

struct GatherArgs {  // out[..., i] = x[..., index[i]] over the last dimension
    ConstStrided x;
    Strided out;
    const int32_t* index = nullptr;
};

enum class ResizeMode : int32_t { nearest, bilinear, bicubic };
struct ResizeArgs {  // as torch.nn.functional.interpolate
    ConstMap x;
    Map out;
    ResizeMode mode = ResizeMode::nearest;
    int32_t align_corners = 0;
    float scale_h = 0, scale_w = 0;  // input pixels an output pixel, as PyTorch computes them
};

struct Range {
    int64_t begin = 0, end = 0;
};

// One table for each instruction set. `rows` are output rows; `pixels` are output pixels counted over
// all of H x W, in row order; `panels` count panels of 16 output channels over all groups, `blocks`
// likewise blocks of 16 channels; `units` are indices of the out view's leading dimensions (all but
// the last `trailing`; all but the last two for matmul's view, where a unit is one row m of one
// batch; all but the last one for unary, binary, copy, fill, gather, softmax), flattened.
// `scratch` is 64-byte aligned and private to the thread; how many bytes it has to hold is what the
// *_scratch function answers, whatever the parts.
constexpr int64_t kRateCount = 128;  // floats: eight of the widest vectors

struct Kernels {
    const char* name;  // "avx512", "avx2", "neon", "plain"
    int vector_bytes;

    size_t (*conv_scratch)(const ConvArgs&);
    void (*conv)(const ConvArgs&, Range pixels, Range panels, void* scratch);
    size_t (*depthwise_scratch)(const DepthwiseArgs&);
    void (*depthwise)(const DepthwiseArgs&, Range rows, Range blocks, void* scratch);
    void (*pool)(const PoolArgs&, Range rows, Range blocks);
    size_t (*matmul_scratch)(const MatmulArgs&);
    void (*matmul)(const MatmulArgs&, Range units, void* scratch);
    void (*unary)(const UnaryArgs&, Range units);
    void (*binary)(const BinaryArgs&, Range units);
    void (*softmax)(const SoftmaxArgs&, Range units);
    size_t (*norm_scratch)(const NormArgs&);
    void (*norm)(const NormArgs&, Range units, void* scratch);
    size_t (*reduce_scratch)(const ReduceArgs&);
    void (*reduce)(const ReduceArgs&, Range units, void* scratch);
    void (*copy)(const CopyArgs&, Range units);
    void (*fill)(const FillArgs&, Range units);
    void (*gather)(const GatherArgs&, Range units);
    void (*resize)(const ResizeArgs&, Range rows);
    // Rates. What the first three return only proves that it was done.
    float (*multiply_adds)(int64_t steps);  // in registers alone
    float (*multiply_adds_double)(int64_t steps);
    int64_t flops_a_step;                                      // of floats; half of it of doubles
    float (*read)(const float* data, int64_t count);           // count: a multiple of kRateCount
    void (*move)(const float* from, float* to, int64_t count);
};

// nullptr where this build or this processor has no such set.
const Kernels* kernels_avx512();
const Kernels* kernels_avx2();
const Kernels* kernels_neon();
const Kernels* kernels_plain();

}  // namespace ff
