#include <algorithm>
#include <iterator>

#include "error.hpp"
#include "node_check.hpp"
#include "operators/operator.hpp"
#include "strip.hpp"
#include "validate.hpp"

namespace ff {
namespace {

constexpr size_t kMaxNodes = 64;

class StripCheck {
public:
    StripCheck(const Plan& plan, const Node& strip, const std::string& place, Work& work)
        : plan_(plan), strip_(strip), nodes_(strip.nodes), place_(place), work_(work), flow_(strip) {}

    void all() {
        if (nodes_.empty() || nodes_.size() > kMaxNodes) fail("has no node, or more than 64");
        work_.spend(static_cast<int64_t>(kRoles * nodes_.size() * nodes_.size()));
        for (size_t i = 0; i < nodes_.size(); ++i)
            validate_node(plan_, nodes_[i], place_ + "." + std::to_string(i), true);
        if (stretch() < 1) fail("rows is 0");
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
        for (const Kind kind : {Kind::arena, Kind::ring}) disjoint(used, kind);
    }

    void disjoint(const std::vector<int32_t>& used, Kind kind) const {
        std::vector<int32_t> placed;
        std::copy_if(used.begin(), used.end(), std::back_inserter(placed),
                     [&](int32_t number) { return tensor(number).kind == kind; });
        std::sort(placed.begin(), placed.end(), [&](int32_t a, int32_t b) { return tensor(a).offset < tensor(b).offset; });
        int32_t last = -1, last_written = -1;  // those that end last among the ones before
        for (const int32_t number : placed) {
            const bool is_written = written(number);
            const int32_t before = is_written ? last : last_written;
            if (before >= 0 && end(before) > tensor(number).offset)
                fail("tensors " + std::to_string(std::min(before, number)) + " and " +
                     std::to_string(std::max(before, number)) + " share memory");
            if (last < 0 || end(number) > end(last)) last = number;
            if (is_written && (last_written < 0 || end(number) > end(last_written))) last_written = number;
        }
    }
    int64_t end(int32_t number) const { return tensor(number).offset + 4 * tensor(number).size; }

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

    // What each node computes and reads for a stretch from row y on, for row y, and for the row after it.
    struct Sample {
        std::vector<int64_t> rows;  // begins and ends
        std::vector<char> places;   // of the reads: whether they meet their map's rows, or lie before or after them
    };

    // Every row is the first of a thread's first stretch, which holds the most rows: later stretches find some of
    // theirs done.
    //
    // Not every row is looked at. From one row to the next, each begin and end grows by 0 up to the product of the
    // strides on the way to it. If over some rows it has grown by nothing, or by that product each time, then it is a
    // line there; if all are lines, what holds for the first and the last of these rows holds for all between.
    void simulate() {
        const int64_t height = strip_.out.height();
        find_rates();
        const Sample first = sampled(0);
        for (size_t i = 0; i < nodes_.size(); ++i)
            if (!in_ring(i) && begin_of_row(first, i) != 0) fail_once(i);
        if (height > 1) between(0, first, height - 2, sampled(height - 2));
        const Sample last = sampled(height - 1);
        for (size_t i = 0; i < nodes_.size(); ++i)
            if (!in_ring(i) && end_of_row(last, i) != nodes_[i].out.height()) fail_once(i);
    }

    void between(int64_t from, const Sample& a, int64_t to, const Sample& b) {
        if (to - from < 2 || line(a, b, to - from)) return;
        const int64_t middle = from + (to - from) / 2;
        const Sample m = sampled(middle);
        between(from, a, middle, m);
        between(middle, m, to, b);
    }

    bool line(const Sample& a, const Sample& b, int64_t distance) const {
        if (a.places != b.places) return false;
        for (size_t i = 0; i < a.rows.size(); ++i) {
            const int64_t grown = b.rows[i] - a.rows[i];
            if (grown != 0 && grown != distance * rates_[i % rates_.size()]) return false;
        }
        return true;
    }

