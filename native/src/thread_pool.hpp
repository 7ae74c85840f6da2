// The threads of one context. They share work part by part: each has parts of its own, takes those first, and then
// takes what others have not begun. The calling thread waits for parts that were begun and for no thread, so a thread
// that comes late, or not at all, costs nothing.
//
// A thread that waits spins first, since the others come within microseconds while a run is under way. Soon it offers
// its processor to others, since another thread may need it to come at all. After kSpin it sleeps, since there may be
// a long time between runs.
//
// If other processes want the processors, a thread may lose its processor in the middle of a part, and the caller waits
// for milliseconds. The pool compares the time that sharing saves with the time lost in such waits. While it does not
// pay, shares() is false, the caller works alone and the others sleep; it is tried again from time to time.
//
// After fork(), a child has none of the threads. The pool notices, leaves what belonged to them alone, locks
// included, and starts threads of its own when it first shares.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace ff {

constexpr size_t kCacheLine = 128;  // bytes: two lines of 64, which x86 processors fetch in pairs

// How many forks lie between the process that loaded this library and this one.
uint32_t fork_generation();

// What threads wait at. Whoever changes what another thread waits for does so with memory_order_seq_cst, then rings.
class alignas(kCacheLine) Bell {
public:
    void ring();

    // Spins for some microseconds; returns whether done() is true by then.
    template <class Done>
    static bool glance(const Done& done);
    // Returns when done() is true: spins, offers the processor to others, then sleeps.
    template <class Done>
    void wait(const Done& done);

private:
    std::atomic<uint32_t> sleepers_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
};

class ThreadPool {
public:
    // The calling thread is one of them: with threads = 1 none is started. Throws std::system_error if the system
    // gives no more.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return threads_; }

    // task(context, thread, part), once for every part; thread is below threads().
    using Task = void (*)(void* context, int thread, int part);

    // Returns when all `parts` are done. Thread t has parts [t * each, (t + 1) * each) of its own. `cost` is that of
    // all parts together, in any unit, the same in every call. Throws std::system_error in a child after fork().
    void share(int parts, int each, double cost, Task task, void* context);

    // Between begin() and end(), which enclose a run: whether sharing pays at present. The caller says what it
    // computes alone by alone().
    bool shares();
    void always_share() { always_ = true; }  // whether it pays or not: for tests
    void begin();
    void alone(double cost) { done_ += cost; }
    void end() { settle(now()); }

private:
    using Seconds = double;
    struct Team;

    static Seconds now();
    void settle(Seconds at);
    Team& team();

    const int threads_;
    const bool several_processors_;
    bool always_ = false;
    std::unique_ptr<Team> team_;

    // Since begin() or the last settle(): when that was, seconds that the caller waited for others, and cost done by
    // all and by the others.
    Seconds since_ = 0, lost_ = 0;
    double done_ = 0, helped_ = 0;
    // Seconds that sharing has saved lately, and what follows if it has cost time instead.
    Seconds balance_ = 0, alone_until_ = 0;
    int failures_ = 0;
};

}  // namespace ff
