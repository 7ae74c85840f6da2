// Children of fork(): contexts made by the parent are freed and run there, whatever the parent's threads were doing.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "check.hpp"
#include "fleetfoot.h"
#include "graphs.hpp"

namespace {

using graphs::kClasses;
using graphs::kInput;

constexpr int64_t kBatch = 3;

ff_context* make(ff_plan* plan, int32_t threads) {
    const ff_context_options options = {threads, nullptr};
    ff_context* context = nullptr;
    CHECK(ff_context_create(plan, &options, &context) == FF_OK, "%s", ff_last_error());
    return context;
}

std::vector<float> run(ff_context* context, const std::vector<float>& input, int64_t batch) {
    std::vector<float> output(static_cast<size_t>(batch * kClasses), -77.0f);
    const float* inputs[] = {input.data()};
    float* outputs[] = {output.data()};
    if (ff_context_run(context, inputs, outputs, batch) != FF_OK) output.clear();
    return output;
}

// Whether a child in which `body` returns true ends in time.
template <class Body>
bool in_child(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);  // ends a child that hangs
        _exit(body() ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) std::fprintf(stderr, "signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

int main() {
#if defined(__SANITIZE_THREAD__)
    return 0;  // the thread sanitizer allows no threads in a child of a process that had some
#endif
    const std::string bytes = graphs::network(true).bytes();
    ff_plan* plan = nullptr;
    CHECK(ff_plan_load_memory(bytes.data(), bytes.size(), &plan) == FF_OK, "%s", ff_last_error());
    check::Random random(12);
    const std::vector<float> input = random.floats(static_cast<size_t>(kBatch * kInput));
    ff_context* context = make(plan, 2);
    const std::vector<float> truth = run(context, input, kBatch), first = run(context, input, 1);

    CHECK(in_child([&] {  // idle
        ff_context_free(context);
        return true;
    }));
    CHECK(in_child([&] {
        const bool right = run(context, input, kBatch) == truth && run(context, input, 1) == first;
        ff_context_free(context);
        return right;
    }));
    CHECK(in_child([&] {  // the child's own child
        return run(context, input, kBatch) == truth && in_child([&] {
                   const bool right = run(context, input, kBatch) == truth;
                   ff_context_free(context);
                   return right;
               });
    }));

    // While another thread runs it.
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::thread other([&] {
        for (int64_t i = 0; !stop; ++i) {
            const bool whole = i % 2;
            if (run(context, input, whole ? kBatch : 1) != (whole ? truth : first)) ++wrong;
        }
    });
    for (int i = 0; i < 40; ++i) {
        usleep(static_cast<useconds_t>(random.between(0, 2000)));
        const bool uses = i % 2;
        CHECK(in_child([&] {
            const bool right = !uses || (run(context, input, kBatch) == truth && run(context, input, 1) == first);
            ff_context_free(context);
            return right;
        }),
              "fork %d", i);
    }
    stop = true;
    other.join();
    CHECK(!wrong, "%d in the parent", wrong.load());
    CHECK(run(context, input, kBatch) == truth, "the parent goes on");
    ff_context_free(context);
    ff_plan_free(plan);
    return check::result();
}
