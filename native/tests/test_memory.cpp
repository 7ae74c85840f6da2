// Memory for maps and copied plans: aligned, wholly writable, refused if there is not enough.
#include "memory.hpp"

#include <cstring>

#include "check.hpp"

int main() {
    constexpr size_t huge_page = size_t{2} << 20;
    for (const size_t size : {size_t{0}, size_t{1}, size_t{65}, huge_page - 1, huge_page, huge_page + 1, 3 * huge_page}) {
        char* data = static_cast<char*>(ff::allocate(size));
        const size_t alignment = size >= huge_page ? huge_page : size_t{ff::kAlignment};
        CHECK(reinterpret_cast<uintptr_t>(data) % alignment == 0, "%zu bytes at %p", size, static_cast<void*>(data));
        std::memset(data, 1, size);
        std::free(data);
    }
    for (const size_t size : {SIZE_MAX, SIZE_MAX - huge_page + 1}) {  // whose whole pages are no size
        bool refused = false;
        try {
            std::free(ff::allocate(size));
        } catch (const std::bad_alloc&) {
            refused = true;
        }
        CHECK(refused, "%zu bytes", size);
    }
    return check::result();
}
