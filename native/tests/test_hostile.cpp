// Plans whose checksum is right and whose content is made to cost: each family grows with n, and the checks may grow no
// faster than the file. Steps are counted, not seconds. What a context touches is what its nodes write.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "check.hpp"
#include "context.hpp"
#include "cpu.hpp"
#include "error.hpp"
#include "graphs.hpp"

namespace {

std::string numbered(const std::string& text, int64_t number) {
    std::string out = text;
    for (size_t at = out.find('#'); at != std::string::npos; at = out.find('#', at))
        out.replace(at, 1, std::to_string(number));
    return out;
}

std::string repeated(const std::string& text, int64_t count) {
    std::string out;
    for (int64_t i = 0; i < count; ++i) out += (i ? "," : "") + numbered(text, i);
    return out;
}

const char* const kEnds =
    "{\"kind\":\"input\",\"size\":1,\"index\":0},{\"kind\":\"output\",\"size\":1,\"index\":0}";
const char* const kAnswer =
    "{\"op\":\"fill\",\"name\":\"a\",\"in\":{},\"out\":[1,0,[1],[1]],\"attr\":{\"value\":0}}";

graphs::File graph(const std::string& tensors, const std::string& nodes, int64_t arena, int64_t rings = 0) {
    graphs::File file;
    file.graph = "{\"model\":\"hostile\",\"arena\":" + std::to_string(arena) + ",\"rings\":" + std::to_string(rings) +
                 ",\"tensors\":[" + kEnds + (tensors.empty() ? "" : ",") + tensors + "],\"inputs\":[[0,0,[1],[1]]]," +
                 "\"outputs\":[[1,0,[1],[1]]],\"nodes\":[" + nodes + (nodes.empty() ? "" : ",") + kAnswer + "]}";
    return file;
}

std::string view(int64_t tensor, int64_t rows) {
    return "[" + std::to_string(tensor) + ",0,[" + std::to_string(rows) + ",1,1],[1,1,1]]";
}

std::string unary(const std::string& x, const std::string& out) {
    return "{\"op\":\"unary\",\"name\":\"u\",\"in\":{\"x\":" + x + "},\"out\":" + out +
           ",\"attr\":{\"act\":[\"abs\",0,0]}}";
}

std::string pool(const std::string& x, const std::string& out, int64_t padding, int64_t stride = 1) {
    const std::string p = std::to_string(padding), s = std::to_string(stride);
    return "{\"op\":\"pool\",\"name\":\"p\",\"in\":{\"x\":" + x + "},\"out\":" + out +
           ",\"attr\":{\"mode\":\"max\",\"kernel\":[" + std::to_string(2 * padding + 1) + ",1],\"stride\":[" + s +
           ",1],\"padding\":[" + p + ",0," + p + ",0],\"dilation\":[1,1],\"count_include_pad\":0}}";
}

std::string strip(const std::string& out, const std::string& nodes) {
    return "{\"op\":\"strip\",\"name\":\"s\",\"in\":{},\"out\":" + out + ",\"attr\":{\"rows\":1},\"nodes\":[" + nodes +
           "]}";
}

std::string arena(int64_t size, int64_t offset) {
    return "{\"kind\":\"arena\",\"size\":" + std::to_string(size) + ",\"offset\":" + std::to_string(offset) + "}";
}

std::string ring(int64_t rows, int64_t offset) {
    return "{\"kind\":\"ring\",\"size\":" + std::to_string(rows) + ",\"offset\":" + std::to_string(offset) +
           ",\"ring\":" + std::to_string(rows) + "}";
}

constexpr int64_t kTall = 1 << 20;  // rows

// n strips of 62 nodes, which all write and read one map of a million rows.
graphs::File crowded_strips(int64_t n) {
    const std::string x = view(2, kTall), first = view(3, kTall), last = view(4, kTall);
    std::string inner = unary(x, first);
    for (int i = 0; i < 60; ++i) inner += "," + unary(first, first);
    const std::string fill = "{\"op\":\"fill\",\"name\":\"f\",\"in\":{},\"out\":" + x + ",\"attr\":{\"value\":0}},";
    const int64_t bytes = 4 * kTall;
    return graph(arena(kTall, 0) + "," + arena(kTall, bytes) + "," + arena(kTall, 2 * bytes),
                 fill + repeated(strip(last, inner + "," + unary(first, last)), n), 3 * bytes);
}

// n strips of windows upon windows, whose borders lie at other rows for each node.
graphs::File windows_in_strips(int64_t n) {
    std::string tensors = arena(kTall, 0) + "," + arena(kTall, 4 * kTall), inner;
    int64_t rings = 0;
    for (int i = 0; i < 30; ++i) {
        tensors += "," + ring(16 * 31, rings);
        rings += 4 * 16 * 31;
        inner += (i ? "," : "") + pool(view(i ? 3 + i : 2, kTall), view(4 + i, kTall), i % 3 + 1);
    }
    inner += "," + unary(view(33, kTall), view(3, kTall));
    const std::string fill = "{\"op\":\"fill\",\"name\":\"f\",\"in\":{},\"out\":" + view(2, kTall) +
                             ",\"attr\":{\"value\":0}},";
    return graph(tensors, fill + repeated(strip(view(3, kTall), inner), n), 8 * kTall, rings);
}

// A strip in which one map is read at two rates, so that its rows are no lines.
graphs::File two_rates(int64_t n) {
    const std::string tensors = arena(kTall, 0) + "," + ring(1 << 19, 0) + "," + arena(kTall, 4 * kTall);
    const std::string inner = unary(view(2, kTall), view(3, kTall)) + "," +
                              pool(view(3, kTall), view(4, kTall / 2), 1, 2) + "," +
                              unary(view(3, kTall), view(4, kTall));
    return graph(tensors, repeated(strip(view(4, kTall), inner), n), 8 * kTall, 4 << 19);
}

// n nodes that write and read elements of steps that have no common measure.
graphs::File scattered(int64_t n) {
    const int64_t size = 1 << 24;
    std::string nodes;
    for (int64_t i = 0; i < n; ++i)
        for (const int64_t step : {2, 3, 5, 7}) {
            const std::string out = "[2," + std::to_string(i % 3) + ",[" + std::to_string(size / step - 4) + "],[" +
                                    std::to_string(step) + "]]";
            nodes += (nodes.empty() ? "" : ",") + std::string("{\"op\":\"fill\",\"name\":\"f\",\"in\":{},\"out\":") + out +
                     ",\"attr\":{\"value\":0}}";
        }
    return graph(arena(size, 0), nodes, 4 * size);
}

// n gathers of one large index.
graphs::File gathers(int64_t n) {
    const int64_t places = 1 << 14, channels = 2 * places;
    std::vector<float> numbers(static_cast<size_t>(places));
    for (int64_t i = 0; i < places; ++i) {
        const int32_t place = static_cast<int32_t>(2 * (places - 1 - i));
        std::memcpy(&numbers[static_cast<size_t>(i)], &place, 4);
    }
    const std::string fill = "{\"op\":\"fill\",\"name\":\"f\",\"in\":{},\"out\":[2,0,[" + std::to_string(channels) +
                             "],[1]],\"attr\":{\"value\":0}},";
    const std::string one = "{\"op\":\"gather\",\"name\":\"g\",\"in\":{\"x\":[2,0,[" + std::to_string(channels) +
                            "],[1]],\"index\":[4,0,[" + std::to_string(places) + "],[1]]},\"out\":[3,0,[" +
                            std::to_string(places) + "],[1]],\"attr\":{}}";
    graphs::File file = graph(arena(channels, 0) + "," + arena(places, 4 * channels) + ",{\"kind\":\"constant\",\"size\":" +
                                  std::to_string(places) + ",\"name\":\"index\"}",
                              fill + repeated(one, n), 4 * (channels + places));
    file.constants.emplace_back("index", numbers);
    return file;
}

// n nodes, each of which takes bytes of those before it.
graphs::File owners(int64_t n) {
    std::string nodes;
    for (int64_t i = 0; i < n; ++i)
        nodes += (i ? "," : "") + std::string("{\"op\":\"fill\",\"name\":\"f\",\"in\":{},\"out\":[") + std::to_string(2 + i) +
                 ",0,[1],[1]],\"attr\":{\"value\":0}}";
    std::string tensors;
    for (int64_t i = 0; i < n; ++i) tensors += (i ? "," : "") + arena(16 * std::min<int64_t>(9, n - i), 64 * i);
    return graph(tensors, nodes, 64 * n);
}

// A graph of n numbers that nothing asks for.
graphs::File numbers(int64_t n) {
    graphs::File file = graph("", "", 0);
    file.graph.insert(1, "\"more\":[" + repeated("#", n) + "],");
    return file;
}

struct Cost {
    int64_t steps;
    size_t bytes;
    std::string refusal;
};

Cost cost(const graphs::File& file) {
    const std::string bytes = file.bytes();
    ff::Work work;
    Cost found{0, bytes.size(), ""};
    try {
        ff::load_plan(ff::File::copy(bytes.data(), bytes.size()), work);
    } catch (const ff::Error& error) {
        CHECK(error.status == FF_BAD_PLAN, "%s", error.what());
        found.refusal = error.what();
    }
    found.steps = work.done();
    return found;
}

void checks_grow_no_faster_than_the_file() {
    struct Family {
        const char* name;
        graphs::File (*make)(int64_t);
        int64_t n;
        const char* refusal;  // part of what it is refused with; "" if it loads
    };
    const Family families[] = {
        {"crowded strips", crowded_strips, 4, ""},
        {"windows in strips", windows_in_strips, 4, ""},
        {"two rates", two_rates, 40, "strip"},
        {"scattered", scattered, 8, "too large to be checked"},
        {"gathers", gathers, 100, ""},
        {"owners", owners, 500, ""},
        {"numbers", numbers, 10000, "a key is unknown"},
    };
    for (const Family& family : families) {
        const Cost one = cost(family.make(family.n)), more = cost(family.make(8 * family.n));
        CHECK(family.refusal[0] ? one.refusal.find(family.refusal) != std::string::npos : one.refusal.empty(), "%s: %s",
              family.name, one.refusal.c_str());
        const double growth = static_cast<double>(more.steps) / static_cast<double>(one.steps);
        const double bytes = static_cast<double>(more.bytes) / static_cast<double>(one.bytes);
        std::printf("%s: %zu bytes, %lld steps; %zu bytes, %lld steps\n", family.name, one.bytes,
                    static_cast<long long>(one.steps), more.bytes, static_cast<long long>(more.steps));
        CHECK(growth < 1.5 * std::max(bytes, 8.0), "%s: %.1f times the steps for %.1f times the bytes", family.name, growth,
              bytes);
        CHECK(one.steps < (int64_t{1} << 27) + 300 * static_cast<int64_t>(one.bytes), "%s: %lld steps", family.name,
              static_cast<long long>(one.steps));
    }
}

int64_t resident_bytes() {
    long long pages = 0, resident = 0;
    std::FILE* file = std::fopen("/proc/self/statm", "r");
    if (!file) return 0;
    const int read = std::fscanf(file, "%lld %lld", &pages, &resident);
    std::fclose(file);
    return read == 2 ? resident * 4096 : 0;
}

// A plan of half a kilobyte that asks for gigabytes and writes a part of them. (The sanitizers keep memory of their own.)
void a_context_touches_what_its_nodes_write() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const int64_t size = int64_t{3} << 28;
    const graphs::File file = graph(arena(size, 0), "{\"op\":\"fill\",\"name\":\"f\",\"in\":{},\"out\":[2,0,[4],[1]],"
                                    "\"attr\":{\"value\":0}}", 4 * size);
    const std::string bytes = file.bytes();
    CHECK(bytes.size() < 1000);
    const auto plan = std::make_shared<const ff::Plan>(ff::load_plan(ff::File::copy(bytes.data(), bytes.size())));
    const float input = 0;
    float output = 1;
    const float* inputs[] = {&input};
    float* outputs[] = {&output};
    const int64_t before = resident_bytes();
    ff::Context context(plan, *ff::available_kernels().front(), 2);
    context.run(inputs, outputs, 2);
    const int64_t touched = resident_bytes() - before;
    CHECK(output == 0);
    CHECK(touched < 64 << 20, "%lld bytes", static_cast<long long>(touched));
#endif
}

void a_load_can_be_stopped() {
    const std::string bytes = crowded_strips(1).bytes();
    const int32_t stop = 1;
    ff::Work work(&stop);
    try {
        ff::load_plan(ff::File::copy(bytes.data(), bytes.size()), work);
        CHECK(false, "it loaded");
    } catch (const ff::Error& error) {
        CHECK(error.status == FF_STOPPED, "%s", error.what());
    }
}

}  // namespace

int main() {
    checks_grow_no_faster_than_the_file();
    a_context_touches_what_its_nodes_write();
    a_load_can_be_stopped();
    return check::result();
}
