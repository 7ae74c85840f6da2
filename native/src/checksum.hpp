// XXH64, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, as plan files are checked with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "work.hpp"

namespace ff {

// `work` may stop it: then it throws Error(FF_STOPPED).
uint64_t checksum(const void* data, size_t size, uint64_t seed, Work* work = nullptr);

}  // namespace ff
