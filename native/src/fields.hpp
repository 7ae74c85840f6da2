// The members of one JSON object, each of which has to be asked for: a member that nobody reads is refused, as a
// file that says more than is understood may mean something else. Each function throws Error(FF_BAD_PLAN), which
// names the object and the key.
#pragma once

#include <initializer_list>
#include <string>

#include "json.hpp"
#include "kernels/kernels.hpp"

namespace ff {

class Fields {
public:
    Fields(const json::Value* object, std::string what);

    const std::string& what() const { return what_; }
    [[noreturn]] void fail(const char* key, const std::string& reason) const;
    // After the last member was read: refuses members that were not.
    void done() const;

    const json::Value* optional(const char* key);  // nullptr if there is none
    const json::Value& required(const char* key);

    // The member `key`, of one type; or `value`, which lies within that member.
    int64_t whole(const char* key) { return whole(required(key), key); }  // 0 or more
    int64_t whole(const json::Value& value, const char* key) const;
    int32_t small(const char* key) { return small(required(key), key); }  // 0 or more, and fits int32
    int32_t small(const json::Value& value, const char* key) const;
    float number(const char* key) { return number(required(key), key); }  // infinity is "inf" or "-inf"
    float number(const json::Value& value, const char* key) const;
    const std::string& text(const char* key) { return text(required(key), key); }
    const std::string& text(const json::Value& value, const char* key) const;
    const json::Array& array(const char* key) { return array(required(key), key); }
    const json::Array& array(const json::Value& value, const char* key) const;

    // The enumerator whose name the member is; names[i] is that of enumerator i.
    template <class Enum, size_t n>
    Enum one_of(const char* key, const char* const (&names)[n]) {
        return static_cast<Enum>(index_of(required(key), key, names, n));
    }

    // The same, or `otherwise` if the member is absent.
    template <class Enum, size_t n>
    Enum one_of(const char* key, const char* const (&names)[n], Enum otherwise) {
        const json::Value* value = optional(key);
        return value ? static_cast<Enum>(index_of(*value, key, names, n)) : otherwise;
    }

    // `places.size()` small numbers, each to its place.
    void list(const char* key, std::initializer_list<int32_t*> places);

    // Attributes that several operators have.
    Activation activation(const char* key, bool slopes = false);  // none if the member is absent; prelu if `slopes`
    void window(Window& window, std::initializer_list<int32_t*> padding);

private:
    size_t index_of(const json::Value& value, const char* key, const char* const* names, size_t count) const;

    std::string what_;
    const json::Value* object_ = nullptr;
    const json::Object* members_ = nullptr;
    size_t asked_ = 0;
};

}  // namespace ff
