// The C interface as a program meets it, with the kernels of this build: every instruction set that the
// processor has gives what the naive kernels give.
#include <string>
#include <thread>

#include "check.hpp"
#include "context.hpp"
#include "fleetfoot.h"
#include "graphs.hpp"
#include "naive.hpp"

namespace {

using graphs::kClasses;
using graphs::kInput;

bool says(const char* part) { return std::string(ff_last_error()).find(part) != std::string::npos; }

ff_plan* load() {
    ff_plan* plan = nullptr;
    const std::string bytes = graphs::network(true).bytes();
    CHECK(ff_plan_load_memory(bytes.data(), bytes.size(), &plan) == FF_OK, "%s", ff_last_error());
    return plan;
}

void a_plan_answers() {
    ff_plan* plan = load();
    CHECK(ff_plan_version(plan) == FF_PLAN_VERSION && std::string(ff_plan_model(plan)) == "test");
    CHECK(std::string(ff_plan_signature(plan)).empty() && !ff_plan_signature(nullptr));
    CHECK(ff_plan_input_count(plan) == 1 && ff_plan_output_count(plan) == 1);
    CHECK(ff_plan_input_rank(plan, 0) == 3 && ff_plan_input_shape(plan, 0)[1] == graphs::kSide);
    CHECK(ff_plan_output_rank(plan, 0) == 1 && ff_plan_output_shape(plan, 0)[0] == kClasses);
    CHECK(ff_plan_input_rank(plan, 1) == -1 && !ff_plan_output_shape(plan, -1) && !ff_plan_node_name(plan, 1000));
    CHECK(std::string(ff_plan_node_op(plan, 2)) == "strip" && ff_plan_node_strip(plan, 3) == 2 &&
          std::string(ff_plan_node_name(plan, 3)) == "m.2");
    CHECK(ff_plan_arena_bytes(plan) > 0 && ff_plan_ring_bytes(plan) > 0 && ff_plan_weight_bytes(plan) > 0);
    ff_plan_free(plan);
    ff_plan_free(nullptr);
}

void each_instruction_set_agrees_with_naive_kernels() {
    check::Random random(9);
    const std::vector<float> input = random.floats(static_cast<size_t>(3 * kInput));
    const std::string bytes = graphs::network(false).bytes();
    ff::Context naive_context(
        std::make_shared<const ff::Plan>(ff::load_plan(ff::File::copy(bytes.data(), bytes.size()))), naive::kernels(),
        1);
    std::vector<float> truth(3 * kClasses);
    const float* inputs[] = {input.data()};
    float* outputs[] = {truth.data()};
    naive_context.run(inputs, outputs, 3);

    ff_plan* plan = load();
    CHECK(std::string(ff_instruction_set(ff_instruction_set_count() - 1)) == "plain" &&
          !ff_instruction_set(ff_instruction_set_count()));
    std::vector<ff_context*> contexts;
    for (int32_t i = 0; i < ff_instruction_set_count(); ++i) {
        for (const int32_t threads : {1, 2}) {
            const ff_context_options options = {threads, ff_instruction_set(i)};
            ff_context* context = nullptr;
            CHECK(ff_context_create(plan, &options, &context) == FF_OK, "%s", ff_last_error());
            contexts.push_back(context);
            CHECK(ff_context_threads(context) == threads &&
                  std::string(ff_context_instruction_set(context)) == ff_instruction_set(i));
        }
    }
    ff_plan_free(plan);  // the contexts keep what they need
    for (ff_context* context : contexts) {
        std::vector<float> values(3 * kClasses), again(3 * kClasses);
        float* to[] = {values.data()};
        CHECK(ff_context_run(context, inputs, to, 3) == FF_OK, "%s", ff_last_error());
        // Twenty layers in float32 against sums in double.
        for (size_t i = 0; i < values.size(); ++i)
            CHECK(check::close(values[i], truth[i], 2e-5), "%s: %g, not %g", ff_context_instruction_set(context),
                  values[i], truth[i]);
        to[0] = again.data();
        ff_context_run(context, inputs, to, 3);
        CHECK(values == again, "the same bits");
        CHECK(ff_context_poison(context) == FF_OK && ff_context_run(context, inputs, to, 3) == FF_OK);
        CHECK(values == again, "the same bits from memory full of NaN");
        ff_context_free(context);
    }
    ff_context_free(nullptr);
}

void each_mistake_is_named() {
    ff_plan* plan = nullptr;
    CHECK(ff_plan_load(nullptr, &plan) == FF_BAD_ARGUMENT && says("path is NULL"));
    CHECK(ff_plan_load("/nowhere", nullptr) == FF_BAD_ARGUMENT && says("plan is NULL"));
    CHECK(ff_plan_load("/nowhere", &plan) == FF_BAD_FILE && says("/nowhere") && !plan);
    CHECK(ff_plan_load_memory("rubbish", 7, &plan) == FF_BAD_PLAN && says("bad plan") && !plan);
    plan = load();
    ff_context* context = nullptr;
    ff_context_options options = {-1, nullptr};
    CHECK(ff_context_create(plan, &options, &context) == FF_BAD_ARGUMENT && says("threads is -1") && !context);
    options = {1, "mmx"};
    CHECK(ff_context_create(plan, &options, &context) == FF_UNSUPPORTED && says("'mmx'") && says("plain"));
    CHECK(ff_context_create(plan, nullptr, &context) == FF_OK && ff_context_threads(context) >= 1 &&
          ff_context_bytes(context) > 0);
    std::vector<float> input(static_cast<size_t>(kInput)), output(kClasses);
    const float* inputs[] = {input.data()};
    float* outputs[] = {output.data()};
    const float* no_inputs[] = {nullptr};
    CHECK(ff_context_run(context, inputs, outputs, 0) == FF_BAD_ARGUMENT && says("batch is 0"));
    CHECK(ff_context_run(context, no_inputs, outputs, 1) == FF_BAD_ARGUMENT && says("inputs[0] is NULL"));
    CHECK(ff_context_run(nullptr, inputs, outputs, 1) == FF_BAD_ARGUMENT && says("context is NULL"));
    CHECK(ff_context_poison(nullptr) == FF_BAD_ARGUMENT && says("context is NULL"));
    std::vector<double> seconds(static_cast<size_t>(ff_plan_node_count(plan)), -1.0);
    const int32_t count = static_cast<int32_t>(seconds.size());
    CHECK(ff_context_times(context, seconds.data(), 1) == FF_BAD_ARGUMENT && says("n is 1"));
    CHECK(ff_context_profile(context, 1) == FF_OK && ff_context_run(context, inputs, outputs, 1) == FF_OK);
    CHECK(ff_context_times(context, seconds.data(), count) == FF_OK && seconds[1] > 0, "the stem takes time");
    std::string elsewhere = "?";
    std::thread([&] { elsewhere = ff_last_error(); }).join();
    CHECK(elsewhere.empty(), "each thread has its own errors");
    ff_context_free(context);
    ff_plan_free(plan);
}

}  // namespace

