// Plan files made by hand: texts for the graph, bytes for the constants.
#pragma once

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "checksum.hpp"
#include "winograd.hpp"

namespace graphs {

// Names, and the bytes of a multiple of 64 that each has; whole numbers where the name begins with "index".
using Constants = std::vector<std::pair<std::string, std::vector<float>>>;

inline std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + "\"";
}

struct File {
    std::string graph;
    Constants constants;
    std::string version = "3";
    std::string format = "fleetfoot-plan";

    // With a checksum that holds, whatever the graph says.
    std::string bytes() const {
        std::string data, header = "{";
        for (const auto& [name, values] : constants) {
            const size_t begin = data.size();
            data.append(reinterpret_cast<const char*>(values.data()), values.size() * 4);
            data.resize((data.size() + 63) / 64 * 64);
            header += quoted(name) + ":{\"dtype\":\"" + (name.rfind("index", 0) == 0 ? "I32" : "F32") +
                      "\",\"shape\":[" + std::to_string((data.size() - begin) / 4) + "],\"data_offsets\":[" +
                      std::to_string(begin) + "," + std::to_string(data.size()) + "]},";
        }
        char digits[17];
        std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(ff::checksum(
                      graph.data(), graph.size(), ff::checksum(data.data(), data.size(), 0))));
        header += "\"__metadata__\":{\"format\":" + quoted(format) + ",\"version\":" + quoted(version) +
                  ",\"checksum\":\"" + digits + "\",\"graph\":" + quoted(graph) + "}}";
        while ((header.size() + 8) % 64) header += ' ';
        const uint64_t length = header.size();
        return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
    }
};

inline std::string list(const std::vector<int64_t>& values) {
    std::string text = "[";
    for (const int64_t v : values) text += (text.size() > 1 ? "," : "") + std::to_string(v);
    return text + "]";
}

struct MapView {  // dense unless `pixel` is wider than `channels`
    int tensor;
    int64_t height, width, channels, pixel, offset;
    std::string text() const {
        return "[" + std::to_string(tensor) + "," + std::to_string(offset) + "," + list({height, width, channels}) +
               "," + list({width * pixel, pixel, 1}) + "]";
    }
};

// Grows a graph tensor by tensor and node by node.
class Builder {
public:
    explicit Builder(bool strips) : strips_(strips) {}

    int tensor(const std::string& kind, int64_t size, const std::string& more) {
        tensors_ += std::string(tensors_.empty() ? "" : ",") + "{\"kind\":\"" + kind +
                    "\",\"size\":" + std::to_string(size) + more + "}";
        return count_++;
    }
    int constant(const std::string& name, std::vector<float> values) {
        const int64_t size = static_cast<int64_t>(values.size());
        values.resize((values.size() + 15) / 16 * 16);
        file_.constants.emplace_back(name, std::move(values));
        return tensor("constant", size, ",\"name\":" + quoted(name));
    }
    // `ring` rows are kept of it where strips are made of what can be; else all.
    MapView map(int64_t height, int64_t width, int64_t channels, int64_t ring = 0, int64_t pixel = 0,
                const std::string& type = "f32") {
        if (!pixel) pixel = channels;
        const bool kept = strips_ && ring;
        const int64_t size = (kept ? ring : height) * width * pixel;
        int64_t& end = kept ? rings_ : arena_;
        const int id = tensor(kept ? "ring" : "arena", size,
                              ",\"offset\":" + std::to_string(end) + (kept ? ",\"ring\":" + std::to_string(ring) : "") +
                                  (type == "f32" ? "" : ",\"type\":\"" + type + "\""));
        end += (4 * size + 63) / 64 * 64;
        return {id, height, width, channels, pixel, 0};
    }
    void node(const std::string& op, const std::string& inputs, const MapView& out, const std::string& attributes) {
        const std::string text = "{\"op\":\"" + op + "\",\"name\":\"m." + std::to_string(nodes_made_++) +
                                 "\",\"in\":{" + inputs + "},\"out\":" + out.text() + ",\"attr\":{" + attributes + "}}";
        std::string& to = in_strip_ ? inner_ : nodes_;
        to += (to.empty() ? "" : ",") + text;
        last_ = out.text();
    }
    void begin_strip() { in_strip_ = strips_; }
    void end_strip(int64_t rows) {
        if (!strips_) return;
        nodes_ += std::string(nodes_.empty() ? "" : ",") +
                  "{\"op\":\"strip\",\"name\":\"strip\",\"in\":{},\"out\":" + last_ +
                  ",\"attr\":{\"rows\":" + std::to_string(rows) + "},\"nodes\":[" + inner_ + "]}";
        inner_.clear();
        in_strip_ = false;
    }
    File file(const std::string& inputs, const std::string& outputs) {
        file_.graph = "{\"model\":\"test\",\"arena\":" + std::to_string(arena_) +
                      ",\"rings\":" + std::to_string(rings_) + ",\"tensors\":[" + tensors_ + "],\"inputs\":[" + inputs +
                      "],\"outputs\":[" + outputs + "],\"nodes\":[" + nodes_ + "]}";
        return file_;
    }

private:
    const bool strips_;
    bool in_strip_ = false;
    int count_ = 0, nodes_made_ = 0;
    int64_t arena_ = 0, rings_ = 0;
    std::string tensors_, nodes_, inner_, last_;
    File file_;
};

