// A plan in memory: tensors, views of them, and nodes, in the order of the file's graph. docs/engine.md, section "The
// plan", says what each node means.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "file.hpp"
#include "kernels/kernels.hpp"
#include "reference/reference.hpp"
#include "work.hpp"

namespace ff {

constexpr int kAlignment = 64;  // bytes; constants, arenas, rings and each tensor in them begin at a multiple

// Where a tensor lies.
#define FF_KINDS(X) X(arena) X(input) X(output) X(constant) X(ring)
enum class Kind { FF_KINDS(FF_ENUMERATOR) };

struct Tensor {
    Kind kind = Kind::arena;
    Type type = Type::f32;
    int64_t size = 0;        // elements
    int64_t offset = 0;      // arena, ring: bytes from the start of the arena or the rings
    int32_t index = 0;       // input, output: its number
    int32_t ring = 0;        // ring: rows kept; row y lies at slot y % ring
    const void* data = nullptr;  // constant: where the file has it
    int64_t stored = 0;          // constant: elements in the file, padding included
    int32_t least = 0, most = 0;  // constant of whole numbers: of those stored
};

struct View {
    int32_t tensor = -1;  // its number; -1: the node has no such input
    int64_t offset = 0;   // elements
    int32_t rank = 0;
    int64_t shape[kMaxRank] = {};
    int64_t stride[kMaxRank] = {};

    explicit operator bool() const { return tensor >= 0; }
    int64_t elements() const;
    // The view of a map is (H, W, C).
    int64_t height() const { return shape[0]; }
    int64_t width() const { return shape[1]; }
    int64_t channels() const { return shape[2]; }
};

struct StripArgs {
    int32_t rows = 0;  // in one stretch of the strip's out
};

// The operators, which are the kinds of node: name, and what the kernel is given. The enum, the variant and
// operator_of() are made from this list.
#define FF_OPERATORS(X)         \
    X(conv, ConvArgs)           \
    X(depthwise, DepthwiseArgs) \
    X(transposed, TransposedArgs) \
    X(pool, PoolArgs)           \
    X(matmul, MatmulArgs)       \
    X(unary, UnaryArgs)         \
    X(binary, BinaryArgs)       \
    X(softmax, SoftmaxArgs)     \
    X(norm, NormArgs)           \
    X(reduce, ReduceArgs)       \
    X(copy, CopyArgs)           \
    X(fill, FillArgs)           \
    X(gather, GatherArgs)       \
    X(resize, ResizeArgs)       \
    X(resample, ResampleArgs)   \
    X(sample, SampleArgs)       \
    X(elementwise, ElementwiseArgs) \
    X(aggregate, AggregateArgs) \
    X(scan, ScanArgs)           \
    X(sort, SortArgs)           \
    X(take, TakeArgs)           \
    X(scatter, ScatterArgs)     \
    X(strip, StripArgs)
enum class Op { FF_OPERATORS(FF_ENUMERATOR) };
const char* name_of(Op op);

#define FF_ALTERNATIVE(name, args) , args
using Args = std::variant<std::monostate FF_OPERATORS(FF_ALTERNATIVE)>;
#undef FF_ALTERNATIVE

// What an input is to its node: enumerator, and name in the file.
#define FF_ROLES(X)          \
    X(kX, "x")               \
    X(kWeight, "weight")     \
    X(kBias, "bias")         \
    X(kResidual, "residual") \
    X(kGate, "gate")         \
    X(kA, "a")               \
    X(kB, "b")               \
    X(kC, "c")               \
    X(kIndex, "index")       \
    X(kSource, "source")     \
    X(kTransformed, "transformed") \
    X(kSlope, "slope")             \
    X(kGrid, "grid")
enum Role { FF_ROLES(FF_ENUMERATOR) kRoles };
const char* name_of(Role role);
const char* name_of(Type type);

// One kernel's call, or a strip of them.
struct Node {
    Op op = Op::fill;
    std::string name;  // path of the module it came from
    View in[kRoles];
    View out;
    Args args;                // of op: its attributes; where its tensors lie is not known yet
    std::vector<Node> nodes;  // strip: what it runs row by row
};

struct Plan {
    File file;
    std::string model;
    std::string signature;  // JSON: names and nest of inputs and outputs, for whoever calls; "" where there is none
    int64_t arena_bytes = 0;
    int64_t ring_bytes = 0;  // for each thread
    int64_t weight_bytes = 0;
    std::vector<Tensor> tensors;
    std::vector<View> inputs, outputs;
    std::vector<Node> nodes;

    // All nodes, each strip before its nodes.
    struct Listed {
        const Node* node;
        int32_t strip;  // place of its strip in this list; -1 if it is in none
    };
    std::vector<Listed> list;
};

// Reads and validates. Throws Error.
Plan load_plan(File file, Work& work);
Plan load_plan(File file);

// The last step of load_plan: afterwards no run of the plan can reach outside its tensors. Throws
// Error(FF_BAD_PLAN), which names the node.
void validate(const Plan& plan, Work& work);

}  // namespace ff
