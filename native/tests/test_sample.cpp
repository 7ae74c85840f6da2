// resample() and sample() of every instruction set of this machine against loops in double.
#include <cmath>

#include "check.hpp"
#include "naive.hpp"
#include "sets.hpp"

using namespace ff;

namespace {

struct Maps {
    check::Aligned x, out, truth;
    ConstMap from;
    Map to, naive;
    Maps(check::Random& random, int height, int width, int channels, int out_height, int out_width)
        : x(random.floats(static_cast<size_t>(height) * width * channels)),
          out(std::vector<float>(static_cast<size_t>(out_height) * out_width * channels, 12345.0f)), truth(std::vector<float>(out.size())),
          from{x.get(), int64_t{width} * channels, channels, height, width, channels, 0},
          to{out.get(), int64_t{out_width} * channels, channels, out_height, out_width, channels, 0}, naive(to) {
        naive.data = truth.get();
    }
};

void verify(const Kernels& kernels, const Maps& maps, const char* what, double tolerance) {
    int wrong = 0;
    for (size_t i = 0; i < maps.out.size(); ++i) wrong += !check::close(maps.out[i], maps.truth[i], tolerance);
    CHECK(!wrong, "%s %s: %d of %zu wrong", kernels.name, what, wrong, maps.out.size());
}

void check_resample(const Kernels& kernels, check::Random& random) {
    const auto pick = [&](int low, int high) { return static_cast<int>(random.between(low, high)); };
    for (int trial = 0; trial < 100; ++trial) {
        const int sizes[] = {pick(1, 12), pick(1, 12)}, axis = pick(0, 1), count = pick(1, 15);
        const int taps = pick(1, sizes[axis]);
        Maps maps(random, sizes[0], sizes[1], pick(1, 40), axis ? sizes[0] : count, axis ? count : sizes[1]);
        std::vector<float> weight = random.floats(static_cast<size_t>(count) * taps);
        std::vector<int32_t> index(static_cast<size_t>(count));
        for (int32_t& first : index) first = pick(0, sizes[axis] - taps);
        for (float& one : weight)
            if (pick(0, 3) == 0) one = 0;  // not read, so that NaN there does not show
        if (trial % 3 == 0) maps.x[static_cast<size_t>(pick(0, static_cast<int>(maps.x.size()) - 1))] = NAN;
        ResampleArgs args;
        args.x = maps.from, args.out = maps.to;
        args.weight = weight.data(), args.index = index.data();
        args.axis = axis, args.taps = taps;
        const int64_t cut = random.between(0, maps.to.height);
        kernels.resample(args, {0, cut});
        kernels.resample(args, {cut, maps.to.height});
        args.out = maps.naive;
        naive::resample(args, {0, maps.to.height});
        verify(kernels, maps, "resample", 1e-5);
    }
}

void check_sample(const Kernels& kernels, check::Random& random) {
    const auto pick = [&](int low, int high) { return static_cast<int>(random.between(low, high)); };
    for (int trial = 0; trial < 300; ++trial) {
        const int height = pick(1, 9), width = pick(1, 9), out_height = pick(1, 7), out_width = pick(1, 7);
        Maps maps(random, height, width, pick(1, 40), out_height, out_width);
        std::vector<float> grid = random.floats(static_cast<size_t>(out_height) * out_width * 2, -2.6f, 2.6f);
        SampleArgs args;
        args.x = maps.from, args.out = maps.to;
        args.grid = {grid.data(), int64_t{out_width} * 2, 2, out_height, out_width, 2, 0};
        args.mode = static_cast<SampleMode>(trial % 3);
        args.padding = static_cast<SamplePadding>(trial / 3 % 3);
        args.align_corners = trial % 2;
        // positions in float: no jump of nearest, and no border of zeros, may lie within rounding of one
        for (float& one : grid) one = std::round(one * 64) / 64 + 1.0f / 256;
        const int64_t cut = random.between(0, out_height);
        kernels.sample(args, {0, cut});
        kernels.sample(args, {cut, out_height});
        args.out = maps.naive;
        naive::sample(args, {0, out_height});
        verify(kernels, maps, "sample", 1e-4);
    }
}

// Positions that are no numbers, or that no map has, read nothing outside.
void far_positions_are_safe(const Kernels& kernels, check::Random& random) {
    const float far[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e10f, 2e9f, -1e9f};
    for (int trial = 0; trial < 18; ++trial) {
        Maps maps(random, 5, 3, 7, 1, 8);
        std::vector<float> grid;
        for (const float one : far) grid.insert(grid.end(), {one, trial % 2 ? one : 0});
        SampleArgs args;
        args.x = maps.from, args.out = maps.to;
        args.grid = {grid.data(), 16, 2, 1, 8, 2, 0};
        args.mode = static_cast<SampleMode>(trial % 3);
        args.padding = static_cast<SamplePadding>(trial / 3 % 3);
        args.align_corners = trial / 9;
        kernels.sample(args, {0, 1});
        for (size_t i = 0; i < maps.out.size(); ++i)
            CHECK(std::fabs(maps.out[i]) < 4, "%s trial %d at %zu: %g", kernels.name, trial, i, maps.out[i]);
    }
}

}  // namespace

int main() {
    for (const Kernels* kernels : check::instruction_sets()) {
        check::Random random(5);
        check_resample(*kernels, random);
        check_sample(*kernels, random);
        far_positions_are_safe(*kernels, random);
    }
    return check::result();
}
