// The arguments of every kernel, and the table of kernels that each instruction set fills.
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

// An enum whose names a plan file writes is made from a list, and so are the names: LIST(FF_ENUMERATOR) and
// LIST(FF_TEXT). Neither can be out of order with the other.
#define FF_ENUMERATOR(name, ...) name,
#define FF_TEXT(name, ...) #name,

// A map in memory. If `ring` is not 0, that many rows are kept: row y lies at slot y % ring.
// Pixel x of row y starts at data + slot(y) * row + x * pixel.
template <class T>
struct MapOf {
    T* data = nullptr;
    int64_t row = 0;      // elements from one row to the next; W * pixel if rows are dense
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
#define FF_ACTS(X)                                                                                             \
    X(none) X(relu) X(relu6) X(hardswish) X(hardsigmoid) X(silu) X(gelu) X(gelu_tanh) X(sigmoid) X(tanh)       \
    X(leaky_relu) X(elu) X(selu) X(mish) X(softplus) X(clamp) X(abs) X(exp) X(log) X(sqrt) X(rsqrt) X(neg)     \
    X(reciprocal) X(square) X(erf) X(scale) X(prelu)
enum class Act : int32_t { FF_ACTS(FF_ENUMERATOR) };
struct Activation {
    Act kind = Act::none;
    float a = 0, b = 0;  // leaky_relu slope a · elu alpha a · clamp to [a, b] · scale: a * x + b · prelu: by slopes
};

// The window of a convolution or a pooling.
struct Window {
    int32_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
    int32_t pad_top = 0, pad_left = 0;  // bottom and right follow from the output's shape
    int32_t dilation_h = 1, dilation_w = 1;
};

// out = post(act(conv(x * gate) + bias) + residual), grouped or not.
struct ConvArgs {
    ConstMap x;
    Map out;
    ConstMap residual;             // out's shape; data is nullptr if there is none
    const float* gate = nullptr;   // (C) or nullptr
    const float* weight = nullptr; // [groups][panels][K][16], K ordered (ky, kx, c); 64-byte aligned
    const float* bias = nullptr;   // [groups][panels * 16] or nullptr; beyond N / groups: zeros
    const float* slope = nullptr;  // of act prelu, like bias; else nullptr
    Window window;
    int32_t groups = 1;
    Activation act, post;
    int32_t winograd = 0;               // outputs of a tile, 2 x 2 or 4 x 4; 0: direct sums
    const float* transformed = nullptr; // weights for it: [(winograd + 2)^2][panels][C][16]
    const float* ahead = nullptr;  // weights that the next node reads, to be fetched meanwhile; or nullptr
    int64_t ahead_floats = 0;
};

// The same without a gate, from one input channel for each output channel: channel n reads channel n / multiplier.
struct DepthwiseArgs {
    ConstMap x;
    Map out;
    ConstMap residual;
    const float* weight = nullptr; // [kernel_h * kernel_w][N rounded up to 16]
    const float* bias = nullptr;   // [N rounded up to 16] or nullptr
    const float* slope = nullptr;  // of act prelu, like bias; else nullptr
    Window window;
    int32_t multiplier = 1;
    Activation act, post;
};

// out = post(act(transposed convolution of x + bias)), of few channels: out pixel (y, x) adds up what input pixel
// ((y + pad_top - ky) / stride_h, (x + pad_left - kx) / stride_w) gives to it, where both are whole.
struct TransposedArgs {
    ConstMap x;
    Map out;
    const float* weight = nullptr; // panels of kernel_h * kernel_w * N outputs, ordered (ky, kx, n): [panels][C][16]
    const float* bias = nullptr;   // [N rounded up to 16] or nullptr
    const float* slope = nullptr;  // of act prelu, like bias; else nullptr
    int32_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0;
    Activation act, post;
};

#define FF_POOL_MODES(X) X(max) X(average)
enum class PoolMode : int32_t { FF_POOL_MODES(FF_ENUMERATOR) };
struct PoolArgs {
    ConstMap x;
    Map out;
    Window window;
    PoolMode mode = PoolMode::max;
    int32_t count_include_pad = 0;  // average only; the padded picture ends at H + 2 * pad
    int32_t pad_bottom = 0, pad_right = 0;
};

// out[b, m, n] = alpha * (sum_k a[b, m, k] * b[b, k, n]); the last two dimensions of each view.
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

// prelu is a where a > 0, else a * b.
#define FF_BINARIES(X) X(add) X(sub) X(mul) X(div) X(max) X(min) X(pow) X(prelu)
enum class Binary : int32_t { FF_BINARIES(FF_ENUMERATOR) };
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

#define FF_NORM_MODES(X) X(layer) X(rms) X(l2)
enum class NormMode : int32_t { FF_NORM_MODES(FF_ENUMERATOR) };
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

#define FF_REDUCES(X) X(sum) X(mean) X(max) X(min)
enum class Reduce : int32_t { FF_REDUCES(FF_ENUMERATOR) };
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

#define FF_RESIZE_MODES(X) X(nearest) X(nearest_exact) X(bilinear) X(bicubic)
enum class ResizeMode : int32_t { FF_RESIZE_MODES(FF_ENUMERATOR) };
struct ResizeArgs {  // as torch.nn.functional.interpolate
    ConstMap x;
    Map out;
    ResizeMode mode = ResizeMode::nearest;
    int32_t align_corners = 0;
    float scale_h = 0, scale_w = 0;  // input pixels an output pixel, as PyTorch computes them
};

// A row (axis 0) or a column (axis 1) of out is a sum of `taps` rows or columns of x, from index[i] on.
struct ResampleArgs {
    ConstMap x;
    Map out;
    const float* weight = nullptr;   // [rows or columns of out][taps]
    const int32_t* index = nullptr;  // [rows or columns of out]
    int32_t axis = 0, taps = 1;
};

#define FF_SAMPLE_MODES(X) X(nearest) X(bilinear) X(bicubic)
enum class SampleMode : int32_t { FF_SAMPLE_MODES(FF_ENUMERATOR) };
#define FF_SAMPLE_PADDINGS(X) X(zeros) X(border) X(reflection)
enum class SamplePadding : int32_t { FF_SAMPLE_PADDINGS(FF_ENUMERATOR) };
struct SampleArgs {  // as torch.nn.functional.grid_sample
    ConstMap x, grid;  // grid: (H, W, 2) of out's H and W; x before y, each from -1 to 1
    Map out;
    SampleMode mode = SampleMode::bilinear;
    SamplePadding padding = SamplePadding::zeros;
    int32_t align_corners = 0;
};

struct Range {
    int64_t begin = 0, end = 0;
};

constexpr int64_t kStreamCount = 128;  // floats: eight of the widest vectors

// The kernels: name, result, parameters. The struct below and table.hpp are made from this list.
//
// `rows` are output rows; `pixels` are output pixels counted over all of H x W, in row order; `panels` count
// panels of 16 output channels over all groups, `blocks` count blocks of 16 channels; `units` are indices of
// the out view's leading dimensions, flattened: all but the last `trailing` of norm and reduce; all but the
// last two of matmul, where a unit is one row m of one batch; all but the last one of unary, binary, softmax,
// copy, fill and gather. `scratch` is 64-byte aligned and private to the thread; the *_scratch function says
// how many bytes it holds, whatever the parts.
//
// The last four measure rates. The results of the first three of those only prove that the work was done.
// multiply_adds works in registers alone; read_stream and copy_stream take a multiple of kStreamCount floats.
#define FF_KERNELS(X)                                                                      \
    X(conv_scratch, size_t, (const ConvArgs&))                                             \
    X(conv, void, (const ConvArgs&, Range pixels, Range panels, void* scratch))            \
    X(depthwise_scratch, size_t, (const DepthwiseArgs&))                                   \
    X(depthwise, void, (const DepthwiseArgs&, Range rows, Range blocks, void* scratch))    \
    X(transposed_scratch, size_t, (const TransposedArgs&))                                 \
    X(transposed, void, (const TransposedArgs&, Range rows, void* scratch))                \
    X(pool, void, (const PoolArgs&, Range rows, Range blocks))                             \
    X(matmul_scratch, size_t, (const MatmulArgs&))                                         \
    X(matmul, void, (const MatmulArgs&, Range units, void* scratch))                       \
    X(unary, void, (const UnaryArgs&, Range units))                                        \
    X(binary, void, (const BinaryArgs&, Range units))                                      \
    X(softmax, void, (const SoftmaxArgs&, Range units))                                    \
    X(norm, void, (const NormArgs&, Range units))                                          \
    X(reduce, void, (const ReduceArgs&, Range units))                                      \
    X(copy, void, (const CopyArgs&, Range units))                                          \
    X(fill, void, (const FillArgs&, Range units))                                          \
    X(gather, void, (const GatherArgs&, Range units))                                      \
    X(resize, void, (const ResizeArgs&, Range rows))                                       \
    X(resample, void, (const ResampleArgs&, Range rows))                                   \
    X(sample, void, (const SampleArgs&, Range rows))                                       \
    X(multiply_adds, float, (int64_t steps))                                               \
    X(multiply_adds_double, float, (int64_t steps))                                        \
    X(read_stream, float, (const float* data, int64_t count))                              \
    X(copy_stream, void, (const float* from, float* to, int64_t count))

// One table for each instruction set.
struct Kernels {
    const char* name;  // "avx512", "avx2", "neon", "plain"
    int vector_bytes;
    int part_pixels, part_panels;  // of a convolution that threads share: parts begin at multiples of these
    int64_t flops_a_step;          // of multiply_adds; half of it of multiply_adds_double
#define FF_POINTER(name, result, parameters) result(*name) parameters;
    FF_KERNELS(FF_POINTER)
#undef FF_POINTER
};

// Each is defined only in a build that has the set. cpu.hpp says which of them this processor can run.
const Kernels* kernels_avx512();
const Kernels* kernels_avx2();
const Kernels* kernels_neon();
const Kernels* kernels_plain();

}  // namespace ff
