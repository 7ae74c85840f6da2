// Nothing is read before it is written, nor after something else has taken its bytes, and every output is
// written whole. The nodes are walked in the order in which they run; a node of a strip counts as if it ran
// over all of its rows at once, since validate_strip has shown that rows are made before they are asked for.
//
// What is kept of a tensor that is written in parts is a bit for each cell of its grid (coverage.hpp), and nothing
// for one that is written whole. What is done is counted: one step for each run of cells and for each 64 of them.
#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "coverage.hpp"
#include "error.hpp"
#include "operators/operator.hpp"
#include "validate.hpp"

namespace ff {
namespace {

bool same_place(const View& a, const View& b) {
    if (a.rank != b.rank) return false;
    for (int32_t i = 0; i < a.rank; ++i)
        if (a.shape[i] != b.shape[i] || (a.shape[i] > 1 && a.stride[i] != b.stride[i])) return false;
    return true;
}

class OrderCheck {
public:
    OrderCheck(const Plan& plan, Work& work)
        : plan_(plan), work_(work), written_(plan.tensors.size()), grids_(plan.tensors.size()) {
        make_grids();
    }

    void all() {
        for (size_t i = 0; i < plan_.nodes.size(); ++i) {
            const Node& node = plan_.nodes[i];
            if (node.op != Op::strip) {
                step(node, std::to_string(i), false);
                continue;
            }
            for (size_t j = 0; j < node.nodes.size(); ++j)
                step(node.nodes[j], std::to_string(i) + "." + std::to_string(j), true);
            for (const auto& ring : rows_) written_[static_cast<size_t>(ring.first)] = Written();
            rows_.clear();  // rings last as long as their strip
        }
        for (size_t i = 0; i < plan_.outputs.size(); ++i)
            if (!of(plan_.outputs[i], written_).whole() || !of(plan_.outputs[i], grids_).complete())
                bad_plan("output " + std::to_string(i) + " is not written as a whole");
    }

private:
    const Tensor& tensor(const View& view) const { return plan_.tensors[static_cast<size_t>(view.tensor)]; }
    template <class T>
    static T& of(const View& view, std::vector<T>& each) {
        return each[static_cast<size_t>(view.tensor)];
    }
    bool is_made(const View& view) const {  // by nodes
        return view && tensor(view).kind != Kind::input && tensor(view).kind != Kind::constant;
    }

    [[noreturn]] static void fail(const Node& node, const std::string& place, const std::string& fault) {
        bad_plan("node " + place + " '" + node.name + "' (" + name_of(node.op) + "): " + fault);
    }

    // Of every tensor that nodes write, from all views of it.
    void make_grids() {
        std::vector<std::vector<Runs>> views(plan_.tensors.size());
        std::vector<int64_t> sizes(plan_.tensors.size());
        const auto gather = [&](const Node& node) {
            work_.spend(kRoles);
            for (int i = 0; i < kRoles; ++i)
                if (is_made(node.in[i])) gather_reads(node, static_cast<Role>(i), of(node.in[i], views));
            if (!node.out) return;
            of(node.out, views).emplace_back(node.out);
            int64_t& size = of(node.out, sizes);
            size = std::max(size, elements(node.out));
        };
        for (const Node& node : plan_.nodes) {
            if (node.op != Op::strip) gather(node);
            for (const Node& inner : node.nodes) gather(inner);
        }
        for (size_t i = 0; i < grids_.size(); ++i)
            if (!views[i].empty()) grids_[i] = Grid(std::move(views[i]), std::max(sizes[i], plan_.tensors[i].size), work_);
    }

    void gather_reads(const Node& node, Role role, std::vector<Runs>& views) {
        const View& view = node.in[role];
        views.emplace_back(view);
        if (node.op != Op::gather || role != kX) return;
        const std::vector<Range>& read = stretches(node);
        View one = view;
        int64_t& size = one.shape[view.rank - 1];
        if (read.front().begin == 0 && read.front().end == size) return;
        size = 1;
        views.emplace_back(one);
    }

