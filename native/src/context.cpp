#include "context.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "error.hpp"
#include "float_mode.hpp"
#include "memory.hpp"

namespace ff {
namespace {

constexpr size_t kMaxScratch = size_t{4} << 30;
constexpr int64_t kMostPictures = 1 << 20;  // shared at a time: their number fits an int

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

// Two runs in one arena would overwrite each other. A holder of another generation was left behind by fork(): it was a
// thread of the parent, and does not exist here.
Context::Hold::Hold(Context& context) : context_(context) {
    const uint64_t mine = uint64_t{fork_generation()} + 1;
    uint64_t found = 0;
    if (context.holder_.compare_exchange_strong(found, mine, std::memory_order_acquire)) return;
    if (found == mine || !context.holder_.compare_exchange_strong(found, mine, std::memory_order_acquire))
        throw Error(FF_BUSY, "the context is at work for another thread; give each thread its own");
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
    for (const Turn& turn : turns_) cost_ += turn.cost;
}

void Context::own_arenas() {
    for (size_t i = 1; i < workers_.size(); ++i) {
        Worker& worker = *workers_[i];
        if (worker.own) continue;
        worker.arena = std::make_unique<Buffer>(arena_.size());
        worker.own = std::make_unique<Program>(*plan_, kernels_, worker.arena->data(), worker.rings.data());
        bytes_ += static_cast<int64_t>(worker.arena->size());
    }
}

void Context::run(const float* const* inputs, float* const* outputs, int64_t batch) {
    const Hold hold(*this);
    const FloatMode mode;
    const int64_t apart = batch - batch % threads();  // pictures that one thread each computes; the rest are shared
    if (apart) own_arenas();
    job_ = {inputs, outputs, 0, 0};
    if (profiling_) std::fill(seconds_.begin(), seconds_.end(), 0.0);
    pool_.begin();
    for (int64_t picture = 0; picture < apart;) picture = pictures(picture, apart);
    for (int64_t picture = apart; picture < batch; ++picture) together(picture);
    pool_.end();
    refuse_faults();
}

void Context::refuse_faults() {
    std::string first;
    for (const auto& worker : workers_) {
        for (Program* program : {&worker->shared, worker->own.get()}) {
            std::string said = program ? program->take_fault() : "";
            if (first.empty()) first = std::move(said);
        }
    }
    if (!first.empty()) throw Error(FF_BAD_ARGUMENT, first);
}

// Computes the first ones of [first, end); returns where the rest begin.
int64_t Context::pictures(int64_t first, int64_t end) {
    if (!pool_.shares()) {
        alone(0, first);
        pool_.alone(cost_);
        return first + 1;
    }
    const int64_t count = std::min(end - first, kMostPictures), each = (count + threads() - 1) / threads();
    job_.picture = first;
    pool_.share(
        static_cast<int>(count), static_cast<int>(each), static_cast<double>(count) * cost_,
        [](void* context, int thread, int part) {
            Context& self = *static_cast<Context*>(context);
            self.alone(thread, self.job_.picture + part);
        },
        this);
    return first + count;
}

void Context::alone(int thread, int64_t picture) {
    Worker& worker = *workers_[static_cast<size_t>(thread)];
    double* const seconds = seconds_of(thread);
    worker.turn = 0;
    Program& program = worker.alone();
    program.point_to(job_.inputs, job_.outputs, picture);
    for (size_t i = 0, place = 0; i < program.size(); place += 1 + plan_->nodes[i].nodes.size(), ++i) {
        const double start = seconds ? now_seconds() : 0;
        program.run(i, whole_[i], worker.scratch.data(), seconds);
        if (seconds) seconds[place] += now_seconds() - start;
    }
}

void Context::together(int64_t picture) {
    double* const seconds = seconds_of(0);
    job_.picture = picture;
    ++turn_;
    for (size_t i = 0, place = 0; i < turns_.size(); place += 1 + plan_->nodes[i].nodes.size(), ++i) {
        const double start = seconds ? now_seconds() : 0;
        const Turn& turn = turns_[i];
        job_.node = i;
        if (turn.parts.size() > 1 && pool_.shares()) {
            pool_.share(
                static_cast<int>(turn.parts.size()), turn.each, turn.cost,
                [](void* context, int thread, int part) {
                    Context& self = *static_cast<Context*>(context);
                    self.compute(thread, self.turns_[self.job_.node].parts[static_cast<size_t>(part)]);
                },
                this);
        } else {
            compute(0, whole_[i]);
            pool_.alone(turn.cost);
        }
        if (seconds) seconds[place] += now_seconds() - start;
    }
}

void Context::compute(int thread, const Part& part) {
    Worker& worker = *workers_[static_cast<size_t>(thread)];
    if (worker.turn != turn_) {
        worker.shared.point_to(job_.inputs, job_.outputs, job_.picture);
        worker.turn = turn_;
    }
    worker.shared.run(job_.node, part, worker.scratch.data(), seconds_of(thread));
}

void Context::poison() {
    const Hold hold(*this);
    arena_.poison();
    for (const auto& worker : workers_) {
        worker->rings.poison();
        worker->scratch.poison();
        if (worker->arena) worker->arena->poison();
    }
}

void Context::profile(bool on) {
    const Hold hold(*this);
    profiling_ = on;
    std::fill(seconds_.begin(), seconds_.end(), 0.0);
}

std::vector<double> Context::times() {
    const Hold hold(*this);
    return seconds_;
}

}  // namespace ff
