// All kernels as kernels.hpp defines them, in the fewest lines and nothing else in mind: what the
// executor is tested with, and the truth for real kernels. Sums are taken in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kernels.hpp"

namespace naive {

using namespace ff;

inline double act(double x, const Activation& f) {
    if (std::isnan(x)) return x;
    const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
    const auto softplus = [](double v) { return v > 30 ? v : std::log1p(std::exp(v)); };
    switch (f.kind) {
        case Act::none: return x;
        case Act::relu: return std::max(x, 0.0);
        case Act::relu6: return std::min(std::max(x, 0.0), 6.0);
        case Act::hardswish: return x * std::min(std::max(x + 3, 0.0), 6.0) / 6;
        case Act::hardsigmoid: return std::min(std::max(x + 3, 0.0), 6.0) / 6;
        case Act::silu: return x * sigmoid(x);
        case Act::gelu: return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
        case Act::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case Act::sigmoid: return sigmoid(x);
        case Act::tanh: return std::tanh(x);
        case Act::leaky_relu: return x > 0 ? x : f.a * x;
        case Act::elu: return x > 0 ? x : f.a * std::expm1(x);
        case Act::selu: return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * std::expm1(x));
        case Act::mish: return x * std::tanh(softplus(x));
        case Act::softplus: return softplus(x);
        case Act::clamp: return std::min<double>(std::max<double>(x, f.a), f.b);
        case Act::abs: return std::fabs(x);
        case Act::exp: return std::exp(x);
        case Act::log: return std::log(x);
        case Act::sqrt: return std::sqrt(x);
        case Act::rsqrt: return 1 / std::sqrt(x);
        case Act::neg: return -x;
        case Act::reciprocal: return 1 / x;
        case Act::square: return x * x;
        case Act::erf: return std::erf(x);
        case Act::scale: return f.a * x + f.b;
        case Act::prelu: return x;  // where its slopes are known
    }
    return x;
}

inline bool inside(const ConstMap& x, int64_t iy, int64_t ix) {
    return iy >= 0 && iy < x.height && ix >= 0 && ix < x.width;
}
inline int64_t panels(int64_t n) { return (n + kPanel - 1) / kPanel; }

// One output of either convolution: channels [c0, c0 + depth) of x, weights w(tap, c).
template <class Args, class Weight>
void window_sum(const Args& p, int64_t oy, int64_t ox, int64_t c0, int64_t depth, int64_t n, double bias,
                double slope, const float* gate, Weight w) {
    const Window& o = p.window;
    double sum = bias;
    for (int64_t ky = 0; ky < o.kernel_h; ++ky)
        for (int64_t kx = 0; kx < o.kernel_w; ++kx) {
            const int64_t iy = oy * o.stride_h - o.pad_top + ky * o.dilation_h,
                          ix = ox * o.stride_w - o.pad_left + kx * o.dilation_w;
            if (!inside(p.x, iy, ix)) continue;
            for (int64_t c = 0; c < depth; ++c)
                sum += static_cast<double>(p.x.at(iy, ix)[c0 + c]) * (gate ? gate[c0 + c] : 1.0) *
                       w(ky * o.kernel_w + kx, c);
        }
    sum = act(sum, p.act);
    if (p.slope && !(sum > 0)) sum *= slope;
    if (p.residual.data) sum += p.residual.at(oy, ox)[n];
    p.out.at(oy, ox)[n] = static_cast<float>(act(sum, p.post));
}

inline void conv(const ConvArgs& p, Range pixels, Range panel_range, void*) {
    const int64_t outs = p.out.channels / p.groups, depth = p.x.channels / p.groups, count = panels(outs);
    const int64_t k = int64_t{p.window.kernel_h} * p.window.kernel_w * depth;
    for (int64_t pixel = pixels.begin; pixel < pixels.end; ++pixel)
        for (int64_t panel = panel_range.begin; panel < panel_range.end; ++panel)
            for (int64_t lane = 0; lane < kPanel && panel % count * kPanel + lane < outs; ++lane) {
                const int64_t group = panel / count, n = group * outs + panel % count * kPanel + lane;
                window_sum(p, pixel / p.out.width, pixel % p.out.width, group * depth, depth, n,
                           p.bias ? p.bias[panel * kPanel + lane] : 0.0,
                           p.slope ? p.slope[panel * kPanel + lane] : 0.0, p.gate, [&](int64_t tap, int64_t c) {
                               return p.weight[(panel * k + tap * depth + c) * kPanel + lane];
                           });
            }
}

