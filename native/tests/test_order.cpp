// The loader's proof of order: what is read has been written, and still lies there. Each plan is a few copies of
// slices; each fault has a neighbour that is right.
#include "check.hpp"
#include "error.hpp"
#include "graphs.hpp"
#include "plan.hpp"

namespace {

constexpr int64_t kHeight = 3, kWidth = 5, kPixels = kHeight * kWidth;

// The text of the refusal; "" where the plan loads.
std::string refusal(const graphs::File& file) {
    const std::string bytes = file.bytes();
    try {
        ff::load_plan(ff::File::copy(bytes.data(), bytes.size()));
        return "";
    } catch (const ff::Error& error) {
        CHECK(error.status == FF_BAD_PLAN, "%s", error.what());
        return error.what();
    }
}

void expect(const graphs::File& file, const std::string& reason, const std::string& what) {
    const std::string text = refusal(file);
    CHECK(reason.empty() ? text.empty() : text.find(reason) != std::string::npos, "%s: '%s', expected '%s'",
          what.c_str(), text.c_str(), reason.c_str());
}

// A network of one input and one output of 8 channels, (H, W, C) both, and an arena of `arena` such maps.
struct Network {
    explicit Network(int64_t arena = 4) : arena_maps(arena) {
        input = {add("input", ",\"index\":0"), kHeight, kWidth, 8, 8, 0};
        output = {add("output", ",\"index\":0"), kHeight, kWidth, 8, 8, 0};
    }
    int add(const std::string& kind, const std::string& more) {
        tensors += std::string(tensors.empty() ? "" : ",") + "{\"kind\":\"" + kind + "\",\"size\":" +
                   std::to_string(kPixels * 8) + more + "}";
        return count++;
    }
    // The arena's map at `place`, counted in whole maps of 512 bytes.
    graphs::MapView map(int64_t place) {
        return {add("arena", ",\"offset\":" + std::to_string(512 * place)), kHeight, kWidth, 8, 8, 0};
    }
    static graphs::MapView slice(graphs::MapView map, int64_t first, int64_t channels) {
        map.offset += first;
        map.channels = channels;
        return map;
    }
    Network& node(const std::string& op, const graphs::MapView& x, const graphs::MapView& out,
                  const std::string& attributes = "") {
        nodes += std::string(nodes.empty() ? "" : ",") + "{\"op\":\"" + op + "\",\"name\":\"m." +
                 std::to_string(made++) + "\",\"in\":{" + graphs::role("x", x.text()) + "},\"out\":" + out.text() +
                 ",\"attr\":{" + attributes + "}}";
        return *this;
    }
    Network& copy(const graphs::MapView& x, const graphs::MapView& out) { return node("copy", x, out); }
    graphs::File file() const {
        graphs::File made_of;
        made_of.graph = "{\"model\":\"test\",\"arena\":" + std::to_string(512 * arena_maps) + ",\"rings\":0,\"tensors\":[" +
                        tensors + "],\"inputs\":[" + graphs::flat(0, kPixels * 8) + "],\"outputs\":[" +
                        graphs::flat(1, kPixels * 8) + "],\"nodes\":[" + nodes + "]}";
        return made_of;
    }

