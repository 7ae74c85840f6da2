// pool() of every instruction set of this machine against plain loops in double.
#include <limits>

#include "check.hpp"
#include "kernels.hpp"
#include "sets.hpp"

using namespace ff;

namespace {

constexpr float kUntouched = 12345.0f;

void run(const Kernels& kernels, check::Random& random) {
    auto pick = [&](int low, int high) { return static_cast<int>(random.between(low, high)); };
    const int height = pick(1, 17), width = pick(1, 17), channels = pick(1, 90), wider = pick(0, 1) * pick(1, 9);
    const bool max = pick(0, 1), special = pick(0, 3) == 0, ceil = pick(0, 1);
    PoolArgs args;
    Window& w = args.window;
    w.kernel_h = pick(1, 5);
    w.kernel_w = pick(1, 5);
    w.stride_h = pick(1, 3);
    w.stride_w = pick(1, 3);
    w.pad_top = args.pad_bottom = pick(0, w.kernel_h / 2);
    w.pad_left = args.pad_right = pick(0, w.kernel_w / 2);
    if (max) {
        w.dilation_h = pick(1, 2);
        w.dilation_w = pick(1, 2);
    }
    args.mode = max ? PoolMode::max : PoolMode::average;
    args.count_include_pad = pick(0, 1);
    // PyTorch's output size: with ceil, a last window that starts in the padding beyond is left out
    auto out_size = [&](int size, int kernel, int stride, int pad, int dilation) {
        const int room = size + 2 * pad - dilation * (kernel - 1) - 1;
        if (room < 0) return 0;
        int out = (room + (ceil ? stride - 1 : 0)) / stride + 1;
        if (ceil && (out - 1) * stride >= size + pad) --out;
        return out;
    };
    const int out_height = out_size(height, w.kernel_h, w.stride_h, w.pad_top, w.dilation_h);
    const int out_width = out_size(width, w.kernel_w, w.stride_w, w.pad_left, w.dilation_w);
    if (out_height <= 0 || out_width <= 0) return;

    const int pixel = channels + wider, row = width * pixel, out_row = out_width * pixel, ring = out_height + 2;
    std::vector<float> x = random.floats(static_cast<size_t>(height) * row);
    for (size_t i = 0; i < x.size(); ++i)
        if (static_cast<int>(i % pixel) >= channels) x[i] = std::numeric_limits<float>::quiet_NaN();
    if (special) {
        x[0] = std::numeric_limits<float>::quiet_NaN();
        x[pick(0, height - 1) * row + pick(0, width - 1) * pixel + pick(0, channels - 1)] =
            -std::numeric_limits<float>::infinity();
        x[pick(0, height - 1) * row + pick(0, width - 1) * pixel + pick(0, channels - 1)] =
            std::numeric_limits<float>::quiet_NaN();
    }
    std::vector<float> out(static_cast<size_t>(ring) * out_row + 64, kUntouched);
    args.x = {x.data(), row, pixel, height, width, channels, 0};
    args.out = {out.data() + 32, out_row, pixel, out_height, out_width, channels, ring};
    const int blocks = (channels + kPanel - 1) / kPanel;
    const int row_cut = pick(0, out_height), block_cut = pick(0, blocks);
    for (const Range rows : {Range{0, row_cut}, Range{row_cut, out_height}})
        for (const Range part : {Range{0, block_cut}, Range{block_cut, blocks}}) kernels.pool(args, rows, part);

    int64_t wrong = 0;
    double first_value = 0, first_truth = 0;
    for (int y = 0; y < out_height; ++y) {
        for (int i = 0; i < out_width; ++i) {
            const int top = y * w.stride_h - w.pad_top, left = i * w.stride_w - w.pad_left;
            for (int c = 0; c < channels; ++c) {
                double best = -std::numeric_limits<double>::infinity(), total = 0;
                int inside = 0, padded = 0;
                for (int ky = 0; ky < w.kernel_h; ++ky) {
                    for (int kx = 0; kx < w.kernel_w; ++kx) {
                        const int iy = top + ky * w.dilation_h, ix = left + kx * w.dilation_w;
                        padded += iy < height + args.pad_bottom && ix < width + args.pad_right;
                        if (iy < 0 || ix < 0 || iy >= height || ix >= width) continue;
                        const double value = x[iy * row + ix * pixel + c];
                        ++inside;
                        total += value;
                        if (value > best || std::isnan(value)) best = value;
                        if (std::isnan(best)) best = std::numeric_limits<double>::quiet_NaN();
                    }
                }
                const double truth = max ? best : total / (args.count_include_pad ? padded : inside);
                float& value = args.out.at(y, i)[c];
                // a maximum is exact; an average is a float sum of up to 25 numbers below 1
                if (!check::close(value, truth, max ? 0 : 1e-6) && !wrong++) {
                    first_value = value;
                    first_truth = truth;
                }
                value = kUntouched;
            }
        }
    }
    for (const float v : out) wrong += v != kUntouched;
    CHECK(!wrong, "%s %s: %d x %d x %d, kernel %d x %d stride %d x %d pad %d %d: %lld wrong, %g not %g", kernels.name,
          max ? "max" : "average", height, width, channels, w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_top,
          w.pad_left, static_cast<long long>(wrong), first_value, first_truth);
}

}  // namespace

int main() {
    for (const Kernels* kernels : check::instruction_sets()) {
        check::Random random(5);
        for (int i = 0; i < 400; ++i) run(*kernels, random);
    }
    return check::result();
}
