#define FF_ISA avx2
#include "simd_avx2.hpp"
#include "table.hpp"

namespace ff {

const Kernels* kernels_avx2() {
    static constexpr Kernels kernels = avx2::table("avx2");
    return &kernels;
}

}  // namespace ff
