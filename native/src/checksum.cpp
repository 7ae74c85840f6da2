#include "checksum.hpp"

#include <algorithm>
#include <cstring>

namespace ff {
namespace {

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87u, kPrime2 = 0xC2B2AE3D27D4EB4Fu, kPrime3 = 0x165667B19E3779F9u,
                   kPrime4 = 0x85EBCA77C2B2AE63u, kPrime5 = 0x27D4EB2F165667C5u;

uint64_t rotate_left(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

// Little-endian words, as files hold them; all processors that the library is built for are little-endian.
template <class T>
T read(const unsigned char* p) {
    T x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

uint64_t round(uint64_t lane, uint64_t word) { return rotate_left(lane + word * kPrime2, 31) * kPrime1; }

}  // namespace

uint64_t checksum(const void* data, size_t size, uint64_t seed, Work* work) {
    constexpr size_t kPiece = size_t{16} << 20;
    const unsigned char* p = static_cast<const unsigned char*>(data);
    size_t left = size;
    uint64_t hash = seed + kPrime5;
    if (size >= 32) {
        uint64_t lane[4] = {seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1};
        while (left >= 32) {
            if (work) work->look();
            const size_t then = left - std::min(left / 32 * 32, kPiece);
            for (; left > then; p += 32, left -= 32)
                for (int i = 0; i < 4; ++i) lane[i] = round(lane[i], read<uint64_t>(p + 8 * i));
        }
        hash = rotate_left(lane[0], 1) + rotate_left(lane[1], 7) + rotate_left(lane[2], 12) + rotate_left(lane[3], 18);
        for (uint64_t l : lane) hash = (hash ^ round(0, l)) * kPrime1 + kPrime4;
    }
    hash += size;
    for (; left >= 8; p += 8, left -= 8)
        hash = rotate_left(hash ^ round(0, read<uint64_t>(p)), 27) * kPrime1 + kPrime4;
    if (left >= 4) {
        hash = rotate_left(hash ^ read<uint32_t>(p) * kPrime1, 23) * kPrime2 + kPrime3;
        p += 4;
        left -= 4;
    }
    for (; left > 0; ++p, --left) hash = rotate_left(hash ^ *p * kPrime5, 11) * kPrime1;
    hash = (hash ^ hash >> 33) * kPrime2;
    hash = (hash ^ hash >> 29) * kPrime3;
    return hash ^ hash >> 32;
}

}  // namespace ff
