// How the processor computes while the engine does.
#pragma once

#include <cstdint>

namespace ff {

// As long as it lives, the calling thread rounds to nearest, traps nothing, and takes numbers below 2^-126 (denormals)
// as 0, read or computed. Processors compute with denormals up to a hundred times slower, and weights that decay in
// training hold them. The thread's own mode comes back after it.
class FloatMode {
public:
    FloatMode() : before_(read()) { write(kMode); }
    ~FloatMode() { write(before_); }
    FloatMode(const FloatMode&) = delete;
    FloatMode& operator=(const FloatMode&) = delete;

private:
#if defined(__x86_64__)
    using Register = uint32_t;
    static constexpr Register kMode = 0x1f80 | 0x8000 | 0x0040;  // all traps masked, FTZ, DAZ
    static Register read() { return __builtin_ia32_stmxcsr(); }
    static void write(Register mode) { __builtin_ia32_ldmxcsr(mode); }
#elif defined(__aarch64__)
    using Register = uint64_t;
    static constexpr Register kMode = uint64_t{1} << 24;  // FZ
    static Register read() {
        Register mode;
        __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void write(Register mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#else
    using Register = int;
    static constexpr Register kMode = 0;
    static Register read() { return 0; }
    static void write(Register) {}
#endif

    const Register before_;
};

}  // namespace ff
