// Contexts against each other: strips, threads and batches change nothing in the result.
#include <cfenv>
#include <thread>

#include "check.hpp"
#include "context.hpp"
#include "error.hpp"
#include "float_mode.hpp"
#include "graphs.hpp"
#include "naive.hpp"
#include "sets.hpp"

namespace {

using graphs::kClasses;
using graphs::kInput;

std::shared_ptr<const ff::Plan> plan_of(const graphs::File& file) {
    const std::string bytes = file.bytes();
    return std::make_shared<const ff::Plan>(ff::load_plan(ff::File::copy(bytes.data(), bytes.size())));
}

std::vector<float> run(ff::Context& context, const std::vector<float>& input, int64_t batch) {
    std::vector<float> output(static_cast<size_t>(batch * kClasses), -77.0f);
    const float* inputs[] = {input.data()};
    float* outputs[] = {output.data()};
    context.run(inputs, outputs, batch);
    return output;
}

void strips_threads_and_batches_change_nothing() {
    const auto whole = plan_of(graphs::network(false)), strips = plan_of(graphs::network(true));
    check::Random random(3);
    const std::vector<float> input = random.floats(static_cast<size_t>(7 * kInput));
    ff::Context plain(whole, naive::kernels(), 1);
    const std::vector<float> truth = run(plain, input, 7);
    CHECK(truth[0] != truth[kClasses], "pictures differ");
    for (const float v : truth) CHECK(std::isfinite(v) && std::fabs(v) < 100 && v != -77.0f, "%g", v);
    for (const auto& plan : {whole, strips}) {
        for (const int threads : {1, 2, 5}) {
            ff::Context context(plan, naive::kernels(), threads);
            context.always_share();
            for (const int64_t batch : {7, 3, 2, 1}) {
                const std::vector<float> first = run(context, input, batch);
                const std::vector<float> expected(truth.begin(), truth.begin() + batch * kClasses);
                CHECK(first == expected, "threads %d, batch %d: %g and %g", threads, static_cast<int>(batch), first[0],
                      expected[0]);
            }
            CHECK(run(context, input, 3) == run(context, input, 3), "the same again");
        }
    }
}

void tiles_are_the_same_in_strips_and_threads() {
    const auto whole = plan_of(graphs::tiles(false)), strips = plan_of(graphs::tiles(true));
    check::Random random(10);
    const std::vector<float> input = random.floats(static_cast<size_t>(kInput));
    ff::Context naive(whole, naive::kernels(), 1);
    const std::vector<float> truth = run(naive, input, 1);
    for (const ff::Kernels* kernels : check::instruction_sets()) {
        ff::Context plain(whole, *kernels, 1);
        const std::vector<float> expected = run(plain, input, 1);
        for (size_t i = 0; i < truth.size(); ++i)
            CHECK(check::close(expected[i], truth[i], 2e-5), "%s: %g for %g", kernels->name, expected[i], truth[i]);
        for (const auto& plan : {whole, strips}) {
            for (const int threads : {1, 2, 3, 5}) {
                ff::Context context(plan, *kernels, threads);
                context.always_share();
                CHECK(run(context, input, 1) == expected, "%s, threads %d", kernels->name, threads);
            }
        }
    }
}

void contexts_of_one_plan_run_side_by_side() {
    const auto plan = plan_of(graphs::network(true));
    check::Random random(4);
    const std::vector<float> input = random.floats(static_cast<size_t>(2 * kInput));
    ff::Context alone(plan, naive::kernels(), 1);
    const std::vector<float> truth = run(alone, input, 2);
    std::vector<std::thread> callers;
    std::vector<int> equal(3, 0);
    for (size_t i = 0; i < equal.size(); ++i)
        callers.emplace_back([&, i] {
            ff::Context context(plan, naive::kernels(), 1 + static_cast<int>(i % 2));
            for (int repeat = 0; repeat < 3; ++repeat) equal[i] += run(context, input, 2) == truth;
        });
    for (std::thread& caller : callers) caller.join();
    for (const int times : equal) CHECK(times == 3, "%d", times);
}

void a_context_serves_one_thread_at_a_time() {
    const auto plan = plan_of(graphs::network(true));
    check::Random random(5);
    const std::vector<float> input = random.floats(static_cast<size_t>(kInput));
    ff::Context context(plan, naive::kernels(), 2);
    context.always_share();
    const std::vector<float> truth = run(context, input, 1);
    std::atomic<int> done{0}, busy{0}, wrong{0};
    const auto call = [&] {
        for (int i = 0; i < 10; ++i) {
            try {
                if (run(context, input, 1) != truth) ++wrong;
                ++done;
            } catch (const ff::Error& error) {
                if (error.status != FF_BUSY) ++wrong;
                ++busy;
            }
        }
    };
    std::thread other(call);
    call();
    other.join();
    CHECK(done + busy == 20 && done > 0 && !wrong, "%d done, %d busy, %d wrong", done.load(), busy.load(),
          wrong.load());
}

// The thread sanitizer sees whether anything is touched by two threads at once.
void every_call_may_meet_every_other() {
    const auto plan = plan_of(graphs::network(true));
    check::Random random(13);
    const std::vector<float> input = random.floats(static_cast<size_t>(kInput));
    ff::Context context(plan, naive::kernels(), 2);
    std::atomic<int> wrong{0};
    const auto repeat = [&](auto call) {
        return std::thread([&wrong, call] {
            for (int i = 0; i < 200; ++i) {
                try {
                    call();
                } catch (const ff::Error& error) {
                    if (error.status != FF_BUSY) ++wrong;
                }
            }
        });
    };
    std::thread callers[] = {
        repeat([&] { run(context, input, 1); }),    repeat([&] { context.profile(true); }),
        repeat([&] { context.times(); }),           repeat([&] { context.poison(); }),
        repeat([&] { context.profile(false); }),    repeat([&] { wrong += context.bytes() < 0; }),
    };
    for (std::thread& caller : callers) caller.join();
    CHECK(!wrong, "%d", wrong.load());
}

void times_are_those_of_the_last_run() {
    const auto plan = plan_of(graphs::network(true));
    check::Random random(6);
    const std::vector<float> input = random.floats(static_cast<size_t>(3 * kInput));
    ff::Context context(plan, naive::kernels(), 2);
    run(context, input, 3);
    for (const double s : context.times()) CHECK(s == 0, "not profiled");
    context.profile(true);
    run(context, input, 3);
    const std::vector<double> times = context.times();
    CHECK(times.size() == plan->list.size(), "%zu", times.size());
    double inner = 0, strip = 0;
    for (size_t i = 0; i < times.size(); ++i) {
        CHECK(times[i] >= 0, "%g", times[i]);
        if (plan->list[i].strip >= 0) inner += times[i];
        if (plan->list[i].node->op == ff::Op::strip) strip += times[i];
    }
    CHECK(inner > 0 && inner <= strip, "%g of %g", inner, strip);
}

void memory_grows_once() {
    const auto plan = plan_of(graphs::network(true));
    check::Random random(8);
    const std::vector<float> input = random.floats(static_cast<size_t>(7 * kInput));
    ff::Context context(plan, naive::kernels(), 3);
    CHECK(context.bytes() == plan->arena_bytes + 3 * plan->ring_bytes, "%d", static_cast<int>(context.bytes()));
    run(context, input, 2);
    CHECK(context.bytes() == plan->arena_bytes + 3 * plan->ring_bytes, "fewer pictures than threads share the arena");
    run(context, input, 7);
    run(context, input, 7);
    CHECK(context.bytes() == 3 * (plan->arena_bytes + plan->ring_bytes), "an arena a thread");
}

void nan_stays() {
    const auto plan = plan_of(graphs::network(true));
    ff::Context context(plan, naive::kernels(), 2);
    std::vector<float> input(static_cast<size_t>(kInput), 0.5f);
    for (const float v : run(context, input, 1)) CHECK(!std::isnan(v), "of a finite picture");
    input[100] = NAN;
    int lost = 0;
    for (const float v : run(context, input, 1)) lost += !std::isnan(v);
    CHECK(lost == 0, "%d of the scores", lost);
}

// Half of the weights are denormal numbers, and the caller's thread rounds upwards and knows denormals.
void denormals_count_as_nothing_and_the_caller_s_mode_comes_back() {
    graphs::File tiny = graphs::network(true), zero = graphs::network(true);
    for (size_t i = 0; i < tiny.constants.size(); ++i) {
        if (tiny.constants[i].first.rfind("index", 0) == 0) continue;  // whole numbers
        std::vector<float>&small = tiny.constants[i].second, &none = zero.constants[i].second;
        for (size_t k = 0; k < small.size(); k += 2) {
            small[k] = 1e-39f;
            none[k] = 0;
        }
    }
    check::Random random(11);
    const std::vector<float> input = random.floats(static_cast<size_t>(5 * kInput));
    for (const ff::Kernels* kernels : check::instruction_sets()) {
        ff::Context expected(plan_of(zero), *kernels, 1);
        const std::vector<float> truth = run(expected, input, 5);
        for (const int threads : {1, 2}) {
            ff::Context context(plan_of(tiny), *kernels, threads);
            context.always_share();
            std::fesetround(FE_UPWARD);
            const std::vector<float> found = run(context, input, 5);
            const bool kept = std::fegetround() == FE_UPWARD;
            std::fesetround(FE_TONEAREST);
            CHECK(found == truth, "%s, threads %d: %g for %g", kernels->name, threads, found[0], truth[0]);
            volatile float small = 1e-39f;
            CHECK(kept && small * 0.5f > 0, "%s, threads %d", kernels->name, threads);
        }
    }
}

void the_caller_s_mode_comes_back_after_an_error() {
    volatile float small = 1e-39f;
    try {
        const ff::FloatMode mode;
        CHECK(small * 1.0f == 0, "%g", small * 1.0f);
        throw 1;
    } catch (int) {
    }
    CHECK(small * 1.0f > 0);
}

}  // namespace

int main() {
    strips_threads_and_batches_change_nothing();
    tiles_are_the_same_in_strips_and_threads();
    contexts_of_one_plan_run_side_by_side();
    a_context_serves_one_thread_at_a_time();
    every_call_may_meet_every_other();
    times_are_those_of_the_last_run();
    memory_grows_once();
    nan_stays();
    denormals_count_as_nothing_and_the_caller_s_mode_comes_back();
    the_caller_s_mode_comes_back_after_an_error();
    return check::result();
}
