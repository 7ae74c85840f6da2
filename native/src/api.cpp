// The C interface: arguments are checked, and exceptions become codes and texts.
#include <algorithm>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>

#include "checksum.hpp"
#include "context.hpp"
#include "cpu.hpp"
#include "error.hpp"
#include "fleetfoot.h"
#include "operators/operator.hpp"
#include "plan.hpp"
#include "rate.hpp"

struct ff_plan {
    std::shared_ptr<const ff::Plan> plan;
};

struct ff_context {
    ff_context(std::shared_ptr<const ff::Plan> plan, const ff::Kernels& kernels, int threads)
        : context(std::move(plan), kernels, threads) {}
    ff::Context context;
};

namespace {

thread_local std::string last_error;

ff_status failed(ff_status status, const char* text) noexcept {
    try {
        last_error = text;
    } catch (...) {
        last_error.clear();  // no memory even for this: the code says it
    }
    return status;
}

// Runs `body`; whatever it throws becomes a status.
template <class Body>
ff_status guarded(Body body) noexcept {
    try {
        body();
        return FF_OK;
    } catch (const ff::Error& error) {
        return failed(error.status, error.what());
    } catch (const std::bad_alloc&) {
        return failed(FF_NO_MEMORY, "out of memory");
    } catch (const std::system_error& error) {
        return failed(FF_NO_MEMORY, error.what());  // a thread could not be started
    } catch (const std::exception& error) {
        return failed(FF_INTERNAL, error.what());
    } catch (...) {
        return failed(FF_INTERNAL, "unknown");
    }
}

[[noreturn]] void bad_argument(const std::string& text) { throw ff::Error(FF_BAD_ARGUMENT, text); }

template <class T>
T* given(T* pointer, const char* name) {
    if (!pointer) bad_argument(std::string(name) + " is NULL");
    return pointer;
}

void check_measure(int32_t threads, double seconds) {
    if (threads < 1 || threads > FF_MAX_THREADS)
        bad_argument("threads is " + std::to_string(threads) + "; it must be 1 to " + std::to_string(FF_MAX_THREADS));
    if (!(seconds > 0 && seconds <= 60))
        bad_argument("seconds is " + std::to_string(seconds) + "; it must be more than 0 and at most 60");
}

const ff::Kernels& kernels_named(const char* name) {
    const auto& available = ff::available_kernels();
    if (!name) return *available.front();
    std::string names;
    for (const ff::Kernels* kernels : available) {
        if (std::string(name) == kernels->name) return *kernels;
        names += std::string(names.empty() ? "" : ", ") + kernels->name;
    }
    throw ff::Error(FF_UNSUPPORTED, "instruction set '" + std::string(name) +
                                        "' is not among those of this processor and build: " + names);
}

template <class Open>
ff_status load(ff_plan** plan, const ff_plan_options* options, const Open& open) noexcept {
    return guarded([&] {
        *given(plan, "plan") = nullptr;
        ff::Work work(options ? options->stop : nullptr);
        auto loaded = std::make_unique<ff_plan>();
        loaded->plan = std::make_shared<const ff::Plan>(ff::load_plan(open(), work));
        *plan = loaded.release();
    });
}

const ff::View* end_of(const ff_plan* plan, const std::vector<ff::View> ff::Plan::*views, int32_t index) {
    if (!plan || index < 0 || static_cast<size_t>(index) >= (*plan->plan.*views).size()) return nullptr;
    return &(*plan->plan.*views)[static_cast<size_t>(index)];
}

const char* type_of(const ff_plan* plan, const ff::View& view) {
    return ff::name_of(plan->plan->tensors[static_cast<size_t>(view.tensor)].type);
}

const ff::Plan::Listed* node_of(const ff_plan* plan, int32_t node) {
    if (!plan || node < 0 || static_cast<size_t>(node) >= plan->plan->list.size()) return nullptr;
    return &plan->plan->list[static_cast<size_t>(node)];
}

}  // namespace

