// The loader looks at few rows of a strip. Here every row of small strips is looked at, and the verdicts are the same.
#include <algorithm>

#include "check.hpp"
#include "error.hpp"
#include "plan.hpp"
#include "strip.hpp"
#include "validate.hpp"

namespace {

ff::View map(int32_t tensor, int64_t rows) {
    ff::View view;
    view.tensor = tensor;
    view.rank = 3;
    view.shape[0] = rows;
    view.shape[1] = view.shape[2] = 1;
    view.stride[0] = view.stride[1] = view.stride[2] = 1;
    return view;
}

// A strip whose nodes read the strip's x or what a node before them writes, through windows or with a second input.
struct Strip {
    ff::Plan plan;
    ff::Node node;
};

int64_t windows(int64_t rows, const ff::Window& w, int64_t after) {
    const int64_t reach = int64_t{w.kernel_h - 1} * w.dilation_h;
    return (rows + w.pad_top + after - reach - 1) / w.stride_h + 1;
}

Strip drawn(check::Random& random) {
    Strip made;
    const auto chance = [&](int64_t in) { return random.between(1, in) == 1; };
    const auto tensor = [&](ff::Kind kind, int64_t rows, int64_t ring) {
        ff::Tensor one;
        one.kind = kind;
        one.size = ring ? ring : rows;
        one.ring = static_cast<int32_t>(ring);
        one.offset = 64 * 1024 * static_cast<int64_t>(made.plan.tensors.size());
        made.plan.tensors.push_back(one);
        return static_cast<int32_t>(made.plan.tensors.size() - 1);
    };
    std::vector<ff::View> maps = {map(tensor(ff::Kind::arena, random.between(1, 60), 0), 0)};
    maps[0].shape[0] = made.plan.tensors[0].size;
    const int64_t count = random.between(1, 7);
    for (int64_t i = 0; i < count; ++i) {
        const ff::View x = maps[static_cast<size_t>(chance(3) ? random.between(0, static_cast<int64_t>(maps.size()) - 1)
                                                             : static_cast<int64_t>(maps.size()) - 1)];
        ff::Node node;
        node.in[ff::kX] = x;
        int64_t rows = x.height();
        if (chance(3)) {
            node.op = ff::Op::unary;
            node.args = ff::UnaryArgs();
        } else {
            ff::PoolArgs args;
            ff::Window& w = args.window;
            w.kernel_h = static_cast<int32_t>(random.between(1, 5));
            w.stride_h = static_cast<int32_t>(chance(4) ? random.between(2, 3) : 1);
            w.dilation_h = static_cast<int32_t>(chance(5) ? 2 : 1);
            const int64_t reach = int64_t{w.kernel_h - 1} * w.dilation_h;
            w.pad_top = static_cast<int32_t>(chance(4) ? random.between(0, 6) : reach / 2);
            rows = windows(x.height(), w, chance(4) ? random.between(0, reach) : reach - reach / 2);
            if (rows < 1) continue;
            // A pool refuses windows that begin after the end, which a convolution may have.
            if ((rows - 1) * w.stride_h - w.pad_top >= x.height()) continue;
            node.op = ff::Op::pool;
            node.args = args;
        }
        const bool last = i + 1 == count, whole = last || chance(4);
        int64_t ring = whole ? 0 : random.between(1, 12);
        const auto same = std::find_if(maps.begin() + 1, maps.end(), [&](const ff::View& m) { return m.height() == rows; });
        const bool again = !last && same != maps.end() && chance(4);
        node.out = again ? *same : map(tensor(whole ? ff::Kind::arena : ff::Kind::ring, rows, ring), rows);
        if (!again) maps.push_back(node.out);
        made.node.nodes.push_back(node);
    }
    made.node.op = ff::Op::strip;
    made.node.args = ff::StripArgs{static_cast<int32_t>(random.between(1, 5))};
    if (!made.node.nodes.empty()) made.node.out = made.node.nodes.back().out;
    return made;
}

// As the strip's check was written first: every row is tried.
bool every_row_passes(const Strip& strip) {
    const std::vector<ff::Node>& nodes = strip.node.nodes;
    const auto tensor = [&](const ff::View& view) { return strip.plan.tensors[static_cast<size_t>(view.tensor)]; };
    ff::StripFlow flow(strip.node);
    const int64_t height = strip.node.out.height(), stretch = std::get<ff::StripArgs>(strip.node.args).rows;
    std::vector<ff::Range> rows;
    std::vector<int64_t> next(nodes.size(), 0);
    for (int64_t y = 0; y < height; ++y) {
        flow.needed({y, std::min(y + stretch, height)}, rows);
        for (size_t writer = 0; writer < nodes.size(); ++writer) {
            if (tensor(nodes[writer].out).kind != ff::Kind::ring) continue;
            for (size_t reader = writer + 1; reader < nodes.size(); ++reader) {
                const ff::View& x = nodes[reader].in[ff::kX];
                if (x.tensor != nodes[writer].out.tensor) continue;
                const ff::Range read = ff::rows_read(nodes[reader], ff::kX, x.height(), rows[reader]);
                if (read.begin < read.end && rows[writer].end - read.begin > tensor(x).ring) return false;
            }
        }
        flow.needed({y, y + 1}, rows);
        for (size_t i = 0; i < nodes.size(); ++i) {
            if (tensor(nodes[i].out).kind == ff::Kind::ring) continue;
            if (rows[i].begin != next[i] || rows[i].end < rows[i].begin) return false;
            next[i] = rows[i].end;
        }
    }
    for (size_t i = 0; i < nodes.size(); ++i)
        if (tensor(nodes[i].out).kind != ff::Kind::ring && next[i] != nodes[i].out.height()) return false;
    return true;
}

}  // namespace

int main() {
    check::Random random(29);
    int passed = 0, refused = 0;
    for (int i = 0; i < 40000; ++i) {
        const Strip strip = drawn(random);
        if (strip.node.nodes.empty()) continue;
        std::string said;
        ff::Work work;
        try {
            ff::validate_strip(strip.plan, strip.node, "0", work);
        } catch (const ff::Error& error) {
            said = error.what();
        }
        // Faults of other kinds come before the rows are looked at.
        const bool of_rows = said.find("are needed at once") != std::string::npos ||
                             said.find("not written once each") != std::string::npos;
        if (!said.empty() && !of_rows) continue;
        ++(said.empty() ? passed : refused);
        CHECK(every_row_passes(strip) == said.empty(), "strip %d: '%s'", i, said.c_str());
    }
    std::printf("%d strips passed, %d were refused\n", passed, refused);
    CHECK(passed > 500 && refused > 500, "both are drawn");
    return check::result();
}
