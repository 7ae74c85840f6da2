// The checks of one node of a plan: those of every node, and those that operators ask for. Each throws
// Error(FF_BAD_PLAN), which names the node.
#pragma once

#include <initializer_list>
#include <string>

#include "plan.hpp"

namespace ff {

constexpr int64_t kMaxSide = int64_t{1} << 28;      // of any dimension: far within int32
constexpr int64_t kMaxElements = int64_t{1} << 33;  // of any view, repetition by stride 0 included
constexpr int32_t kMaxWindow = 4096;                // kernel, stride, dilation, padding: their products fit int32

// Saturates: no product of sizes overflows.
int64_t product(std::initializer_list<int64_t> factors);

std::string shape_text(const View& view);

class NodeCheck {
public:
    // `place` is the node's number, or strip's number.number.
    NodeCheck(const Plan& plan, const Node& node, const std::string& place, bool inside_strip)
        : plan_(plan), node_(node), place_(place), inside_strip_(inside_strip) {}

    // Everything: its views, what its operator checks, and that it runs row by row if it is in a strip.
    void all() const;

    // For the operators.
    [[noreturn]] void fail(const std::string& reason) const;
    const Args& args() const { return node_.args; }
    const View& in(Role role) const { return node_.in[role]; }
    const View& x() const { return node_.in[kX]; }
    const View& out() const { return node_.out; }
    const Tensor& tensor(const View& view) const { return plan_.tensors[static_cast<size_t>(view.tensor)]; }

    Type type(Role role) const { return tensor(in(role)).type; }
    void typed(Role role, Type wanted) const;  // nothing if the node lacks this input
    void out_typed(Type wanted) const;

    void map(const View& view, const char* role) const;
    void same_shape(Role role) const;             // as out
    void packed(Role role, int64_t elements) const;  // nothing if the node lacks this input
    void window(const Window& window) const;      // x, out and the residual are maps that fit it
    void trailing(int32_t dimensions) const;      // a count of x's dimensions

private:
    void inputs() const;
    void view(const View& view, const char* role) const;
    void typed(const View& view, const char* role, Type wanted) const;
    void writable() const;
    void runs_in_strip() const;
    void window_fits(int64_t size_in, int64_t size_out, int32_t kernel, int32_t stride, int32_t dilation,
                     int32_t padding, const char* axis) const;

    const Plan& plan_;
    const Node& node_;
    const std::string& place_;
    const bool inside_strip_;
};

}  // namespace ff
