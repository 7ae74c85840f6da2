// The least that a C++ test needs. Each tests/test_*.cpp is a program of its own: it returns 0 if all its checks
// hold, and says which did not.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace check {

inline int failures = 0;

#define CHECK(condition, ...)                                                        \
    do {                                                                             \
        if (!(condition)) {                                                          \
            ++check::failures;                                                       \
            std::fprintf(stderr, "%s:%d: not so: %s  ", __FILE__, __LINE__, #condition); \
            std::fprintf(stderr, " " __VA_ARGS__);                                   \
            std::fprintf(stderr, "\n");                                              \
        }                                                                            \
    } while (0)

// The same numbers on every machine (std:: distributions differ between libraries).
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed * 2654435769u + 1) {}
    uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }
    int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(next() % (high - low + 1)); }
    float uniform(float low = -1, float high = 1) {
        return low + (high - low) * static_cast<float>(next() >> 40) / static_cast<float>(1 << 24);
    }
    std::vector<float> floats(size_t n, float low = -1, float high = 1) {
        std::vector<float> x(n);
        for (float& v : x) v = uniform(low, high);
        return x;
    }

private:
    uint64_t state_;
};

inline bool close(double value, double truth, double tolerance) {
    if (std::isnan(truth)) return std::isnan(value);
    if (std::isinf(truth)) return value == truth;
    return std::fabs(value - truth) <= tolerance * std::fmax(1.0, std::fabs(truth));
}

inline int result() {
    if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
    return failures ? 1 : 0;
}

}  // namespace check
