// Copies, fills and gathers over random views; bit for bit.
#include "views.hpp"

using check::View;

namespace {

int64_t units_of(const check::Shape& shape) { return shape.empty() ? 1 : check::count(shape) / shape.back(); }

void check_copy(const ff::Kernels& kernels, check::Random& random, View& x, View& out, const char* what) {
    x.randomise(random, -1, 1);
    const ff::CopyArgs args{x.in(), out.out()};
    check::run_whole_and_in_parts(random, out, units_of(out.shape), kernels.name,
                                  [&](ff::Range units) { kernels.copy(args, units); });
    int64_t wrong = 0;
    for (int64_t i = 0; i < out.size(); ++i) wrong += out[i] != x[i];
    CHECK(wrong == 0, "%s %s: %d of %d elements", kernels.name, what, static_cast<int>(wrong),
          static_cast<int>(out.size()));
}

void check_random_copies(const ff::Kernels& kernels, check::Random& random) {
    for (int trial = 0; trial < 600; ++trial) {
        const check::Shape shape = check::random_shape(random, static_cast<int>(random.between(0, 4)), 37);
        View x = View::random(random, shape, true), out = View::random(random, shape, false);
        check_copy(kernels, random, x, out, "random");
    }
}

// Channels-first to channels-last and back, in either order of the loop, with and without gaps.
void check_layouts(const ff::Kernels& kernels, check::Random& random) {
    const std::vector<int> first{0, 1, 2}, last{1, 2, 0}, last_of_hwc{0, 1, 2}, first_of_hwc{2, 0, 1};
    for (int64_t channels : {1, 2, 3, 4, 8, 16, 17, 32, 58}) {
        for (int64_t height : {1, 5, 16}) {
            for (int64_t width : {1, 3, 7, 16, 21}) {
                for (int64_t gap : {0, 3}) {
                    const check::Shape chw{channels, height, width}, hwc{height, width, channels};
                    View a(hwc, first_of_hwc, 0), b(hwc, last_of_hwc, gap);
                    check_copy(kernels, random, a, b, "CHW -> HWC by pixels");
                    check_copy(kernels, random, b, a, "HWC -> CHW by pixels");
                    View c(chw, first, 0), d(chw, last, gap);
                    check_copy(kernels, random, c, d, "CHW -> HWC by channels");
                    check_copy(kernels, random, d, c, "HWC -> CHW by channels");
                }
            }
        }
    }
}

void check_values_pass(const ff::Kernels& kernels) {
    View x({3, 5, 7}, {2, 0, 1}, 0), out({3, 5, 7}, {0, 1, 2}, 0);
    for (int64_t i = 0; i < x.size(); ++i) x[i] = i % 3 == 0 ? check::kNan : i % 3 == 1 ? -check::kInf : -0.0f;
    kernels.copy({x.in(), out.out()}, {0, 15});
    for (int64_t i = 0; i < x.size(); ++i) {
        const float a = x[i], b = out[i];
        CHECK(std::memcmp(&a, &b, sizeof a) == 0, "%s", kernels.name);
    }
}

void check_fill(const ff::Kernels& kernels, check::Random& random) {
    for (int trial = 0; trial < 200; ++trial) {
        const check::Shape shape = check::random_shape(random, static_cast<int>(random.between(0, 4)), 37);
        View out = View::random(random, shape, false);
        const ff::FillArgs args{out.out(), 2.5f};
        check::run_whole_and_in_parts(random, out, units_of(shape), kernels.name,
                                      [&](ff::Range units) { kernels.fill(args, units); });
        for (int64_t i = 0; i < out.size(); ++i) CHECK(out[i] == 2.5f, "%s fill", kernels.name);
    }
}

void check_gather(const ff::Kernels& kernels, check::Random& random) {
    for (int trial = 0; trial < 200; ++trial) {
        check::Shape shape = check::random_shape(random, static_cast<int>(random.between(1, 4)), 37);
        View out = View::random(random, shape, false);
        shape.back() = random.between(1, 50);
        View x = View::random(random, shape, true);
        x.randomise(random, -1, 1);
        const int64_t n = out.shape.back();
        std::vector<int32_t> index(n);
        for (int32_t& i : index) i = static_cast<int32_t>(random.between(0, shape.back() - 1));
        const ff::GatherArgs args{x.in(), out.out(), index.data()};
        check::run_whole_and_in_parts(random, out, units_of(out.shape), kernels.name,
                                      [&](ff::Range units) { kernels.gather(args, units); });
        for (int64_t i = 0; i < out.size(); ++i) {
            CHECK(out[i] == x[i / n * shape.back() + index[i % n]], "%s gather", kernels.name);
        }
    }
}

}  // namespace

int main() {
    for (const ff::Kernels* kernels : check::instruction_sets()) {
        check::Random random(5);
        check_random_copies(*kernels, random);
        check_layouts(*kernels, random);
        check_values_pass(*kernels);
        check_fill(*kernels, random);
        check_gather(*kernels, random);
    }
    return check::result();
}