inline std::string flat(int tensor, int64_t n) {
    return "[" + std::to_string(tensor) + ",0,[" + std::to_string(n) + "],[1]]";
}
inline std::string role(const std::string& name, const std::string& view) { return "\"" + name + "\":" + view; }
inline std::string window(int64_t kernel, int64_t stride, int64_t padding, int64_t dilation = 1) {
    return "\"kernel\":" + list({kernel, kernel}) + ",\"stride\":" + list({stride, stride}) +
           ",\"padding\":" + list({padding, padding}) + ",\"dilation\":" + list({dilation, dilation});
}

constexpr int64_t kSide = 23, kClasses = 5;
constexpr int64_t kInput = 3 * kSide * kSide;

// Every kind of node: a stem, a strip of four with rings (a slice written beside a slice, a halo over a halo, a
// stride; no ring has a row too many), squeeze-excite, attention, resizing, sampling, a head. Input (3, 23, 23), output (5).
inline File network(bool strips) {
    check::Random random(7);
    Builder g(strips);
    const auto conv = [&](const std::string& name, const MapView& x, const MapView& out, int64_t k, int64_t s,
                          int64_t p, int64_t groups, const std::string& more = "", const std::string& attributes = "") {
        const int64_t count = (out.channels / groups + 15) / 16,
                      size = groups * count * k * k * (x.channels / groups) * 16;
        const int w = g.constant(name + ".w", random.floats(static_cast<size_t>(size), -0.3f, 0.3f));
        const int b = g.constant(name + ".b", random.floats(static_cast<size_t>(groups * count * 16)));
        g.node("conv",
               role("x", x.text()) + "," + role("weight", flat(w, size)) + "," +
                   role("bias", flat(b, groups * count * 16)) + more,
               out, window(k, s, p) + ",\"groups\":" + std::to_string(groups) + attributes);
    };
    const auto depthwise = [&](const std::string& name, const MapView& x, const MapView& out, int64_t k, int64_t s,
                               int64_t p) {
        const int64_t padded = (out.channels + 15) / 16 * 16;
        const int w = g.constant(name + ".w", random.floats(static_cast<size_t>(k * k * padded)));
        const int slope = g.constant(name + ".slope", random.floats(static_cast<size_t>(padded)));
        g.node("depthwise",
               role("x", x.text()) + "," + role("weight", flat(w, k * k * padded)) + "," +
                   role("slope", flat(slope, padded)),
               out, window(k, s, p) + ",\"multiplier\":1,\"act\":[\"prelu\",0,0],\"post\":[\"relu\",0,0]");
    };
    const int input = g.tensor("input", kInput, ",\"index\":0");
    const int output = g.tensor("output", kClasses, ",\"index\":0");
    const MapView picture = g.map(kSide, kSide, 3);
    g.node("copy", role("x", "[" + std::to_string(input) + ",0,[23,23,3],[23,1,529]]"), picture, "");
    const MapView wide = g.map(23, 23, 20, 0, 24);  // a slice of a wider buffer
    conv("stem", picture, wide, 3, 1, 1, 1, "", ",\"act\":[\"hardswish\",0,0]");

    g.begin_strip();
    const MapView joined = g.map(23, 23, 32, 7);
    MapView left = joined, right = joined;
    left.channels = right.channels = 16;
    right.offset = 16;
    conv("left", wide, left, 1, 1, 0, 4, "", ",\"act\":[\"gelu\",0,0]");
    depthwise("right", MapView{wide.tensor, 23, 23, 16, 24, 4}, right, 5, 1, 2);
    const MapView mixed = g.map(23, 23, 32, 5);
    depthwise("mixed", joined, mixed, 3, 1, 1);
    const MapView activated = g.map(23, 23, 32, 5);
    g.node("unary", role("x", mixed.text()), activated, "\"act\":[\"silu\",0,0]");
    const MapView summed = g.map(23, 23, 32, 5);
    g.node("binary", role("a", activated.text()) + "," + role("b", mixed.text()), summed, "\"kind\":\"add\"");
    const MapView narrow = g.map(12, 12, 18);
    const int slopes = g.constant("narrow.slope", random.floats(32));
    conv("narrow", summed, narrow, 3, 2, 1, 1, "," + role("slope", flat(slopes, 32)), ",\"act\":[\"prelu\",0,0]");
    g.end_strip(2);

    const MapView squeezed = g.map(1, 1, 18);
    g.node("reduce", role("x", "[" + std::to_string(narrow.tensor) + ",0,[1,1,18,144],[0,0,1,18]]"), squeezed,
           "\"kind\":\"mean\",\"trailing\":1");
    const MapView gate = g.map(1, 1, 18);
    conv("gate", squeezed, gate, 1, 1, 0, 1, "", ",\"act\":[\"hardsigmoid\",0,0]");
    const MapView gated = g.map(12, 12, 18);
    conv("gated", narrow, gated, 1, 1, 0, 2,
         "," + role("gate", flat(gate.tensor, 18)) + "," + role("residual", narrow.text()));
    const MapView pooled = g.map(6, 6, 18);
    g.node("pool", role("x", gated.text()), pooled,
           "\"mode\":\"max\",\"kernel\":[3,3],\"stride\":[2,2],\"padding\":[1,1,1,1],\"dilation\":[1,1],\"count_"
           "include_pad\":0");
    const std::string tokens = "[" + std::to_string(pooled.tensor) + ",0,[36,18],[18,1]]",
                      across = "[" + std::to_string(pooled.tensor) + ",0,[18,36],[1,18]]";
    const MapView scores = g.map(1, 36, 36), attention = g.map(1, 36, 36), mean = g.map(1, 36, 18);
    const auto matrix = [](const MapView& m) {
        return "[" + std::to_string(m.tensor) + ",0," + list({1, m.width, m.channels}) + "," +
               list({0, m.channels, 1}) + "]";
    };
    const auto batched = [](std::string view, const std::string& rows, const std::string& columns,
                            const std::string& strides) {
        return view.substr(0, view.find(",0,")) + ",0,[1," + rows + "," + columns + "],[0," + strides + "]]";
    };
    g.node("matmul",
           role("a", batched(tokens, "36", "18", "18,1")) + "," + role("b", batched(across, "18", "36", "1,18")),
           scores, "\"alpha\":0.25");
    g.node("softmax", role("x", matrix(scores)), attention, "");
    g.node("matmul", role("a", matrix(attention)) + "," + role("b", batched(tokens, "36", "18", "18,1")), mean,
           "\"alpha\":1");
    const MapView normed = g.map(6, 6, 18);
    const int scale = g.constant("norm.w", random.floats(18));
    g.node("norm",
           role("x", MapView{mean.tensor, 6, 6, 18, 18, 0}.text()) + "," +
               role("weight", "[" + std::to_string(scale) + ",0,[6,6,18],[0,0,1]]"),
           normed, "\"mode\":\"layer\",\"trailing\":1,\"eps\":1e-05");
    std::vector<float> order(20);
    for (int32_t i = 0; i < 20; ++i) {
        const int32_t from = i * 7 % 18;
        std::memcpy(&order[static_cast<size_t>(i)], &from, 4);
    }
    const int index = g.constant("index", order);
    const MapView padded = g.map(6, 6, 24);
    g.node("fill", "", MapView{padded.tensor, 6, 6, 4, 24, 20}, "\"value\":0.5");
    g.node("gather", role("x", normed.text()) + "," + role("index", flat(index, 20)),
           MapView{padded.tensor, 6, 6, 20, 24, 0}, "");
    const MapView resized = g.map(9, 9, 24);
    g.node("resize", role("x", padded.text()), resized,
           "\"mode\":\"bilinear\",\"align_corners\":0,\"scale\":[0.6666667,0.6666667]");
    std::vector<float> firsts(7);
    for (int32_t i = 0; i < 7; ++i) {
        const int32_t from = i % 7;
        std::memcpy(&firsts[static_cast<size_t>(i)], &from, 4);
    }
    const int first = g.constant("index.rows", firsts), share = g.constant("rows.w", random.floats(21));
    const MapView fewer = g.map(7, 9, 24);
    g.node("resample",
           role("x", resized.text()) + "," + role("weight", flat(share, 21)) + "," + role("index", flat(first, 7)), fewer,
           "\"axis\":0,\"taps\":3");
    const MapView grid = g.map(6, 5, 2), sampled = g.map(6, 5, 24);
    const int grow = g.constant("grid.w", random.floats(2 * 3 * 16)),
              at = g.constant("grid.b", random.floats(16)), fall = g.constant("grid.slope", random.floats(16));
    g.node("transposed",
           role("x", MapView{picture.tensor, 3, 3, 3, 3, 0}.text()) + "," + role("weight", flat(grow, 2 * 3 * 16)) + "," +
               role("bias", flat(at, 16)) + "," + role("slope", flat(fall, 16)),
           grid, "\"kernel\":[3,3],\"stride\":[2,2],\"padding\":[1,1],\"act\":[\"prelu\",0,0]");
    g.node("sample", role("x", fewer.text()) + "," + role("grid", grid.text()), sampled,
           "\"mode\":\"bilinear\",\"padding\":\"reflection\",\"align_corners\":0");
    const MapView flatten = g.map(1, 1, 24);
    g.node("reduce", role("x", "[" + std::to_string(sampled.tensor) + ",0,[1,1,24,30],[0,0,1,24]]"), flatten,
           "\"kind\":\"max\",\"trailing\":1");
    conv("head", flatten, MapView{output, 1, 1, kClasses, kClasses, 0}, 1, 1, 0, 1);
    return g.file("[" + std::to_string(input) + ",0,[3,23,23],[529,23,1]]", flat(output, kClasses));
}

