// Normalisation and reduction over random views, against loops in float64.
#include "views.hpp"

using check::View;
using ff::NormMode;
using ff::Reduce;

namespace {

// Leading and trailing parts of a random shape.
struct Parts {
    check::Shape shape, leading;
    int trailing;
    int64_t units, count;
};

Parts random_parts(check::Random& random, int64_t largest) {
    Parts p;
    p.shape = check::random_shape(random, static_cast<int>(random.between(1, 4)), largest);
    p.trailing = static_cast<int>(random.between(1, p.shape.size()));
    p.leading.assign(p.shape.begin(), p.shape.end() - p.trailing);
    p.units = check::count(p.leading);
    p.count = check::count(p.shape) / p.units;
    return p;
}

void check_norm_of(const ff::Kernels& kernels, check::Random& random, const Parts& p, const ff::NormArgs& args,
                   const View& x, const View* weight, const View* bias, View& out, const char* what) {
    check::run_whole_and_in_parts(random, out, p.units, kernels.name,
                                  [&](ff::Range units) { kernels.norm(args, units); });
    for (int64_t unit = 0; unit < p.units; ++unit) {
        double mean = 0, squares = 0;
        for (int64_t i = 0; i < p.count; ++i) mean += x[unit * p.count + i];
        mean = args.mode == NormMode::layer ? mean / p.count : 0;
        for (int64_t i = 0; i < p.count; ++i) squares += std::pow(x[unit * p.count + i] - mean, 2);
        const double length = std::sqrt(squares);
        const double divisor = args.mode != NormMode::l2 ? std::sqrt(squares / p.count + args.eps)
                               : std::isnan(length)      ? length
                                                         : std::fmax(length, args.eps);
        for (int64_t i = unit * p.count; i < (unit + 1) * p.count; ++i) {
            double truth = (x[i] - mean) / divisor;
            // the mean and x - mean are rounded before the division by a deviation that may be small
            double tolerance = 3e-7 * std::fabs(truth) + 1.2e-7 * (std::fabs(mean) + std::fabs(x[i])) / divisor;
            if (weight) truth *= (*weight)[i], tolerance *= (*weight)[i];
            if (bias) truth += (*bias)[i], tolerance += 1.2e-7 * std::fabs(truth);
            const bool good = std::isnan(truth) ? std::isnan(out[i]) : std::fabs(out[i] - truth) <= tolerance + 1e-7;
            CHECK(good, "%s %s: %.9g, not %.9g", kernels.name, what, out[i], truth);
        }
    }
}

void check_norm(const ff::Kernels& kernels, check::Random& random) {
    for (int trial = 0; trial < 400; ++trial) {
        const Parts p = random_parts(random, 19);
        View x = View::random(random, p.shape, false), out = View::random(random, p.shape, false);
        View weight = View::random(random, p.shape, true), bias = View::random(random, p.shape, true);
        x.randomise(random, -1, 3);
        weight.randomise(random, 0.5f, 2);
        bias.randomise(random, -1, 1);
        if (trial % 16 == 0) x[random.between(0, x.size() - 1)] = check::kNan;
        ff::NormArgs args;
        args.x = x.in();
        args.out = out.out();
        args.trailing = p.trailing;
        args.mode = static_cast<NormMode>(trial % 3);
        const bool weighted = args.mode != NormMode::l2 && trial % 4 < 3, biased = weighted && trial % 8 < 5;
        const bool only_bias = args.mode != NormMode::l2 && trial % 4 == 3;
        if (weighted) args.weight = weight.in();
        if (biased || only_bias) args.bias = bias.in();
        // a variance of 0 (one element) keeps its meaning through a eps that is not tiny
        args.eps = args.mode == NormMode::l2 ? 1e-12f : 1e-3f;
        check_norm_of(kernels, random, p, args, x, weighted ? &weight : nullptr,
                      biased || only_bias ? &bias : nullptr, out, "random");
    }
}

// The shapes of networks: channels of each pixel, and all of a map at once.
void check_norm_of_maps(const ff::Kernels& kernels, check::Random& random) {
    for (int64_t channels : {1, 16, 40, 96, 257, 768, 1024}) {
        for (int trailing : {1, 3}) {
            const check::Shape shape{4, 5, channels};
            View x(shape, {0, 1, 2}, 0), out(shape, {0, 1, 2}, 3);
            View weight(shape, {0, 1, 2}, 0, {1, 1, 0}), bias(shape, {0, 1, 2}, 0, {1, 1, 0});
            x.randomise(random, 5, 7);  // a mean far beyond the deviation: one pass would not do
            weight.randomise(random, 0.5f, 2);
            bias.randomise(random, -1, 1);
            const Parts p{shape, {}, trailing, trailing == 1 ? 20 : 1, trailing == 1 ? channels : 20 * channels};
            ff::NormArgs args;
            args.x = x.in(), args.out = out.out(), args.weight = weight.in(), args.bias = bias.in();
            args.trailing = trailing;
            args.eps = channels == 1 ? 1e-3f : 1e-6f;
            check_norm_of(kernels, random, p, args, x, &weight, &bias, out, "map");
        }
    }
}

void check_reduce_of(const ff::Kernels& kernels, check::Random& random, const Parts& p, const ff::ReduceArgs& args,
                     const View& x, View& out) {
    check::run_whole_and_in_parts(random, out, p.units, kernels.name,
                                  [&](ff::Range units) { kernels.reduce(args, units); });
    for (int64_t unit = 0; unit < p.units; ++unit) {
        double total = args.op == Reduce::max ? -INFINITY : args.op == Reduce::min ? INFINITY : 0, size = 0;
        for (int64_t i = unit * p.count; i < (unit + 1) * p.count; ++i) {
            const double v = x[i];
            size += std::fabs(v);
            if (args.op == Reduce::sum || args.op == Reduce::mean) total += v;
            else if (std::isnan(v) || std::isnan(total)) total = check::kNan;
            else total = args.op == Reduce::max ? std::fmax(total, v) : std::fmin(total, v);
        }
        if (args.op == Reduce::mean) total /= p.count, size /= p.count;
        // relative to what is added up: the sum itself may be about 0
        const bool good = std::isnan(total) ? std::isnan(out[unit])
                                            : out[unit] == total || std::fabs(out[unit] - total) <= 5e-7 * size;
        CHECK(good, "%s reduce %d: %.9g, not %.9g", kernels.name, static_cast<int>(args.op), out[unit], total);
    }
}

void check_reduce(const ff::Kernels& kernels, check::Random& random) {
    for (int trial = 0; trial < 400; ++trial) {
        const Parts p = random_parts(random, 27);
        View x = View::random(random, p.shape, true), out = View::random(random, p.leading, false);
        x.randomise(random, -1, 3);
        if (trial % 8 == 0) x[random.between(0, x.size() - 1)] = check::kNan;
        if (trial % 8 == 1) x[random.between(0, x.size() - 1)] = check::kInf;
        check_reduce_of(kernels, random, p, {x.in(), out.out(), p.trailing, static_cast<Reduce>(trial % 4)}, x, out);
    }
}

// The mean of a channels-last map, seen as (C, H, W); and long rows.
void check_reduce_of_maps(const ff::Kernels& kernels, check::Random& random) {
    for (int64_t channels : {1, 24, 47, 64, 130, 1280}) {
        const Parts p{{channels, 14, 13}, {channels}, 2, channels, 182};
        View x(p.shape, {1, 2, 0}, 4), out({channels}, {0}, 0);
        x.randomise(random, 10, 11);
        for (Reduce op : {Reduce::sum, Reduce::mean, Reduce::max, Reduce::min}) {
            check_reduce_of(kernels, random, p, {x.in(), out.out(), 2, op}, x, out);
        }
    }
    const Parts p{{2, 100003}, {2}, 1, 2, 100003};
    View x(p.shape, {0, 1}, 0), out({2}, {0}, 0);
    x.randomise(random, 10, 11);
    check_reduce_of(kernels, random, p, {x.in(), out.out(), 1, Reduce::mean}, x, out);
}

}  // namespace

int main() {
    for (const ff::Kernels* kernels : check::instruction_sets()) {
        check::Random random(11);
        check_norm(*kernels, random);
        check_norm_of_maps(*kernels, random);
        check_reduce(*kernels, random);
        check_reduce_of_maps(*kernels, random);
    }
    return check::result();
}
