#include "check.hpp"
#include "error.hpp"
#include "json.hpp"

using ff::json::parse;
using ff::json::Value;

namespace {

bool refused(const std::string& text) {
    try {
        parse(text, "it");
        return false;
    } catch (const ff::Error& error) {
        CHECK(error.status == FF_BAD_PLAN && std::string(error.what()).find("it is not JSON") != std::string::npos,
              "%s", error.what());
        return true;
    }
}

double number(const std::string& text) {
    const Value value = parse(text, "it");
    if (const int64_t* whole = value.get<int64_t>()) return static_cast<double>(*whole);
    const double* real = value.get<double>();
    CHECK(real, "%s is a number", text.c_str());
    return real ? *real : NAN;
}

void numbers() {
    CHECK(*parse("-12", "it").get<int64_t>() == -12);
    CHECK(*parse("9223372036854775807", "it").get<int64_t>() == INT64_MAX);
    CHECK(number("0") == 0 && number("-0.0") == 0 && std::signbit(number("-0.0")));
    CHECK(number("0.5") == 0.5 && number("25e-1") == 2.5 && number("1E+2") == 100);
    for (const double truth : {1e-05, 3.4028234663852886e38, 1.1754943508222875e-38, 0.6666666865348816,
                               1.4012984643e-45, 123456789.0 / 7}) {
        char text[40];
        std::snprintf(text, sizeof text, "%.17g", truth);
        CHECK(std::fabs(number(text) - truth) <= 1e-15 * truth, "%s read as %.17g", text, number(text));
    }
    CHECK(number("1e-400") == 0, "below the smallest");
    for (const char* bad :
         {"01", "-", "1.", ".5", "+1", "1e", "1e+", "0x10", "9223372036854775808", "1e999", "NaN", "Infinity", "1 2"})
        CHECK(refused(bad), "%s", bad);
}

void texts() {
    CHECK(*parse("\"a\\u00e9\\n\\\"\\\\\\/\"", "it").get<std::string>() == "a\xc3\xa9\n\"\\/");
    CHECK(*parse("\"\\ud83d\\ude00\"", "it").get<std::string>() == "\xf0\x9f\x98\x80");
    CHECK(*parse("\"\xf0\x9f\x98\x80\"", "it").get<std::string>() == "\xf0\x9f\x98\x80");
    for (const char* bad : {"\"", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\ud83d\"", "\"\\ud83dx\"", "\"\\udc00\"",
                            "\"\n\"", "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "\"\xe2\x82\"", "'a'"})
        CHECK(refused(bad), "%s", bad);
}

void structures() {
    const Value value = parse(" { \"b\" : [ 1 , true , null , { } ] , \"a\" : \"x\" } ", "it");
    CHECK(*value.find("a")->get<std::string>() == "x");
    CHECK(value.find("b")->get<ff::json::Array>()->size() == 4);
    CHECK(!value.find("c") && !value.find("a")->find("a"));
    for (const char* bad : {"", "[", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":1,}", "{a:1}", "{\"a\":1,\"a\":2}",
                            "{\"a\":1}}", "tru", "[1]x", "// c\n1"})
        CHECK(refused(bad), "%s", bad);
    const auto nested = [](int depth) {
        return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
    };
    parse(nested(ff::json::kMaxDepth), "it");
    CHECK(refused(nested(ff::json::kMaxDepth + 1)));
    CHECK(refused(std::string(1000000, '[')), "no stack is deep enough for it");
    CHECK(refused(std::string("1\0", 2)), "a zero byte is no space");
}

}  // namespace

int main() {
    numbers();
    texts();
    structures();
    return check::result();
}
