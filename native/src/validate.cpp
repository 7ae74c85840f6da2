// Whatever a file says, a plan that passes here runs without reaching outside its tensors, reads nothing that no
// node has written, and allocates no more than a bound that was checked.
#include <algorithm>

#include "error.hpp"
#include "node_check.hpp"
#include "plan.hpp"
#include "validate.hpp"

namespace ff {
namespace {

constexpr int64_t kMaxBytes = int64_t{16} << 30;  // in the arena, and in the rings

int64_t align(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

void check_tensor(const Plan& plan, size_t number) {
    const Tensor& tensor = plan.tensors[number];
    const auto refuse = [number](const std::string& reason) {
        bad_plan("tensor " + std::to_string(number) + ": " + reason);
    };
    if (tensor.size < 1 || tensor.size > kMaxBytes / 4) refuse("its size is 0 or too large");
    if (tensor.kind == Kind::constant && tensor.size > tensor.stored)
        refuse("it is larger than what the file holds of it");
    if (tensor.kind == Kind::ring && (tensor.ring < 1 || tensor.size % tensor.ring))
        refuse("it is not made of whole rows");
    if (tensor.kind != Kind::arena && tensor.kind != Kind::ring) return;
    const int64_t end = tensor.kind == Kind::arena ? plan.arena_bytes : plan.ring_bytes;
    if (tensor.offset % kAlignment) refuse("it is not aligned to 64 bytes");
    if (tensor.offset > end || 4 * tensor.size > end - tensor.offset) refuse("it lies outside the arena");
}

// Arena and rings are no larger than all their tensors side by side: what a file makes a context
// allocate follows from what its nodes work on.
void check_memory(const Plan& plan) {
    int64_t arena = 0, rings = 0;
    for (const Tensor& tensor : plan.tensors) {
        if (tensor.kind != Kind::arena && tensor.kind != Kind::ring) continue;
        int64_t& total = tensor.kind == Kind::arena ? arena : rings;
        total = std::min(total + align(4 * tensor.size), kMaxBytes);
    }
    if (plan.arena_bytes > arena || plan.ring_bytes > rings)
        bad_plan("the arena or the rings are larger than all their tensors together, or than 16 GiB");
}

// Inputs and outputs are whole tensors, dense, in order.
void check_ends(const Plan& plan, const std::vector<View>& views, Kind kind, const char* what) {
    if (views.empty()) bad_plan(std::string("there is no ") + what);
    std::vector<int> seen(views.size(), 0);
    for (const Tensor& tensor : plan.tensors) {
        if (tensor.kind != kind) continue;
        if (static_cast<size_t>(tensor.index) >= views.size() || seen[static_cast<size_t>(tensor.index)]++)
            bad_plan(std::string("two tensors are one ") + what + ", or of one that is not there");
    }
    for (size_t i = 0; i < views.size(); ++i) {
        const View& view = views[i];
        const Tensor& of = plan.tensors[static_cast<size_t>(view.tensor)];
        const auto refuse = [&](const char* reason) { bad_plan(what + (" " + std::to_string(i)) + " " + reason); };
        if (of.kind != kind || static_cast<size_t>(of.index) != i) refuse("is not of the tensor of that index");
        int64_t step = 1;
        for (int32_t d = view.rank; d-- > 0;) {
            if (view.shape[d] < 1 || view.shape[d] > kMaxSide) refuse("has a size that is 0 or too large");
            if (view.shape[d] > 1 && view.stride[d] != step) refuse("is not dense");
            step = product({step, view.shape[d]});
        }
        if (view.offset || step != of.size) refuse("is not its whole tensor");
    }
}

}  // namespace

void validate_node(const Plan& plan, const Node& node, const std::string& place, bool inside_strip) {
    NodeCheck(plan, node, place, inside_strip).all();
}

void validate(const Plan& plan, Work& work) {
    if (plan.arena_bytes > kMaxBytes || plan.ring_bytes > kMaxBytes)
        bad_plan("the arena or the rings are larger than 16 GiB");
    for (size_t i = 0; i < plan.tensors.size(); ++i) check_tensor(plan, i);
    check_memory(plan);
    check_ends(plan, plan.inputs, Kind::input, "input");
    check_ends(plan, plan.outputs, Kind::output, "output");
    for (size_t i = 0; i < plan.nodes.size(); ++i) {
        work.spend(kRoles);
        validate_node(plan, plan.nodes[i], std::to_string(i), false);
        if (plan.nodes[i].op == Op::strip) validate_strip(plan, plan.nodes[i], std::to_string(i), work);
    }
    validate_order(plan, work);
}

}  // namespace ff
