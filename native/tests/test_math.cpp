// Every activation of every instruction set against the C library in float64.
#include "views.hpp"

using ff::Act;
using ff::Activation;

namespace {

struct Case {
    const char* name;
    Activation act;
    double tolerance;  // of |truth|
    double (*truth)(double);
    double absolute = 0;
    bool of_x = false;  // the tolerance is one of |x| too: x is multiplied by something absolute
};

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double hard(double x) { return std::isnan(x) ? x : std::fmin(std::fmax(x / 6 + 0.5, 0.0), 1.0); }

constexpr float kSlope = 0.1f, kAlpha = 0.7f;

// 3e-7 is two to five units in the last place.
const Case kCases[] = {
    {"none", {Act::none, 0, 0}, 0, [](double x) { return x; }},
    {"relu", {Act::relu, 0, 0}, 0, [](double x) { return x < 0 ? 0 : x; }},
    {"relu6", {Act::relu6, 0, 0}, 0, [](double x) { return x < 0 ? 0 : x > 6 ? 6 : x; }},
    {"hardswish", {Act::hardswish, 0, 0}, 3e-7, [](double x) { return x * hard(x); }, 0, true},
    {"hardsigmoid", {Act::hardsigmoid, 0, 0}, 0, hard, 1e-7},
    {"silu", {Act::silu, 0, 0}, 3e-7, [](double x) { return x * logistic(x); }},
    // In float64 PyTorch has +inf at +inf; its float32 kernel has NaN there, as ours.
    {"gelu", {Act::gelu, 0, 0}, 4e-7,
     [](double x) { return std::isinf(x) ? check::kNan : 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }, 0, true},
    {"gelu_tanh", {Act::gelu_tanh, 0, 0}, 4e-7,
     [](double x) { return x * logistic(2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)); }, 0, true},
    {"sigmoid", {Act::sigmoid, 0, 0}, 3e-7, logistic},
    {"tanh", {Act::tanh, 0, 0}, 3e-7, [](double x) { return std::tanh(x); }},
    {"leaky_relu", {Act::leaky_relu, kSlope, 0}, 1e-7, [](double x) { return x > 0 ? x : double(kSlope) * x; }},
    {"elu", {Act::elu, kAlpha, 0}, 3e-7, [](double x) { return x > 0 ? x : double(kAlpha) * std::expm1(x); }},
    {"selu", {Act::selu, 0, 0}, 3e-7,
     [](double x) { return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * std::expm1(x)); }},
    {"mish", {Act::mish, 0, 0}, 4e-7,
     [](double x) { return x > 30 ? x : x * std::tanh(std::log1p(std::exp(x))); }},
    {"softplus", {Act::softplus, 0, 0}, 3e-7, [](double x) { return x > 40 ? x : std::log1p(std::exp(x)); }},
    {"clamp", {Act::clamp, -1.5f, 2.5f}, 0, [](double x) { return x < -1.5 ? -1.5 : x > 2.5 ? 2.5 : x; }},
    {"clamp from -inf", {Act::clamp, -check::kInf, 2.5f}, 0, [](double x) { return x > 2.5 ? 2.5 : x; }},
    {"abs", {Act::abs, 0, 0}, 0, [](double x) { return std::fabs(x); }},
    {"exp", {Act::exp, 0, 0}, 2e-7, [](double x) { return std::exp(x); }},
    {"log", {Act::log, 0, 0}, 2e-7, [](double x) { return std::log(x); }},
    {"sqrt", {Act::sqrt, 0, 0}, 1e-7, [](double x) { return std::sqrt(x); }},
    {"rsqrt", {Act::rsqrt, 0, 0}, 2e-7, [](double x) { return 1 / std::sqrt(x); }},
    {"neg", {Act::neg, 0, 0}, 0, [](double x) { return -x; }},
    {"reciprocal", {Act::reciprocal, 0, 0}, 1e-7, [](double x) { return 1 / x; }},
    {"square", {Act::square, 0, 0}, 1e-7, [](double x) { return x * x; }},
    {"erf", {Act::erf, 0, 0}, 4e-7, [](double x) { return std::erf(x); }},
    {"scale", {Act::scale, kSlope, kAlpha}, 3e-7, [](double x) { return double(kSlope) * x + double(kAlpha); }, 1e-7},
};

std::vector<float> arguments() {
    std::vector<float> x;
    for (float m = 1e-37f; m < 3e38f; m *= 1.01f) x.push_back(m), x.push_back(-m);
    for (float v = -12; v < 12; v += 7e-4f) x.push_back(v);
    for (float v = -120; v < 120; v += 0.013f) x.push_back(v);
    for (float v : {0.0f, -0.0f, check::kInf, -check::kInf, check::kNan}) x.push_back(v);
    return x;
}

bool good(const Case& c, float x, float value) {
    const double truth = c.truth(x);
    if (std::isnan(truth)) return std::isnan(value);
    if (std::fabs(truth) > std::numeric_limits<float>::max()) return value == (truth > 0 ? check::kInf : -check::kInf);
    // what is less than float32 has: exp is 0 there, and so is x times it, |x| < 100
    if (std::fabs(truth) < 2e-36) return std::fabs(value) < 2e-36;
    const double scale = std::fabs(truth) + (c.of_x && std::isfinite(truth) ? std::fabs(x) : 0);
    return std::fabs(value - truth) <= c.tolerance * scale + c.absolute;
}

void check_accuracy(const ff::Kernels& kernels) {
    const std::vector<float> x = arguments();
    std::vector<float> out(x.size());
    ff::UnaryArgs args;
    args.x.rank = args.out.rank = 1;
    args.x.shape[0] = args.out.shape[0] = static_cast<int64_t>(x.size());
    args.x.stride[0] = args.out.stride[0] = 1;
    args.x.data = x.data();
    args.out.data = out.data();
    for (const Case& c : kCases) {
        args.act = c.act;
        kernels.unary(args, {0, 1});
        int reported = 0;
        for (size_t i = 0; i < x.size() && reported < 5; ++i) {
            if (good(c, x[i], out[i])) continue;
            ++reported;
            CHECK(good(c, x[i], out[i]), "%s %s(%.9g) = %.9g, not %.9g", kernels.name, c.name, x[i], out[i],
                  c.truth(x[i]));
        }
    }
}

// Lengths around every unrolled loop; nothing beyond the end is written, in place or not.
void check_lengths(const ff::Kernels& kernels) {
    check::Random random(3);
    for (const Case& c : kCases) {
        std::vector<float> all(140), expected(140);
        for (float& v : all) v = random.uniform(0.5f, 3);
        ff::UnaryArgs args;
        args.act = c.act;
        args.x.rank = args.out.rank = 1;
        args.x.stride[0] = args.out.stride[0] = 1;
        args.x.shape[0] = args.out.shape[0] = 140;
        args.x.data = all.data();
        args.out.data = expected.data();
        kernels.unary(args, {0, 1});
        for (int64_t n = 1; n < 135; ++n) {
            std::vector<float> place = all;
            args.x.shape[0] = args.out.shape[0] = n;
            args.x.data = args.out.data = place.data();
            kernels.unary(args, {0, 1});
            bool good = true;
            for (int64_t i = 0; i < 140; ++i) good = good && place[i] == (i < n ? expected[i] : all[i]);
            CHECK(good, "%s %s of %d", kernels.name, c.name, static_cast<int>(n));
        }
    }
}

}  // namespace

int main() {
    for (const ff::Kernels* kernels : check::instruction_sets()) {
        check_accuracy(*kernels);
        check_lengths(*kernels);
    }
    return check::result();
}
