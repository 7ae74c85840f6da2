// The instruction sets that this build has and this processor can run.
#pragma once

#include <cstdlib>
#include <vector>

#include "../src/kernels/kernels.hpp"

namespace check {

inline std::vector<const ff::Kernels*> instruction_sets() {
    std::vector<const ff::Kernels*> sets{ff::kernels_plain()};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(ff::kernels_avx2());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        sets.push_back(ff::kernels_avx512());
#elif defined(__aarch64__)
    sets.push_back(ff::kernels_neon());
#endif
    return sets;
}

// 64-byte aligned floats, as the arena and constants are.
class Aligned {
public:
    explicit Aligned(const std::vector<float>& values) : size_(values.size()) {
        data_ = static_cast<float*>(std::aligned_alloc(64, (size_ * sizeof(float) / 64 + 1) * 64));
        for (size_t i = 0; i < size_; ++i) data_[i] = values[i];
    }
    Aligned(const Aligned&) = delete;
    Aligned& operator=(const Aligned&) = delete;
    ~Aligned() { std::free(data_); }
    float* get() const { return data_; }
    float& operator[](size_t i) const { return data_[i]; }
    size_t size() const { return size_; }

private:
    float* data_;
    size_t size_;
};

}  // namespace check