    int64_t arena_maps;
    graphs::MapView input, output;
    std::string tensors, nodes;
    int count = 0, made = 0;
};

void slices_of_a_concatenation() {
    {
        Network n(2);
        const auto joined = n.map(0), between = n.map(1);
        const auto first = Network::slice(joined, 0, 5), last = Network::slice(joined, 5, 3);
        n.copy(Network::slice(n.input, 0, 5), first).copy(first, Network::slice(between, 0, 5));
        n.copy(Network::slice(between, 0, 3), last).copy(joined, n.output);
        expect(n.file(), "", "a reader between the writes, of what is written");
    }
    {
        Network n(2);
        const auto joined = n.map(0), between = n.map(1);
        const auto first = Network::slice(joined, 0, 5), last = Network::slice(joined, 5, 3);
        n.copy(Network::slice(n.input, 0, 5), first).copy(Network::slice(joined, 0, 6), Network::slice(between, 0, 6));
        n.copy(Network::slice(between, 0, 3), last).copy(joined, n.output);
        expect(n.file(), "node 1 'm.1' (copy): x is read before it is written", "a reader of one channel more");
    }
    {
        Network n(1);
        const auto joined = n.map(0);
        n.copy(joined, n.output).copy(n.input, joined);
        expect(n.file(), "node 0 'm.0' (copy): x is read before it is written", "all before the write");
    }
}

// A gather reads what its index names: channels 0, 2 and 3 of a map of which another is written later.
void gathered_channels() {
    for (const int32_t named : {3, 4}) {
        Network n(2);
        const auto joined = n.map(0), picked = n.map(1);
        std::vector<float> order(16);
        const int32_t index[8] = {2, 0, 3, 2, 0, named, 0, 2};
        std::memcpy(order.data(), index, sizeof index);
        n.copy(Network::slice(n.input, 0, 4), Network::slice(joined, 0, 4));
        n.tensors += ",{\"kind\":\"constant\",\"size\":8,\"name\":\"index\"}";
        n.nodes += ",{\"op\":\"gather\",\"name\":\"m.1\",\"in\":{" + graphs::role("x", joined.text()) + "," +
                   graphs::role("index", graphs::flat(n.count++, 8)) + "},\"out\":" + picked.text() + ",\"attr\":{}}";
        n.copy(Network::slice(picked, 0, 4), Network::slice(joined, 4, 4)).copy(joined, n.output);
        graphs::File file = n.file();
        file.constants.emplace_back("index", order);
        expect(file, named < 4 ? "" : "node 1 'm.1' (gather): x is read before it is written",
               "an index up to " + std::to_string(named));
    }
}

void shared_bytes() {
    for (const bool late : {false, true}) {
        Network n(2);
        const auto a = n.map(0), b = n.map(1), c = n.map(0);  // a and c lie in the same bytes
        n.copy(n.input, a).copy(a, b).copy(b, c).copy(late ? a : c, n.output);
        expect(n.file(), late ? "node 3 'm.3' (copy): x is read before it is written" : "",
               late ? "bytes that another tensor has taken" : "bytes that are free again");
    }
    const char* const silu = "\"act\":[\"silu\",0,0]";
    {
        Network n(1);
        const auto a = n.map(0), b = n.map(0);
        n.copy(n.input, a).node("unary", a, b, silu).copy(b, n.output);
        expect(n.file(), "", "an activation in place");
    }
    {
        Network n(1);
        const auto a = n.map(0), b = n.map(0);
        n.copy(n.input, a).node("softmax", a, b).copy(b, n.output);
        expect(n.file(), "node 1 'm.1' (softmax): x is overwritten while it is read", "a softmax in place");
    }
    {
        Network n(1);
        const auto a = n.map(0);
        const auto left = Network::slice(a, 0, 4), right = Network::slice(a, 4, 4), middle = Network::slice(a, 2, 4);
        Network moved = n;
        n.copy(n.input, a).node("unary", left, right, silu).copy(a, n.output);
        expect(n.file(), "", "from one slice to another");
        moved.copy(moved.input, a).node("unary", left, middle, silu).copy(a, moved.output);
        expect(moved.file(), "x is overwritten while it is read", "to a slice that overlaps");
    }
}

void outputs() {
    Network n(0), none(1);
    n.copy(Network::slice(n.input, 0, 7), Network::slice(n.output, 0, 7));
    expect(n.file(), "output 0 is not written as a whole", "a channel short");
    n.copy(Network::slice(n.input, 7, 1), Network::slice(n.output, 7, 1));
    expect(n.file(), "", "in two parts");
    none.copy(none.input, none.map(0));
    expect(none.file(), "output 0 is not written as a whole", "an output that no node writes");
}

void rings() {
    // The strip's first two nodes write the halves of one ring, which its third reads.
    graphs::File file = graphs::tiles(true);
    expect(file, "", "both halves");
    const size_t strip = file.graph.find("\"name\":\"strip\""), copy = file.graph.find("{\"op\":\"copy\"", strip);
    const size_t end = file.graph.find("},{", copy) + 2;
    CHECK(strip != std::string::npos && copy != std::string::npos);
    file.graph.erase(copy, end - copy);
    expect(file, "x is read before it is written", "one half");

    // Two nodes write one ring, which none reads, with 3 rows and with 400: no reader ties their heights.
    graphs::File uneven;
    const auto view = [](int tensor, int64_t rows) {
        return "[" + std::to_string(tensor) + ",0,[" + std::to_string(rows) + ",5,4],[40,8,1]]";
    };
    const auto fill = [](const std::string& out) {
        return "{\"op\":\"fill\",\"name\":\"f\",\"in\":{},\"out\":" + out + ",\"attr\":{\"value\":0}}";
    };
    const auto unary = [](const std::string& x, const std::string& out) {
        return "{\"op\":\"unary\",\"name\":\"u\",\"in\":{\"x\":" + x + "},\"out\":" + out +
               ",\"attr\":{\"act\":[\"silu\",0,0]}}";
    };
    uneven.graph =
        "{\"model\":\"test\",\"arena\":64000,\"rings\":192,\"tensors\":[{\"kind\":\"input\",\"size\":1,\"index\":0},"
        "{\"kind\":\"output\",\"size\":16000,\"index\":0},{\"kind\":\"arena\",\"size\":16000,\"offset\":0},"
        "{\"kind\":\"ring\",\"size\":40,\"offset\":0,\"ring\":1}],\"inputs\":[[0,0,[1],[1]]],\"outputs\":"
        "[[1,0,[16000],[1]]],\"nodes\":[" + fill("[2,0,[16000],[1]]") + ",{\"op\":\"strip\",\"name\":\"strip\",\"in\":{},"
        "\"out\":[1,0,[400,5,8],[40,8,1]],\"attr\":{\"rows\":1},\"nodes\":[" + unary(view(2, 3), view(3, 3)) + "," +
        unary(view(2, 400), view(3, 400)) + "," + unary("[2,0,[400,5,8],[40,8,1]]", "[1,0,[400,5,8],[40,8,1]]") + "]}]}";
    expect(uneven, "out is a ring that another node writes with other rows", "writers of unequal height");
}

void a_grid_is_no_finer_than_its_views() {
    // Slices of a channel over pixels without number: one pixel is looked at. And halves of rows, and single rows.
    Network n(1);
    const auto joined = n.map(0);
    n.copy(Network::slice(n.input, 0, 1), Network::slice(joined, 0, 1));
    n.copy(Network::slice(n.input, 1, 7), Network::slice(joined, 1, 7)).copy(joined, n.output);
    graphs::File file = n.file();
    const std::string bytes = file.bytes();
    ff::Work work;
    ff::load_plan(ff::File::copy(bytes.data(), bytes.size()), work);
    CHECK(work.done() < 2000, "%lld steps", static_cast<long long>(work.done()));

    const std::string half = std::to_string(int64_t{1} << 29), size = std::to_string(int64_t{1} << 30);
    const std::string fill = "{\"op\":\"fill\",\"name\":\"m\",\"in\":{},\"attr\":{\"value\":0},\"out\":[1,";
    for (const bool both : {false, true}) {
        graphs::File scattered;  // even elements and odd ones, a thousand million of them in a file of a kilobyte
        scattered.graph = "{\"model\":\"test\",\"arena\":0,\"rings\":0,\"tensors\":[{\"kind\":\"input\",\"size\":1,"
                          "\"index\":0},{\"kind\":\"output\",\"size\":" + size + ",\"index\":0}],\"inputs\":[[0,0,[1],"
                          "[1]]],\"outputs\":[[1,0,[4," + std::to_string(1 << 28) + "],[" + std::to_string(1 << 28) +
                          ",1]]],\"nodes\":[" + fill + "0,[2," + std::to_string(1 << 28) + "],[" + half + ",2]]}," + fill +
                          (both ? "1" : "0") + ",[2," + std::to_string(1 << 28) + "],[" + half + ",2]]}]}";
        expect(scattered, both ? "" : "output 0 is not written as a whole", "even and odd elements");
    }
}

}  // namespace

int main() {
    slices_of_a_concatenation();
    gathered_channels();
    shared_bytes();
    outputs();
    rings();
    a_grid_is_no_finer_than_its_views();
    return check::result();
}
