#include "thread_pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <chrono>

#include "cpu.hpp"
#include "float_mode.hpp"

namespace ff {
namespace {

// Estimates. No comparison with other values is recorded.
constexpr int kPauses = 300;                    // before the processor is offered to others; about 10 us
constexpr std::chrono::microseconds kSpin{50};  // before the thread sleeps

// Seconds. A wait that is longer than kStall is weighed at once, not at the end of the run. kMostSaved is what at most
// is remembered of the time that sharing saved, about two time slices of a scheduler: so long a wait now and then does
// not end sharing that pays.
constexpr double kStall = 100e-6, kMostSaved = 8e-3;
// After sharing has cost more than it saved, the caller works alone for kAlone times the loss; twice as long after each
// further failure, and at most kLongestAlone, so that under a lasting load the loss is a hundredth.
constexpr double kAlone = 2, kLongestAlone = 1;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

std::atomic<uint32_t> forks{0};
const int watches_forks = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

uint32_t fork_generation() { return forks.load(std::memory_order_relaxed); }

// Either the sleeper sees the change before it sleeps, or this sees the sleeper: both are sequentially consistent, so
// one of the two comes first.
void Bell::ring() {
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    { std::lock_guard<std::mutex> lock(mutex_); }  // whoever counts as a sleeper has checked, and waits
    wake_.notify_all();
}

template <class Done>
bool Bell::glance(const Done& done) {
    for (int i = 0; i < kPauses; ++i) {
        if (done()) return true;
        pause();
    }
    return false;
}

template <class Done>
void Bell::wait(const Done& done) {
    if (glance(done)) return;
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < kSpin) {
        std::this_thread::yield();
        for (int i = 0; i < kPauses / 10; ++i) {
            if (done()) return;
            pause();
        }
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, done);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

// The threads besides the caller, and all that they touch.
struct ThreadPool::Team {
    // The parts of one thread that nobody has begun: begin in the upper half, end in the lower one. The owner takes
    // the first, others the last. A thread that comes late finds none, or some of the work that is shared by then:
    // what is to be done is read after a part is taken, and does not change before it is done.
    struct alignas(kCacheLine) Parts {
        std::atomic<uint64_t> range{0};
    };

    const int threads;
    const uint32_t generation = fork_generation();
    Task task = nullptr;
    void* context = nullptr;
    std::vector<Parts> parts;
    alignas(kCacheLine) std::atomic<uint32_t> round{0};
    std::atomic<bool> stopping{false};
    Bell start;
    alignas(kCacheLine) std::atomic<int> left{0};  // parts that are not done
    Bell finish;
    std::vector<std::thread> others;

    explicit Team(int threads) : threads(threads), parts(static_cast<size_t>(threads)) {
        others.reserve(static_cast<size_t>(threads - 1));
        try {
            for (int i = 1; i < threads; ++i) others.emplace_back([this, i] { work(i); });
        } catch (...) {
            stop();
            throw;
        }
    }

    ~Team() { stop(); }

    void stop() {
        stopping.store(true, std::memory_order_seq_cst);
        start.ring();
        for (std::thread& other : others) other.join();
    }

    void offer(int count, int each, Task what, void* with) {
        task = what;
        context = with;
        left.store(count, std::memory_order_relaxed);
        for (int t = 0; t < threads; ++t) {
            const uint32_t begin = static_cast<uint32_t>(std::min(t * each, count));
            const uint32_t end = static_cast<uint32_t>(std::min((t + 1) * each, count));
            parts[static_cast<size_t>(t)].range.store(uint64_t{begin} << 32 | end, std::memory_order_release);
        }
        round.fetch_add(1, std::memory_order_seq_cst);
        start.ring();
    }

