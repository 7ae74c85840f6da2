// A plan at work: its memory, its threads, and how long its nodes took.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "plan.hpp"
#include "program.hpp"
#include "schedule.hpp"
#include "thread_pool.hpp"

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

    // One of these at a time: Error(FF_BUSY) if another thread is within one.
    void run(const float* const* inputs, float* const* outputs, int64_t batch);
    void poison();
    void profile(bool on);
    std::vector<double> times();

    void always_share() { pool_.always_share(); }  // for tests

private:
    // What one thread works with.
    struct Worker {
        Buffer rings, scratch;
        Program shared;                 // on the arena that all threads share
        int64_t turn = 0;               // that the shared program points to: Context::turn_ at that time
        std::unique_ptr<Buffer> arena;  // of its own, for whole pictures; thread 0 uses the shared one
        std::unique_ptr<Program> own;

        Worker(const Plan& plan, const Kernels& kernels, char* arena);
        Program& alone() { return own ? *own : shared; }
    };
    // What the threads do at present. It changes only while all parts that were shared are done.
    struct Job {
        const float* const* inputs;
        float* const* outputs;
        int64_t picture;  // that the threads compute together, or the first one of those that each computes alone
        size_t node;
    };

    // Held by whoever runs, poisons or profiles.
    class Hold {
    public:
        explicit Hold(Context& context);
        ~Hold() { context_.holder_.store(0, std::memory_order_release); }
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;

    private:
        Context& context_;
    };

    void own_arenas();
    void refuse_faults();
    int64_t pictures(int64_t first, int64_t end);
    void alone(int thread, int64_t picture);
    void together(int64_t picture);
    void compute(int thread, const Part& part);
    double* seconds_of(int thread) { return profiling_ && thread == 0 ? seconds_.data() : nullptr; }

    const std::shared_ptr<const Plan> plan_;
    const Kernels& kernels_;
    Buffer arena_;
    ThreadPool pool_;
    std::vector<std::unique_ptr<Worker>> workers_;
    std::vector<Part> whole_;
    std::vector<Turn> turns_;
    double cost_ = 0;  // of all turns
    std::vector<double> seconds_;
    Job job_{};
    int64_t turn_ = 0;  // counts the pictures computed together
    bool profiling_ = false;
    std::atomic<int64_t> bytes_{0};
    std::atomic<uint64_t> holder_{0};  // 1 + the holder's fork_generation(); 0: nobody
};

}  // namespace ff
