#include "context.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "error.hpp"
#include "memory.hpp"

namespace ff {
namespace {

constexpr size_t kMaxScratch = size_t{4} << 30;

// The lock of a context, or FF_BUSY: two runs in one arena would overwrite each other.
std::unique_lock<std::mutex> enter(std::mutex& busy) {
    std::unique_lock<std::mutex> lock(busy, std::try_to_lock);
    if (!lock) throw Error(FF_BUSY, "the context is at work for another thread; give each thread its own");
    return lock;
}

}  // namespace

Buffer::Buffer(size_t size) : size_(size), data_(static_cast<char*>(allocate_zeros(size)), Free{size}) {}

void Buffer::poison() { std::memset(data_.get(), 0xff, size_); }

void Buffer::Free::operator()(char* data) const { release(data, size); }

Context::Worker::Worker(const Plan& plan, const Kernels& kernels, char* shared_arena)
    : rings(static_cast<size_t>(plan.ring_bytes)), scratch(0), shared(plan, kernels, shared_arena, rings.data()) {
    if (shared.scratch_bytes() > kMaxScratch)
        throw Error(FF_NO_MEMORY, "the plan's nodes ask for more than 4 GiB of scratch memory");
    scratch = Buffer(shared.scratch_bytes());
}

Context::Context(std::shared_ptr<const Plan> plan, const Kernels& kernels, int threads)
    : plan_(std::move(plan)),
      kernels_(kernels),
      arena_(static_cast<size_t>(plan_->arena_bytes)),
      pool_(threads),
      turns_(schedule(*plan_, kernels, threads)),
      seconds_(plan_->list.size()) {
    bytes_ = static_cast<int64_t>(arena_.size());
    for (int i = 0; i < threads; ++i) {
        workers_.push_back(std::make_unique<Worker>(*plan_, kernels, arena_.data()));
        bytes_ += static_cast<int64_t>(workers_.back()->rings.size() + workers_.back()->scratch.size());
    }
    for (const Node& node : plan_->nodes) whole_.push_back(ff::whole(node));
}

void Context::own_arenas() {
    for (size_t i = 1; i < workers_.size(); ++i) {
        Worker& worker = *workers_[i];
        if (worker.own) continue;
        auto arena = std::make_unique<Buffer>(arena_.size());
        worker.own = std::make_unique<Program>(*plan_, kernels_, arena->data(), worker.rings.data());
        worker.arena = std::move(arena);
        bytes_ += static_cast<int64_t>(worker.arena->size());
    }
}

void Context::run(const float* const* inputs, float* const* outputs, int64_t batch) {
    const auto lock = enter(busy_);
    job_ = {inputs, outputs, batch, batch / threads()};
    if (job_.each) own_arenas();
    if (profiling_) std::fill(seconds_.begin(), seconds_.end(), 0.0);
    pool_.run([](void* context, int thread) { static_cast<Context*>(context)->work(thread); }, this);
}

void Context::work(int thread) {
    Worker& worker = *workers_[static_cast<size_t>(thread)];
    double* seconds = profiling_ && thread == 0 ? seconds_.data() : nullptr;
    for (int64_t i = 0; i < job_.each; ++i) alone(worker, thread * job_.each + i, seconds);
    for (int64_t picture = threads() * job_.each; picture < job_.batch; ++picture) {
        pool_.barrier();  // the shared arena is the first thread's own one, and the last picture's
        together(worker, thread, picture, seconds);
    }
}

void Context::alone(Worker& worker, int64_t picture, double* seconds) {
    Program& program = worker.alone();
    program.point_to(job_.inputs, job_.outputs, picture);
    for (size_t i = 0, place = 0; i < program.size(); place += 1 + plan_->nodes[i].nodes.size(), ++i) {
        const double start = seconds ? now_seconds() : 0;
        program.run(i, whole_[i], worker.scratch.data(), seconds);
        if (seconds) seconds[place] += now_seconds() - start;
    }
}

void Context::together(Worker& worker, int thread, int64_t picture, double* seconds) {
    Program& program = worker.shared;
    program.point_to(job_.inputs, job_.outputs, picture);
    for (size_t i = 0, place = 0; i < program.size(); place += 1 + plan_->nodes[i].nodes.size(), ++i) {
        const double start = seconds ? now_seconds() : 0;
        program.run(i, turns_[i].parts[static_cast<size_t>(thread)], worker.scratch.data(), seconds);
        // After the last node all meet at the end of the run, or before the next picture.
        if (turns_[i].meet && i + 1 < program.size()) pool_.barrier();
        if (seconds) seconds[place] += now_seconds() - start;
    }
}

void Context::poison() {
    const auto lock = enter(busy_);
    arena_.poison();
    for (const auto& worker : workers_) {
        worker->rings.poison();
        worker->scratch.poison();
        if (worker->arena) worker->arena->poison();
    }
}

void Context::profile(bool on) {
    const auto lock = enter(busy_);
    profiling_ = on;
    std::fill(seconds_.begin(), seconds_.end(), 0.0);
}

std::vector<double> Context::times() {
    const auto lock = enter(busy_);
    return seconds_;
}

}  // namespace ff
