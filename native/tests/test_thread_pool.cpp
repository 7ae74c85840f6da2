// The pool by itself: every part is done once, nobody waits for a thread that has begun nothing, and sharing that costs
// time stops and is tried again.
#include "thread_pool.hpp"

#include <atomic>
#include <chrono>

#include "check.hpp"

namespace {

using Clock = std::chrono::steady_clock;

void spend(std::chrono::microseconds time) {
    const auto start = Clock::now();
    while (Clock::now() - start < time) {
    }
}

void every_part_is_done_once() {
    struct Job {
        std::vector<int> done;  // no atomics: the thread sanitizer sees whether parts are handed out and back rightly
        int factor;
    };
    check::Random random(1);
    for (const int threads : {1, 2, 3, 5}) {
        ff::ThreadPool pool(threads);
        for (int round = 0; round < 300; ++round) {
            const int parts = static_cast<int>(random.between(1, 20)), each = static_cast<int>(random.between(1, 5));
            if (each * threads < parts) continue;
            Job job{std::vector<int>(static_cast<size_t>(parts)), round + 1};
            pool.share(
                parts, each, 1,
                [](void* context, int, int part) {
                    Job& job = *static_cast<Job*>(context);
                    job.done[static_cast<size_t>(part)] += job.factor;
                },
                &job);
            for (int part = 0; part < parts; ++part)
                CHECK(job.done[static_cast<size_t>(part)] == job.factor, "threads %d, part %d of %d", threads, part, parts);
        }
    }
}

void parts_that_a_thread_has_not_begun_are_done_by_others() {
    struct Job {
        std::atomic<int> slow{0};
    } job;
    ff::ThreadPool pool(2);
    // The other thread takes 20 ms for a part: it does one of its ten, or none, and the caller the rest.
    pool.share(
        20, 10, 1,
        [](void* context, int thread, int) {
            if (thread == 0) return spend(std::chrono::microseconds(100));
            ++static_cast<Job*>(context)->slow;
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        },
        &job);
    CHECK(job.slow < 10, "%d", job.slow.load());
}

void sharing_that_costs_time_stops_and_is_tried_again() {
    ff::ThreadPool pool(2);
    const auto slow = [](void*, int thread, int) {
        if (thread == 0) spend(std::chrono::microseconds(200));
        else std::this_thread::sleep_for(std::chrono::milliseconds(5));
    };
    pool.always_share();
    CHECK(pool.shares());
    ff::ThreadPool weighed(2);
    if (!weighed.shares()) return;  // one processor: never
    bool stopped = false;
    for (int i = 0; i < 1000 && !stopped; ++i) {  // once the other thread comes in time
        weighed.begin();
        weighed.share(2, 1, 1, slow, nullptr);
        weighed.end();
        stopped = !weighed.shares();
    }
    CHECK(stopped);
    bool again = false;
    for (int i = 0; i < 1000 && !again; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        again = weighed.shares();
    }
    CHECK(again, "within ten seconds");
}

void sharing_that_saves_time_goes_on() {
    // Both take equally long and sleep, so that it does not matter how many processors are free. A busy machine may
    // still keep the other thread away for some milliseconds, so one quiet stretch of several is asked for.
    bool goes_on = false;
    for (int attempt = 0; attempt < 50 && !goes_on; ++attempt) {
        ff::ThreadPool pool(2);
        if (!pool.shares()) return;  // one processor: never
        goes_on = true;
        for (int i = 0; i < 20 && goes_on; ++i) {
            pool.begin();
            pool.share(
                2, 1, 1, [](void*, int, int) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }, nullptr);
            pool.end();
            goes_on = pool.shares();
        }
    }
    CHECK(goes_on, "in one of 50 stretches");
}

}  // namespace

int main() {
    every_part_is_done_once();
    parts_that_a_thread_has_not_begun_are_done_by_others();
    sharing_that_costs_time_stops_and_is_tried_again();
    sharing_that_saves_time_goes_on();
    return check::result();
}