    // By how much a begin or end of Sample::rows grows from one row to the next, at most: for nodes, then for reads.
    void find_rates() {
        constexpr int64_t kMost = int64_t{1} << 40;  // beyond any number of rows
        std::vector<int64_t> of_tensor(flow_.tensors(), 0), of_node(nodes_.size()), of_read(flow_.reads().size());
        for (size_t i = nodes_.size(); i-- > 0;) {
            of_node[i] = i + 1 == nodes_.size() ? 1 : of_tensor[flow_.written(i)];
            const Window* window = operator_of(nodes_[i].op).window(nodes_[i].args);
            for (size_t j = flow_.begins()[i]; j < flow_.begins()[i + 1]; ++j) {
                const StripFlow::Read& read = flow_.reads()[j];
                of_read[j] = std::min(kMost, product({of_node[i], window && read.role == kX ? window->stride_h : 1}));
                of_tensor[read.from] = std::max(of_tensor[read.from], of_read[j]);
            }
        }
        for (const auto* rates : {&of_node, &of_read})
            for (const int64_t rate : *rates) rates_.insert(rates_.end(), 2, rate);
    }

    Sample sampled(int64_t y) {
        const int64_t height = strip_.out.height();
        Sample sample;
        work_.spend(static_cast<int64_t>(6 * rates_.size()));
        follow({y, std::min(y + stretch(), height)}, sample);
        check_rings(sample);
        follow({y, y + 1}, sample);
        if (y + 1 < height) follow({y + 1, y + 2}, sample);
        for (size_t i = 0; i < nodes_.size(); ++i) {
            if (in_ring(i)) continue;
            const int64_t begin = begin_of_row(sample, i), end = end_of_row(sample, i);
            if (end < begin || (y + 1 < height && begin_of_row(sample, i, 2) != end)) fail_once(i);
        }
        return sample;
    }

    int64_t begin_of_row(const Sample& sample, size_t node, size_t part = 1) const {
        return sample.rows[part * rates_.size() + 2 * node];
    }
    int64_t end_of_row(const Sample& sample, size_t node) const { return sample.rows[rates_.size() + 2 * node + 1]; }

    void follow(Range out, Sample& sample) {
        flow_.needed(out, rows_);
        for (const Range& range : rows_) {
            sample.rows.push_back(range.begin);
            sample.rows.push_back(range.end);
        }
        for (const StripFlow::Read& read : flow_.reads()) {
            const Range& rows = rows_[read.node];
            const int64_t height = nodes_[read.node].in[read.role].height();
            const Range range = rows_read(nodes_[read.node], read.role, height, rows);
            const bool none = rows.begin >= rows.end, meets = range.begin < range.end;
            sample.places.push_back(none ? 'n' : meets ? 'm' : range.begin >= height ? 'a' : 'b');
            sample.rows.push_back(meets ? range.begin : 0);
            sample.rows.push_back(meets ? range.end : 0);
        }
    }

    // Of the stretch, which `sample` begins with: a ring holds the rows from the first that a node reads to the last
    // that a node before it has written.
    void check_rings(const Sample& sample) const {
        std::vector<int64_t> ends(flow_.tensors(), 0);
        for (size_t i = 0; i < nodes_.size(); ++i) {
            for (size_t j = flow_.begins()[i]; j < flow_.begins()[i + 1]; ++j) {
                const StripFlow::Read& read = flow_.reads()[j];
                const int32_t number = nodes_[i].in[read.role].tensor;
                const int64_t needed = ends[read.from] - sample.rows[2 * (nodes_.size() + j)];
                if (tensor(number).kind == Kind::ring && sample.places[j] == 'm' && needed > tensor(number).ring)
                    fail("tensor " + std::to_string(number) + " keeps " + std::to_string(tensor(number).ring) +
                         " rows where " + std::to_string(needed) + " are needed at once");
            }
            int64_t& end = ends[flow_.written(i)];
            end = std::max(end, sample.rows[2 * i + 1]);
        }
    }

    bool in_ring(size_t node) const { return tensor(nodes_[node].out.tensor).kind == Kind::ring; }

    [[noreturn]] void fail_once(size_t i) const {
        fail("rows of node " + place_ + "." + std::to_string(i) +
             " are not written once each: a tensor that is not a ring "
             "cannot be read with a halo");
    }

    const Plan& plan_;
    const Node& strip_;
    const std::vector<Node>& nodes_;
    const std::string& place_;
    Work& work_;
    StripFlow flow_;
    std::vector<int64_t> rates_;
    std::vector<Range> rows_;
};

}  // namespace

void validate_strip(const Plan& plan, const Node& strip, const std::string& place, Work& work) {
    StripCheck(plan, strip, place, work).all();
}

}  // namespace ff
