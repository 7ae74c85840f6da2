// depthwise() of every instruction set of this machine against plain loops in double.
#include <cstring>
#include <limits>

#include "check.hpp"
#include "kernels.hpp"
#include "sets.hpp"

using namespace ff;

namespace {

constexpr float kUntouched = 12345.0f;

struct Case {
    int height, width, channels, multiplier;
    Window window;
    int out_height, out_width;
    Activation act, post;
    bool bias = true, residual = false, ring = false, special = false;
    int wider = 0;  // floats that a pixel is wider than its channels
};

double activation(const Activation& act, double x, double slope = 0) {
    switch (act.kind) {
        case Act::prelu: return x > 0 ? x : x * slope;
        case Act::relu: return x < 0 ? 0 : x;
        case Act::relu6: return x < 0 ? 0 : x > 6 ? 6 : x;
        case Act::clamp: return x < act.a ? act.a : x > act.b ? act.b : x;
        case Act::hardswish: return x * (x < -3 ? 0 : x > 3 ? 6 : x + 3) / 6;
        case Act::hardsigmoid: return (x < -3 ? 0 : x > 3 ? 6 : x + 3) / 6;
        case Act::leaky_relu: return x < 0 ? x * act.a : x;
        case Act::silu: return x / (1 + std::exp(-x));
        case Act::tanh: return std::tanh(x);
        default: return x;
    }
}

int padded(int n) { return (n + kPanel - 1) / kPanel * kPanel; }

// A map's memory with a margin around it that nobody may write.
struct Memory {
    std::vector<float> floats;
    int64_t pixel, row;
    int rows, margin;
    Memory(int rows_, int width, int channels, int wider, int margin_)
        : pixel(channels + wider), row(width * pixel + wider * 3), rows(rows_), margin(margin_) {
        floats.assign(rows * row + 2 * margin, kUntouched);
    }
    float* data() { return floats.data() + margin; }
};

template <class T>
MapOf<T> map_of(Memory& memory, int height, int width, int channels) {
    return {memory.data(), memory.row, memory.pixel, height, width, channels, 0};
}

void run(const Kernels& kernels, const Case& c, check::Random& random) {
    const int outputs = c.channels * c.multiplier;
    Memory x(c.height, c.width, c.channels, c.wider, 0);
    Memory out(c.out_height, c.out_width, outputs, c.wider, 32), residual(c.out_height, c.out_width, outputs, 0, 0);
    for (float& v : residual.floats) v = random.uniform();
    DepthwiseArgs args;
    const ConstMap in = map_of<const float>(x, c.height, c.width, c.channels);
    // what lies between pixels is never read: it would show
    for (float& v : x.floats) v = std::numeric_limits<float>::quiet_NaN();
    for (int y = 0; y < c.height; ++y)
        for (int i = 0; i < c.width; ++i)
            for (int k = 0; k < c.channels; ++k) x.data()[y * x.row + i * x.pixel + k] = random.uniform(-2, 2);
    if (c.special) {
        const float special[] = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                                 std::numeric_limits<float>::quiet_NaN()};
        for (int i = 0; i < 3; ++i)
            x.data()[random.between(0, c.height - 1) * x.row + random.between(0, c.width - 1) * x.pixel +
                     random.between(0, c.channels - 1)] = special[i];
    }
    const int taps = c.window.kernel_h * c.window.kernel_w, stride = padded(outputs);
    std::vector<float> weight(taps * stride + 16), bias(stride + 16), slope(stride + 16);
    for (float& v : weight) v = random.uniform();
    for (float& v : bias) v = random.uniform();
    for (float& v : slope) v = random.uniform();
    float* aligned_weight = weight.data() + (64 - reinterpret_cast<uintptr_t>(weight.data()) % 64) % 64 / 4;
    args.x = in;
    args.out = map_of<float>(out, c.out_height, c.out_width, outputs);
    if (c.residual) args.residual = map_of<const float>(residual, c.out_height, c.out_width, outputs);
    args.weight = aligned_weight;
    args.bias = c.bias ? bias.data() : nullptr;
    args.slope = c.act.kind == Act::prelu ? slope.data() : nullptr;
    args.window = c.window;
    args.multiplier = c.multiplier;
    args.act = c.act;
    args.post = c.post;

