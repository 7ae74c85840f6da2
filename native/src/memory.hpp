// Memory that kernels walk, on huge pages if the system has them.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "plan.hpp"

namespace ff {

constexpr size_t kHugePage = size_t{2} << 20;

inline size_t in_huge_pages(size_t size) { return (size + kHugePage - 1) / kHugePage * kHugePage; }

// Memory aligned to kAlignment, to be given to std::free. Throws std::bad_alloc.
//
// Weights and maps are more than the TLB reaches by pages of 4 KiB, and the processor's prefetchers stop
// at each page's end: weights come from L3 faster on huge ones.
inline void* allocate(size_t size) {
    const bool large = size >= kHugePage;
    if (size > SIZE_MAX - kHugePage) throw std::bad_alloc();
    if (large) size = in_huge_pages(size);  // the end is on one too
    void* data = nullptr;
    if (::posix_memalign(&data, large ? kHugePage : kAlignment, size ? size : 1)) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (large) ::madvise(data, size, MADV_HUGEPAGE);
#endif
    return data;
}

// Size from which zeros come from the system, page by page; none do under AddressSanitizer, which watches the ends of
// what malloc gives.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kMapped = SIZE_MAX;
#else
constexpr size_t kMapped = kHugePage;
#endif

// Zeros, aligned to kAlignment, to be given to release(). Throws std::bad_alloc. Large ones fill memory only as they are
// written: what a plan asks for and never uses costs nothing.
inline void* allocate_zeros(size_t size) {
    if (size < kMapped) {
        void* data = allocate(size);
        std::memset(data, 0, size);
        return data;
    }
    if (size > SIZE_MAX - 2 * kHugePage) throw std::bad_alloc();
    const size_t whole = in_huge_pages(size);
    void* found = ::mmap(nullptr, whole + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) throw std::bad_alloc();
    char* const start = static_cast<char*>(found);
    const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
    if (before) ::munmap(start, before);
    if (before < kHugePage) ::munmap(start + before + whole, kHugePage - before);
#if defined(MADV_HUGEPAGE)
    ::madvise(start + before, whole, MADV_HUGEPAGE);
#endif
    return start + before;
}

inline void release(void* zeros, size_t size) {
    if (size < kMapped) std::free(zeros);
    else ::munmap(zeros, in_huge_pages(size));
}

}  // namespace ff
