#include "rate.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "memory.hpp"
#include "thread_pool.hpp"
#include "program.hpp"

namespace ff {
namespace {

// Work between two looks at the clock: each is some ten microseconds, beside which a look takes nothing.
constexpr int64_t kSteps = 2000;                    // of multiply-adds
constexpr int64_t kBytesALook = int64_t{1} << 19;  // read or copied
constexpr int kRegions = 20;

// Where threads wait until all of them are there. A part of a pool's work in which this happens is not taken by a thread
// that waits in another one, so each thread takes one.
class Meeting {
public:
    explicit Meeting(int threads) : missing_(threads) {}
    void wait() {
        missing_.fetch_sub(1, std::memory_order_acq_rel);
        while (missing_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
    }

private:
    std::atomic<int> missing_;
};

// Each thread repeats work(thread), which returns how much it did, until `seconds` are over; the first time is not
// measured. Returns the amounts a second of all threads together.
template <class Work>
double rate(int threads, double seconds, const Work& work) {
    struct Job {
        const Work& work;
        Meeting meeting;
        double seconds;
        std::vector<double> rates;
    };
    ThreadPool pool(threads);
    Job job{work, Meeting(threads), seconds, std::vector<double>(static_cast<size_t>(threads))};
    pool.share(
        threads, 1, 0,
        [](void* context, int thread, int) {
            Job& job = *static_cast<Job*>(context);
            job.work(thread);
            job.meeting.wait();
            const double start = now_seconds();
            double spent = 0, done = 0;
            for (; spent < job.seconds || done == 0; spent = now_seconds() - start) done += job.work(thread);
            job.rates[static_cast<size_t>(thread)] = done / spent;
        },
        &job);
    return std::accumulate(job.rates.begin(), job.rates.end(), 0.0);
}

}  // namespace

double multiply_add_rate(const Kernels& kernels, bool doubles, int threads, double seconds) {
    return rate(threads, seconds, [&](int) {
        volatile float kept = doubles ? kernels.multiply_adds_double(kSteps) : kernels.multiply_adds(kSteps);
        static_cast<void>(kept);
        return static_cast<double>(kSteps * kernels.flops_a_step) / (doubles ? 2 : 1);
    });
}

double memory_rate(const Kernels& kernels, bool copies, int64_t bytes, int threads, double seconds) {
    const int64_t half = std::max<int64_t>(bytes / 8 / kStreamCount, 1) * kStreamCount;  // floats
    struct Free {
        void operator()(float* data) const { std::free(data); }
    };
    std::vector<std::unique_ptr<float, Free>> held(static_cast<size_t>(threads));
    for (auto& data : held) data.reset(static_cast<float*>(allocate(static_cast<size_t>(half) * 8)));
    const int64_t passes = std::max<int64_t>(kBytesALook / (half * 8), 1);
    std::vector<char> touched(static_cast<size_t>(threads));
    return rate(threads, seconds, [&](int thread) {
        float* data = held[static_cast<size_t>(thread)].get();
        if (!touched[static_cast<size_t>(thread)]) {  // by the thread that walks it: its pages are near to it
            std::fill(data, data + 2 * half, 1.0f);
            touched[static_cast<size_t>(thread)] = 1;
        }
        for (int64_t pass = 0; pass < passes; ++pass) {
            if (copies) {
                kernels.copy_stream(data, data + half, half);
            } else {
                volatile float kept = kernels.read_stream(data, 2 * half);
                static_cast<void>(kept);
            }
        }
        return static_cast<double>(passes * half * 8);
    });
}

double region_time(int threads, double seconds) {
    ThreadPool pool(threads);
    const auto regions = [&] {
        for (int i = 0; i < kRegions; ++i) {
            Meeting meeting(threads);
            pool.share(
                threads, 1, 0, [](void* context, int, int) { static_cast<Meeting*>(context)->wait(); }, &meeting);
        }
    };
    regions();
    const double start = now_seconds();
    double spent = 0;
    int64_t done = 0;
    for (; spent < seconds || done == 0; spent = now_seconds() - start, done += kRegions) regions();
    return spent / static_cast<double>(done);
}

}  // namespace ff
