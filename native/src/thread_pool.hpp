// The threads of one context. All run the same function side by side and meet at barriers.
//
// A thread that waits spins first, since the others come within microseconds while a run is under way. Soon it offers
// its processor to others, since another thread may need it to come at all. After kSpin it sleeps, since there may be
// a long time between runs.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace ff {

constexpr size_t kCacheLine = 128;  // bytes: two lines of 64, which x86 processors fetch in pairs

// A count that threads wait on.
class alignas(kCacheLine) Epoch {
public:
    uint32_t now() const { return value_.load(std::memory_order_acquire); }
    void advance();
    void wait_past(uint32_t seen);  // until it is no longer `seen`

private:
    std::atomic<uint32_t> value_{0};
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

    using Task = void (*)(void* context, int thread);
    // task(context, t) for every t below threads(), t = 0 on the calling thread. Returns when all are done.
    void run(Task task, void* context);

    // Within a task: returns when every thread has come here.
    void barrier();

private:
    void work(int thread);
    void stop();

    const int threads_;
    Task task_ = nullptr;  // nullptr: the end
    void* context_ = nullptr;
    Epoch start_, meeting_;
    alignas(kCacheLine) std::atomic<int> arrived_{0};
    std::vector<std::thread> workers_;
};

}  // namespace ff