extern "C" {

const char* ff_version(void) { return FF_VERSION; }
const char* ff_last_error(void) { return last_error.c_str(); }

uint64_t ff_checksum(const void* data, size_t size, uint64_t seed) { return ff::checksum(data, data ? size : 0, seed); }

int32_t ff_instruction_set_count(void) { return static_cast<int32_t>(ff::available_kernels().size()); }
const char* ff_instruction_set(int32_t index) {
    return index < 0 || index >= ff_instruction_set_count() ? nullptr
                                                            : ff::available_kernels()[static_cast<size_t>(index)]->name;
}

ff_status ff_multiply_add_rate(const char* instruction_set, const char* precision, int32_t threads, double seconds,
                               double* flops_per_s) {
    return guarded([&] {
        given(precision, "precision");
        given(flops_per_s, "flops_per_s");
        check_measure(threads, seconds);
        const std::string type = precision;
        if (type != "float32" && type != "float64")
            bad_argument("precision is " + type + "; it must be float32 or float64");
        *flops_per_s = ff::multiply_add_rate(kernels_named(instruction_set), type == "float64", threads, seconds);
    });
}

ff_status ff_memory_rate(const char* instruction_set, int32_t copies, int64_t bytes, int32_t threads, double seconds,
                         double* bytes_per_s) {
    return guarded([&] {
        given(bytes_per_s, "bytes_per_s");
        check_measure(threads, seconds);
        if (bytes < 1024 || bytes > FF_MAX_RATE_BYTES)
            bad_argument("bytes is " + std::to_string(bytes) + "; it must be 1024 to " +
                         std::to_string(FF_MAX_RATE_BYTES));
        *bytes_per_s = ff::memory_rate(kernels_named(instruction_set), copies != 0, bytes, threads, seconds);
    });
}

ff_status ff_region_time(int32_t threads, double seconds, double* seconds_per_region) {
    return guarded([&] {
        given(seconds_per_region, "seconds_per_region");
        check_measure(threads, seconds);
        *seconds_per_region = ff::region_time(threads, seconds);
    });
}

ff_status ff_plan_load(const char* path, ff_plan** plan) { return ff_plan_load_with(path, nullptr, plan); }

ff_status ff_plan_load_with(const char* path, const ff_plan_options* options, ff_plan** plan) {
    return load(plan, options, [&] {
        given(path, "path");
        return options && options->map ? ff::File::map(path) : ff::File::read(path);
    });
}

ff_status ff_plan_load_memory(const void* data, size_t size, ff_plan** plan) {
    return ff_plan_load_memory_with(data, size, nullptr, plan);
}

ff_status ff_plan_load_memory_with(const void* data, size_t size, const ff_plan_options* options, ff_plan** plan) {
    return load(plan, options, [&] { return ff::File::copy(given(data, "data"), size); });
}

void ff_plan_free(ff_plan* plan) { delete plan; }

int32_t ff_plan_version(const ff_plan* plan) { return plan ? FF_PLAN_VERSION : -1; }
const char* ff_plan_model(const ff_plan* plan) { return plan ? plan->plan->model.c_str() : nullptr; }
const char* ff_plan_signature(const ff_plan* plan) { return plan ? plan->plan->signature.c_str() : nullptr; }
int32_t ff_plan_input_count(const ff_plan* plan) { return plan ? static_cast<int32_t>(plan->plan->inputs.size()) : -1; }
int32_t ff_plan_output_count(const ff_plan* plan) {
    return plan ? static_cast<int32_t>(plan->plan->outputs.size()) : -1;
}
int32_t ff_plan_input_rank(const ff_plan* plan, int32_t input) {
    const ff::View* view = end_of(plan, &ff::Plan::inputs, input);
    return view ? view->rank : -1;
}
const int64_t* ff_plan_input_shape(const ff_plan* plan, int32_t input) {
    const ff::View* view = end_of(plan, &ff::Plan::inputs, input);
    return view ? view->shape : nullptr;
}
int32_t ff_plan_output_rank(const ff_plan* plan, int32_t output) {
    const ff::View* view = end_of(plan, &ff::Plan::outputs, output);
    return view ? view->rank : -1;
}
const int64_t* ff_plan_output_shape(const ff_plan* plan, int32_t output) {
    const ff::View* view = end_of(plan, &ff::Plan::outputs, output);
    return view ? view->shape : nullptr;
}
const char* ff_plan_input_type(const ff_plan* plan, int32_t input) {
    const ff::View* view = end_of(plan, &ff::Plan::inputs, input);
    return view ? type_of(plan, *view) : nullptr;
}
const char* ff_plan_output_type(const ff_plan* plan, int32_t output) {
    const ff::View* view = end_of(plan, &ff::Plan::outputs, output);
    return view ? type_of(plan, *view) : nullptr;
}

int32_t ff_plan_node_count(const ff_plan* plan) { return plan ? static_cast<int32_t>(plan->plan->list.size()) : -1; }
const char* ff_plan_node_name(const ff_plan* plan, int32_t node) {
    const ff::Plan::Listed* listed = node_of(plan, node);
    return listed ? listed->node->name.c_str() : nullptr;
}
const char* ff_plan_node_op(const ff_plan* plan, int32_t node) {
    const ff::Plan::Listed* listed = node_of(plan, node);
    return listed ? ff::name_of(listed->node->op) : nullptr;
}
int32_t ff_plan_node_strip(const ff_plan* plan, int32_t node) {
    const ff::Plan::Listed* listed = node_of(plan, node);
    return listed ? listed->strip : -1;
}
int32_t ff_plan_node_reference(const ff_plan* plan, int32_t node) {
    const ff::Plan::Listed* listed = node_of(plan, node);
    return listed ? ff::operator_of(listed->node->op).reference() : -1;
}

int64_t ff_plan_weight_bytes(const ff_plan* plan) { return plan ? plan->plan->weight_bytes : -1; }
int64_t ff_plan_arena_bytes(const ff_plan* plan) { return plan ? plan->plan->arena_bytes : -1; }
int64_t ff_plan_ring_bytes(const ff_plan* plan) { return plan ? plan->plan->ring_bytes : -1; }

ff_status ff_context_create(const ff_plan* plan, const ff_context_options* options, ff_context** context) {
    return guarded([&] {
        *given(context, "context") = nullptr;
        given(plan, "plan");
        const int32_t asked = options ? options->threads : 0;
        if (asked < 0 || asked > FF_MAX_THREADS)
            bad_argument("threads is " + std::to_string(asked) + "; it must be 0 to " + std::to_string(FF_MAX_THREADS));
        const int threads = asked ? asked : std::min(ff::processor_count(), FF_MAX_THREADS);
        const ff::Kernels& kernels = kernels_named(options ? options->instruction_set : nullptr);
        *context = new ff_context(plan->plan, kernels, threads);
    });
}

void ff_context_free(ff_context* context) { delete context; }

ff_status ff_context_run(ff_context* context, const float* const* inputs, float* const* outputs, int64_t batch) {
    return guarded([&] {
        given(context, "context");
        given(inputs, "inputs");
        given(outputs, "outputs");
        const ff::Plan& plan = context->context.plan();
        for (size_t i = 0; i < plan.inputs.size(); ++i) given(inputs[i], ("inputs[" + std::to_string(i) + "]").c_str());
        for (size_t i = 0; i < plan.outputs.size(); ++i)
            given(outputs[i], ("outputs[" + std::to_string(i) + "]").c_str());
        if (batch < 1) bad_argument("batch is " + std::to_string(batch) + "; it must be 1 or more");
        context->context.run(inputs, outputs, batch);
    });
}

int32_t ff_context_threads(const ff_context* context) { return context ? context->context.threads() : -1; }
const char* ff_context_instruction_set(const ff_context* context) {
    return context ? context->context.kernels().name : nullptr;
}
int64_t ff_context_bytes(const ff_context* context) { return context ? context->context.bytes() : -1; }

ff_status ff_context_poison(ff_context* context) {
    return guarded([&] { given(context, "context")->context.poison(); });
}

ff_status ff_context_profile(ff_context* context, int32_t on) {
    return guarded([&] { given(context, "context")->context.profile(on != 0); });
}

ff_status ff_context_times(ff_context* context, double* seconds, int32_t n) {
    return guarded([&] {
        given(context, "context");
        given(seconds, "seconds");
        const size_t count = context->context.plan().list.size();
        if (n < 0 || static_cast<size_t>(n) != count)
            bad_argument("n is " + std::to_string(n) + " and the plan has " + std::to_string(count) + " nodes");
        const std::vector<double> times = context->context.times();
        std::copy(times.begin(), times.end(), seconds);
    });
}

}  // extern "C"