    void step(const Node& node, const std::string& place, bool inside_strip) {
        for (int i = 0; i < kRoles; ++i) {
            const Role role = static_cast<Role>(i);
            const View& view = node.in[i];
            if (!is_made(view)) continue;
            const auto read = [&](const View& part) {
                if (!of(part, written_).holds(of(part, grids_).on(Runs(part)), work_))
                    fail(node, place, std::string(name_of(role)) + " is read before it is written");
                // validate_strip has shown that what a strip writes shares no memory with what else it uses.
                if (!inside_strip && overwritten(node, role, part))
                    fail(node, place, std::string(name_of(role)) + " is overwritten while it is read");
            };
            if (node.op == Op::gather && role == kX) each_stretch(node, read);
            else read(view);
        }
        claim(node.out);
        // A ring counts as many rows as its first writer has: another writer may not reach beyond them.
        const int64_t rows = node.out.height();
        if (tensor(node.out).kind == Kind::ring && rows_.emplace(node.out.tensor, rows).first->second != rows)
            fail(node, place, "out is a ring that another node writes with other rows");
        of(node.out, written_).add(of(node.out, grids_).on(Runs(node.out)), of(node.out, grids_).cells(), work_);
    }

    // The places that a gather's index names, as stretches [begin, end).
    const std::vector<Range>& stretches(const Node& node) {
        const View& index = node.in[kIndex];
        const int32_t* first = static_cast<const int32_t*>(tensor(index).data);
        std::vector<Range>& found = stretches_[{first, index.shape[0]}];
        if (!found.empty()) return found;
        std::vector<int32_t> places(first, first + index.shape[0]);
        work_.spend(16 * index.shape[0]);
        std::sort(places.begin(), places.end());
        for (const int32_t place : places) {
            if (found.empty() || place > found.back().end) found.push_back({place, place});
            found.back().end = place + 1;
        }
        return found;
    }

    // What the gather reads of its x, for each stretch.
    template <typename Visit>
    void each_stretch(const Node& node, const Visit& visit) {
        View part = node.in[kX];
        const int32_t axis = part.rank - 1;
        const int64_t offset = part.offset;
        for (const Range& stretch : stretches(node)) {
            part.offset = offset + stretch.begin * part.stride[axis];
            part.shape[axis] = stretch.end - stretch.begin;
            visit(part);
        }
    }

    // Whether the node writes to bytes of what it reads.
    bool overwritten(const Node& node, Role role, const View& in) {
        const View& out = node.out;
        if (in.tensor != out.tensor && (tensor(in).kind != Kind::arena || tensor(out).kind != Kind::arena)) return false;
        const int64_t from = begin(in), to = begin(out);
        if (from >= to + tensor(out).size || to >= from + tensor(in).size) return false;
        if (operator_of(node.op).in_place(node, role) && from + in.offset == to + out.offset && same_place(in, out)) return false;
        const int64_t base = std::min(from, to);
        const Runs read(in, from - base), target(out, to - base);
        const Grid grid({read, target}, std::max(from + tensor(in).size, to + tensor(out).size) - base, work_);
        Written written;
        written.add(grid.on(target), grid.cells(), work_);
        return written.meets(grid.on(read), work_);
    }

    // Elements of the tensor that a view sees; of a ring, as if all of its rows were kept.
    int64_t elements(const View& view) const {
        return tensor(view).kind == Kind::ring ? view.height() * view.stride[0] : tensor(view).size;
    }

    // First element of a tensor in the arena; 0 of one that has its own memory.
    int64_t begin(const View& view) const {
        return tensor(view).kind == Kind::arena ? tensor(view).offset / static_cast<int64_t>(sizeof(float)) : 0;
    }

    // A tensor that is about to be written takes its bytes from those that lay there.
    void claim(const View& out) {
        const Tensor& taken = tensor(out);
        if (taken.kind != Kind::arena) return;
        const int64_t first = begin(out), end = first + taken.size;
        auto next = owners_.lower_bound(first);
        if (next != owners_.end() && next->first == first && next->second.tensor == out.tensor) return;
        if (next != owners_.begin() && std::prev(next)->second.end > first) --next;
        while (next != owners_.end() && next->first < end) {
            work_.spend(1);
            written_[static_cast<size_t>(next->second.tensor)] = Written();
            next = owners_.erase(next);
        }
        owners_[first] = {end, out.tensor};
    }

    struct Owner {
        int64_t end;
        int32_t tensor;
    };

    const Plan& plan_;
    Work& work_;
    std::vector<Written> written_;     // of each tensor
    std::vector<Grid> grids_;          // of each tensor
    std::map<int32_t, int64_t> rows_;  // that the strip's nodes write, by the number of the ring
    std::map<int64_t, Owner> owners_;  // by first element in the arena; they do not overlap
    std::map<std::pair<const int32_t*, int64_t>, std::vector<Range>> stretches_;
};

}  // namespace

void validate_order(const Plan& plan, Work& work) { OrderCheck(plan, work).all(); }

}  // namespace ff
