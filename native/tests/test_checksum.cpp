// XXH64 against the values of its reference implementation's own self-test: bytes of its generator.
#include "check.hpp"
#include "checksum.hpp"

int main() {
    constexpr uint64_t kPrime32 = 2654435761u, kPrime64 = 11400714785074694797u;
    std::vector<unsigned char> bytes(222);
    uint64_t generator = kPrime32;
    for (unsigned char& byte : bytes) {
        byte = static_cast<unsigned char>(generator >> 56);
        generator *= kPrime64;
    }
    const struct {
        size_t size;
        uint64_t seed, truth;
    } rows[] = {
        {0, 0, 0xEF46DB3751D8E999u},         {0, kPrime32, 0xAC75FDA2929B17EFu},
        {1, 0, 0xE934A84ADB052768u},         {1, kPrime32, 0x5014607643A9B4C3u},
        {4, 0, 0x9136A0DCA57457EEu},         {14, 0, 0x8282DCC4994E35C8u},
        {14, kPrime32, 0xC3BD6BF63DEB6DF0u}, {222, 0, 0xB641AE8CB691C174u},
        {222, kPrime32, 0x20CB8AB7AE10C14Au},
    };
    for (const auto& row : rows) {
        const uint64_t value = ff::checksum(bytes.data(), row.size, row.seed);
        CHECK(value == row.truth, "%zu bytes: %016llx", row.size, static_cast<unsigned long long>(value));
    }
    const char* text = "Nobody inspects the spammish repetition";
    CHECK(ff::checksum(text, 39, 0) == 0xFBCEA83C8A378BF1u, "%016llx",
          static_cast<unsigned long long>(ff::checksum(text, 39, 0)));
    return check::result();
}
