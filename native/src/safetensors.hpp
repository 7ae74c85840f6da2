// The header of a safetensors file, https://huggingface.co/docs/safetensors, with what plans ask beyond
// the format: data and every tensor start at multiples of 64 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "work.hpp"

namespace ff {

struct StoredTensor {
    const void* data = nullptr;
    int64_t elements = 0;  // of four bytes each
    bool whole_numbers = false;  // int32 rather than float32
    int32_t least = 0, most = 0;  // of whole numbers, once they are read
};

struct Safetensors {
    std::map<std::string, StoredTensor> tensors;
    std::map<std::string, std::string> metadata;
    const void* data = nullptr;
    size_t data_bytes = 0;
};

constexpr size_t kMaxHeaderBytes = 16u << 20;

// The bytes of the header, its length among them, of a file of `size` bytes that begins with `start`, eight of them
// or all. Throws Error(FF_BAD_PLAN).
size_t header_bytes(const void* start, size_t size);

// Only the header of `file` is read, and the result points into it. Throws Error(FF_BAD_PLAN).
Safetensors read_safetensors(const void* file, size_t size, Work& work);

}  // namespace ff
