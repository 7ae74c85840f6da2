// Which elements of a tensor have been written, on a grid no finer than its views ask for. docs/engine.md, "The plan".
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "plan.hpp"
#include "work.hpp"

namespace ff {

// Elements [begin, end), which lie next to each other.
struct Run {
    int64_t begin, end;
};

// The elements that a view sees, as runs of one length at regular places: its dimensions from the largest stride to the
// smallest, with those that continue each other joined and those that repeat left out. A ring's rows are counted as if
// all of them were kept.
class Runs {
public:
    struct Level {
        int64_t size = 0, stride = 0;
        bool operator==(const Level& other) const { return size == other.size && stride == other.stride; }
    };

    explicit Runs(const View& view, int64_t shift = 0) : begin_(view.offset + shift) {
        Level sorted[kMaxRank + 1];
        int32_t count = 0;
        for (int32_t i = 0; i < std::min(view.rank, kMaxRank); ++i) {
            if (view.shape[i] <= 1 || view.stride[i] <= 0) continue;
            int32_t at = count++;
            for (; at > 0 && sorted[at - 1].stride < view.stride[i]; --at) sorted[at] = sorted[at - 1];
            sorted[at] = {view.shape[i], view.stride[i]};
        }
        for (int32_t i = 0; i < count; ++i) {
            const Level inner = sorted[i];
            Level* const outer = count_ > 0 ? &levels_[count_ - 1] : nullptr;
            if (outer && continues(*outer, inner))
                *outer = {(outer->size - 1) * (outer->stride / inner.stride) + inner.size, inner.stride};
            else
                levels_[count_++] = inner;
        }
        if (count_ > 0 && levels_[count_ - 1].stride == 1) length_ = levels_[--count_].size;
        while (count_ > 0 && levels_[count_ - 1].stride <= length_) {
            const Level outer = levels_[--count_];
            length_ += (outer.size - 1) * outer.stride;
        }
    }

    const Level* begin() const { return levels_; }
    const Level* end() const { return levels_ + count_; }

    // Whether these are the same elements `period.size` times, each time within a stretch of `period.stride`.
    bool repeats(const Level& period) const {
        if (count_ == 0) return begin_ == 0 && length_ == period.size * period.stride;
        const Level& outer = levels_[0];
        const int64_t inside = outer.size / period.size;  // of the outer level within one stretch
        if (outer.size % period.size || (inside == 1 ? outer.stride != period.stride
                                                     : inside * outer.stride != period.stride))
            return false;
        int64_t last = begin_ + length_ + (inside - 1) * outer.stride;
        for (int32_t i = 1; i < count_; ++i) last += (levels_[i].size - 1) * levels_[i].stride;
        return last <= period.stride;
    }
    // Leaves those of the first stretch.
    void once(const Level& period) {
        if (count_ == 0) {
            length_ = period.stride;
        } else if (levels_[0].size > period.size) {
            levels_[0].size /= period.size;
        } else {
            std::copy(levels_ + 1, levels_ + count_, levels_);
            --count_;
        }
    }

    // The largest unit of which begin, length and strides are multiples, if `unit` is.
    int64_t unit(int64_t unit) const {
        unit = std::gcd(std::gcd(unit, begin_), length_);
        for (const Level& level : *this) unit = std::gcd(unit, level.stride);
        return unit;
    }
    void divide(int64_t unit) {
        begin_ /= unit;
        length_ /= unit;
        for (int32_t i = 0; i < count_; ++i) levels_[i].stride /= unit;
    }

    // Calls visit(run) for each, until it returns false; whether it never did.
    template <typename Visit>
    bool each(const Visit& visit) const {
        return walk(0, begin_, visit);
    }

private:
    // Whether the outer level's steps are filled by the inner level's without a gap.
    static bool continues(const Level& outer, const Level& inner) {
        return outer.stride % inner.stride == 0 && outer.stride / inner.stride <= inner.size;
    }

    template <typename Visit>
    bool walk(int32_t level, int64_t at, const Visit& visit) const {
        if (level == count_ || level == kMaxRank) return visit(Run{at, at + length_});
        for (int64_t i = 0; i < levels_[level].size; ++i)
            if (!walk(level + 1, at + i * levels_[level].stride, visit)) return false;
        return true;
    }

