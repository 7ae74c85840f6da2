#define FF_ISA plain
#include "simd_plain.hpp"
#include "table.hpp"

namespace ff {

const Kernels* kernels_plain() {
    static constexpr Kernels kernels = plain::table("plain");
    return &kernels;
}

}  // namespace ff