inline void depthwise(const DepthwiseArgs& p, Range rows, Range blocks, void*) {
    const int64_t padded = panels(p.out.channels) * kPanel;
    for (int64_t y = rows.begin; y < rows.end; ++y)
        for (int64_t x = 0; x < p.out.width; ++x)
            for (int64_t n = blocks.begin * kPanel; n < std::min<int64_t>(blocks.end * kPanel, p.out.channels); ++n)
                window_sum(p, y, x, n / p.multiplier, 1, n, p.bias ? p.bias[n] : 0.0, p.slope ? p.slope[n] : 0.0, nullptr,
                           [&](int64_t tap, int64_t) { return p.weight[tap * padded + n]; });
}

inline void transposed(const TransposedArgs& p, Range rows, void*) {
    const int64_t n = p.out.channels;
    for (int64_t y = rows.begin; y < rows.end; ++y)
        for (int64_t x = 0; x < p.out.width; ++x)
            for (int64_t c = 0; c < n; ++c) {
                double sum = p.bias ? p.bias[c] : 0.0;
                for (int64_t ky = 0; ky < p.kernel_h; ++ky)
                    for (int64_t kx = 0; kx < p.kernel_w; ++kx) {
                        const int64_t iy = y + p.pad_top - ky, ix = x + p.pad_left - kx;
                        if (iy % p.stride_h || ix % p.stride_w || !inside(p.x, iy / p.stride_h, ix / p.stride_w)) continue;
                        const int64_t tap = (ky * p.kernel_w + kx) * n + c;
                        for (int64_t k = 0; k < p.x.channels; ++k)
                            sum += static_cast<double>(p.x.at(iy / p.stride_h, ix / p.stride_w)[k]) *
                                   p.weight[(tap / kPanel * p.x.channels + k) * kPanel + tap % kPanel];
                    }
                sum = act(sum, p.act);
                if (p.slope && !(sum > 0)) sum *= p.slope[c];
                p.out.at(y, x)[c] = static_cast<float>(act(sum, p.post));
            }
}

inline void pool(const PoolArgs& p, Range rows, Range blocks) {
    const Window& o = p.window;
    for (int64_t y = rows.begin; y < rows.end; ++y)
        for (int64_t x = 0; x < p.out.width; ++x)
            for (int64_t c = blocks.begin * kPanel; c < std::min<int64_t>(blocks.end * kPanel, p.out.channels); ++c) {
                double best = -std::numeric_limits<double>::infinity(), sum = 0;
                int64_t seen = 0, padded = 0;
                for (int64_t ky = 0; ky < o.kernel_h; ++ky)
                    for (int64_t kx = 0; kx < o.kernel_w; ++kx) {
                        const int64_t iy = y * o.stride_h - o.pad_top + ky * o.dilation_h,
                                      ix = x * o.stride_w - o.pad_left + kx * o.dilation_w;
                        padded += iy < p.x.height + p.pad_bottom && ix < p.x.width + p.pad_right;
                        if (!inside(p.x, iy, ix)) continue;
                        const double v = p.x.at(iy, ix)[c];
                        if (v > best || std::isnan(v)) best = v;
                        if (std::isnan(best)) best = v + best;
                        sum += v;
                        ++seen;
                    }
                p.out.at(y, x)[c] = static_cast<float>(
                    p.mode == PoolMode::max ? best : sum / static_cast<double>(p.count_include_pad ? padded : seen));
            }
}

// The element of a view that `unit`, an index of its first `leading` dimensions, and `rest`, one of the others, name.
template <class T>
T* at(const StridedOf<T>& view, int32_t leading, int64_t unit, int64_t rest = 0) {
    T* p = view.data;
    for (int32_t d = view.rank; d-- > leading; rest /= view.shape[d]) p += rest % view.shape[d] * view.stride[d];
    for (int32_t d = leading; d-- > 0; unit /= view.shape[d]) p += unit % view.shape[d] * view.stride[d];
    return p;
}
template <class T>
int64_t count(const StridedOf<T>& view, int32_t from) {
    int64_t n = 1;
    for (int32_t d = from; d < view.rank; ++d) n *= view.shape[d];
    return n;
}

