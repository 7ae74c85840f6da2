// resize() of every instruction set of this machine: values by hand, then plain loops in double.
#include <algorithm>

#include "check.hpp"
#include "kernels.hpp"
#include "sets.hpp"

using namespace ff;

namespace {

constexpr float kUntouched = 12345.0f;

// As torch.nn.functional.interpolate scales where only sizes are given.
float scale_of(int size, int out_size, bool align_corners) {
    if (align_corners) return out_size > 1 ? static_cast<float>(size - 1) / static_cast<float>(out_size - 1) : 0.0f;
    return static_cast<float>(size) / static_cast<float>(out_size);
}

double cubic(double x) {  // Keys' kernel
    constexpr double a = -0.75;
    x = std::fabs(x);
    if (x <= 1) return (a + 2) * x * x * x - (a + 3) * x * x + 1;
    if (x < 2) return a * (x * x * x - 5 * x * x + 8 * x - 4);
    return 0;
}

struct Tap {
    int index;
    double weight;
};

std::vector<Tap> taps(ResizeMode mode, bool align_corners, float scale, int to, int size) {
    auto clipped = [&](int i) { return std::min(std::max(i, 0), size - 1); };
    // the position in float, as PyTorch computes it: at a pixel's border the rounding decides
    const float middle = mode == ResizeMode::nearest_exact ? 0.5f : 0;
    if (mode == ResizeMode::nearest || mode == ResizeMode::nearest_exact)
        return {{clipped(static_cast<int>((static_cast<float>(to) + middle) * scale)), 1}};
    float from = align_corners ? scale * static_cast<float>(to) : scale * (static_cast<float>(to) + 0.5f) - 0.5f;
    if (mode == ResizeMode::bilinear) from = std::max(from, 0.0f);
    const int index = static_cast<int>(std::floor(from));
    const double t = static_cast<double>(from) - index;
    std::vector<Tap> result;
    const bool linear = mode == ResizeMode::bilinear;
    for (int i = linear ? 0 : -1; i <= (linear ? 1 : 2); ++i)
        result.push_back({clipped(index + i), linear ? 1 - std::fabs(t - i) : cubic(t - i)});
    return result;
}

void run(const Kernels& kernels, check::Random& random) {
    auto pick = [&](int low, int high) { return static_cast<int>(random.between(low, high)); };
    const ResizeMode mode = static_cast<ResizeMode>(pick(0, 3));
    const bool align_corners = (mode == ResizeMode::bilinear || mode == ResizeMode::bicubic) && pick(0, 1);
    const int height = pick(1, 13), width = pick(1, 13), channels = pick(1, 40), wider = pick(0, 1) * pick(1, 9);
    const int out_height = pick(0, 4) ? pick(1, 29) : height, out_width = pick(0, 4) ? pick(1, 29) : width;
    const int pixel = channels + wider, row = width * pixel, out_row = out_width * pixel;
    const std::vector<float> x = random.floats(static_cast<size_t>(height) * row);
    std::vector<float> out(static_cast<size_t>(out_height) * out_row + 64, kUntouched);
    ResizeArgs args;
    args.x = {x.data(), row, pixel, height, width, channels, 0};
    args.out = {out.data() + 32, out_row, pixel, out_height, out_width, channels, 0};
    args.mode = mode;
    args.align_corners = align_corners;
    args.scale_h = scale_of(height, out_height, align_corners);
    args.scale_w = scale_of(width, out_width, align_corners);
    const int cut = pick(0, out_height);
    kernels.resize(args, {0, cut});
    kernels.resize(args, {cut, out_height});

    int64_t wrong = 0;
    for (int y = 0; y < out_height; ++y) {
        const std::vector<Tap> down = taps(mode, align_corners, args.scale_h, y, height);
        for (int i = 0; i < out_width; ++i) {
            const std::vector<Tap> across = taps(mode, align_corners, args.scale_w, i, width);
            for (int c = 0; c < channels; ++c) {
                double truth = 0;
                for (const Tap& a : down)
                    for (const Tap& b : across) truth += a.weight * b.weight * x[a.index * row + b.index * pixel + c];
                float& value = args.out.at(y, i)[c];
                // float sums of 16 products; with bicubic the absolute weights sum to at most 1.9
                wrong += !check::close(value, truth, 2e-6);
                value = kUntouched;
            }
        }
    }
    for (const float v : out) wrong += v != kUntouched;
    CHECK(!wrong, "%s mode %d align %d: %d x %d x %d to %d x %d: %lld wrong", kernels.name, static_cast<int>(mode),
          align_corners, height, width, channels, out_height, out_width, static_cast<long long>(wrong));
}

// Rows of one column: what torch.nn.functional.interpolate answers for 1, 2, 4, 8.
void known(const Kernels& kernels, ResizeMode mode, bool align_corners, const std::vector<float>& truth) {
    const float x[4] = {1, 2, 4, 8};
    std::vector<float> out(truth.size());
    ResizeArgs args;
    const int n = static_cast<int>(truth.size());
    args.x = {x, 1, 1, 4, 1, 1, 0};
    args.out = {out.data(), 1, 1, n, 1, 1, 0};
    args.mode = mode;
    args.align_corners = align_corners;
    args.scale_h = scale_of(4, n, align_corners);
    args.scale_w = scale_of(1, 1, align_corners);
    kernels.resize(args, {0, n});
    for (int i = 0; i < n; ++i)
        CHECK(check::close(out[i], truth[i], 1e-6), "%s mode %d align %d at %d: %g not %g", kernels.name,
              static_cast<int>(mode), align_corners, i, out[i], truth[i]);
}

}  // namespace

int main() {
    for (const Kernels* kernels : check::instruction_sets()) {
        known(*kernels, ResizeMode::nearest, false, {1, 1, 2, 2, 4, 4, 8});
        known(*kernels, ResizeMode::bilinear, false, {1, 1.5f, 2.333333f, 3.666667f, 6, 8});
        known(*kernels, ResizeMode::bilinear, true, {1, 1.6f, 2.4f, 3.6f, 5.6f, 8});
        known(*kernels, ResizeMode::bilinear, false, {1.5f, 6});
        known(*kernels, ResizeMode::bicubic, false, {0.9131947f, 1.3125f, 2.304398f, 3.383102f, 6.1875f, 8.347222f});
        known(*kernels, ResizeMode::bicubic, true, {1, 1.5625f, 2.71875f, 5.117188f, 8});
        check::Random random(3);
        for (int i = 0; i < 400; ++i) run(*kernels, random);
    }
    return check::result();
}
