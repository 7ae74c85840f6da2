#include "thread_pool.hpp"

#include <chrono>

namespace ff {
namespace {

// Estimates. No comparison with other values is recorded.
constexpr int kPauses = 300;                    // before the processor is offered to others; about 10 us
constexpr std::chrono::microseconds kSpin{50};  // before the thread sleeps

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

}  // namespace

// Either the sleeper sees the new value before it sleeps, or this sees the sleeper: both are sequentially
// consistent, so one of the two comes first.
void Epoch::advance() {
    value_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    { std::lock_guard<std::mutex> lock(mutex_); }  // whoever counts as a sleeper has checked, and waits
    wake_.notify_all();
}

void Epoch::wait_past(uint32_t seen) {
    for (int i = 0; i < kPauses; ++i) {
        if (now() != seen) return;
        pause();
    }
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < kSpin) {
        std::this_thread::yield();
        for (int i = 0; i < kPauses / 10; ++i) {
            if (now() != seen) return;
            pause();
        }
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return value_.load(std::memory_order_seq_cst) != seen; });
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

ThreadPool::ThreadPool(int threads) : threads_(threads) {
    workers_.reserve(static_cast<size_t>(threads - 1));
    try {
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (...) {
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
    task_ = nullptr;
    start_.advance();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(Task task, void* context) {
    task_ = task;
    context_ = context;
    if (threads_ > 1) start_.advance();
    task(context, 0);
    barrier();
}

void ThreadPool::barrier() {
    if (threads_ == 1) return;
    const uint32_t seen = meeting_.now();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < threads_) {
        meeting_.wait_past(seen);
        return;
    }
    arrived_.store(0, std::memory_order_relaxed);  // before the others are let go
    meeting_.advance();
}

void ThreadPool::work(int thread) {
    for (uint32_t seen = 0;; ++seen) {
        start_.wait_past(seen);
        if (!task_) return;
        task_(context_, thread);
        barrier();
    }
}

}  // namespace ff
