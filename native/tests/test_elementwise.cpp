// Unary, binary and softmax over random views, against loops in float64.
#include "views.hpp"

using check::View;
using ff::Binary;

namespace {

double combine(Binary op, double a, double b) {
    switch (op) {
        case Binary::add: return a + b;
        case Binary::sub: return a - b;
        case Binary::mul: return a * b;
        case Binary::div: return a / b;
        case Binary::max: return std::isnan(a) || std::isnan(b) ? check::kNan : std::max(a, b);
        case Binary::min: return std::isnan(a) || std::isnan(b) ? check::kNan : std::min(a, b);
        case Binary::pow: return std::pow(a, b);
        case Binary::prelu: return a > 0 ? a : a * b;
    }
    return 0;
}

int64_t units_of(const check::Shape& shape) { return shape.empty() ? 1 : check::count(shape) / shape.back(); }

void check_unary(const ff::Kernels& kernels, check::Random& random) {
    for (int trial = 0; trial < 300; ++trial) {
        const check::Shape shape = check::random_shape(random, static_cast<int>(random.between(0, 4)), 23);
        View x = View::random(random, shape, true), out = View::random(random, shape, false);
        x.randomise(random, -3, 3);
        ff::UnaryArgs args{x.in(), out.out(), {ff::Act::leaky_relu, 0.25f, 0}};
        check::run_whole_and_in_parts(random, out, units_of(shape), kernels.name,
                                      [&](ff::Range units) { kernels.unary(args, units); });
        for (int64_t i = 0; i < out.size(); ++i) {
            CHECK(out[i] == (x[i] > 0 ? x[i] : 0.25f * x[i]), "%s trial %d", kernels.name, trial);
        }
    }
}

void check_binary(const ff::Kernels& kernels, check::Random& random) {
    for (int trial = 0; trial < 800; ++trial) {
        const Binary op = static_cast<Binary>(trial % 8);
        const check::Shape shape = check::random_shape(random, static_cast<int>(random.between(0, 4)), 23);
        View a = View::random(random, shape, true), b = View::random(random, shape, true);
        View out = View::random(random, shape, false);
        a.randomise(random, op == Binary::prelu ? -3 : 0.5f, 3);
        b.randomise(random, -2, 2);
        if (op != Binary::pow) {
            a[random.between(0, a.size() - 1)] = check::kNan;
            b[random.between(0, b.size() - 1)] = check::kNan;
            b[random.between(0, b.size() - 1)] = check::kInf;
        }
        ff::BinaryArgs args{a.in(), b.in(), out.out(), op, {}};
        if (trial % 2) args.act = {ff::Act::relu, 0, 0};
        check::run_whole_and_in_parts(random, out, units_of(shape), kernels.name,
                                      [&](ff::Range units) { kernels.binary(args, units); });
        for (int64_t i = 0; i < out.size(); ++i) {
            double truth = combine(op, a[i], b[i]);
            if (trial % 2 && truth < 0) truth = 0;
            CHECK(check::close(out[i], truth, 2e-7), "%s op %d trial %d: %g, not %g", kernels.name,
                  static_cast<int>(op), trial, out[i], truth);
        }
    }
}

// Long rows: the vector loops of a map with a vector, a number and a map, in place too.
void check_maps(const ff::Kernels& kernels, check::Random& random) {
    for (int64_t channels : {1, 3, 16, 40, 58, 129, 1300}) {
        View a({5, 7, channels}, {0, 1, 2}, 0), out({5, 7, channels}, {0, 1, 2}, 0);
        a.randomise(random, -2, 2);
        for (int kind = 0; kind < 4; ++kind) {
            const check::Shape repeated[] = {{0, 0, 0}, {1, 1, 0}, {1, 1, 1}, {0, 0, 1}};
            View b({5, 7, channels}, {0, 1, 2}, 0, repeated[kind]);
            b.randomise(random, -2, 2);
            for (bool swapped : {false, true}) {
                const View &first = swapped ? b : a, &second = swapped ? a : b;
                ff::BinaryArgs args{first.in(), second.in(), out.out(), Binary::sub, {ff::Act::relu6, 0, 0}};
                check::run_whole_and_in_parts(random, out, 35, kernels.name,
                                              [&](ff::Range units) { kernels.binary(args, units); });
                for (int64_t i = 0; i < out.size(); ++i) {
                    const float truth = std::fmin(std::fmax(first[i] - second[i], 0.0f), 6.0f);
                    CHECK(out[i] == truth, "%s kind %d", kernels.name, kind);
                }
            }
            View place = a;
            kernels.binary({place.in(), b.in(), place.out(), Binary::add, {}}, {0, 35});
            for (int64_t i = 0; i < a.size(); ++i) CHECK(place[i] == a[i] + b[i], "%s in place", kernels.name);
        }
    }
}

void check_softmax(const ff::Kernels& kernels, check::Random& random) {
    for (int trial = 0; trial < 250; ++trial) {
        check::Shape shape = check::random_shape(random, static_cast<int>(random.between(0, 3)), 6);
        shape.push_back(trial % 10 ? random.between(1, 80) : random.between(500, 1100));
        View x = View::random(random, shape, true), out = View::random(random, shape, false);
        x.randomise(random, -30, 30);
        const int64_t n = shape.back(), units = units_of(shape);
        if (trial % 5 == 1) x[random.between(0, x.size() - 1)] = -check::kInf;
        if (trial % 5 == 2) x[random.between(0, x.size() - 1)] = check::kNan;
        if (trial % 5 == 3) x[random.between(0, x.size() - 1)] = check::kInf;
        if (trial % 5 == 4) {
            for (int64_t i = 0; i < n; ++i) x[i] = -check::kInf;
        }
        ff::SoftmaxArgs args{x.in(), out.out()};
        check::run_whole_and_in_parts(random, out, units, kernels.name,
                                      [&](ff::Range range) { kernels.softmax(args, range); });
        for (int64_t unit = 0; unit < units; ++unit) {
            double most = -INFINITY, total = 0;
            for (int64_t i = 0; i < n; ++i) most = std::fmax(most, x[unit * n + i]);
            for (int64_t i = 0; i < n; ++i) total += std::exp(x[unit * n + i] - most);
            for (int64_t i = 0; i < n; ++i) {
                const double truth = std::exp(x[unit * n + i] - most) / total;
                const float value = out[unit * n + i];
                // x - most is rounded before exp: half a unit in its last place is that much of the result
                const double tolerance = truth * (1e-6 + 6e-8 * (most - x[unit * n + i])) + 1e-37;
                CHECK(std::isnan(truth) ? std::isnan(value) : value == truth || std::fabs(value - truth) <= tolerance,
                      "%s trial %d: %g, not %g", kernels.name, trial, value, truth);
            }
        }
    }
}

}  // namespace

int main() {
    for (const ff::Kernels* kernels : check::instruction_sets()) {
        check::Random random(7);
        check_unary(*kernels, random);
        check_binary(*kernels, random);
        check_maps(*kernels, random);
        check_softmax(*kernels, random);
    }
    return check::result();
}
