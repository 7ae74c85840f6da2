// Memory that kernels walk, on huge pages if the system has them.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
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

// Zeros, aligned to kAlignment, to be given to release(). Throws std::bad_alloc. Large ones fill memory only as they are
// written: what a plan asks for and never uses costs nothing.
inline void* allocate_zeros(size_t size) {
    constexpr size_t huge_page = size_t{2} << 20;
#if !defined(__SANITIZE_ADDRESS__)  // which watches the ends of what malloc gives
    if (size >= huge_page) {
        if (size > SIZE_MAX - 2 * huge_page) throw std::bad_alloc();
        const size_t whole = (size + huge_page - 1) / huge_page * huge_page;
        void* found = ::mmap(nullptr, whole + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) throw std::bad_alloc();
        char* const start = static_cast<char*>(found);
        const size_t before = (huge_page - reinterpret_cast<uintptr_t>(start) % huge_page) % huge_page;
        if (before) ::munmap(start, before);
        if (before < huge_page) ::munmap(start + before + whole, huge_page - before);
#if defined(MADV_HUGEPAGE)
        ::madvise(start + before, whole, MADV_HUGEPAGE);
#endif
        return start + before;
    }
#endif
    void* data = allocate(size);
    std::memset(data, 0, size);
    return data;
}

inline void release(void* zeros, size_t size) {
    constexpr size_t huge_page = size_t{2} << 20;
#if !defined(__SANITIZE_ADDRESS__)
    if (size >= huge_page) {
        ::munmap(zeros, (size + huge_page - 1) / huge_page * huge_page);
        return;
    }
#endif
    std::free(zeros);
}

}  // namespace ff
