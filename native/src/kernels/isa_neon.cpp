#define FF_ISA neon
#include "simd_neon.hpp"
#include "table.hpp"

namespace ff {

const Kernels* kernels_neon() {
    static constexpr Kernels kernels = neon::table("neon");
    return &kernels;
}

}  // namespace ff
