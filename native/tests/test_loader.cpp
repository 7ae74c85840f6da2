// What the loader refuses, and how it says so. Each bad plan is a good one with one text replaced, under
// a checksum that holds: it is the validator that has to see it.
#include <cstdio>
#include <functional>

#include "check.hpp"
#include "error.hpp"
#include "graphs.hpp"
#include "plan.hpp"

namespace {

ff::Plan load(const std::string& bytes) { return ff::load_plan(ff::File::copy(bytes.data(), bytes.size())); }

// The text of the refusal; "" where it loads.
std::string refusal(const std::string& bytes) {
    try {
        load(bytes);
        return "";
    } catch (const ff::Error& error) {
        CHECK(error.status == FF_BAD_PLAN, "%s", error.what());
        return error.what();
    }
}

void expect(const std::string& bytes, const std::string& reason, const std::string& what) {
    const std::string text = refusal(bytes);
    CHECK(text.find(reason) != std::string::npos, "%s: '%s' lacks '%s'", what.c_str(), text.c_str(), reason.c_str());
}

void replaced(std::string& text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    CHECK(at != std::string::npos, "'%s' is not in the graph", from.c_str());
    if (at != std::string::npos) text.replace(at, from.size(), to);
}

void a_good_plan_loads() {
    const ff::Plan plan = load(graphs::network(true).bytes());
    CHECK(plan.model == "test" && plan.inputs.size() == 1 && plan.outputs.size() == 1);
    CHECK(plan.list.size() == plan.nodes.size() + 6, "the strip's nodes are listed");
    CHECK(plan.list[2].node->op == ff::Op::strip && plan.list[3].strip == 2 && plan.list[1].strip == -1);
}

void files() {
    const graphs::File good = graphs::network(true);
    const std::string bytes = good.bytes();
    for (const size_t size :
         {size_t{0}, size_t{7}, size_t{8}, size_t{100}, bytes.size() / 2, bytes.size() - 64, bytes.size() - 1})
        CHECK(!refusal(bytes.substr(0, size)).empty(), "%zu bytes", size);
    expect(bytes + std::string(64, '\0'), "length", "longer");

    std::string changed = bytes;
    changed[bytes.size() - 100] ^= 1;
    expect(changed, "checksum", "a bit of the weights");
    changed = bytes;
    changed.replace(changed.find("\\\"silu\\\""), 8, "\\\"relu\\\"");
    expect(changed, "checksum", "a letter of the graph");

    graphs::File other = good;
    other.version = "1";
    expect(other.bytes(), "plan version 1; this library reads version 3; compile", "version");
    other = good;
    other.format = "pt";
    expect(other.bytes(), "not a fleetfoot plan", "format");
    std::string huge = bytes;
    huge.replace(0, 8, 8, '\xff');
    expect(huge, "header is too long", "header length");
    expect(std::string(4096, 'x'), "not a plan file", "another file");

    try {
        ff::File::map("/nowhere/at all");
        CHECK(false, "it opened");
    } catch (const ff::Error& error) {
        CHECK(error.status == FF_BAD_FILE && std::string(error.what()).find("'/nowhere/at all'") != std::string::npos,
              "%s", error.what());
    }
}

void graphs_of_each_fault() {
    // from, to, what the text must hold; the strip is node 2
    const char* const faults[][3] = {
        {"\"model\":\"test\"", "\"model\":7", "model is not a text"},
        {"\"rings\":", "\"speed\":1,\"rings\":", "a key is unknown"},
        {"\"kind\":\"input\"", "\"kind\":\"outside\"", "kind 'outside' is unknown"},
        {"\"size\":1587", "\"size\":1586", "input 0 is not its whole tensor"},
        {"\"size\":1587", "\"size\":0", "size is 0"},
        {"\"size\":1587", "\"size\":5000000000", "too large"},
        {"\"size\":1587", "\"size\":-1", "whole number"},
        {"\"size\":1587", "\"size\":1587.0", "whole number"},
        {"\"offset\":6400}", "\"offset\":6404}", "not aligned"},
        {"\"arena\":", "\"arena\":9", "larger than"},
        {"\"offset\":6400}", "\"offset\":6400000}", "lies outside the arena"},
        {"\"ring\":7", "\"ring\":0", "whole rows"},
        {"\"name\":\"stem.w\"", "\"name\":\"stern.w\"", "'stern.w' is no tensor of the file"},
        {"[[0,0,[3,23,23],[529,23,1]]]", "[[0,0,[3,23,23],[529,1,23]]]", "input 0 is not dense"},
        {"[[0,0,[3,23,23],[529,23,1]]]", "[]", "there is no input"},
        {"[[0,0,[3,23,23],[529,23,1]]]", "[[1,0,[5],[1]]]", "input 0 is not of the tensor"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,1,[23,23,3],[23,1,529]]", "node 0 'm.0' (copy): x lies outside"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,0,[23,23,3],[24,1,529]]", "x lies outside"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,0,[23,23,3],[4611686018427387904,1,529]]", "x lies outside"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,0,[23,23,3],[-23,1,529]]", "x is not a whole number"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,0,[23,23,0],[23,1,529]]", "size that is 0"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,0,[67000000,67000000,67000000],[0,0,0]]", "too many elements"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,0,[23,23,3],[23,1]]", "different lengths"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,0,[1,1,1,1,23,23,3],[0,0,0,0,23,1,529]]", "more than 6 dimensions"},
        {"[0,0,[23,23,3],[23,1,529]]", "[0,0,[23,69],[23,1]]", "x has shape (23, 69) and out (23, 23, 3)"},
        {"[0,0,[23,23,3],[23,1,529]]", "[99,0,[23,23,3],[23,1,529]]", "not there"},
        {"\"x\":[0,0,[23,23,3],[23,1,529]]", "\"a\":[0,0,[23,23,3],[23,1,529]]", "input x is missing"},
        {"\"out\":[2,0,[23,23,3],[69,3,1]]", "\"out\":[2,0,[23,23,3],[0,3,1]]", "out overlaps itself"},
        {"\"out\":[2,0,[23,23,3],[69,3,1]]", "\"out\":[0,0,[23,23,3],[69,3,1]]", "out is a constant or an input"},
        {"\"op\":\"copy\"", "\"op\":\"cope\"", "op 'cope' is unknown"},
        {"\"op\":\"copy\",", "", "op is missing"},
        {"\"groups\":1", "\"groups\":0", "groups (0)"},
        {"\"groups\":1", "\"groups\":7", "groups (7) do not divide"},
        {"\"groups\":1,", "", "groups is missing"},
        {"\"groups\":1", "\"groups\":3", "groups (3) do not divide the channels (3 in, 20 out)"},
        {"\"kernel\":[3,3]", "\"kernel\":[5,3]", "weight holds 864 elements where 1440 are read"},
        {"\"kernel\":[3,3]", "\"kernel\":[0,3]", "kernel, stride or dilation is 0"},
        {"\"kernel\":[3,3]", "\"kernel\":[3]", "has not 2 numbers"},
        {"\"stride\":[1,1]", "\"stride\":[2,1]", "23 windows do not fit into 23 along H"},
        {"\"stride\":[1,1]", "\"stride\":[1,0]", "is 0 or too large along W"},
        {"\"padding\":[1,1]", "\"padding\":[100000,1]", "padding is too large along H"},
        {"[\"hardswish\",0,0]", "[\"hardwish\",0,0]", "act 'hardwish' is unknown"},
        {"[\"hardswish\",0,0]", "[\"hardswish\",0]", "act is not [name, a, b]"},
        {"[\"hardswish\",0,0]", "[\"prelu\",0,0]", "slope is given without act prelu, or the other way"},
        {"\"act\":[\"prelu\",0,0]", "\"act\":[\"relu\",0,0]", "slope is given without act prelu"},
        {"[\"silu\",0,0]", "[\"prelu\",0,0]", "act is prelu, for which there are no slopes here"},
        {"[\"hardswish\",0,0]", "[\"hardswish\",1e39,0]", "float32's range"},
        {"\"multiplier\":1", "\"multiplier\":2", "multiplier times"},
        {"\"rows\":2", "\"rows\":0", "rows is 0"},
        {"\"rows\":2", "\"rows\":3", "rows where"},
        {"\"nodes\":[", "\"knots\":[", "nodes is missing"},
        {"\"kind\":\"mean\",\"trailing\":1", "\"kind\":\"mean\",\"trailing\":5", "trailing is not"},
        {"\"kind\":\"mean\",\"trailing\":1", "\"kind\":\"mean\",\"trailing\":2", "without the last 2"},
        {"\"mode\":\"layer\"", "\"mode\":\"batch\"", "mode 'batch' is unknown"},
        {"\"eps\":1e-05", "\"eps\":-1e-05", "eps is negative"},
        {"\"count_include_pad\":0", "\"count_include_pad\":2", "count_include_pad is neither"},
        {"\"scale\":[0.6666667,", "\"scale\":[6.666667,", "does not map 9 onto 6"},
        {"\"scale\":[0.6666667,", "\"scale\":[-0.1,", "does not map"},
        {"\"taps\":3", "\"taps\":0", "taps is 0"},
        {"\"taps\":3", "\"taps\":4", "index 6 and 4 taps leave x's 9"},
        {"\"axis\":0", "\"axis\":1", "and out (7, 9, 24)"},
        {"\"axis\":0", "\"axis\":2", "axis is neither 0 nor 1"},
        {"\"padding\":\"reflection\"", "\"padding\":\"mirror\"", "padding 'mirror' is unknown"},
        {"[9,9,24],[216,24,1]],\"attr\":{\"mode\":\"bilinear\"", "[9,9,24],[216,24,1]],\"attr\":{\"mode\":\"linear\"", "unknown"},
        {"\"kernel\":[3,3],\"stride\":[2,2],\"padding\":[1,1],\"act\"", "\"kernel\":[3,9],\"stride\":[2,2],\"padding\":[1,1],\"act\"", "weight holds"},
        {"\"kernel\":[3,3],\"stride\":[2,2],\"padding\":[1,1],\"act\"", "\"kernel\":[3,3],\"stride\":[0,2],\"padding\":[1,1],\"act\"", "kernel or stride is 0"},
    };
    for (const auto& fault : faults) {
        graphs::File file = graphs::network(true);
        replaced(file.graph, fault[0], fault[1]);
        expect(file.bytes(), fault[2], std::string(fault[0]) + " -> " + fault[1]);
    }
}

