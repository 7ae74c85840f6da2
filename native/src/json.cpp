#include "json.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "error.hpp"

namespace ff::json {
namespace {

class Parser {
public:
    Parser(std::string_view text, const std::string& what, Work* work) : text_(text), what_(what), work_(work) {}

    Value whole() {
        Value value = any(0);
        skip_space();
        if (at_ != text_.size()) fail("something follows the end");
        return value;
    }

private:
    [[noreturn]] void fail(const std::string& reason) const {
        bad_plan(what_ + " is not JSON: " + reason + " (byte " + std::to_string(at_) + ")");
    }
    // 0 at the end: no token begins with it.
    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void skip_space() {
        while (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t') ++at_;
    }
    bool take(char c) {
        skip_space();
        if (peek() != c) return false;
        ++at_;
        return true;
    }
    void expect(char c) {
        if (!take(c)) fail(std::string("'") + c + "' is missing");
    }
    bool take_word(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    Value any(int depth) {
        if (work_) work_->spend(1);
        skip_space();
        switch (peek()) {
            case '{': return object(depth + 1);
            case '[': return array(depth + 1);
            case '"': return Value(string());
            case 't':
                if (take_word("true")) return Value(true);
                break;
            case 'f':
                if (take_word("false")) return Value(false);
                break;
            case 'n':
                if (take_word("null")) return Value(nullptr);
                break;
            default: return number();
        }
        fail("an unknown word");
    }

    Value array(int depth) {
        if (depth > kMaxDepth) fail("too deep");
        expect('[');
        Array items;
        if (take(']')) return Value(std::move(items));
        do items.push_back(any(depth));
        while (take(','));
        expect(']');
        return Value(std::move(items));
    }

    Value object(int depth) {
        if (depth > kMaxDepth) fail("too deep");
        expect('{');
        Object members;
        if (take('}')) return Value(std::move(members));
        do {
            skip_space();
            if (peek() != '"') fail("a key is missing");
            std::string key = string();
            expect(':');
            members.push_back({std::move(key), any(depth)});
        } while (take(','));
        expect('}');
        std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.key < b.key; });
        for (size_t i = 1; i < members.size(); ++i)
            if (members[i].key == members[i - 1].key) fail("key '" + members[i].key + "' is there twice");
        return Value(std::move(members));
    }

    void digits() {
        if (!is_digit()) fail("a digit is missing");
        while (is_digit()) ++at_;
    }
    bool is_digit() const { return peek() >= '0' && peek() <= '9'; }

    Value number() {
        const size_t begin = at_;
        bool whole = true;
        if (peek() == '-') ++at_;
        if (peek() == '0') ++at_;  // no digit may follow: the token ends, and what follows is refused there
        else digits();
        if (peek() == '.') {
            whole = false;
            ++at_;
            digits();
        }
        if (peek() == 'e' || peek() == 'E') {
            whole = false;
            ++at_;
            if (peek() == '+' || peek() == '-') ++at_;
            digits();
        }
        const std::string token(text_.substr(begin, at_ - begin));
        if (whole) {
            errno = 0;
            const long long value = std::strtoll(token.c_str(), nullptr, 10);
            if (errno) fail("number " + token + " is out of range");
            return Value(static_cast<int64_t>(value));
        }
        return Value(to_double(token));
    }

    // strtod follows the program's locale, whose decimal point may be a comma, and from_chars for double needs a
    // newer library than the oldest compilers have. Here: digits and exponent by hand, exact enough for
    // float32 (three roundings of a double).
    double to_double(const std::string& token) {
        double mantissa = 0;
        int64_t exponent = 0;
        bool fraction = false;
        size_t i = token[0] == '-';
        for (; i < token.size() && token[i] != 'e' && token[i] != 'E'; ++i) {
            if (token[i] == '.') {
                fraction = true;
                continue;
            }
            if (mantissa < 1e17) {
                mantissa = mantissa * 10 + (token[i] - '0');
                exponent -= fraction;
            } else {
                exponent += !fraction;
            }
        }
        if (i < token.size()) {
            const bool negative = token[++i] == '-';
            if (token[i] == '-' || token[i] == '+') ++i;
            int64_t value = 0;
            for (; i < token.size(); ++i) value = std::min<int64_t>(value * 10 + (token[i] - '0'), 100000);
            exponent += negative ? -value : value;
        }
        double value = mantissa;
        if (mantissa != 0) value = exponent < -300 ? mantissa * std::pow(10.0, -300) * std::pow(10.0, exponent + 300)
                           : exponent < 0 ? mantissa / std::pow(10.0, -exponent) : mantissa * std::pow(10.0, exponent);
        if (!std::isfinite(value)) fail("number " + token.substr(0, 40) + " is out of range");
        return token[0] == '-' ? -value : value;
    }

