#include "fields.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "error.hpp"

namespace ff {
namespace {

constexpr const char* kActNames[] = {FF_ACTS(FF_TEXT)};

}  // namespace

Fields::Fields(const json::Value* object, std::string what) : what_(std::move(what)), object_(object) {
    members_ = object ? object->get<json::Object>() : nullptr;
    if (!members_) bad_plan(what_ + " is not an object");
}

void Fields::fail(const char* key, const std::string& reason) const { bad_plan(what_ + ": " + key + " " + reason); }

void Fields::done() const {
    if (asked_ == members_->size()) return;
    std::string keys;
    for (const json::Member& member : *members_) keys += " '" + member.key + "'";
    bad_plan(what_ + ": a key is unknown among" + keys);
}

const json::Value* Fields::optional(const char* key) {
    const json::Value* value = object_->find(key);
    asked_ += value != nullptr;
    return value;
}

const json::Value& Fields::required(const char* key) {
    const json::Value* value = optional(key);
    if (!value) fail(key, "is missing");
    return *value;
}

int64_t Fields::whole(const json::Value& value, const char* key) const {
    const int64_t* x = value.get<int64_t>();
    if (!x || *x < 0) fail(key, "is not a whole number of 0 or more");
    return *x;
}

int32_t Fields::small(const json::Value& value, const char* key) const {
    const int64_t x = whole(value, key);
    if (x > std::numeric_limits<int32_t>::max()) fail(key, "is too large");
    return static_cast<int32_t>(x);
}

float Fields::number(const json::Value& value, const char* key) const {
    if (const int64_t* x = value.get<int64_t>()) return static_cast<float>(*x);
    if (const std::string* text = value.get<std::string>()) {  // JSON's numbers have no infinity
        if (*text == "inf") return std::numeric_limits<float>::infinity();
        if (*text == "-inf") return -std::numeric_limits<float>::infinity();
    }
    const double* x = value.get<double>();
    if (!x) fail(key, "is not a number");
    if (std::fabs(*x) > std::numeric_limits<float>::max()) fail(key, "is out of float32's range");
    return static_cast<float>(*x);
}

const std::string& Fields::text(const json::Value& value, const char* key) const {
    const std::string* x = value.get<std::string>();
    if (!x) fail(key, "is not a text");
    return *x;
}

const json::Array& Fields::array(const json::Value& value, const char* key) const {
    const json::Array* x = value.get<json::Array>();
    if (!x) fail(key, "is not an array");
    return *x;
}

size_t Fields::index_of(const json::Value& value, const char* key, const char* const* names, size_t count) const {
    const std::string& name = text(value, key);
    for (size_t i = 0; i < count; ++i)
        if (name == names[i]) return i;
    fail(key, "'" + name + "' is unknown");
}

void Fields::list(const char* key, std::initializer_list<int32_t*> places) {
    const json::Array& items = array(key);
    if (items.size() != places.size()) fail(key, "has not " + std::to_string(places.size()) + " numbers");
    size_t i = 0;
    for (int32_t* place : places) *place = small(items[i++], key);
}

Activation Fields::activation(const char* key, bool slopes) {
    Activation result;
    const json::Value* value = optional(key);
    if (!value) return result;
    const json::Array& parts = array(*value, key);
    if (parts.size() != 3) fail(key, "is not [name, a, b]");
    result.kind = static_cast<Act>(index_of(parts[0], key, kActNames, std::size(kActNames)));
    if (result.kind == Act::prelu && !slopes) fail(key, "is prelu, for which there are no slopes here");
    result.a = number(parts[1], key);
    result.b = number(parts[2], key);
    return result;
}

void Fields::window(Window& window, std::initializer_list<int32_t*> padding) {
    list("kernel", {&window.kernel_h, &window.kernel_w});
    list("stride", {&window.stride_h, &window.stride_w});
    list("padding", padding);
    list("dilation", {&window.dilation_h, &window.dilation_w});
}

}  // namespace ff
