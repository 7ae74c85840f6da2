// Nothing is read before it is written, nor after something else has taken its bytes, and every output is
// written whole. The nodes are walked in the order in which they run; a node of a strip counts as if it ran
// over all of its rows at once, since validate_strip has shown that rows are made before they are asked for.
//
// What is kept is a bit for each element of a tensor that is written in parts, and nothing for one that is
// written whole. What is done is bounded: one step for each run of contiguous elements and for each 64 bits.
#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "error.hpp"
#include "operators/operator.hpp"
#include "validate.hpp"

namespace ff {
namespace {

constexpr int64_t kMaxSteps = int64_t{1} << 28;  // half a second or so; ResNet-50 takes a few thousand

// Counts the work, and refuses the plan when it is more than any network has shown to need.
class Budget {
public:
    void spend(int64_t steps) {
        left_ -= std::min(steps, left_ + 1);
        if (left_ < 0) bad_plan("its views are in too many pieces to be checked");
    }

private:
    int64_t left_ = kMaxSteps;
};

// Elements [begin, end) of a tensor, which lie next to each other.
struct Run {
    int64_t begin, end;
};

// The elements that a view sees, as runs of one length at regular places: its dimensions from the largest
// stride to the smallest, with those that continue each other joined and those that repeat left out. A ring's
// rows are counted as if all of them were kept.
class Runs {
public:
    explicit Runs(const View& view, int64_t shift = 0) : begin_(view.offset + shift) {
        for (int32_t i = 0; i < view.rank; ++i)
            if (view.shape[i] > 1 && view.stride[i] > 0) levels_[count_++] = {view.shape[i], view.stride[i]};
        std::sort(levels_, levels_ + count_, [](const Level& a, const Level& b) { return a.stride > b.stride; });
        int32_t kept = 0;
        for (int32_t i = 0; i < count_; ++i) {
            const Level inner = levels_[i];
            if (kept > 0 && levels_[kept - 1].stride == inner.size * inner.stride)
                levels_[kept - 1] = {levels_[kept - 1].size * inner.size, inner.stride};
            else
                levels_[kept++] = inner;
        }
        count_ = kept;
        if (count_ > 0 && levels_[count_ - 1].stride == 1) length_ = levels_[--count_].size;
    }

    // Calls visit(run) for each, until it returns false; whether it never did.
    template <typename Visit>
    bool each(const Visit& visit) const {
        return walk(0, begin_, visit);
    }

private:
    struct Level {
        int64_t size, stride;
    };

    template <typename Visit>
    bool walk(int32_t level, int64_t at, const Visit& visit) const {
        if (level == count_) return visit(Run{at, at + length_});
        for (int64_t i = 0; i < levels_[level].size; ++i)
            if (!walk(level + 1, at + i * levels_[level].stride, visit)) return false;
        return true;
    }

    int64_t begin_, length_ = 1;
    Level levels_[kMaxRank] = {};
    int32_t count_ = 0;
};

// Which of `size` elements have been written.
class Written {
public:
    Written() = default;
    explicit Written(int64_t size) : size_(size) {}

    void add(const Runs& runs, Budget& budget) {
        runs.each([&](Run run) {
            if (run.end - run.begin == size_) {
                count_ = size_;
                bits_.clear();
            }
            if (whole()) return false;
            if (bits_.empty()) {
                const int64_t words = (size_ + 63) / 64;
                budget.spend(8 * words);
                bits_.assign(static_cast<size_t>(words), 0);
            }
            return over_words(run, budget, [this](size_t word, uint64_t mask) {
                count_ += __builtin_popcountll(mask & ~bits_[word]);
                bits_[word] |= mask;
                return true;
            });
        });
    }
    bool holds(const Runs& runs, Budget& budget) const {
        return whole() || (count_ > 0 && runs.each([&](Run run) {
            return over_words(run, budget, [this](size_t word, uint64_t mask) { return (bits_[word] & mask) == mask; });
        }));
    }
    bool meets(const Runs& runs, Budget& budget) const {
        return count_ > 0 && (whole() || !runs.each([&](Run run) {
            return over_words(run, budget, [this](size_t word, uint64_t mask) { return (bits_[word] & mask) == 0; });
        }));
    }
    bool none() const { return count_ == 0; }
    int64_t size() const { return size_; }
    bool whole() const { return count_ == size_ && size_ > 0; }

private:
    // Calls visit(word, mask) for each 64 bits that a run reaches, until it returns false.
    template <typename Visit>
    static bool over_words(Run run, Budget& budget, const Visit& visit) {
        budget.spend(1 + (run.end - run.begin) / 64);
        for (int64_t at = run.begin; at < run.end;) {
            const int64_t word = at / 64, end = std::min(run.end, (word + 1) * 64);
            const uint64_t ones = end - at == 64 ? ~uint64_t{0} : (uint64_t{1} << (end - at)) - 1;
            if (!visit(static_cast<size_t>(word), ones << (at % 64))) return false;
            at = end;
        }
        return true;
    }

