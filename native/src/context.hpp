// A plan at work: its memory, its threads, and how long its nodes took.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "plan.hpp"
#include "thread_pool.hpp"
#include "program.hpp"
#include "schedule.hpp"

namespace ff {

// Zeros, aligned to kAlignment. Throws std::bad_alloc.
class Buffer {
public:
    explicit Buffer(size_t size);
    char* data() const { return data_.get(); }
    size_t size() const { return size_; }
    void poison();  // NaN in every place

private:
    struct Free {
        size_t size = 0;
        void operator()(char* data) const;
    };
    size_t size_;
    std::unique_ptr<char, Free> data_;
};

class Context {
public:
    Context(std::shared_ptr<const Plan> plan, const Kernels& kernels, int threads);

    const Plan& plan() const { return *plan_; }
    const Kernels& kernels() const { return kernels_; }
    int threads() const { return pool_.threads(); }
    int64_t bytes() const { return bytes_; }

    // One of these three at a time: Error(FF_BUSY) if another thread is within one.
    void run(const float* const* inputs, float* const* outputs, int64_t batch);
    void poison();
    void profile(bool on);
    std::vector<double> times();

private:
    // What one thread works with.
    struct Worker {
        Buffer rings, scratch;
        Program shared;                 // on the arena that all threads share
        std::unique_ptr<Buffer> arena;  // of its own, for whole pictures; thread 0 uses the shared one
        std::unique_ptr<Program> own;

        Worker(const Plan& plan, const Kernels& kernels, char* arena);
        Program& alone() { return own ? *own : shared; }
    };
    struct Job {
        const float* const* inputs;
        float* const* outputs;
        int64_t batch;
        int64_t each;  // pictures that each thread computes alone; the rest are shared
    };

    void own_arenas();
    void work(int thread);
    void alone(Worker& worker, int64_t picture, double* seconds);
    void together(Worker& worker, int thread, int64_t picture, double* seconds);

    const std::shared_ptr<const Plan> plan_;
    const Kernels& kernels_;
    Buffer arena_;
    ThreadPool pool_;
    std::vector<std::unique_ptr<Worker>> workers_;
    std::vector<Part> whole_;
    std::vector<Turn> turns_;
    std::vector<double> seconds_;
    Job job_{};
    bool profiling_ = false;
    std::atomic<int64_t> bytes_{0};
    std::mutex busy_;
};

}  // namespace ff
