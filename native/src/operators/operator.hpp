// One descriptor for each operator: everything that the core asks about a kind of node. The files beside this one
// hold them, one file for each header of kernels/ that has the kernels.
//
// To add an operator: its kernel and the struct that it is given (kernels/), a line in FF_KERNELS (kernels.hpp),
// a line in FF_OPERATORS (plan.hpp), and its descriptor here.
#pragma once

#include "fields.hpp"
#include "node_check.hpp"
#include "plan.hpp"

namespace ff {

// What one thread computes of a node: `first` counts pixels, rows or units of its out, `second` panels or blocks,
// as FF_KERNELS says for each kernel.
struct Part {
    Range first, second;
};

// The product of the first `dimensions` sizes.
inline int64_t leading(const View& view, int32_t dimensions) {
    int64_t n = 1;
    for (int32_t i = 0; i < dimensions; ++i) n *= view.shape[i];
    return n;
}

// Roles as a set of bits.
constexpr unsigned roles() { return 0; }
template <class... More>
constexpr unsigned roles(Role role, More... more) {
    return 1u << role | roles(more...);
}

struct Inputs {
    unsigned required = 0, optional = 0;
};

// Told by an operator which view of the node each tensor of its kernel's arguments is.
class Views {
public:
    virtual ~Views() = default;
    virtual void input(Role role, ConstMap& map) = 0;
    virtual void input(Role role, ConstStrided& strided) = 0;
    virtual void input(Role role, const float*& numbers) = 0;
    virtual void input(Role role, const int32_t*& numbers) = 0;
    virtual void output(Map& map) = 0;
    virtual void output(Strided& strided) = 0;
    // For kernels of several types, and for those whose numbers may be at fault.
    virtual void type(Role, Type&) {}
    virtual void fault(Fault*&) {}
};

// How a node runs on some rows of its out, as a strip asks for.
enum class RowByRow {
    never,
    rings,   // the kernel finds rows in rings itself
    pieces,  // the kernel knows no rings: it gets rows that follow one another as views of their own
};

// At multiples of what the threads' parts begin.
struct Steps {
    int64_t first = 1, second = 1;
};

// What a core does in a nanosecond, roughly. Parts are compared by it, and nothing else hangs on it.
struct Core {
    // Bytes from a shared cache; nanoseconds of a call and its tails. Estimates. No comparison with other values is
    // recorded.
    static constexpr double kBytesPerNs = 15, kCallNs = 100;
    double flops_per_ns;
};

class Operator {
public:
    virtual Inputs inputs() const = 0;
    // The arguments with the attributes of a node, tensors still missing.
    virtual Args read(Fields& attributes) const = 0;
    // What NodeCheck does not check of every node. All inputs are views inside their tensors.
    virtual void check(const NodeCheck& node) const = 0;
    // Checks the types of inputs and out. By default all are float32, and an index int32.
    virtual void types(const NodeCheck& node) const;
    virtual void views(Args& args, Views& views) const = 0;
    // By default, an index of all dimensions of out but the last one.
    virtual Part whole(const Node& node) const { return {{0, leading(node.out, node.out.rank - 1)}, {}}; }
    virtual size_t scratch(const Kernels&, const Args&) const { return 0; }
    virtual void run(const Kernels& kernels, const Args& args, const Part& part, void* scratch) const = 0;

    // Whether the kernel is plain code, much slower than what the processor can do.
    virtual bool reference() const { return false; }

    // Whether the kernel has read each element of the input before it writes the same place of out.
    virtual bool in_place(const Node&, Role) const { return false; }

    virtual RowByRow row_by_row(const Node&) const { return RowByRow::never; }
    // nullptr if row y of out is made from row y of every input.
    virtual const Window* window(const Args&) const { return nullptr; }

    virtual Steps steps(const Node&, const Kernels&) const { return {}; }
    // The time of a part of this size. By default that of a read, a write and some arithmetic for each number of out.
    virtual double nanoseconds(const Node& node, const Core& core, double first, double second) const;

protected:
    ~Operator() = default;
};

const Operator& operator_of(Op op);

inline Part whole(const Node& node) { return operator_of(node.op).whole(node); }

// Outputs along a side of a tile, if the node is a convolution by Winograd's tiles; else 0.
inline int32_t winograd_tile(const Node& node) {
    const ConvArgs* conv = std::get_if<ConvArgs>(&node.args);
    return conv ? conv->winograd : 0;
}

inline int64_t panels(int64_t channels) { return (channels + kPanel - 1) / kPanel; }

// Where operator_of() finds them.
namespace operators {
#define FF_DECLARATION(name, args) const Operator& name();
FF_OPERATORS(FF_DECLARATION)
#undef FF_DECLARATION
}  // namespace operators

}  // namespace ff
