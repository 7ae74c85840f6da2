// Convolutions of every shape against seven nested loops in double.
#include <algorithm>
#include <cstring>

#include "check.hpp"
#include "sets.hpp"
#include "winograd.hpp"

using namespace ff;

namespace {

struct Case {
    int height, width, channels, outputs, groups;
    Window window;
    bool bias, residual, gate, wide, ring;
    Activation act, post;
    int winograd = 0;
};

double applied(const Activation& act, double x, double slope = 0) {
    switch (act.kind) {
        case Act::leaky_relu: return x > 0 ? x : x * act.a;
        case Act::prelu: return x > 0 ? x : x * slope;
        case Act::relu: return x < 0 ? 0 : x;
        case Act::relu6: return x < 0 ? 0 : x > 6 ? 6 : x;
        case Act::clamp: return x < act.a ? act.a : x > act.b ? act.b : x;
        case Act::silu: return x / (1 + std::exp(-x));
        case Act::gelu: return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
        case Act::hardswish: return x * std::fmin(std::fmax(x + 3, 0.0), 6.0) / 6;
        default: return x;
    }
}

int out_size(int in, int kernel, int stride, int pad_sum, int dilation) {
    return (in + pad_sum - (kernel - 1) * dilation - 1) / stride + 1;
}

void run(const Case& c, check::Random& random) {
    const Window& w = c.window;
    const int out_h = out_size(c.height, w.kernel_h, w.stride_h, 2 * w.pad_top, w.dilation_h);
    const int out_w = out_size(c.width, w.kernel_w, w.stride_w, 2 * w.pad_left, w.dilation_w);
    const int in_group = c.channels / c.groups, out_group = c.outputs / c.groups, panels = (out_group + 15) / 16;
    const int k = w.kernel_h * w.kernel_w * in_group;
    const int x_pixel = c.channels + (c.wide ? 5 : 0), out_pixel = c.outputs + (c.wide ? 3 : 0);
    const int out_slots = c.ring ? (out_h + 1) / 2 + 1 : out_h;

    check::Aligned x(random.floats(static_cast<size_t>(c.height) * c.width * x_pixel));
    const std::vector<float> raw = random.floats(static_cast<size_t>(c.outputs) * k, -0.3f, 0.3f);  // [N][ky][kx][c]
    check::Aligned bias(random.floats(static_cast<size_t>(c.groups) * panels * 16));
    check::Aligned slope(random.floats(bias.size()));
    check::Aligned gate(random.floats(c.channels));
    check::Aligned residual(random.floats(static_cast<size_t>(out_h) * out_w * c.outputs));
    std::vector<float> packed(static_cast<size_t>(c.groups) * panels * k * 16, 0.0f);
    for (int n = 0; n < c.outputs; ++n)
        for (int i = 0; i < k; ++i) {
            const int g = n / out_group, m = n % out_group;
            packed[((static_cast<size_t>(g) * panels + m / 16) * k + i) * 16 + m % 16] = raw[static_cast<size_t>(n) * k + i];
        }
    check::Aligned weight(packed);
    check::Aligned transformed(c.winograd ? check::transformed(weight.get(), panels, c.channels, c.winograd)
                                          : std::vector<float>());

    for (const Kernels* kernels : check::instruction_sets()) {
        const float mark = 12345.0f;
        check::Aligned out(std::vector<float>(static_cast<size_t>(out_slots) * out_w * out_pixel, mark));
        ConvArgs args;
        args.x = {x.get(), static_cast<int64_t>(c.width) * x_pixel, x_pixel, c.height, c.width, c.channels, 0};
        args.out = {out.get(), static_cast<int64_t>(out_w) * out_pixel, out_pixel, out_h, out_w, c.outputs,
                    c.ring ? out_slots : 0};
        if (c.residual)
            args.residual = {residual.get(), static_cast<int64_t>(out_w) * c.outputs, c.outputs, out_h, out_w, c.outputs, 0};
        args.gate = c.gate ? gate.get() : nullptr;
        args.weight = weight.get();
        args.bias = c.bias ? bias.get() : nullptr;
        args.slope = c.act.kind == Act::prelu ? slope.get() : nullptr;
        args.window = w;
        args.groups = c.groups;
        args.winograd = c.winograd;
        args.transformed = transformed.get();
        args.act = c.act;
        args.post = c.post;
        void* scratch = std::aligned_alloc(64, (kernels->conv_scratch(args) / 64 + 1) * 64);

        auto verify = [&](int row_begin, int row_end) {
            for (int y = row_begin; y < row_end; ++y)
                for (int px = 0; px < out_w; ++px) {
                    const float* pixel = args.out.at(y, px);
                    for (int n = 0; n < c.outputs; ++n) {
                        const int g = n / out_group;
                        const size_t packed_at = (static_cast<size_t>(g) * panels + n % out_group / 16) * 16 + n % out_group % 16;
                        double sum = c.bias ? bias[packed_at] : 0;
                        for (int i = 0; i < w.kernel_h; ++i)
                            for (int j = 0; j < w.kernel_w; ++j) {
                                const int iy = y * w.stride_h - w.pad_top + i * w.dilation_h;
                                const int ix = px * w.stride_w - w.pad_left + j * w.dilation_w;
                                if (iy < 0 || ix < 0 || iy >= c.height || ix >= c.width) continue;
                                for (int ch = 0; ch < in_group; ++ch) {
                                    double value = x[(static_cast<size_t>(iy) * c.width + ix) * x_pixel + g * in_group + ch];
                                    if (c.gate) value *= gate[g * in_group + ch];
                                    sum += value * raw[static_cast<size_t>(n) * k + (i * w.kernel_w + j) * in_group + ch];
                                }
                            }
                        sum = applied(c.act, sum, slope[packed_at]);
                        if (c.residual) sum += residual[(static_cast<size_t>(y) * out_w + px) * c.outputs + n];
                        sum = applied(c.post, sum);
                        // Of tiles, an error is relative to the largest sums around, which are near 15 here.
                        CHECK(check::close(pixel[n], sum, c.winograd ? 1e-4 : 1e-5), "%s (%d,%d,%d): %g for %g", kernels->name,
                              y, px, n, pixel[n], sum);
                    }
                    for (int n = c.outputs; n < out_pixel; ++n)
                        CHECK(pixel[n] == mark, "%s wrote beside its channels", kernels->name);
                }
        };
        const int64_t all = c.groups * panels;
        const int64_t cut = random.between(0, all);
        if (c.ring) {  // whole rows, a stretch that the ring holds at a time
            for (int y = 0; y < out_h;) {
                const int end = std::min(out_h, y + (out_slots - y % out_slots));
                kernels->conv(args, {static_cast<int64_t>(y) * out_w, static_cast<int64_t>(end) * out_w}, {0, all}, scratch);
                verify(y, end);
                y = end;
            }
        } else {  // any pixels, any panels
            const int64_t pixels = static_cast<int64_t>(out_h) * out_w, middle = random.between(0, pixels);
            kernels->conv(args, {0, middle}, {0, cut}, scratch);
            kernels->conv(args, {middle, pixels}, {0, cut}, scratch);
            kernels->conv(args, {0, pixels}, {cut, all}, scratch);
            verify(0, out_h);
        }
        std::free(scratch);
    }
}

void results_do_not_depend_on_the_cut(check::Random& random) {
    for (const Kernels* kernels : check::instruction_sets()) {
        const int size = 11, channels = 37, outputs = 83;
        check::Aligned x(random.floats(size * size * channels)), weight(random.floats(6 * 16 * channels));
        check::Aligned whole(std::vector<float>(size * size * outputs, 0.0f)), parts(std::vector<float>(size * size * outputs, 0.0f));
        ConvArgs args;
        args.x = {x.get(), size * channels, channels, size, size, channels, 0};
        args.out = {whole.get(), size * outputs, outputs, size, size, outputs, 0};
        args.weight = weight.get();
        kernels->conv(args, {0, size * size}, {0, 6}, nullptr);
        args.out.data = parts.get();
        for (int64_t p = 0; p < size * size; ++p)
            for (int64_t panel = 0; panel < 6; ++panel) kernels->conv(args, {p, p + 1}, {panel, panel + 1}, nullptr);
        for (size_t i = 0; i < whole.size(); ++i) CHECK(whole[i] == parts[i], "%s at %zu", kernels->name, i);
    }
}

// Rows in whole tiles; any panels.
void tiles_do_not_depend_on_the_cut(check::Random& random) {
    for (const int tile : {2, 4}) {
        for (const Kernels* kernels : check::instruction_sets()) {
            const int height = 19, width = 27, channels = 21, outputs = 83, panels = 6;
            check::Aligned x(random.floats(height * width * channels)), weight(random.floats(panels * 9 * channels * 16));
            x[height * width * channels / 2] = NAN;
            check::Aligned transformed(check::transformed(weight.get(), panels, channels, tile));
            check::Aligned whole(std::vector<float>(height * width * outputs, 0.0f)), parts(std::vector<float>(height * width * outputs, 1.0f));
            ConvArgs args;
            args.x = {x.get(), width * channels, channels, height, width, channels, 0};
            args.out = {whole.get(), width * outputs, outputs, height, width, outputs, 0};
            args.weight = weight.get();
            args.transformed = transformed.get();
            args.winograd = tile;
            args.window = {3, 3, 1, 1, 1, 1, 1, 1};
            void* scratch = std::aligned_alloc(64, (kernels->conv_scratch(args) / 64 + 1) * 64);
            kernels->conv(args, {0, height * width}, {0, panels}, scratch);
            args.out.data = parts.get();
            for (int64_t y = 0; y < height; y += tile)
                for (int64_t panel = 0; panel < panels; ++panel)
                    kernels->conv(args, {y * width, std::min<int64_t>(y + tile, height) * width}, {panel, panel + 1}, scratch);
            CHECK(!std::memcmp(whole.get(), parts.get(), whole.size() * 4), "%s, tile %d", kernels->name, tile);
            std::free(scratch);
        }
    }
}

// Infinity and NaN in, and sums that overflow: the results are those of direct sums.
void tiles_pass_what_is_not_finite(check::Random& random) {
    for (int i = 0; i < 60; ++i) {
        const int tile = i % 2 ? 4 : 2, size = 13, channels = 18, outputs = 35, panels = 3;
        check::Aligned x(random.floats(size * size * channels)), weight(random.floats(panels * 9 * channels * 16));
        check::Aligned residual(random.floats(size * size * outputs));
        for (int64_t k = random.between(1, 3); k > 0; --k)
            x[static_cast<size_t>(random.between(0, size * size * channels - 1))] = k == 1 ? NAN : k == 2 ? INFINITY : -INFINITY;
        if (i % 5 == 0) x[0] = x[size * size * channels - 1] = i % 2 ? INFINITY : NAN;  // corners
        if (i % 10 == 9) {
            for (size_t k = 0; k < x.size(); ++k) x[k] = 3e38f;
            for (size_t k = 0; k < weight.size(); ++k) weight[k] = std::fabs(weight[k]) + 0.1f;
        }
        check::Aligned transformed(check::transformed(weight.get(), panels, channels, tile));
        for (const Kernels* kernels : check::instruction_sets()) {
            check::Aligned direct(std::vector<float>(size * size * outputs, 0.0f)), tiles(std::vector<float>(size * size * outputs, 0.0f));
            ConvArgs args;
            args.x = {x.get(), size * channels, channels, size, size, channels, 0};
            args.out = {direct.get(), size * outputs, outputs, size, size, outputs, 0};
            if (i % 3 == 0) args.residual = {residual.get(), size * outputs, outputs, size, size, outputs, 0};
            args.weight = weight.get();
            args.transformed = transformed.get();
            args.window = {3, 3, 1, 1, 1, 1, 1, 1};
            args.act.kind = i % 4 == 0 ? Act::relu : i % 4 == 1 ? Act::silu : Act::none;
            args.post.kind = i % 7 == 0 ? Act::hardswish : Act::none;
            args.winograd = tile;
            void* scratch = std::aligned_alloc(64, (kernels->conv_scratch(args) / 64 + 1) * 64);
            args.winograd = 0;
            kernels->conv(args, {0, size * size}, {0, panels}, scratch);
            args.winograd = tile;
            args.out.data = tiles.get();
            kernels->conv(args, {0, size * size}, {0, panels}, scratch);
            for (size_t k = 0; k < direct.size(); ++k)
                CHECK(check::close(tiles[k], direct[k], 1e-4), "%s, tile %d, case %d, %zu: %g for %g", kernels->name,
                      tile, i, k, tiles[k], direct[k]);
            std::free(scratch);
        }
    }
}

void not_a_number_reaches_the_outputs_that_see_it() {
    for (const Kernels* kernels : check::instruction_sets()) {
        check::Aligned x(std::vector<float>(5 * 5, 1.0f)), weight(std::vector<float>(9 * 16, 1.0f)), out(std::vector<float>(25, 0.0f));
        x[0] = NAN;
        x[24] = INFINITY;
        ConvArgs args;
        args.x = {x.get(), 5, 1, 5, 5, 1, 0};
        args.out = {out.get(), 5, 1, 5, 5, 1, 0};
        args.weight = weight.get();
        args.window = {3, 3, 1, 1, 1, 1, 1, 1};
        args.act.kind = Act::relu;
        void* scratch = std::aligned_alloc(64, (kernels->conv_scratch(args) / 64 + 1) * 64);
        kernels->conv(args, {0, 25}, {0, 1}, scratch);
        for (int i = 0; i < 25; ++i) {
            const bool sees = i / 5 < 2 && i % 5 < 2, infinite = i / 5 > 2 && i % 5 > 2;
            CHECK(std::isnan(out[i]) == sees && std::isinf(out[i]) == infinite, "%s at %d: %g", kernels->name, i, out[i]);
        }
        std::free(scratch);
    }
}

}  // namespace