void tiles_of_each_fault() {
    const char* faults[][3] = {
        {"\"winograd\":4", "\"winograd\":3", "winograd is neither 2 nor 4"},
        {"\"winograd\":4", "\"winograd\":0", "transformed is given without winograd"},
        {",\"winograd\":4", "", "transformed is given without winograd"},
        {"\"transformed\":[", "\"gate\":[", "transformed is given without winograd, or the other way round"},
        {"\"winograd\":2", "\"winograd\":4", "transformed holds 26112 elements where 58752 are read"},
        {"\"dilation\":[1,1],\"groups\":1,\"winograd\":4", "\"dilation\":[1,2],\"groups\":1,\"winograd\":4",
         "dense 3 x 3 windows of stride 1"},
    };
    for (const auto& fault : faults) {
        graphs::File file = graphs::tiles(true);
        replaced(file.graph, fault[0], fault[1]);
        expect(file.bytes(), fault[2], std::string(fault[0]) + " -> " + fault[1]);
    }
}

void types_of_each_fault() {
    const char* faults[][3] = {
        {"\"type\":\"i32\"", "\"type\":\"i64\"", "type 'i64' is unknown"},
        {"\"kind\":\"to_i32\"", "\"kind\":\"to_i64\"", "kind 'to_i64' is unknown"},
        {"\"kind\":\"to_i32\"", "\"kind\":\"floor\"", "out is i32 where f32 is wanted"},
        {"\"kind\":\"to_i32\"", "\"kind\":\"to_f32\"", "a is f32 where i32 is wanted"},
        {"\"kind\":\"to_i32\"", "\"kind\":\"abs\"", "out is i32 where f32 is wanted"},
        {"\"kind\":\"to_i32\"", "\"kind\":\"remainder\"", "has not 2 operands"},
        {"\"kind\":\"remainder\"", "\"kind\":\"bitwise_not\"", "has not 1 operands"},
        {"\"kind\":\"remainder\"", "\"kind\":\"atan2\"", "a is i32 where f32 is wanted"},
        {"\"kind\":\"where\"", "\"kind\":\"le\"", "has not 2 operands"},
        {"\"negative\":1", "\"negative\":2", "negative is neither 0 nor 1"},
        {"\"descending\":1", "\"descending\":7", "descending is neither 0 nor 1"},
        {"\"kind\":\"argmax\",\"trailing\":2", "\"kind\":\"argmax\",\"trailing\":3", "without the last 3"},
        {"\"kind\":\"argmax\"", "\"kind\":\"logsumexp\"", "x is i32 where f32 is wanted"},
        {"\"op\":\"sort\"", "\"op\":\"scan\"", "kind is missing"},
    };
    for (const auto& fault : faults) {
        graphs::File file = graphs::places(true);
        replaced(file.graph, fault[0], fault[1]);
        expect(file.bytes(), fault[2], std::string(fault[0]) + " -> " + fault[1]);
    }
    // The first tensor of int32 becomes one of float32, and the other way round.
    graphs::File file = graphs::places(true);
    replaced(file.graph, ",\"type\":\"i32\"", "");
    expect(file.bytes(), "out is f32 where i32 is wanted", "an output of another type");
    file = graphs::network(false);
    replaced(file.graph, "\"kind\":\"arena\",", "\"kind\":\"arena\",\"type\":\"i32\",");
    expect(file.bytes(), "out is i32 where f32 is wanted", "a copy of float32 to int32");
    file = graphs::network(false);
    for (int i = 0; i < 2; ++i)  // the picture and its copy
        replaced(file.graph, i ? "\"kind\":\"arena\"," : "\"kind\":\"input\",",
                 i ? "\"type\":\"i32\",\"kind\":\"arena\"," : "\"type\":\"i32\",\"kind\":\"input\",");
    expect(file.bytes(), "(conv): x is i32 where f32 is wanted", "a convolution of int32");
}

