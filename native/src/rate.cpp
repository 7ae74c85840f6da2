#include "rate.hpp"

#include <numeric>
#include <vector>

#include "pool.hpp"
#include "program.hpp"

namespace ff {
namespace {

constexpr int64_t kSteps = 2000;  // between two looks at the clock; some ten microseconds

struct Job {
    const Kernels& kernels;
    Pool& pool;
    double seconds;
    std::vector<double> rates;  // of each thread
};

void work(void* context, int thread) {
    Job& job = *static_cast<Job*>(context);
    job.pool.barrier();
    const double start = now_seconds();
    double spent = 0;
    int64_t steps = 0;
    volatile float kept = 0;
    for (; spent < job.seconds || steps == 0; spent = now_seconds() - start) {
        kept = job.kernels.multiply_adds(kSteps);
        steps += kSteps;
    }
    static_cast<void>(kept);
    job.rates[static_cast<size_t>(thread)] = static_cast<double>(steps * job.kernels.flops_a_step) / spent;
}

}  // namespace

double multiply_add_rate(const Kernels& kernels, int threads, double seconds) {
    Pool pool(threads);
    Job job{kernels, pool, seconds, std::vector<double>(static_cast<size_t>(threads))};
    pool.run(work, &job);
    return std::accumulate(job.rates.begin(), job.rates.end(), 0.0);
}

}  // namespace ff
