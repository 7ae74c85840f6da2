// Memory that kernels walk, on huge pages if the system has them.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "plan.hpp"

namespace ff {

// Memory aligned to kAlignment, to be given to std::free. Throws std::bad_alloc.
//
// Weights and maps are more than the TLB reaches by pages of 4 KiB, and the processor's prefetchers stop
// at each page's end: weights come from L3 faster on huge ones.
inline void* allocate(size_t size) {
    constexpr size_t huge_page = size_t{2} << 20;
    const bool large = size >= huge_page;
    if (size > SIZE_MAX - huge_page) throw std::bad_alloc();
    if (large) size = (size + huge_page - 1) / huge_page * huge_page;  // the end is on one too
    void* data = nullptr;
    if (::posix_memalign(&data, large ? huge_page : kAlignment, size ? size : 1)) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (large) ::madvise(data, size, MADV_HUGEPAGE);
#endif
    return data;
}

}  // namespace ff