    std::string string() {
        ++at_;  // the quote
        std::string out;
        while (true) {
            const size_t begin = at_;
            while (at_ < text_.size() && plain(static_cast<unsigned char>(text_[at_]))) ++at_;
            out.append(text_.substr(begin, at_ - begin));
            if (at_ >= text_.size()) fail("a text does not end");
            const unsigned char c = static_cast<unsigned char>(text_[at_]);
            if (c == '"') {
                ++at_;
                return out;
            }
            if (c == '\\') {
                ++at_;
                escape(out);
            } else if (c < 0x20) {
                fail("a control character in a text");
            } else {
                multibyte(out);
            }
        }
    }
    static bool plain(unsigned char c) { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

    void escape(std::string& out) {
        const char c = peek();
        ++at_;
        switch (c) {
            case '"': out += '"'; return;
            case '\\': out += '\\'; return;
            case '/': out += '/'; return;
            case 'b': out += '\b'; return;
            case 'f': out += '\f'; return;
            case 'n': out += '\n'; return;
            case 'r': out += '\r'; return;
            case 't': out += '\t'; return;
            case 'u': break;
            default: --at_; fail("an unknown escape");
        }
        uint32_t code = four_hex();
        if (code >= 0xD800 && code < 0xDC00) {
            if (!take_word("\\u")) fail("half a surrogate pair");
            const uint32_t low = four_hex();
            if (low < 0xDC00 || low >= 0xE000) fail("half a surrogate pair");
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        } else if (code >= 0xDC00 && code < 0xE000) {
            fail("half a surrogate pair");
        }
        append_utf8(out, code);
    }

    uint32_t four_hex() {
        uint32_t code = 0;
        for (int i = 0; i < 4; ++i) {
            const char c = peek();
            const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                            : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
            if (digit < 0) fail("four hex digits are missing");
            code = code * 16 + static_cast<uint32_t>(digit);
            ++at_;
        }
        return code;
    }

    static void append_utf8(std::string& out, uint32_t code) {
        if (code < 0x80) {
            out += static_cast<char>(code);
            return;
        }
        const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
        out += static_cast<char>(kLead[more] | code >> (6 * more));
        for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (code >> (6 * i) & 0x3F));
    }

    void multibyte(std::string& out) {
        const size_t begin = at_;
        const unsigned char lead = static_cast<unsigned char>(text_[at_++]);
        const int more = lead >= 0xC2 && lead < 0xE0   ? 1
                         : lead >= 0xE0 && lead < 0xF0 ? 2
                         : lead >= 0xF0 && lead < 0xF5 ? 3
                                                       : 0;
        if (!more) fail("text is not UTF-8");
        uint32_t code = lead & (0x3F >> more);
        for (int i = 0; i < more; ++i) {
            const unsigned char c = static_cast<unsigned char>(peek());
            if (c >> 6 != 2) fail("text is not UTF-8");
            code = code << 6 | (c & 0x3F);
            ++at_;
        }
        constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
        if (code < kLeast[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail("text is not UTF-8");
        out.append(text_.substr(begin, at_ - begin));
    }

    std::string_view text_;
    const std::string& what_;
    Work* const work_;
    size_t at_ = 0;
};

}  // namespace

const Value* Value::find(std::string_view key) const {
    const Object* members = get<Object>();
    if (!members) return nullptr;
    const auto at = std::lower_bound(members->begin(), members->end(), key,
                                     [](const Member& member, std::string_view k) { return member.key < k; });
    return at != members->end() && at->key == key ? &at->value : nullptr;
}

Value parse(std::string_view text, const std::string& what, Work* work) { return Parser(text, what, work).whole(); }

}  // namespace ff::json