    std::vector<char> scratch(kernels.depthwise_scratch(args) + 64 + 16, 0x55);
    char* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    const size_t bytes = kernels.depthwise_scratch(args);
    const char after_scratch = aligned[bytes];
    const int blocks = stride / kPanel;
    const int row_cut = static_cast<int>(random.between(0, c.out_height));
    const int block_cut = static_cast<int>(random.between(0, blocks));
    const Range row_parts[] = {{0, row_cut}, {row_cut, c.out_height}};
    const Range block_parts[] = {{0, block_cut}, {block_cut, blocks}};
    for (const Range& rows : row_parts)
        for (const Range& part : block_parts) kernels.depthwise(args, rows, part, aligned);
    CHECK(aligned[bytes] == after_scratch, "scratch overrun");

    const Window& w = c.window;
    int64_t wrong = 0;
    double first_value = 0, first_truth = 0;
    for (int y = 0; y < c.out_height; ++y) {
        for (int i = 0; i < c.out_width; ++i) {
            for (int n = 0; n < outputs; ++n) {
                double sum = c.bias ? bias[n] : 0;
                for (int ky = 0; ky < w.kernel_h; ++ky) {
                    for (int kx = 0; kx < w.kernel_w; ++kx) {
                        const int iy = y * w.stride_h - w.pad_top + ky * w.dilation_h;
                        const int ix = i * w.stride_w - w.pad_left + kx * w.dilation_w;
                        if (iy < 0 || ix < 0 || iy >= c.height || ix >= c.width) continue;
                        sum += static_cast<double>(x.data()[iy * x.row + ix * x.pixel + n / c.multiplier]) *
                               aligned_weight[(ky * w.kernel_w + kx) * stride + n];
                    }
                }
                double truth = activation(c.act, sum, slope[n]);
                if (c.residual) truth += residual.data()[y * residual.row + i * residual.pixel + n];
                truth = activation(c.post, truth);
                float& value = args.out.at(y, i)[n];
                // float sums of up to 961 products of size <= 2
                if (!check::close(value, truth, 1e-6 * (2 + std::sqrt(taps) * 4)) && !wrong++) {
                    first_value = value;
                    first_truth = truth;
                }
                value = kUntouched;
            }
        }
    }
    for (const float v : out.floats) wrong += v != kUntouched;
    CHECK(!wrong, "%s: %d x %d x %d * %d, kernel %d x %d stride %d x %d dilation %d pad %d %d act %d: %lld wrong, %g not %g",
          kernels.name, c.height, c.width, c.channels, c.multiplier, w.kernel_h, w.kernel_w, w.stride_h, w.stride_w,
          w.dilation_w, w.pad_top, w.pad_left, static_cast<int>(c.act.kind), static_cast<long long>(wrong),
          first_value, first_truth);
}

bool fit(Case& c, int pad_bottom, int pad_right) {
    const Window& w = c.window;
    const int tall = c.height + w.pad_top + pad_bottom - w.dilation_h * (w.kernel_h - 1) - 1;
    const int wide = c.width + w.pad_left + pad_right - w.dilation_w * (w.kernel_w - 1) - 1;
    if (tall < 0 || wide < 0) return false;
    c.out_height = tall / w.stride_h + 1;
    c.out_width = wide / w.stride_w + 1;
    return true;
}

const Activation kActs[] = {{Act::none, 0, 0},      {Act::relu, 0, 0},        {Act::relu6, 0, 0},
                            {Act::hardswish, 0, 0}, {Act::hardsigmoid, 0, 0}, {Act::leaky_relu, 0.1f, 0},
                            {Act::clamp, -1, 1.5f}, {Act::silu, 0, 0},        {Act::tanh, 0, 0},
                            {Act::prelu, 0, 0}};

void decorate(Case& c, check::Random& random) {
    c.act = kActs[random.between(0, 9)];
    if (random.between(0, 4) == 0) c.post = kActs[random.between(0, 8)];
    c.bias = random.between(0, 3) != 0;
    c.residual = random.between(0, 3) == 0;
    c.wider = random.between(0, 2) == 0 ? static_cast<int>(random.between(1, 20)) : 0;
    c.special = random.between(0, 5) == 0;
}

