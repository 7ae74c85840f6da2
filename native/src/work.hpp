// What loading a plan costs, counted: a file whose checks would take far longer than those of any network of its size
// is refused, and a caller can stop a load that is under way.
#pragma once

#include <cstdint>

#include "error.hpp"

namespace ff {

class Work {
public:
    // `stop`: loading ends with Error(FF_STOPPED) soon after another thread or a signal handler writes something other
    // than 0 there. nullptr: it cannot be stopped.
    explicit Work(const int32_t* stop = nullptr) : stop_(stop) {}

    // The most steps that a graph of this many bytes may need. Steps take about a nanosecond; the networks that are
    // known need below one for each byte.
    void allow(size_t graph_bytes) { most_ = done_ + kBase + kForByte * static_cast<int64_t>(graph_bytes); }

    void spend(int64_t steps) {
        if (__builtin_add_overflow(done_, steps, &done_)) done_ = INT64_MAX;
        if (done_ >= next_) look();
    }
    int64_t done() const { return done_; }

    void look() {
        next_ = done_ > INT64_MAX - kPause ? INT64_MAX : done_ + kPause;
        if (stop_ && __atomic_load_n(stop_, __ATOMIC_RELAXED)) throw Error(FF_STOPPED, "loading was stopped");
        if (done_ > most_) bad_plan("it is too large to be checked: its views lie in too many pieces");
    }

private:
    static constexpr int64_t kBase = int64_t{1} << 26, kForByte = 256, kPause = int64_t{1} << 20;

    const int32_t* const stop_;
    int64_t done_ = 0, next_ = 0, most_ = INT64_MAX;
};

}  // namespace ff
