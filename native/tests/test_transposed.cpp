// transposed() of every instruction set of this machine against loops in double.
#include <cstdlib>

#include "check.hpp"
#include "naive.hpp"
#include "sets.hpp"

using namespace ff;

namespace {

void run(const Kernels& kernels, check::Random& random, int trial) {
    const auto pick = [&](int low, int high) { return static_cast<int>(random.between(low, high)); };
    const int height = pick(1, 8), width = pick(1, 20), channels = pick(1, 40), outputs = pick(1, trial % 4 ? 5 : 21);
    TransposedArgs args;
    args.kernel_h = pick(1, 9), args.kernel_w = pick(1, 9);
    args.stride_h = pick(1, 5), args.stride_w = pick(1, 5);
    args.pad_top = pick(0, args.kernel_h), args.pad_left = pick(0, args.kernel_w);
    // rows and columns beyond the last tap hold the bias
    const int out_height = std::max(1, (height - 1) * args.stride_h + args.kernel_h - 2 * args.pad_top + pick(0, 3));
    const int out_width = std::max(1, (width - 1) * args.stride_w + args.kernel_w - 2 * args.pad_left + pick(0, 3));
    const int wide = trial % 3 ? 0 : 5, taps = args.kernel_h * args.kernel_w * outputs, panels = (taps + 15) / 16;
    const float mark = 12345.0f;
    check::Aligned x(random.floats(static_cast<size_t>(height) * width * (channels + wide)));
    check::Aligned weight(random.floats(static_cast<size_t>(panels) * channels * 16)), bias(random.floats(32)),
        slope(random.floats(32));
    const size_t size = static_cast<size_t>(out_height) * out_width * (outputs + wide);
    check::Aligned out(std::vector<float>(size, mark)), truth(std::vector<float>(size, mark));
    if (trial % 5 == 0) x[static_cast<size_t>(pick(0, static_cast<int>(x.size()) - 1))] = trial % 2 ? NAN : INFINITY;
    args.x = {x.get(), int64_t{width} * (channels + wide), channels + wide, height, width, channels, 0};
    args.out = {out.get(), int64_t{out_width} * (outputs + wide), outputs + wide, out_height, out_width, outputs, 0};
    args.weight = weight.get();
    args.bias = trial % 2 ? bias.get() : nullptr;
    const Act acts[] = {Act::none, Act::relu, Act::prelu, Act::tanh, Act::leaky_relu};
    args.act = {acts[pick(0, 4)], 0.25f, 0};
    args.slope = args.act.kind == Act::prelu ? slope.get() : nullptr;
    args.post.kind = pick(0, 3) ? Act::none : Act::relu6;
    void* scratch = std::aligned_alloc(64, (kernels.transposed_scratch(args) / 64 + 1) * 64);
    const int64_t cut = random.between(0, out_height);
    kernels.transposed(args, {cut, out_height}, scratch);
    kernels.transposed(args, {0, cut}, scratch);
    std::free(scratch);
    args.out.data = truth.get();
    naive::transposed(args, {0, out_height}, nullptr);
    int wrong = 0;
    for (size_t i = 0; i < size; ++i) wrong += !check::close(out[i], truth[i], 2e-5);
    CHECK(!wrong, "%s trial %d: %d of %zu wrong", kernels.name, trial, wrong, size);
}

}  // namespace

int main() {
    for (const Kernels* kernels : check::instruction_sets()) {
        check::Random random(13);
        for (int trial = 0; trial < 300; ++trial) run(*kernels, random, trial);
    }
    return check::result();
}
