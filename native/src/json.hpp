// JSON (RFC 8259) as plan files hold it, read strictly: no comments, no trailing commas, no duplicate
// keys, valid UTF-8, numbers that fit int64 or a finite double.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "work.hpp"

namespace ff::json {

struct Member;
class Value;
using Array = std::vector<Value>;
using Object = std::vector<Member>;  // in the order of their keys, each once

class Value {
public:
    Value() = default;
    template <class T>
    explicit Value(T content) : content_(std::move(content)) {}

    // nullptr if the value is of another type. A whole number is an int64 and nothing else.
    template <class T>
    const T* get() const {
        return std::get_if<T>(&content_);
    }
    // The member of an object; nullptr if there is none.
    const Value* find(std::string_view key) const;

private:
    std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> content_ = nullptr;
};

struct Member {
    std::string key;
    Value value;
};

// Throws Error(FF_BAD_PLAN), which names `what` and the place. At most kMaxDepth arrays and objects lie
// within each other; memory stays within a fixed multiple of the text.
constexpr int kMaxDepth = 24;
// `work` counts the values, and may stop it.
Value parse(std::string_view text, const std::string& what, Work* work = nullptr);

}  // namespace ff::json
