#include "safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "error.hpp"
#include "json.hpp"

namespace ff {
namespace {

int64_t whole(const json::Value& value, const std::string& what) {
    const int64_t* x = value.get<int64_t>();
    if (!x || *x < 0) bad_plan(what + " is not a count");
    return *x;
}

// Bytes [begin, end) of one tensor.
using Extent = std::pair<int64_t, int64_t>;

StoredTensor read_tensor(const std::string& name, const json::Value& entry, const Safetensors& file,
                         std::vector<Extent>& extents) {
    const std::string what = "tensor '" + name + "'";
    const json::Value *dtype = entry.find("dtype"), *shape = entry.find("shape"), *offsets = entry.find("data_offsets");
    if (!dtype || !dtype->get<std::string>() || !shape || !shape->get<json::Array>() || !offsets ||
        !offsets->get<json::Array>() || offsets->get<json::Array>()->size() != 2)
        bad_plan(what + " lacks dtype, shape or data_offsets");

    StoredTensor tensor;
    if (*dtype->get<std::string>() == "I32") tensor.whole_numbers = true;
    else if (*dtype->get<std::string>() != "F32") bad_plan(what + " is neither F32 nor I32");

    const int64_t bound = static_cast<int64_t>(file.data_bytes);
    tensor.elements = 1;
    for (const json::Value& size : *shape->get<json::Array>()) {
        const int64_t n = whole(size, what + ": a size");
        if (n && tensor.elements > bound / n) bad_plan(what + " is larger than the file");
        tensor.elements *= n;
    }
    const int64_t begin = whole((*offsets->get<json::Array>())[0], what + ": an offset");
    const int64_t end = whole((*offsets->get<json::Array>())[1], what + ": an offset");
    if (begin > end || end > bound) bad_plan(what + " lies outside the file");
    if (end - begin != 4 * tensor.elements) bad_plan(what + ": shape and offsets do not agree");
    if (begin % 64 || end % 64) bad_plan(what + " is not aligned to 64 bytes");
    tensor.data = static_cast<const char*>(file.data) + begin;
    extents.emplace_back(begin, end);
    return tensor;
}

}  // namespace

size_t header_bytes(const void* start, size_t size) {
    uint64_t length = 0;
    if (size < sizeof length) bad_plan("the file ends within its header");
    std::memcpy(&length, start, sizeof length);
    if (length > kMaxHeaderBytes) bad_plan("not a plan file, or its header is too long");
    if (length > size - sizeof length) bad_plan("the file ends within its header");
    return sizeof length + length;
}

Safetensors read_safetensors(const void* bytes, size_t size, Work& work) {
    const size_t begin = header_bytes(bytes, size);
    const char* text = static_cast<const char*>(bytes) + sizeof(uint64_t);
    const json::Value header = json::parse({text, begin - sizeof(uint64_t)}, "the header", &work);
    const json::Object* entries = header.get<json::Object>();
    if (!entries) bad_plan("the header is not an object");

    Safetensors file;
    file.data = static_cast<const char*>(bytes) + begin;
    file.data_bytes = size - begin;
    if (begin % 64) bad_plan("the data is not aligned to 64 bytes");

    std::vector<Extent> extents;
    for (const json::Member& entry : *entries) {
        if (entry.key != "__metadata__") {
            file.tensors.emplace(entry.key, read_tensor(entry.key, entry.value, file, extents));
            continue;
        }
        const json::Object* metadata = entry.value.get<json::Object>();
        if (!metadata) bad_plan("__metadata__ is not an object");
        for (const json::Member& item : *metadata) {
            const std::string* value = item.value.get<std::string>();
            if (!value) bad_plan("__metadata__ '" + item.key + "' is not a text");
            file.metadata.emplace(item.key, *value);
        }
    }
    // As the format asks: no byte of the data is without a tensor, none has two.
    std::sort(extents.begin(), extents.end());
    int64_t covered = 0;
    for (const Extent& extent : extents) {
        if (extent.first != covered) bad_plan("tensors overlap, or leave a gap");
        covered = extent.second;
    }
    if (covered != static_cast<int64_t>(file.data_bytes)) bad_plan("the file's length is not that of its tensors");
    return file;
}

}  // namespace ff
