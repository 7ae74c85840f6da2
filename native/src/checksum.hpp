// XXH64, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, as plan files are checked with.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ff {

uint64_t checksum(const void* data, size_t size, uint64_t seed);

}  // namespace ff