    int64_t begin_, length_ = 1;
    Level levels_[kMaxRank] = {};
    int32_t count_ = 0;
};

// Cells that each of a tensor's views sees as a whole or not at all. Where all views repeat in the same steps, as the
// slices of a concatenation do from pixel to pixel, one step is enough.
class Grid {
public:
    Grid() = default;
    Grid(std::vector<Runs> views, int64_t size, Work& work) : cells_(size) {
        while (take_period(views, work)) {}
        int64_t unit = cells_;
        for (const Runs& view : views) unit = view.unit(unit);
        unit_ = std::max<int64_t>(unit, 1);
        cells_ /= unit_;
    }

    Runs on(Runs view) const {
        for (const Runs::Level& period : periods_) view.once(period);
        view.divide(unit_);
        return view;
    }
    int64_t cells() const { return cells_; }
    // Whether the tensor is written as a whole once all cells are.
    bool complete() const { return complete_; }

private:
    bool take_period(std::vector<Runs>& views, Work& work) {
        constexpr size_t kTried = 8;
        std::vector<Runs::Level> tried;
        for (const Runs& view : views)
            for (const Runs::Level& level : view)
                if (tried.size() < kTried && std::find(tried.begin(), tried.end(), level) == tried.end())
                    tried.push_back(level);
        for (const Runs::Level& period : tried) {
            work.spend(static_cast<int64_t>(views.size()));
            if (!std::all_of(views.begin(), views.end(), [&](const Runs& view) { return view.repeats(period); })) continue;
            for (Runs& view : views) view.once(period);
            complete_ = complete_ && period.size * period.stride == cells_;
            cells_ = period.stride;
            periods_.push_back(period);
            return true;
        }
        return false;
    }

    std::vector<Runs::Level> periods_;
    int64_t unit_ = 1, cells_ = 0;
    bool complete_ = true;
};

// Cells that have been written. A bit for each if some are, and nothing if none or all are.
class Written {
public:
    void add(const Runs& runs, int64_t cells, Work& work) {
        runs.each([&](Run run) {
            if (run.end - run.begin == cells) {
                whole_ = true;
                bits_.clear();
            }
            if (whole_) return false;
            if (bits_.empty()) {
                const int64_t words = (cells + 63) / 64;
                work.spend(8 * words);
                bits_.assign(static_cast<size_t>(words), 0);
            }
            return over_words(run, work, [&](size_t word, uint64_t mask) {
                count_ += __builtin_popcountll(mask & ~bits_[word]);
                bits_[word] |= mask;
                whole_ = count_ == cells;
                return true;
            });
        });
    }
    bool holds(const Runs& runs, Work& work) const {
        return whole_ || (count_ > 0 && runs.each([&](Run run) {
            return over_words(run, work, [this](size_t word, uint64_t mask) { return (bits_[word] & mask) == mask; });
        }));
    }
    bool meets(const Runs& runs, Work& work) const {
        return whole_ || (count_ > 0 && !runs.each([&](Run run) {
            return over_words(run, work, [this](size_t word, uint64_t mask) { return (bits_[word] & mask) == 0; });
        }));
    }
    bool whole() const { return whole_; }

private:
    // Calls visit(word, mask) for each 64 bits that a run reaches, until it returns false.
    template <typename Visit>
    static bool over_words(Run run, Work& work, const Visit& visit) {
        work.spend(1 + (run.end - run.begin) / 64);
        for (int64_t at = run.begin; at < run.end;) {
            const int64_t word = at / 64, end = std::min(run.end, (word + 1) * 64);
            const uint64_t ones = end - at == 64 ? ~uint64_t{0} : (uint64_t{1} << (end - at)) - 1;
            if (!visit(static_cast<size_t>(word), ones << (at % 64))) return false;
            at = end;
        }
        return true;
    }

    int64_t count_ = 0;
    bool whole_ = false;
    std::vector<uint64_t> bits_;
};

}  // namespace ff