    // The number of a part that `thread` is to compute, of those of `owner`; -1 if there is none.
    int take(int owner, int thread) {
        std::atomic<uint64_t>& range = parts[static_cast<size_t>(owner)].range;
        uint64_t seen = range.load(std::memory_order_acquire);
        for (;;) {
            const uint32_t begin = static_cast<uint32_t>(seen >> 32), end = static_cast<uint32_t>(seen);
            if (begin >= end) return -1;
            const bool own = owner == thread;
            const uint64_t rest = own ? uint64_t{begin + 1} << 32 | end : uint64_t{begin} << 32 | (end - 1);
            if (range.compare_exchange_weak(seen, rest, std::memory_order_acq_rel, std::memory_order_acquire))
                return static_cast<int>(own ? begin : end - 1);
        }
    }

    // Takes parts until all are begun; returns how many it took.
    int help(int thread) {
        int taken = 0;
        for (int i = 0; i < threads; ++i) {
            const int owner = (thread + i) % threads;
            for (int part = take(owner, thread); part >= 0; part = take(owner, thread), ++taken) {
                task(context, thread, part);
                if (left.fetch_sub(1, std::memory_order_seq_cst) == 1) finish.ring();
            }
        }
        return taken;
    }

    bool finished() const { return left.load(std::memory_order_seq_cst) == 0; }

    void work(int thread) {
        const FloatMode mode;
        for (uint32_t seen = 0;;) {
            start.wait([&] {
                return round.load(std::memory_order_seq_cst) != seen || stopping.load(std::memory_order_seq_cst);
            });
            if (stopping.load(std::memory_order_seq_cst)) return;
            seen = round.load(std::memory_order_seq_cst);
            help(thread);
        }
    }
};

ThreadPool::ThreadPool(int threads) : threads_(threads), several_processors_(processor_count() > 1) {
    if (threads > 1) team_ = std::make_unique<Team>(threads);
}

ThreadPool::~ThreadPool() {
    // In a child after fork() there is no thread to join, and nothing of the team can be trusted.
    if (team_ && team_->generation != fork_generation()) static_cast<void>(team_.release());
}

ThreadPool::Team& ThreadPool::team() {
    if (team_->generation != fork_generation()) {
        auto own = std::make_unique<Team>(threads_);
        static_cast<void>(team_.release());
        team_ = std::move(own);
    }
    return *team_;
}

ThreadPool::Seconds ThreadPool::now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void ThreadPool::share(int parts, int each, double cost, Task task, void* context) {
    if (threads_ == 1) {
        for (int part = 0; part < parts; ++part) task(context, 0, part);
        return;
    }
    Team& team = this->team();
    team.offer(parts, each, task, context);
    const int taken = team.help(0);
    done_ += cost;
    helped_ += cost * (parts - taken) / parts;
    const auto finished = [&team] { return team.finished(); };
    if (Bell::glance(finished)) return;
    const Seconds start = now();
    team.finish.wait(finished);
    const Seconds end = now();
    lost_ += end - start;
    if (end - start > kStall) settle(end);
}

bool ThreadPool::shares() {
    if (threads_ == 1) return false;
    if (always_) return true;
    if (!several_processors_) return false;
    if (alone_until_ == 0) return true;
    const Seconds at = now();
    if (at < alone_until_) return false;
    settle(at);  // what was computed alone is not held against sharing
    alone_until_ = 0;
    return true;
}

void ThreadPool::begin() {
    since_ = now();
    lost_ = done_ = helped_ = 0;
}

// What the caller has done took the time less its waits; alone it would have done the rest at the same pace.
void ThreadPool::settle(Seconds at) {
    if (helped_ > 0 || lost_ > 0) {
        const Seconds worked = at - since_ - lost_;
        const Seconds saved = worked * helped_ / std::max(done_ - helped_, done_ / threads_ / 2) - lost_;
        balance_ = std::min(balance_ + saved, kMostSaved);
        if (balance_ == kMostSaved) failures_ = 0;
        if (balance_ < 0) {
            alone_until_ = at + std::min(-balance_ * kAlone * static_cast<double>(1 << failures_), kLongestAlone);
            failures_ = std::min(failures_ + 1, 10);
            balance_ = 0;
        }
    }
    since_ = at;
    lost_ = done_ = helped_ = 0;
}

}  // namespace ff