    int64_t size_ = 0, count_ = 0;
    std::vector<uint64_t> bits_;  // empty where none or all are written
};

bool same_place(const View& a, const View& b) {
    if (a.rank != b.rank) return false;
    for (int32_t i = 0; i < a.rank; ++i)
        if (a.shape[i] != b.shape[i] || (a.shape[i] > 1 && a.stride[i] != b.stride[i])) return false;
    return true;
}

class OrderCheck {
public:
    explicit OrderCheck(const Plan& plan) : plan_(plan), written_(plan.tensors.size()) {}

    void all() {
        for (size_t i = 0; i < plan_.nodes.size(); ++i) {
            const Node& node = plan_.nodes[i];
            if (node.op != Op::strip) {
                step(node, std::to_string(i), false);
                continue;
            }
            for (size_t j = 0; j < node.nodes.size(); ++j)
                step(node.nodes[j], std::to_string(i) + "." + std::to_string(j), true);
            for (const Node& inner : node.nodes)  // rings last as long as their strip
                if (tensor(inner.out).kind == Kind::ring) written(inner.out) = Written();
        }
        for (size_t i = 0; i < plan_.outputs.size(); ++i)
            if (!written(plan_.outputs[i]).whole())
                bad_plan("output " + std::to_string(i) + " is not written as a whole");
    }

private:
    const Tensor& tensor(const View& view) const { return plan_.tensors[static_cast<size_t>(view.tensor)]; }
    Written& written(const View& view) { return written_[static_cast<size_t>(view.tensor)]; }

    void step(const Node& node, const std::string& place, bool inside_strip) {
        for (int i = 0; i < kRoles; ++i) {
            const View& view = node.in[i];
            if (!view || tensor(view).kind == Kind::input || tensor(view).kind == Kind::constant) continue;
            const char* fault = nullptr;
            for (const View& read : reads(node, static_cast<Role>(i))) {
                if (!written(read).holds(Runs(read), budget_)) fault = " is read before it is written";
                // validate_strip has shown that what a strip writes shares no memory with what else it uses.
                else if (!inside_strip && overwritten(node, static_cast<Role>(i), read))
                    fault = " is overwritten while it is read";
            }
            if (fault)
                bad_plan("node " + place + " '" + node.name + "' (" + name_of(node.op) + "): " +
                         name_of(static_cast<Role>(i)) + fault);
        }
        claim(node.out);
        // A ring counts as many rows as its first writer has: another writer may not reach beyond them.
        if (written(node.out).size() != elements(node.out))
            bad_plan("node " + place + " '" + node.name + "' (" + name_of(node.op) +
                     "): out is a ring that another node writes with other rows");
        written(node.out).add(Runs(node.out), budget_);
    }

    // What the node reads of an input: all of its view, but of a gather's x only what the index names.
    std::vector<View> reads(const Node& node, Role role) {
        const View& view = node.in[role];
        if (node.op != Op::gather || role != kX) return {view};
        const View& index = node.in[kIndex];
        const int32_t* first = static_cast<const int32_t*>(tensor(index).data) + index.offset;
        std::vector<int32_t> places(first, first + index.shape[0]);
        budget_.spend(index.shape[0]);
        std::sort(places.begin(), places.end());
        std::vector<View> parts;
        const int32_t axis = view.rank - 1;
        int64_t end = -1;
        for (const int32_t place : places) {
            if (place < end) continue;
            if (place > end) {
                parts.push_back(view);
                parts.back().offset += place * view.stride[axis];
                parts.back().shape[axis] = 0;
            }
            ++parts.back().shape[axis];
            end = place + 1;
        }
        return parts;
    }

    // Whether the node writes to bytes of what it reads.
    bool overwritten(const Node& node, Role role, const View& in) {
        const View& out = node.out;
        if (in.tensor != out.tensor && (tensor(in).kind != Kind::arena || tensor(out).kind != Kind::arena)) return false;
        const int64_t from = begin(in), to = begin(out);
        if (from >= to + tensor(out).size || to >= from + tensor(in).size) return false;
        if (operator_of(node.op).in_place(node, role) && from + in.offset == to + out.offset && same_place(in, out)) return false;
        const int64_t base = std::min(from, to);
        Written target(std::max(from + tensor(in).size, to + tensor(out).size) - base);
        target.add(Runs(out, to - base), budget_);
        return target.meets(Runs(in, from - base), budget_);
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
        const Tensor& of = tensor(out);
        if (!written(out).none()) return;
        written(out) = Written(elements(out));
        if (of.kind != Kind::arena) return;
        const int64_t first = begin(out), end = first + of.size;
        auto next = owners_.lower_bound(first);
        if (next != owners_.begin() && std::prev(next)->second.end > first) --next;
        while (next != owners_.end() && next->first < end) {
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
    std::vector<Written> written_;       // of each tensor
    std::map<int64_t, Owner> owners_;    // by first element in the arena; they do not overlap
    Budget budget_;
};

}  // namespace

void validate_order(const Plan& plan) { OrderCheck(plan).all(); }

}  // namespace ff