void rates_are_measured() {
    double rate = 0;
    for (int32_t i = 0; i < ff_instruction_set_count(); ++i) {
        const char* set = ff_instruction_set(i);
        for (const char* precision : {"float32", "float64"})
            CHECK(ff_multiply_add_rate(set, precision, 2, 1e-3, &rate) == FF_OK && rate > 1e6, "%g", rate);
        for (int32_t copies : {0, 1}) {  // sizes that are no multiple of a vector, too
            for (int64_t bytes : {1024, 5000, 1 << 22})
                CHECK(ff_memory_rate(set, copies, bytes, 2, 1e-3, &rate) == FF_OK && rate > 1e6, "%g", rate);
        }
    }
    CHECK(ff_region_time(1, 1e-3, &rate) == FF_OK && rate > 0 && rate < 1, "%g", rate);
    CHECK(ff_region_time(2, 1e-3, &rate) == FF_OK && rate > 0 && rate < 1, "%g", rate);
    CHECK(ff_multiply_add_rate(nullptr, "float32", 1, 1e-3, nullptr) == FF_BAD_ARGUMENT && says("flops_per_s"));
    CHECK(ff_multiply_add_rate(nullptr, nullptr, 1, 1e-3, &rate) == FF_BAD_ARGUMENT && says("precision"));
    CHECK(ff_multiply_add_rate(nullptr, "int8", 1, 1e-3, &rate) == FF_BAD_ARGUMENT && says("int8"));
    CHECK(ff_multiply_add_rate(nullptr, "float32", 0, 1e-3, &rate) == FF_BAD_ARGUMENT && says("threads is 0"));
    CHECK(ff_multiply_add_rate(nullptr, "float32", 1, -1, &rate) == FF_BAD_ARGUMENT && says("seconds is -1"));
    CHECK(ff_multiply_add_rate("mmx", "float32", 1, 1e-3, &rate) == FF_UNSUPPORTED && says("mmx"));
    CHECK(ff_memory_rate(nullptr, 0, 1000, 1, 1e-3, &rate) == FF_BAD_ARGUMENT && says("bytes is 1000"));
    CHECK(ff_memory_rate(nullptr, 0, INT64_MAX, 1, 1e-3, &rate) == FF_BAD_ARGUMENT && says("bytes is"));
    CHECK(ff_memory_rate(nullptr, 0, 1024, 1, 1e-3, nullptr) == FF_BAD_ARGUMENT && says("bytes_per_s"));
    CHECK(ff_region_time(0, 1e-3, &rate) == FF_BAD_ARGUMENT && says("threads is 0"));
    CHECK(ff_region_time(1, 1e-3, nullptr) == FF_BAD_ARGUMENT && says("seconds_per_region"));
}

int main() {
    a_plan_answers();
    each_instruction_set_agrees_with_naive_kernels();
    each_mistake_is_named();
    rates_are_measured();
    CHECK(std::string(ff_version()).find('.') != std::string::npos);
    CHECK(ff_checksum("", 0, 0) == 0xEF46DB3751D8E999u);
    return check::result();
}