void constants_of_each_fault() {
    const auto with = [](const std::string& name, const std::function<void(std::vector<float>&)>& change) {
        graphs::File file = graphs::network(true);
        for (auto& [key, values] : file.constants)
            if (key == name) change(values);
        return file.bytes();
    };
    const auto set = [](int32_t index) {
        return [index](std::vector<float>& values) { std::memcpy(&values[3], &index, 4); };
    };
    expect(with("index", set(18)), "index 18 is outside x's 18", "an index too high");
    expect(with("index", set(-1)), "index -1 is outside", "an index below 0");
    expect(with("stem.w", [](std::vector<float>& values) { values.resize(800); }), "larger than what the file holds",
           "short weights");
    graphs::File file = graphs::network(true);
    replaced(file.graph, "\"name\":\"index\"", "\"name\":\"stem.b\"");
    expect(file.bytes(), "index is f32 where i32 is wanted", "floats as an index");
}

void strips_of_each_fault() {
    // The last ring, tensor 15, keeps 5 rows of 23 x 32 elements; the strip's nodes are m.2 to m.7.
    graphs::File file = graphs::network(true);
    replaced(file.graph, "\"rings\":64768", "\"rings\":61824");
    replaced(file.graph, "\"size\":3680,\"offset\":50048,\"ring\":5", "\"size\":2944,\"offset\":50048,\"ring\":4");
    expect(file.bytes(), "node 2 'strip' (strip): tensor 15 keeps 4 rows where 5 are needed at once",
           "a ring too small");

    file = graphs::network(true);
    replaced(file.graph, "\"op\":\"unary\"", "\"op\":\"softmax\"");
    replaced(file.graph, "\"act\":[\"silu\",0,0]", "");
    CHECK(refusal(file.bytes()).empty(), "what works on pixels may be in a strip: %s", refusal(file.bytes()).c_str());
    replaced(file.graph, "\"op\":\"softmax\"", "\"op\":\"matmul\"");
    expect(file.bytes(), "node 2.3 'm.5' (matmul)", "a node is named by its strip's number and its own");

    const std::string strip = graphs::network(true).graph, whole = graphs::network(false).graph;
    const size_t begin = strip.find("\"name\":\"strip\""), end = strip.find("]}", strip.find("\"m.7\""));
    CHECK(begin != std::string::npos && end != std::string::npos && whole.find("\"ring\"") == std::string::npos);
    // A ring's view must step by slots, stay inside one, be written before it is read, and stay in its strip.
    const auto within = [&](const std::string& from, const std::string& to, const std::string& reason) {
        graphs::File changed = graphs::network(true);
        const size_t at = changed.graph.find(from, begin);
        CHECK(at != std::string::npos && at < end, "'%s' is not in the strip", from.c_str());
        changed.graph.replace(at, from.size(), to);
        expect(changed.bytes(), reason, from);
    };
    const char* const read = "\"x\":[11,0,[23,23,32],[736,32,1]]";
    within(read, "\"x\":[11,0,[23,23,32],[32,32,1]]", "does not step from slot to slot");
    within(read, "\"x\":[11,1,[3,23,32],[736,32,1]]", "reaches into the next slot");
    within(read, "\"x\":[14,0,[23,23,32],[736,32,1]]", "tensor 14 is read before it is written");
    within("\"x\":[6,0,[23,23,32],[736,32,1]]", "\"x\":[6,0,[22,23,32],[736,32,1]]", "different rows");
}

}  // namespace

int main() {
    a_good_plan_loads();
    files();
    graphs_of_each_fault();
    tiles_of_each_fault();
    types_of_each_fault();
    constants_of_each_fault();
    strips_of_each_fault();
    return check::result();
}