inline void matmul(const MatmulArgs& p, Range units, void*) {
    const int32_t rank = p.out.rank;
    const int64_t rows = p.out.shape[rank - 2], depth = p.a.shape[rank - 1];
    for (int64_t unit = units.begin; unit < units.end; ++unit)
        for (int64_t n = 0; n < p.out.shape[rank - 1]; ++n) {
            double sum = 0;
            for (int64_t k = 0; k < depth; ++k)
                sum += static_cast<double>(*at(p.a, rank - 1, unit, k)) *
                       *(at(p.b, rank - 2, unit / rows) + k * p.b.stride[rank - 2] + n * p.b.stride[rank - 1]);
            *at(p.out, rank - 1, unit, n) = static_cast<float>(p.alpha * sum);
        }
}

inline void unary(const UnaryArgs& p, Range units) {
    const int32_t lead = p.out.rank - 1;
    for (int64_t u = units.begin; u < units.end; ++u)
        for (int64_t i = 0; i < p.out.shape[lead]; ++i)
            *at(p.out, lead, u, i) = static_cast<float>(act(*at(p.x, lead, u, i), p.act));
}

inline void binary(const BinaryArgs& p, Range units) {
    const int32_t lead = p.out.rank - 1;
    for (int64_t u = units.begin; u < units.end; ++u)
        for (int64_t i = 0; i < p.out.shape[lead]; ++i) {
            const double a = *at(p.a, lead, u, i), b = *at(p.b, lead, u, i);
            double r = std::isnan(a) ? a : b;  // for max and min
            switch (p.op) {
                case Binary::add: r = a + b; break;
                case Binary::sub: r = a - b; break;
                case Binary::mul: r = a * b; break;
                case Binary::div: r = a / b; break;
                case Binary::max: r = std::isnan(a) || std::isnan(b) ? r : std::max(a, b); break;
                case Binary::min: r = std::isnan(a) || std::isnan(b) ? r : std::min(a, b); break;
                case Binary::pow: r = std::pow(a, b); break;
                case Binary::prelu: r = a > 0 ? a : a * b; break;
            }
            *at(p.out, lead, u, i) = static_cast<float>(act(r, p.act));
        }
}

inline void softmax(const SoftmaxArgs& p, Range units) {
    const int32_t lead = p.out.rank - 1;
    const int64_t n = p.out.shape[lead];
    for (int64_t u = units.begin; u < units.end; ++u) {
        double top = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t i = 0; i < n; ++i) top = std::max<double>(top, *at(p.x, lead, u, i));
        for (int64_t i = 0; i < n; ++i) sum += std::exp(*at(p.x, lead, u, i) - top);
        for (int64_t i = 0; i < n; ++i)
            *at(p.out, lead, u, i) = static_cast<float>(std::exp(*at(p.x, lead, u, i) - top) / sum);
    }
}

inline void norm(const NormArgs& p, Range units) {
    const int32_t lead = p.x.rank - p.trailing;
    const int64_t n = count(p.x, lead);
    for (int64_t u = units.begin; u < units.end; ++u) {
        double mean = 0, squares = 0;
        for (int64_t i = 0; i < n; ++i) mean += *at(p.x, lead, u, i) / static_cast<double>(n);
        if (p.mode != NormMode::layer) mean = 0;
        for (int64_t i = 0; i < n; ++i) squares += std::pow(*at(p.x, lead, u, i) - mean, 2);
        const double divisor = p.mode == NormMode::l2 ? std::max<double>(std::sqrt(squares), p.eps)
                                                      : std::sqrt(squares / static_cast<double>(n) + p.eps);
        for (int64_t i = 0; i < n; ++i) {
            double v = (*at(p.x, lead, u, i) - mean) / divisor;
            if (p.weight.data) v *= *at(p.weight, lead, u, i);
            if (p.bias.data) v += *at(p.bias, lead, u, i);
            *at(p.out, lead, u, i) = static_cast<float>(v);
        }
    }
}

