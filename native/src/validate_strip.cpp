#include <algorithm>

#include "error.hpp"
#include "strip.hpp"
#include "validate.hpp"

namespace ff {
namespace {

constexpr int64_t kMaxRows = 1 << 16;  // all of them are simulated
constexpr size_t kMaxNodes = 64;

class StripCheck {
public:
    StripCheck(const Plan& plan, const Node& strip, const std::string& place)
        : plan_(plan), strip_(strip), nodes_(strip.nodes), place_(place) {}

    void all() {
        if (nodes_.empty() || nodes_.size() > kMaxNodes) fail("has no node, or more than 64");
        for (size_t i = 0; i < nodes_.size(); ++i)
            validate_node(plan_, nodes_[i], place_ + "." + std::to_string(i), true);
        if (stretch() < 1) fail("rows is 0");
        if (strip_.out.height() > kMaxRows) fail("out has too many rows");
        const View &out = strip_.out, &last = nodes_.back().out;
        if (out.tensor != last.tensor || out.offset != last.offset || out.rank != last.rank ||
            !std::equal(out.shape, out.shape + out.rank, last.shape) ||
            !std::equal(out.stride, out.stride + out.rank, last.stride))
            fail("out is not that of its last node");
        disjoint();
        links();
        simulate();
    }

private:
    [[noreturn]] void fail(const std::string& reason) const {
        bad_plan("node " + place_ + " '" + strip_.name + "' (strip): " + reason);
    }
    const Tensor& tensor(int32_t number) const { return plan_.tensors[static_cast<size_t>(number)]; }
    int64_t stretch() const { return std::get<StripArgs>(strip_.args).rows; }
    bool written(int32_t number) const {
        return std::any_of(nodes_.begin(), nodes_.end(),
                           [number](const Node& node) { return node.out.tensor == number; });
    }

    // Stretches of a strip run at the same time in several threads: a tensor that it writes may share no memory with
    // another of its tensors.
    void disjoint() const {
        std::vector<int32_t> used;
        for (const Node& node : nodes_) {
            used.push_back(node.out.tensor);
            for (const View& view : node.in)
                if (view) used.push_back(view.tensor);
        }
        std::sort(used.begin(), used.end());
        used.erase(std::unique(used.begin(), used.end()), used.end());
        for (const int32_t a : used) {
            if (!written(a)) continue;
            for (const int32_t b : used) {
                const Tensor &x = tensor(a), &y = tensor(b);
                const bool placed = x.kind == Kind::arena || x.kind == Kind::ring;
                if (a != b && placed && x.kind == y.kind && x.offset < y.offset + 4 * y.size &&
                    y.offset < x.offset + 4 * x.size)
                    fail("tensors " + std::to_string(a) + " and " + std::to_string(b) + " share memory");
            }
        }
    }

    // A tensor that one node writes and another reads has the same rows for both, and is written first.
    void links() const {
        for (size_t i = 0; i < nodes_.size(); ++i) {
            for (const View& view : nodes_[i].in) {
                if (!view || !written(view.tensor)) {
                    if (view && tensor(view.tensor).kind == Kind::ring) fail("a ring is read that no node writes");
                    continue;
                }
                bool before = false;
                for (size_t j = 0; j < nodes_.size(); ++j) {
                    const View& out = nodes_[j].out;
                    if (out.tensor != view.tensor) continue;
                    before = before || j < i;
                    if (view.rank != 3 || view.height() != out.height() || view.stride[0] != out.stride[0])
                        fail("tensor " + std::to_string(view.tensor) + " is written and read by different rows");
                }
                if (!before) fail("tensor " + std::to_string(view.tensor) + " is read before it is written");
            }
        }
    }

    // Each row is tried as the first of a thread's first stretch, which holds the most rows: later stretches find some
    // of theirs done.
    void simulate() const {
        const StripFlow flow(strip_);
        const int64_t height = strip_.out.height();
        std::vector<Range> rows;
        std::vector<int64_t> next(nodes_.size(), 0);
        for (int64_t y = 0; y < height; ++y) {
            flow.needed({y, std::min(y + stretch(), height)}, rows);
            for (size_t i = 0; i < nodes_.size(); ++i)
                if (tensor(nodes_[i].out.tensor).kind == Kind::ring) check_ring(flow, rows, i);
            flow.needed({y, y + 1}, rows);
            for (size_t i = 0; i < nodes_.size(); ++i) {
                if (tensor(nodes_[i].out.tensor).kind == Kind::ring) continue;
                if (rows[i].begin != next[i] || rows[i].end < rows[i].begin) fail_once(i);
                next[i] = rows[i].end;
            }
        }
        for (size_t i = 0; i < nodes_.size(); ++i)
            if (tensor(nodes_[i].out.tensor).kind != Kind::ring && next[i] != nodes_[i].out.height()) fail_once(i);
    }

    void check_ring(const StripFlow& flow, const std::vector<Range>& rows, size_t writer) const {
        const int64_t kept = tensor(nodes_[writer].out.tensor).ring;
        for (const StripFlow::Reader& reader : flow.readers(writer)) {
            const Node& node = nodes_[reader.node];
            const Range read = rows_read(node, reader.role, node.in[reader.role].height(), rows[reader.node]);
            if (read.begin < read.end && rows[writer].end - read.begin > kept)
                fail("tensor " + std::to_string(nodes_[writer].out.tensor) + " keeps " + std::to_string(kept) +
                     " rows where " + std::to_string(rows[writer].end - read.begin) + " are needed at once");
        }
    }

    [[noreturn]] void fail_once(size_t i) const {
        fail("rows of node " + place_ + "." + std::to_string(i) +
             " are not written once each: a tensor that is not a ring "
             "cannot be read with a halo");
    }

    const Plan& plan_;
    const Node& strip_;
    const std::vector<Node>& nodes_;
    const std::string& place_;
};

}  // namespace

void validate_strip(const Plan& plan, const Node& strip, const std::string& place) {
    StripCheck(plan, strip, place).all();
}

}  // namespace ff
