/* fleetfoot: run a plan, a compiled vision network, on this machine's CPU.
 *
 *     ff_plan *plan;
 *     ff_context *context;
 *     if (ff_plan_load("fasternet_t0.plan", &plan) || ff_context_create(plan, NULL, &context))
 *         puts(ff_last_error());
 *     const float *inputs[] = {picture};     // 1 x 3 x 224 x 224
 *     float *outputs[] = {scores};           // 1 x 1000
 *     if (ff_context_run(context, inputs, outputs, 1)) puts(ff_last_error());
 *     ff_context_free(context);
 *     ff_plan_free(plan);
 *
 * Threads. A plan never changes: any number of threads may use it, and any number of contexts. A
 * context belongs to one thread at a time; a second call meanwhile is answered with FF_BUSY. Contexts
 * of one plan run side by side. The process may fork() at any moment: in the child, a context starts
 * threads of its own when it next runs, and is freed without waiting for those of the parent.
 *
 * Numbers. Data is float32, or int32 where ff_plan_output_type says so, in C order, without gaps. The
 * same context gives the same bits from run to run, for any number of threads. NaN and infinity pass as in PyTorch. While a context runs,
 * its threads round to nearest, trap nothing, and take numbers below 2^-126 (denormals) as 0; the
 * caller's own mode is set back before the call returns.
 *
 * Errors. Functions that can fail return an ff_status; ff_last_error() says the rest in words.
 */
#ifndef FLEETFOOT_H
#define FLEETFOOT_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define FF_API
#else
#define FF_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the plan files that this library reads. A file of another version is refused by name. */
#define FF_PLAN_VERSION 3
#define FF_MAX_RANK 6
#define FF_MAX_THREADS 256

typedef enum ff_status {
    FF_OK = 0,
    FF_BAD_ARGUMENT = 1,  /* a NULL, a number out of range, an unknown name */
    FF_BAD_FILE = 2,      /* cannot be opened or read */
    FF_BAD_PLAN = 3,      /* damaged, not a plan, of another version, or not valid: the text says which */
    FF_UNSUPPORTED = 4,   /* an instruction set that this build or this processor lacks */
    FF_NO_MEMORY = 5,
    FF_BUSY = 6,          /* the context is at work for another thread */
    FF_INTERNAL = 7,      /* a fault of this library; please report it */
    FF_STOPPED = 8        /* ff_plan_options.stop was set */
} ff_status;

typedef struct ff_plan ff_plan;
typedef struct ff_context ff_context;

/* The version of this library, for example "0.1.0". */
FF_API const char *ff_version(void);

/* What went wrong in the last failed call of the calling thread, in one line; "" if none has failed.
 * Valid until the thread's next failed call. */
FF_API const char *ff_last_error(void);

/* XXH64 of `size` bytes; what plan files are checked with. */
FF_API uint64_t ff_checksum(const void *data, size_t size, uint64_t seed);

/* Instruction sets that this build and this processor both have, the fastest first; "plain" is always the
 * last. NULL if index is out of range. */
FF_API int32_t ff_instruction_set_count(void);
FF_API const char *ff_instruction_set(int32_t index);

/* What `threads` threads of this processor do at most. Each takes about `seconds`, more than 0 and at most 60;
 * instruction_set is as in ff_context_options. */

/* Floating point operations a second, two a multiply-add, in registers alone: a ceiling that no network
 * exceeds. precision: "float32" or "float64". */
FF_API ff_status ff_multiply_add_rate(const char *instruction_set, const char *precision, int32_t threads,
                                      double seconds, double *flops_per_s);

/* Bytes a second of all threads together, each on `bytes` (1024 to FF_MAX_RATE_BYTES) of its own: read if
 * `copies` is 0, else copied from the first half into the second, bytes read and written both counted. */
#define FF_MAX_RATE_BYTES (INT64_C(1) << 32)
FF_API ff_status ff_memory_rate(const char *instruction_set, int32_t copies, int64_t bytes, int32_t threads,
                                double seconds, double *bytes_per_s);

/* Seconds that giving all threads a piece of work and waiting for all of them takes, as between two layers. */
FF_API ff_status ff_region_time(int32_t threads, double seconds, double *seconds_per_region);

/* ---- Plans ---- */

typedef struct ff_plan_options {
    int32_t map;         /* 0: read the file into memory, so that the plan does not depend on it any more. Otherwise
                            map it: processes share its pages and large plans start sooner, but the file must stay
                            unchanged as long as the plan and its contexts live. If it is written to, answers change;
                            if it becomes shorter, the process ends by SIGBUS. */
    const int32_t *stop; /* NULL, or a number that another thread or a signal handler may set: when it is not 0,
                            loading ends with FF_STOPPED within a tenth of a second. */
} ff_plan_options;

/* Reads the file at `path` (UTF-8), which must be a regular file, and checks all of it: its checksum, and that no
 * node can reach outside its tensors or read what nothing has written. *plan is NULL after a failure. */
FF_API ff_status ff_plan_load(const char *path, ff_plan **plan);

/* Loads a plan from memory; the bytes are copied. */
FF_API ff_status ff_plan_load_memory(const void *data, size_t size, ff_plan **plan);