inline void reduce(const ReduceArgs& p, Range units) {
    const int32_t lead = p.x.rank - p.trailing;
    const int64_t n = count(p.x, lead);
    for (int64_t u = units.begin; u < units.end; ++u) {
        double sum = 0, low = INFINITY, high = -INFINITY;
        for (int64_t i = 0; i < n; ++i) {
            const double v = *at(p.x, lead, u, i);
            sum += v;
            low = std::min(low, v);
            high = std::max(high, v);
        }
        const double r = p.op == Reduce::sum    ? sum
                         : p.op == Reduce::mean ? sum / static_cast<double>(n)
                         : p.op == Reduce::max  ? high
                                                : low;
        *at(p.out, lead, u) = static_cast<float>(r);
    }
}

inline void copy(const CopyArgs& p, Range units) {
    const int32_t lead = p.out.rank - 1;
    for (int64_t u = units.begin; u < units.end; ++u)
        for (int64_t i = 0; i < p.out.shape[lead]; ++i) *at(p.out, lead, u, i) = *at(p.x, lead, u, i);
}

inline void fill(const FillArgs& p, Range units) {
    const int32_t lead = p.out.rank - 1;
    for (int64_t u = units.begin; u < units.end; ++u)
        for (int64_t i = 0; i < p.out.shape[lead]; ++i) *at(p.out, lead, u, i) = p.value;
}

inline void gather(const GatherArgs& p, Range units) {
    const int32_t lead = p.out.rank - 1;
    for (int64_t u = units.begin; u < units.end; ++u)
        for (int64_t i = 0; i < p.out.shape[lead]; ++i) *at(p.out, lead, u, i) = *at(p.x, lead, u, p.index[i]);
}

inline double cubic(double t) {  // a = -0.75, as PyTorch
    t = std::fabs(t);
    return t <= 1 ? (1.25 * t - 2.25) * t * t + 1 : t < 2 ? ((-0.75 * t + 3.75) * t - 6) * t + 3 : 0;
}

inline void resize(const ResizeArgs& p, Range rows) {
    const auto source = [&](double scale, int64_t i) { return p.align_corners ? scale * i : scale * (i + 0.5) - 0.5; };
    const auto clip = [](int64_t i, int64_t size) { return std::min(std::max<int64_t>(i, 0), size - 1); };
    const int reach = p.mode == ResizeMode::bicubic ? 2 : 1;
    const auto weight = [&](double t) {
        return p.mode == ResizeMode::bicubic ? cubic(t) : std::max(0.0, 1 - std::fabs(t));
    };
    for (int64_t y = rows.begin; y < rows.end; ++y)
        for (int64_t x = 0; x < p.out.width; ++x)
            for (int64_t c = 0; c < p.out.channels; ++c) {
                double sum = 0;
                if (p.mode == ResizeMode::nearest || p.mode == ResizeMode::nearest_exact) {
                    const float middle = p.mode == ResizeMode::nearest_exact ? 0.5f : 0;
                    const auto from = [&](float scale, int64_t i) {
                        return static_cast<int64_t>(std::floor(scale * (static_cast<float>(i) + middle)));
                    };
                    sum = p.x.at(clip(from(p.scale_h, y), p.x.height), clip(from(p.scale_w, x), p.x.width))[c];
                } else {
                    double sy = source(p.scale_h, y), sx = source(p.scale_w, x);
                    if (p.mode == ResizeMode::bilinear) sy = std::max(sy, 0.0), sx = std::max(sx, 0.0);
                    const int64_t fy = static_cast<int64_t>(std::floor(sy)), fx = static_cast<int64_t>(std::floor(sx));
                    for (int64_t iy = fy + 1 - reach; iy <= fy + reach; ++iy)
                        for (int64_t ix = fx + 1 - reach; ix <= fx + reach; ++ix)
                            sum += weight(sy - static_cast<double>(iy)) * weight(sx - static_cast<double>(ix)) *
                                   p.x.at(clip(iy, p.x.height), clip(ix, p.x.width))[c];
                }
                p.out.at(y, x)[c] = static_cast<float>(sum);
            }
}

