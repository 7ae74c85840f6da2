// Views of random order, gaps and repeats over memory that knows what was written.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>

#include "check.hpp"
#include "sets.hpp"

namespace check {

using Shape = std::vector<int64_t>;

constexpr float kUntouched = 12345.5f;

inline int64_t count(const Shape& shape) {
    int64_t n = 1;
    for (int64_t size : shape) n *= size;
    return n;
}

inline Shape random_shape(Random& random, int rank, int64_t largest) {
    Shape shape(rank);
    for (int64_t& size : shape) size = random.between(0, 3) ? random.between(1, largest) : random.between(1, 3);
    return shape;
}

struct View {
    Shape shape, stride;
    int64_t offset = 0;
    std::vector<float> memory;

    // Dimensions in `order` of memory (outermost first); `gap` spare elements after each innermost run.
    View(Shape view_shape, const std::vector<int>& order, int64_t gap, Shape repeated = {}) : shape(view_shape) {
        stride.assign(shape.size(), 0);
        int64_t step = 1;
        for (size_t i = order.size(); i-- > 0;) {
            const int d = order[i];
            if (!repeated.empty() && repeated[d]) continue;
            stride[d] = step;
            step *= shape[d];
            if (i + 1 == order.size()) step += gap;
        }
        offset = 5;
        memory.assign(offset + step + 37, kUntouched);
    }

    static View random(Random& random, const Shape& shape, bool repeats) {
        std::vector<int> order(shape.size());
        for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
        if (random.between(0, 1)) {
            for (size_t i = order.size(); i-- > 1;) std::swap(order[i], order[random.between(0, i)]);
        }
        Shape repeated(shape.size(), 0);
        if (repeats && random.between(0, 1)) {
            for (int64_t& r : repeated) r = random.between(0, 2) == 0;
        }
        const int64_t gap = random.between(0, 1) ? random.between(1, 5) : 0;
        View view(shape, order, gap, repeated);
        if (random.between(0, 3) == 0 && !shape.empty()) {  // every other element of it
            for (int64_t& s : view.stride) s *= 2;
            view.memory.resize(view.memory.size() * 2, kUntouched);
        }
        return view;
    }

    int64_t place(int64_t index) const {
        int64_t at = offset;
        for (size_t d = shape.size(); d-- > 0;) {
            at += index % shape[d] * stride[d];
            index /= shape[d];
        }
        return at;
    }
    float& operator[](int64_t index) { return memory[place(index)]; }
    float operator[](int64_t index) const { return memory[place(index)]; }
    int64_t size() const { return count(shape); }

    void randomise(Random& random, float low, float high) {
        for (int64_t i = 0; i < size(); ++i) (*this)[i] = random.uniform(low, high);
    }
    void clear() { std::fill(memory.begin(), memory.end(), kUntouched); }

    // Nothing but the view's own elements was written.
    bool surroundings_untouched() const {
        std::vector<char> own(memory.size(), 0);
        for (int64_t i = 0; i < size(); ++i) own[place(i)] = 1;
        for (size_t i = 0; i < memory.size(); ++i) {
            if (!own[i] && memory[i] != kUntouched) return false;
        }
        return true;
    }

    template <class T>
    T as(T view) const {
        view.rank = static_cast<int32_t>(shape.size());
        for (size_t d = 0; d < shape.size(); ++d) view.shape[d] = shape[d], view.stride[d] = stride[d];
        return view;
    }
    ff::ConstStrided in() const {
        ff::ConstStrided view = as(ff::ConstStrided());
        view.data = memory.data() + offset;
        return view;
    }
    ff::Strided out() {
        ff::Strided view = as(ff::Strided());
        view.data = memory.data() + offset;
        return view;
    }
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Runs `kernel(range)` over all units at once and then in random parts, odd ones among them: `out`
// has the same bits both times, and nothing around it was written.
template <class F>
void run_whole_and_in_parts(Random& random, View& out, int64_t units, const char* what, F kernel) {
    out.clear();
    for (int64_t begin = 0; begin < units;) {
        const int64_t end = std::min(units, begin + random.between(1, std::max<int64_t>(1, units / 2)));
        kernel(ff::Range{begin, end});
        begin = end;
    }
    const std::vector<float> parts = out.memory;
    out.clear();
    kernel(ff::Range{0, units});
    CHECK(same_bits(parts, out.memory), "%s: the parts of a range change the result", what);
    CHECK(out.surroundings_untouched(), "%s: wrote outside of its view", what);
}

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

}  // namespace check