// Winograd's tiles: 4 x 4 in a strip, from a slice into a slice of a ring; 2 x 2 with a residual. Input and output
// are those of network().
inline File tiles(bool strips) {
    check::Random random(9);
    Builder g(strips);
    const auto conv = [&](const std::string& name, const MapView& x, const MapView& out, int64_t k, int tile,
                          const std::string& more, const std::string& attributes) {
        const int64_t panels = (out.channels + 15) / 16, size = panels * k * k * x.channels * 16;
        const std::vector<float> weight = random.floats(static_cast<size_t>(size), -0.2f, 0.2f);
        const std::vector<float> bias = random.floats(static_cast<size_t>(panels * 16));
        std::string inputs = role("x", x.text()) + "," + role("weight", flat(g.constant(name + ".w", weight), size)) +
                             "," + role("bias", flat(g.constant(name + ".b", bias), panels * 16));
        std::string window_text = window(k, 1, k / 2) + ",\"groups\":1" + attributes;
        if (tile) {
            const std::vector<float> values = check::transformed(weight.data(), panels, x.channels, tile);
            const int64_t count = static_cast<int64_t>(values.size());
            inputs += "," + role("transformed", flat(g.constant(name + ".t", values), count));
            window_text += ",\"winograd\":" + std::to_string(tile);
        }
        g.node("conv", inputs + more, out, window_text);
    };
    const int input = g.tensor("input", kInput, ",\"index\":0");
    const int output = g.tensor("output", kClasses, ",\"index\":0");
    const MapView picture = g.map(kSide, kSide, 3);
    g.node("copy", role("x", "[" + std::to_string(input) + ",0,[23,23,3],[23,1,529]]"), picture, "");
    const MapView stem = g.map(kSide, kSide, 20);
    conv("stem", picture, stem, 3, 0, "", ",\"act\":[\"relu\",0,0]");

    g.begin_strip();
    const MapView joined = g.map(kSide, kSide, 20, 4);
    MapView left = joined, right = joined;
    left.channels = 9;
    right.channels = 11;
    right.offset = 9;
    conv("left", MapView{stem.tensor, kSide, kSide, 9, 20, 0}, left, 3, 4, "", "");
    g.node("copy", role("x", MapView{stem.tensor, kSide, kSide, 11, 20, 9}.text()), right, "");
    const MapView mixed = g.map(kSide, kSide, 34);
    conv("mixed", joined, mixed, 1, 0, "", ",\"act\":[\"gelu\",0,0]");
    g.end_strip(4);

    const MapView last = g.map(kSide, kSide, 34);
    conv("last", mixed, last, 3, 2, "," + role("residual", mixed.text()),
         ",\"act\":[\"silu\",0,0],\"post\":[\"relu\",0,0]");
    const MapView mean = g.map(1, 1, 34);
    g.node("reduce", role("x", "[" + std::to_string(last.tensor) + ",0,[1,1,34,529],[0,0,1,34]]"), mean,
           "\"kind\":\"mean\",\"trailing\":1");
    conv("head", mean, MapView{output, 1, 1, kClasses, kClasses, 0}, 1, 0, "", "");
    return g.file("[" + std::to_string(input) + ",0,[3,23,23],[529,23,1]]", flat(output, kClasses));
}

