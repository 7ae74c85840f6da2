#include "cpu.hpp"

#include <sched.h>

#include <thread>

#if defined(FF_X86)
#include <cpuid.h>
#endif

namespace ff {
namespace {

#if defined(FF_X86)
struct Features {
    bool avx2 = false, avx512 = false;
};

// Intel's manual, volume 1, 14.3 and 15.2: a set can be used if the processor names it and the operating
// system keeps its registers (XCR0: bits 1 and 2 for AVX, and 5 to 7 for AVX-512).
Features features() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return {};
    const bool fma = c >> 12 & 1, xsave = c >> 27 & 1, avx = c >> 28 & 1;
    if (!fma || !xsave || !avx) return {};
    unsigned low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return {};
    Features found;
    found.avx2 = b >> 5 & 1;
    const bool f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1;
    found.avx512 = found.avx2 && f && dq && bw && vl && (low & 0xe0) == 0xe0;
    return found;
}
#endif

std::vector<const Kernels*> find_kernels() {
    std::vector<const Kernels*> found;
#if defined(FF_X86)
    const Features has = features();
    if (has.avx512) found.push_back(kernels_avx512());
    if (has.avx2) found.push_back(kernels_avx2());
#elif defined(FF_NEON)
    found.push_back(kernels_neon());  // every aarch64 processor has it
#endif
    found.push_back(kernels_plain());
    return found;
}

}  // namespace

const std::vector<const Kernels*>& available_kernels() {
    static const std::vector<const Kernels*> kernels = find_kernels();
    return kernels;
}

int processor_count() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
    const unsigned count = std::thread::hardware_concurrency();
    return count ? static_cast<int>(count) : 1;
}

}  // namespace ff