int main() {
    check::Random random(1);
    const Act acts[] = {Act::none, Act::relu, Act::relu6, Act::clamp,     Act::silu,
                        Act::gelu, Act::hardswish, Act::leaky_relu, Act::prelu};
    for (int i = 0; i < 270; ++i) {
        Case c{};
        c.groups = random.between(0, 3) ? 1 : static_cast<int>(random.between(2, 4));
        c.channels = c.groups * static_cast<int>(random.between(1, 40));
        c.outputs = c.groups * static_cast<int>(random.between(1, random.between(0, 1) ? 90 : 20));
        c.window.kernel_h = static_cast<int>(random.between(0, 1) ? 1 : random.between(1, 5));
        c.window.kernel_w = static_cast<int>(c.window.kernel_h == 1 ? random.between(1, 2) : random.between(1, 5));
        c.window.stride_h = static_cast<int>(random.between(1, 3));
        c.window.stride_w = static_cast<int>(random.between(1, 3));
        c.window.dilation_h = static_cast<int>(random.between(1, 2));
        c.window.dilation_w = static_cast<int>(random.between(1, 2));
        c.window.pad_top = static_cast<int>(random.between(0, c.window.kernel_h));
        c.window.pad_left = static_cast<int>(random.between(0, c.window.kernel_w));
        c.height = static_cast<int>(random.between(9, 20));
        c.width = static_cast<int>(random.between(9, 20));
        if (i < 190 && i % 10 == 0) {  // one row: its own way through the weights
            c.window = Window{};
            c.height = c.width = 1;
            c.channels *= 5;
        }
        c.bias = random.between(0, 1);
        c.residual = random.between(0, 1);
        c.gate = random.between(0, 3) == 0;
        c.wide = random.between(0, 1);
        c.ring = random.between(0, 2) == 0;
        c.act.kind = acts[random.between(0, 8)];
        c.post.kind = acts[random.between(0, 7)];
        c.act.a = c.post.a = -0.5f;
        c.act.b = c.post.b = 0.25f;
        if (i >= 190) {
            c.winograd = i % 2 ? 2 : 4;
            c.groups = 1;
            c.gate = false;
            c.window = {3, 3, 1, 1, static_cast<int>(random.between(0, 2)), static_cast<int>(random.between(0, 2)), 1, 1};
            if (i % 3 == 0) c.height = static_cast<int>(random.between(3, 6));
            if (i % 4 == 0) c.width = static_cast<int>(random.between(3, 70));
        }
        run(c, random);
    }
    results_do_not_depend_on_the_cut(random);
    tiles_do_not_depend_on_the_cut(random);
    tiles_pass_what_is_not_finite(random);
    not_a_number_reaches_the_outputs_that_see_it();
    return check::result();
}
