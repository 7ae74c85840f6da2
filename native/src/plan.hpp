// A plan in memory: tensors, views of them, and nodes, as the file's graph lists them. What each node
// means is in docs/engine.md, section "The plan".
#pragma once

#include <string>
#include <vector>

#include "file.hpp"
#include "kernels/kernels.hpp"

namespace ff {

constexpr int kAlignment = 64;  // bytes: of constants, arenas, rings, and of each tensor in them

enum class Kind { arena, input, output, constant, ring };

struct Tensor {
    Kind kind = Kind::arena;
    int64_t size = 0;        // elements
    int64_t offset = 0;      // bytes; of an arena or ring tensor
    int32_t index = 0;       // of an input or output
    int32_t ring = 0;        // rows kept; row y lies at slot y % ring
    const void* data = nullptr;  // of a constant
    int64_t stored = 0;          // elements of it in the file, padding included
    bool whole_numbers = false;  // int32
};

struct View {
    int32_t tensor = -1;  // none
    int64_t offset = 0;   // elements
    int32_t rank = 0;
    int64_t shape[kMaxRank] = {};
    int64_t stride[kMaxRank] = {};

    explicit operator bool() const { return tensor >= 0; }
    int64_t elements() const;
    // Of a map, (H, W, C).
    int64_t height() const { return shape[0]; }
    int64_t width() const { return shape[1]; }
    int64_t channels() const { return shape[2]; }
};

enum class Op {
    conv, depthwise, pool, matmul, unary, binary, softmax, norm, reduce, copy, fill, gather, resize, strip,
};
const char* name_of(Op op);

enum Role { kX, kWeight, kBias, kResidual, kGate, kA, kB, kIndex, kTransformed, kRoles };
const char* name_of(Role role);

// One kernel's call, or a strip of them. An attribute means something only for the ops that have it.
struct Node {
    Op op = Op::fill;
    std::string name;  // path of the module it came from
    View in[kRoles];
    View out;
    Window window;
    Activation act, post;
    int32_t groups = 1, multiplier = 1, trailing = 1, winograd = 0;
    int32_t pad_bottom = 0, pad_right = 0, count_include_pad = 0, align_corners = 0;
    float alpha = 1, eps = 0, value = 0, scale_h = 0, scale_w = 0;
    PoolMode pool = PoolMode::max;
    Binary binary = Binary::add;
    NormMode norm = NormMode::layer;
    Reduce reduce = Reduce::mean;
    ResizeMode resize = ResizeMode::nearest;
    int32_t rows = 0;         // of a strip: rows of its out in one stretch
    std::vector<Node> nodes;  // of a strip
};

struct Plan {
    File file;
    std::string model;
    std::string signature;  // JSON: names and nest of inputs and outputs, for whoever calls; "" where there is none
    int64_t arena_bytes = 0;
    int64_t ring_bytes = 0;  // of each thread
    int64_t weight_bytes = 0;
    std::vector<Tensor> tensors;
    std::vector<View> inputs, outputs;
    std::vector<Node> nodes;

    // All nodes, each strip before its own.
    struct Listed {
        const Node* node;
        int32_t strip;  // place of its strip in this list; -1
    };
    std::vector<Listed> list;
};

// Reads and validates. Throws Error.
Plan load_plan(File file);

// What load_plan does last: afterwards no run of the plan can reach outside its tensors. Throws
// Error(FF_BAD_PLAN), which names the node.
void validate(const Plan& plan);

}  // namespace ff