inline void resample(const ResampleArgs& p, Range rows) {
    for (int64_t y = rows.begin; y < rows.end; ++y)
        for (int64_t x = 0; x < p.out.width; ++x)
            for (int64_t c = 0; c < p.out.channels; ++c) {
                const int64_t to = p.axis ? x : y;
                double sum = 0;
                for (int64_t i = 0; i < p.taps; ++i) {
                    const double weight = p.weight[to * p.taps + i];
                    const int64_t from = p.index[to] + i;
                    if (weight != 0) sum += weight * (p.axis ? p.x.at(y, from) : p.x.at(from, x))[c];
                }
                p.out.at(y, x)[c] = static_cast<float>(sum);
            }
}

// grid_sample's formulas, in double; positions must be numbers within some maps' widths.
inline void sample(const SampleArgs& p, Range rows) {
    const auto padded = [&](double at, int64_t size) {
        const double last = static_cast<double>(size - 1);
        if (p.padding == SamplePadding::zeros) return at;
        if (p.padding == SamplePadding::reflection) {
            const double low = p.align_corners ? 0 : -0.5, span = p.align_corners ? last : last + 1;
            if (span == 0) return 0.0;
            at = std::fabs(std::fmod(std::fabs(at - low), 2 * span));
            at = (at > span ? 2 * span - at : at) + low;
        }
        return std::min(std::max(at, 0.0), last);
    };
    const auto weight = [&](double t) {
        return p.mode == SampleMode::bicubic ? cubic(t) : std::max(0.0, 1 - std::fabs(t));
    };
    for (int64_t y = rows.begin; y < rows.end; ++y)
        for (int64_t x = 0; x < p.out.width; ++x)
            for (int64_t c = 0; c < p.out.channels; ++c) {
                double sum = 0, at[2];
                const int64_t sizes[] = {p.x.width, p.x.height};
                for (int i = 0; i < 2; ++i) {
                    const double g = p.grid.at(y, x)[i], n = static_cast<double>(sizes[i]);
                    at[i] = p.align_corners ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
                    if (p.mode != SampleMode::bicubic) at[i] = padded(at[i], sizes[i]);
                    if (p.mode == SampleMode::nearest) at[i] = std::nearbyint(at[i]);
                }
                const int64_t fx = static_cast<int64_t>(std::floor(at[0])), fy = static_cast<int64_t>(std::floor(at[1]));
                for (int64_t iy = fy - 1; iy <= fy + 2; ++iy)
                    for (int64_t ix = fx - 1; ix <= fx + 2; ++ix) {
                        const double w = weight(at[0] - static_cast<double>(ix)) * weight(at[1] - static_cast<double>(iy));
                        double px = static_cast<double>(ix), py = static_cast<double>(iy);
                        if (p.mode == SampleMode::bicubic) px = padded(px, p.x.width), py = padded(py, p.x.height);
                        const int64_t jx = static_cast<int64_t>(std::floor(px)), jy = static_cast<int64_t>(std::floor(py));
                        if (w != 0 && inside(p.x, jy, jx)) sum += w * p.x.at(jy, jx)[c];
                    }
                p.out.at(y, x)[c] = static_cast<float>(sum);
            }
}

inline const Kernels& kernels() {
    static const Kernels table = [] {
        Kernels naive{};  // without rates
        naive.name = "naive";
        naive.vector_bytes = 16;
        naive.part_pixels = 6;
        naive.part_panels = 1;
        naive.conv_scratch = [](const ConvArgs&) -> size_t { return 0; };
        naive.depthwise_scratch = [](const DepthwiseArgs&) -> size_t { return 0; };
        naive.matmul_scratch = [](const MatmulArgs&) -> size_t { return 0; };
        naive.transposed_scratch = [](const TransposedArgs&) -> size_t { return 0; };
        naive.transposed = transposed;
        naive.conv = conv, naive.depthwise = depthwise, naive.pool = pool, naive.matmul = matmul;
        naive.unary = unary, naive.binary = binary, naive.softmax = softmax, naive.norm = norm, naive.reduce = reduce;
        naive.copy = copy, naive.fill = fill, naive.gather = gather, naive.resize = resize;
        naive.resample = resample, naive.sample = sample;
        return naive;
    }();
    return table;
}

}  // namespace naive
