#define FF_ISA avx512
#include "simd_avx512.hpp"
#include "table.hpp"

namespace ff {

const Kernels* kernels_avx512() {
    static constexpr Kernels kernels = avx512::table("avx512");
    return &kernels;
}

}  // namespace ff
