// The vector names of one instruction set against plain C++, lane by lane: built for each set, with
// FF_ISA its name and FF_SIMD its header.
#include FF_SIMD

#include <cstring>
#include <limits>

#include "check.hpp"

using namespace ff::FF_ISA;

namespace {

constexpr int kSkipped = 77;  // the exit code that simd.cmake tells ctest
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

bool same(float a, float b) {
    if (std::isnan(a)) return std::isnan(b);
    return a == b && std::signbit(a) == std::signbit(b);
}

void part_of_a_vector() {
    for (int64_t n = 0; n <= kLanes; ++n) {
        std::vector<float> from(n), to(kLanes + 1, 7.0f);  // `from` ends where reading must: the sanitizers see more
        for (int64_t i = 0; i < n; ++i) from[i] = static_cast<float>(i + 1);
        const vf x = load_n(from.data(), n);
        float all[kLanes];
        store(all, x);
        for (int64_t i = 0; i < kLanes; ++i) CHECK(all[i] == (i < n ? i + 1 : 0), "n %d lane %d", int(n), int(i));
        store_n(to.data(), x, n);
        for (int64_t i = 0; i <= kLanes; ++i) CHECK(to[i] == (i < n ? i + 1 : 7), "n %d lane %d", int(n), int(i));
    }
}

template <class Vector, class Scalar>
void each_lane(const char* name, Vector vector, Scalar scalar) {
    const float values[] = {0.0f, -0.0f, 1.0f, -1.0f, 0.5f, 1.5f, 2.5f, -2.5f,
                            3.0e38f, -1.0e-40f, 100.25f, kInf, -kInf, kNan};
    for (const float a : values) {
        for (const float b : values) {
            float got[kLanes];
            store(got, vector(set1(a), set1(b)));
            for (const float lane : got) CHECK(same(lane, scalar(a, b)), "%s(%g, %g) gave %g", name, a, b, lane);
        }
    }
}

void arithmetic() {
    each_lane("add", [](vf a, vf b) { return add(a, b); }, [](float a, float b) { return a + b; });
    each_lane("sub", [](vf a, vf b) { return sub(a, b); }, [](float a, float b) { return a - b; });
    each_lane("mul", [](vf a, vf b) { return mul(a, b); }, [](float a, float b) { return a * b; });
    each_lane("div", [](vf a, vf b) { return div(a, b); }, [](float a, float b) { return a / b; });
    each_lane("sqrt", [](vf a, vf) { return sqrt(abs(a)); }, [](float a, float) { return std::sqrt(std::fabs(a)); });
    each_lane("neg", [](vf a, vf) { return neg(a); }, [](float a, float) { return -a; });
    each_lane("copysign", [](vf a, vf b) { return copysign(a, b); },
              [](float a, float b) { return std::copysign(a, b); });
    each_lane("round", [](vf a, vf) { return round(a); }, [](float a, float) { return std::nearbyint(a); });
    each_lane("select", [](vf a, vf b) { return select(less(a, b), a, b); },
              [](float a, float b) { return a < b ? a : b; });
    each_lane("is_nan", [](vf a, vf b) { return select(is_nan(a), b, set1(1)); },
              [](float a, float b) { return std::isnan(a) ? b : 1; });
    each_lane("fma", [](vf a, vf b) { return fma(a, b, set1(1)); },
              [](float a, float b) { return static_cast<float>(double(a) * b + 1); });
    each_lane("fnma", [](vf a, vf b) { return fnma(a, b, set1(1)); },
              [](float a, float b) { return static_cast<float>(1 - double(a) * b); });
}

// The bound is a number here; zeros compare equal whatever their sign.
void bounds_keep_a_nan() {
    for (const float x : {-3.0f, 0.0f, 2.0f, 9.0f, kInf, -kInf, kNan}) {
        float low[kLanes], high[kLanes];
        store(low, at_least(set1(x), set1(1.0f)));
        store(high, at_most(set1(x), set1(1.0f)));
        CHECK(same(low[0], x < 1 ? 1 : x), "at_least(%g, 1) gave %g", x, low[0]);
        CHECK(same(high[0], x > 1 ? 1 : x), "at_most(%g, 1) gave %g", x, high[0]);
    }
}

void integers() {
    for (const int32_t a : {0, 1, -1, 127, -126, 1 << 20}) {
        int32_t got[kLanes];
        const auto lanes = [&](vi x) { std::memcpy(got, &x, sizeof got); };
        lanes(addi(seti(a), seti(3)));
        CHECK(got[0] == a + 3 && got[kLanes - 1] == a + 3);
        lanes(subi(seti(a), seti(3)));
        CHECK(got[0] == a - 3);
        lanes(andi(seti(a), seti(0x55)));
        CHECK(got[0] == (a & 0x55));
        lanes(ori(seti(a), seti(0x55)));
        CHECK(got[0] == (a | 0x55));
        lanes(shift_left<4>(seti(a & 0xffff)));
        CHECK(got[0] == (a & 0xffff) << 4);
        lanes(shift_right<4>(seti(a)));
        CHECK(got[0] == a >> 4, "%d >> 4 gave %d", a, got[0]);
        lanes(to_int(set1(static_cast<float>(a) + 0.5f)));
        CHECK(got[0] == static_cast<int32_t>(std::nearbyint(static_cast<float>(a) + 0.5f)));
        float back[kLanes];
        store(back, to_float(seti(a)));
        CHECK(back[0] == static_cast<float>(a));
        store(back, from_bits(bits(set1(1.5f))));
        CHECK(back[0] == 1.5f);
    }
}

void the_sum_of_the_lanes() {
    float x[kLanes];
    float truth = 0;
    for (int i = 0; i < kLanes; ++i) truth += x[i] = static_cast<float>(1 << i);
    CHECK(sum(load(x)) == truth);
}

void lanes_taken_in_turn() {
    float a[kLanes], b[kLanes], both[2 * kLanes];
    for (int i = 0; i < kLanes; ++i) a[i] = static_cast<float>(2 * i), b[i] = static_cast<float>(2 * i + 1);
    vf low, high;
    interleave(load(a), load(b), low, high);
    store(both, low);
    store(both + kLanes, high);
    for (int i = 0; i < 2 * kLanes; ++i) CHECK(both[i] == i, "place %d holds %g", i, both[i]);
}

}  // namespace

int main() {
#if defined(__AVX512VL__)
    if (!__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) return kSkipped;
#elif defined(__AVX2__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return kSkipped;
#endif
    part_of_a_vector();
    arithmetic();
    bounds_keep_a_nan();
    integers();
    the_sum_of_the_lanes();
    lanes_taken_in_turn();
    return check::result();
}