void all(const Kernels* kernels) {
    if (!kernels) return;
    check::Random random(7);
    // those with tiles of their own: every width, so that every border meets every tile
    for (const int kernel : {3, 5, 7}) {
        for (const int stride : {1, 2}) {
            for (int size = 1; size <= 26; ++size) {
                for (const int multiplier : {1, 2}) {
                    Case c = {};
                    c.height = static_cast<int>(random.between(1, 9));
                    c.width = size;
                    c.channels = static_cast<int>(random.between(1, 70));
                    c.multiplier = multiplier;
                    const int pad = random.between(0, 3) ? kernel / 2 : static_cast<int>(random.between(0, kernel + 1));
                    c.window = {kernel, kernel, stride, stride, pad, pad, 1, 1};
                    decorate(c, random);
                    if (fit(c, static_cast<int>(random.between(0, pad)), pad)) run(*kernels, c, random);
                }
            }
        }
    }
    // any window
    for (int i = 0; i < 150; ++i) {
        Case c = {};
        auto pick = [&](int low, int high) { return static_cast<int>(random.between(low, high)); };
        c.height = pick(1, 20);
        c.width = pick(1, 40);
        c.channels = pick(1, 40);
        c.multiplier = pick(1, 3);
        c.window = {pick(1, 9), pick(1, 11), pick(1, 3), pick(1, 3), pick(0, 5), pick(0, 5), pick(1, 3), pick(1, 3)};
        decorate(c, random);
        if (fit(c, pick(0, 4), pick(0, 4))) run(*kernels, c, random);
    }
    Case large = {};
    large.height = large.width = 33;
    large.channels = 18;
    large.multiplier = 1;
    large.window = {31, 31, 1, 1, 15, 15, 1, 1};
    if (fit(large, 15, 15)) run(*kernels, large, random);
}

// A strip's rings: input rows and output rows come and go in place.
void rings(const Kernels* kernels) {
    if (!kernels) return;
    check::Random random(11);
    constexpr int kHeight = 23, kWidth = 10, kChannels = 21, kIn = 6, kOut = 3;
    const int stride = padded(kChannels);
    std::vector<float> x = random.floats(kHeight * kWidth * kChannels), weight = random.floats(9 * stride);
    std::vector<float> whole(kHeight * kWidth * kChannels), in(kIn * kWidth * kChannels), out(kOut * kWidth * kChannels);
    DepthwiseArgs args;
    args.x = {x.data(), kWidth * kChannels, kChannels, kHeight, kWidth, kChannels, 0};
    args.out = {whole.data(), kWidth * kChannels, kChannels, kHeight, kWidth, kChannels, 0};
    args.weight = weight.data();
    args.window = {3, 3, 1, 1, 1, 1, 1, 1};
    alignas(64) char scratch[4096];
    CHECK(kernels->depthwise_scratch(args) <= sizeof scratch);
    const Range blocks = {0, stride / kPanel};
    kernels->depthwise(args, {0, kHeight}, blocks, scratch);
    args.x.data = in.data();
    args.x.ring = kIn;
    args.out.data = out.data();
    args.out.ring = kOut;
    const size_t row = kWidth * kChannels;
    int filled = 0;
    for (int y = 0; y < kHeight;) {
        int rows = static_cast<int>(random.between(1, kOut));
        if (rows > kOut - y % kOut) rows = kOut - y % kOut;
        if (rows > kHeight - y) rows = kHeight - y;
        for (; filled < kHeight && filled <= y + rows; ++filled)
            std::memcpy(in.data() + filled % kIn * row, x.data() + filled * row, row * 4);
        kernels->depthwise(args, {y, y + rows}, blocks, scratch);
        for (int i = 0; i < rows; ++i)
            CHECK(!std::memcmp(args.out.at(y + i, 0), whole.data() + (y + i) * row, row * 4), "%s: row %d of a ring",
                  kernels->name, y + i);
        y += rows;
    }
}

}  // namespace

int main() {
    for (const Kernels* kernels : check::instruction_sets()) {
        all(kernels);
        rings(kernels);
    }
    return check::result();
}