// Whole numbers, and every reference kernel: places computed from the picture, which are sorted, summed up, read from
// and written to. Input (3, 23, 23), output (5) of int32, or of float32 if not `whole`.
inline File places(bool whole) {
    check::Random random(5);
    Builder g(false);
    const auto number = [&](int32_t x) {  // a constant of one, as a view of (23, 23, 3)
        float bits;
        std::memcpy(&bits, &x, sizeof bits);
        const int id = g.constant("index.number." + std::to_string(x), {bits});
        return "[" + std::to_string(id) + ",0,[23,23,3],[0,0,0]]";
    };
    const auto map = [&](const std::string& type) { return g.map(23, 23, 3, 0, 0, type); };
    const auto node = [&](const std::string& op, const std::string& inputs, const MapView& out,
                          const std::string& attributes) {
        g.node(op, inputs, out, attributes);
        return out;
    };
    const auto kind = [](const std::string& name) { return "\"kind\":\"" + name + "\""; };
    const int input = g.tensor("input", kInput, ",\"index\":0");
    const int output = g.tensor("output", kClasses, std::string(",\"index\":0") + (whole ? ",\"type\":\"i32\"" : ""));
    const MapView x = node("copy", role("x", "[" + std::to_string(input) + ",0,[23,23,3],[23,1,529]]"), map("f32"), "");
    const MapView sine = node("elementwise", role("a", x.text()), map("f32"), kind("sin"));
    const MapView scaled = node("elementwise", role("a", sine.text()) + "," + role("b", x.text()), map("f32"), kind("atan2"));
    const MapView cut = node("elementwise", role("a", scaled.text()), map("i32"), kind("to_i32"));
    const MapView place = node("elementwise", role("a", cut.text()) + "," + role("b", number(3)), map("i32"), kind("remainder"));
    const MapView below = node("elementwise", role("a", place.text()) + "," + role("b", number(1)), map("i32"), kind("le"));
    const MapView chosen = node("elementwise", role("a", below.text()) + "," + role("b", sine.text()) + "," + role("c", x.text()),
                                map("f32"), kind("where"));
    const MapView taken = node("take", role("x", chosen.text()) + "," + role("index", place.text()), map("f32"), "\"negative\":1");
    const MapView order = node("sort", role("x", taken.text()), map("i32"), "\"descending\":1");
    const MapView put = node("scatter", role("x", place.text()) + "," + role("index", order.text()) + "," + role("source", cut.text()),
                             map("i32"), kind("add") + ",\"negative\":0");
    const MapView running = node("scan", role("x", put.text()), map("i32"), kind("sum"));
    const MapView copied = node("copy", role("x", running.text()), map("i32"), "");
    const int32_t turned[] = {2, 0, 1};
    std::vector<float> bits(3);
    std::memcpy(bits.data(), turned, sizeof turned);
    const MapView mixed = node("gather", role("x", copied.text()) + "," + role("index", flat(g.constant("index.turned", bits), 3)),
                               map("i32"), "");
    const MapView back = node("elementwise", role("a", mixed.text()), map("f32"), kind("to_f32"));
    // 5 of 23 rows, over the other two dimensions
    const MapView& last = whole ? mixed : back;
    g.node("aggregate", role("x", "[" + std::to_string(last.tensor) + ",0,[1,1,5,23,3],[0,0,69,3,1]]"),
           MapView{output, 1, 1, kClasses, kClasses, 0}, kind(whole ? "argmax" : "logsumexp") + ",\"trailing\":2");
    return g.file("[" + std::to_string(input) + ",0,[3,23,23],[529,23,1]]", flat(output, kClasses));
}

}  // namespace graphs