/* The same with options; NULL means {0, NULL}. */
FF_API ff_status ff_plan_load_with(const char *path, const ff_plan_options *options, ff_plan **plan);
FF_API ff_status ff_plan_load_memory_with(const void *data, size_t size, const ff_plan_options *options,
                                          ff_plan **plan);

/* Contexts keep what they need: a plan may be freed before them. NULL is ignored. */
FF_API void ff_plan_free(ff_plan *plan);

/* Texts and shapes below live as long as the plan. An index out of range gives NULL or -1. */
FF_API int32_t ff_plan_version(const ff_plan *plan);
FF_API const char *ff_plan_model(const ff_plan *plan);
/* JSON: {"inputs": [names], "outputs": their nest, numbers standing for outputs}. "" where the network takes one
 * tensor and answers with one. docs/engine.md, "The plan". */
FF_API const char *ff_plan_signature(const ff_plan *plan);

FF_API int32_t ff_plan_input_count(const ff_plan *plan);
FF_API int32_t ff_plan_output_count(const ff_plan *plan);
/* Shapes are those of one picture, without the batch: rank 3 and {3, 224, 224}. */
FF_API int32_t ff_plan_input_rank(const ff_plan *plan, int32_t input);
FF_API const int64_t *ff_plan_input_shape(const ff_plan *plan, int32_t input);
FF_API int32_t ff_plan_output_rank(const ff_plan *plan, int32_t output);
FF_API const int64_t *ff_plan_output_shape(const ff_plan *plan, int32_t output);
/* "f32": float32. "i32": int32, for what PyTorch has as int64, int32 or bool (0 or 1); an output's memory holds
 * int32_t then. */
FF_API const char *ff_plan_input_type(const ff_plan *plan, int32_t input);
FF_API const char *ff_plan_output_type(const ff_plan *plan, int32_t output);

/* Nodes in the order in which they run. A strip stands before the nodes that it runs row by row. */
FF_API int32_t ff_plan_node_count(const ff_plan *plan);
FF_API const char *ff_plan_node_name(const ff_plan *plan, int32_t node); /* path of the module it came from */
FF_API const char *ff_plan_node_op(const ff_plan *plan, int32_t node);   /* "conv", "strip", ... */
FF_API int32_t ff_plan_node_strip(const ff_plan *plan, int32_t node);    /* index of its strip, or -1 */
/* 1 if plain code runs the node, far below what the processor can do; 0 if not; -1 if there is no such node. */
FF_API int32_t ff_plan_node_reference(const ff_plan *plan, int32_t node);

FF_API int64_t ff_plan_weight_bytes(const ff_plan *plan);
FF_API int64_t ff_plan_arena_bytes(const ff_plan *plan); /* intermediate maps of one picture */
FF_API int64_t ff_plan_ring_bytes(const ff_plan *plan);  /* rows kept inside strips, for each thread */

/* ---- Contexts ---- */

typedef struct ff_context_options {
    int32_t threads;             /* 1 to FF_MAX_THREADS, the calling one among them; 0: one for each
                                    processor that the process may use */
    const char *instruction_set; /* one of ff_instruction_set(); NULL: the fastest */
} ff_context_options;

/* options NULL means {0, NULL}. *context is NULL after a failure. */
FF_API ff_status ff_context_create(const ff_plan *plan, const ff_context_options *options, ff_context **context);

/* Must not be called while the context is at work. NULL is ignored. */
FF_API void ff_context_free(ff_context *context);

/* inputs[i]: batch pictures of input i one after the other, (batch, C, H, W). outputs[i] has the same
 * order and is written.
 * No output may overlap an input or another output. FF_BAD_ARGUMENT, and the node's name in words, if a number that
 * the network computed or was given is used as an index and is out of range, or divides a whole number and is 0. */
FF_API ff_status ff_context_run(ff_context *context, const float *const *inputs, float *const *outputs,
                                int64_t batch);

FF_API int32_t ff_context_threads(const ff_context *context);
FF_API const char *ff_context_instruction_set(const ff_context *context);

/* Memory that the context holds besides the plan: arenas, rings, scratch. It grows once, in the first run
 * whose batch is at least the number of threads (each thread then runs whole pictures in its own arena). */
FF_API int64_t ff_context_bytes(const ff_context *context);

/* Fills that memory with NaN. A run depends on its inputs alone, so the next one gives the same bits as
 * before; if it does not, the plan reads what it has not written. Made for tests. */
FF_API ff_status ff_context_poison(ff_context *context);

/* Measures each node from the next run on (on != 0), or stops. Off at first: it costs two readings of the
 * clock for a node. */
FF_API ff_status ff_context_profile(ff_context *context, int32_t on);

/* The last profiled run: seconds spent in each node by the calling thread, all its pictures together,
 * waiting for other threads included. n must be ff_plan_node_count(). A strip's time includes that of its
 * nodes, which are timed too, and its overhead. Zeros if no run was profiled. */
FF_API ff_status ff_context_times(ff_context *context, double *seconds, int32_t n);

#ifdef __cplusplus
}
#endif
#endif
