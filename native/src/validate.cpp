// Whatever a file says, a plan that passes here runs without reaching outside its tensors, reads nothing that
// no node has written, and what it allocates was bounded before.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "error.hpp"
#include "plan.hpp"
#include "validate.hpp"

namespace ff {
namespace {

constexpr int64_t kMaxBytes = int64_t{16} << 30;     // of an arena, and of the rings
constexpr int64_t kMaxSide = int64_t{1} << 28;       // of any dimension: far within int32
constexpr int64_t kMaxElements = int64_t{1} << 33;   // of any view, repetition by stride 0 included
constexpr int32_t kMaxWindow = 4096;                 // kernel, stride, dilation, padding: their products fit int32

int64_t align(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
int64_t panels(int64_t channels) { return (channels + kPanel - 1) / kPanel; }

// Saturates: no product of sizes overflows.
int64_t product(std::initializer_list<int64_t> factors) {
    int64_t result = 1;
    for (int64_t factor : factors)
        if (__builtin_mul_overflow(result, factor, &result)) return INT64_MAX;
    return result;
}

std::string shape_text(const View& view) {
    std::string text = "(";
    for (int32_t i = 0; i < view.rank; ++i) text += (i ? ", " : "") + std::to_string(view.shape[i]);
    return text + ")";
}

// The checks of one node.
class NodeCheck {
public:
    NodeCheck(const Plan& plan, const Node& node, const std::string& place, bool inside_strip)
        : plan_(plan), node_(node), place_(place), inside_strip_(inside_strip) {}

    void all();
    [[noreturn]] void fail(const std::string& reason) const {
        bad_plan("node " + place_ + " '" + node_.name + "' (" + name_of(node_.op) + "): " + reason);
    }
    void view(const View& view, const char* role) const;

private:
    const Tensor& tensor(const View& view) const { return plan_.tensors[static_cast<size_t>(view.tensor)]; }
    const View& x() const { return node_.in[kX]; }
    const View& out() const { return node_.out; }

    void roles(std::initializer_list<Role> required, std::initializer_list<Role> optional) const;
    void writable() const;
    void in_strip() const;
    void map(const View& view, const char* role) const;
    void same_shape(const View& view, const char* role) const;
    void packed(Role role, int64_t elements) const;
    void window_fits(int64_t size_in, int64_t size_out, int32_t kernel, int32_t stride, int32_t dilation,
                     int32_t padding, const char* axis) const;
    void window() const;
    void conv() const;
    void winograd() const;
    void depthwise() const;
    void pool() const;
    void matmul() const;
    void norm() const;
    void reduce() const;
    void gather() const;
    void resize() const;

    const Plan& plan_;
    const Node& node_;
    const std::string& place_;
    const bool inside_strip_;
};

// The view lies inside its tensor; of a ring, inside each of its slots.
void NodeCheck::view(const View& view, const char* role) const {
    const Tensor& of = tensor(view);
    const auto refuse = [&](const char* reason) { fail(std::string(role) + " " + reason); };
    int64_t last = view.offset, elements = 1;
    for (int32_t i = 0; i < view.rank; ++i) {
        if (view.shape[i] < 1 || view.shape[i] > kMaxSide) refuse("has a size that is 0 or too large");
        elements = product({elements, view.shape[i]});
        const int64_t slots =
            of.kind == Kind::ring && i == 0 ? std::min<int64_t>(of.ring, view.shape[0]) : view.shape[i];
        if (__builtin_add_overflow(last, product({slots - 1, view.stride[i]}), &last))
            refuse("lies outside its tensor");
    }
    if (elements > kMaxElements) refuse("has too many elements");
    if (last >= of.size) refuse("lies outside its tensor");
    if (of.whole_numbers != (&view == &node_.in[kIndex]))
        refuse("is int32 where float32 is wanted, or the other way round");
    if (of.kind != Kind::ring) return;
    if (!inside_strip_) refuse("is a ring outside a strip");
    if (view.rank != 3) refuse("is a ring and not (H, W, C)");
    if (view.stride[0] != of.size / of.ring) refuse("does not step from slot to slot of its ring");
    if (view.offset + product({view.width() - 1, view.stride[1]}) + product({view.channels() - 1, view.stride[2]}) >=
        view.stride[0])
        refuse("reaches into the next slot of its ring");
}

void NodeCheck::roles(std::initializer_list<Role> required, std::initializer_list<Role> optional) const {
    const auto among = [](std::initializer_list<Role> set, int role) {
        return std::find(set.begin(), set.end(), role) != set.end();
    };
    for (int i = 0; i < kRoles; ++i) {
        const char* name = name_of(static_cast<Role>(i));
        if (among(required, i) && !node_.in[i]) fail(std::string("input ") + name + " is missing");
        if (node_.in[i] && !among(required, i) && !among(optional, i)) fail(std::string("has no input ") + name);
        if (node_.in[i]) view(node_.in[i], name);
    }
}

// No element of out is written twice: threads would race, and no bound would hold for its size.
void NodeCheck::writable() const {
    view(out(), "out");
    const Kind kind = tensor(out()).kind;
    if (kind == Kind::constant || kind == Kind::input) fail("out is a constant or an input");
    std::vector<std::pair<int64_t, int64_t>> steps;  // stride, size
    for (int32_t i = 0; i < out().rank; ++i)
        if (out().shape[i] > 1) steps.emplace_back(out().stride[i], out().shape[i]);
    std::sort(steps.begin(), steps.end());
    int64_t span = 0;
    for (const auto& [stride, size] : steps) {
        if (stride <= span) fail("out overlaps itself");
        span += product({stride, size - 1});
    }
}

void NodeCheck::map(const View& view, const char* role) const {
    if (view.rank != 3) fail(std::string(role) + " is not a map (H, W, C)");
    if (view.channels() > 1 && view.stride[2] != 1) fail(std::string(role) + " is not channels-last");
}

void NodeCheck::same_shape(const View& view, const char* role) const {
    if (view.rank == out().rank && std::equal(view.shape, view.shape + view.rank, out().shape)) return;
    fail(std::string(role) + " has shape " + shape_text(view) + " and out " + shape_text(out()));
}

// A constant that a kernel reads from its view's start, in whole panels.
void NodeCheck::packed(Role role, int64_t elements) const {
    const View& view = node_.in[role];
    if (!view) return;
    const Tensor& of = tensor(view);
    if (of.kind != Kind::constant) fail(std::string(name_of(role)) + " is not a constant");
    if (view.offset % kPanel) fail(std::string(name_of(role)) + " is not aligned to 64 bytes");
    if (elements > of.stored - view.offset)
        fail(std::string(name_of(role)) + " holds " + std::to_string(of.stored - view.offset) + " elements where " +
             std::to_string(elements) + " are read");
}

void NodeCheck::window_fits(int64_t size_in, int64_t size_out, int32_t kernel, int32_t stride, int32_t dilation,
                            int32_t padding, const char* axis) const {
    for (int32_t value : {kernel, stride, dilation})
        if (value < 1 || value > kMaxWindow)
            fail(std::string("kernel, stride or dilation is 0 or too large along ") + axis);
    if (padding > kMaxWindow) fail(std::string("padding is too large along ") + axis);
    // As much may be missing after the end as convolutions pad: what lies before the start, and a window.
    const int64_t reach = int64_t{kernel - 1} * dilation;
    const int64_t last = (size_out - 1) * stride - padding + reach;
    if (last > size_in - 1 + padding + reach)
        fail(std::to_string(size_out) + " windows do not fit into " + std::to_string(size_in) + " along " + axis);
}

void NodeCheck::window() const {
    map(x(), "x");
    map(out(), "out");
    const Window& w = node_.window;
    window_fits(x().height(), out().height(), w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, "H");
    window_fits(x().width(), out().width(), w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, "W");
    if (node_.in[kResidual]) {
        map(node_.in[kResidual], "residual");
        same_shape(node_.in[kResidual], "residual");
    }
}

void NodeCheck::conv() const {
    roles({kX, kWeight}, {kBias, kResidual, kGate, kTransformed});
    window();
    const int64_t groups = node_.groups;
    if (groups < 1 || x().channels() % groups || out().channels() % groups)
        fail("groups (" + std::to_string(groups) + ") do not divide the channels (" + std::to_string(x().channels()) +
             " in, " + std::to_string(out().channels()) + " out)");
    const int64_t count = panels(out().channels() / groups);
    packed(kWeight,
           product({groups, count, node_.window.kernel_h, node_.window.kernel_w, x().channels() / groups, kPanel}));
    packed(kBias, product({groups, count, kPanel}));
    winograd();
    const View& gate = node_.in[kGate];
    if (!gate) return;
    if (gate.rank != 1 || gate.shape[0] != x().channels() || (gate.shape[0] > 1 && gate.stride[0] != 1))
        fail("gate is not one dense number for each of x's channels");
}

void NodeCheck::winograd() const {
    const int64_t tile = node_.winograd;
    const bool transformed = static_cast<bool>(node_.in[kTransformed]);
    if (transformed != (tile != 0)) fail("transformed is given without winograd, or the other way round");
    if (tile == 0) return;
    if (tile != 2 && tile != 4) fail("winograd is neither 2 nor 4");
    const Window& w = node_.window;
    if (w.kernel_h != 3 || w.kernel_w != 3 || w.stride_h != 1 || w.stride_w != 1 || w.dilation_h != 1 ||
        w.dilation_w != 1 || node_.groups != 1 || node_.in[kGate])
        fail("winograd is for dense 3 x 3 windows of stride 1 without a gate");
    packed(kTransformed,
           product({tile + 2, tile + 2, panels(out().channels()), x().channels(), kPanel}));
}

void NodeCheck::depthwise() const {
    roles({kX, kWeight}, {kBias, kResidual});
    window();
    if (node_.multiplier < 1 || product({x().channels(), node_.multiplier}) != out().channels())
        fail("out has not multiplier times the channels of x");
    packed(kWeight, product({node_.window.kernel_h, node_.window.kernel_w, panels(out().channels()), kPanel}));
    packed(kBias, panels(out().channels()) * kPanel);
}

void NodeCheck::pool() const {
    roles({kX}, {});
    window();
    if (x().channels() != out().channels()) fail("x and out differ in channels");
    if (node_.pad_bottom > kMaxWindow || node_.pad_right > kMaxWindow) fail("padding is too large");
    if (node_.count_include_pad > 1) fail("count_include_pad is neither 0 nor 1");
    // Else a window would hold nothing, and its mean be 0 / 0.
    const Window& w = node_.window;
    if ((out().height() - 1) * w.stride_h - w.pad_top >= x().height() ||
        (out().width() - 1) * w.stride_w - w.pad_left >= x().width())
        fail("a window begins after the end of x");
}

void NodeCheck::matmul() const {
    roles({kA, kB}, {});
    const View &a = node_.in[kA], &b = node_.in[kB];
    const int32_t rank = out().rank;
    bool agree = rank >= 2 && a.rank == rank && b.rank == rank;
    for (int32_t i = 0; agree && i < rank - 2; ++i)
        agree = a.shape[i] == out().shape[i] && b.shape[i] == out().shape[i];
    if (!agree || a.shape[rank - 2] != out().shape[rank - 2] || b.shape[rank - 1] != out().shape[rank - 1] ||
        a.shape[rank - 1] != b.shape[rank - 2])
        fail("shapes " + shape_text(a) + " x " + shape_text(b) + " do not give " + shape_text(out()));
}

void NodeCheck::norm() const {
    roles({kX}, {kWeight, kBias});
    for (Role role : {kX, kWeight, kBias})
        if (node_.in[role]) same_shape(node_.in[role], name_of(role));
    if (node_.trailing < 1 || node_.trailing > x().rank) fail("trailing is not a count of x's dimensions");
    if (!(node_.eps >= 0)) fail("eps is negative");
}

void NodeCheck::reduce() const {
    roles({kX}, {});
    if (node_.trailing < 1 || node_.trailing > x().rank) fail("trailing is not a count of x's dimensions");
    if (out().rank != x().rank - node_.trailing || !std::equal(out().shape, out().shape + out().rank, x().shape))
        fail("shape " + shape_text(out()) + " is not " + shape_text(x()) + " without the last " +
             std::to_string(node_.trailing));
}

void NodeCheck::gather() const {
    roles({kX, kIndex}, {});
    const int32_t rank = out().rank;
    if (rank < 1 || x().rank != rank || !std::equal(out().shape, out().shape + rank - 1, x().shape))
        fail("x has shape " + shape_text(x()) + " and out " + shape_text(out()));
    const View& index = node_.in[kIndex];
    if (index.rank != 1 || index.shape[0] != out().shape[rank - 1] || (index.shape[0] > 1 && index.stride[0] != 1))
        fail("index is not one dense number for each of out's last dimension");
    packed(kIndex, index.shape[0]);
    const int32_t* indices = static_cast<const int32_t*>(tensor(index).data) + index.offset;
    for (int64_t i = 0; i < index.shape[0]; ++i)
        if (indices[i] < 0 || indices[i] >= x().shape[rank - 1])
            fail("index " + std::to_string(indices[i]) + " is outside x's " + std::to_string(x().shape[rank - 1]));
}

void NodeCheck::resize() const {
    roles({kX}, {});
    map(x(), "x");
    map(out(), "out");
    if (x().channels() != out().channels()) fail("x and out differ in channels");
    if (node_.align_corners > 1) fail("align_corners is neither 0 nor 1");
    const auto fits = [&](float scale, int64_t in, int64_t size) {
        if (!(scale >= 0 && scale * static_cast<float>(size) <= static_cast<float>(in) + scale + 1))
            fail("scale " + std::to_string(scale) + " does not map " + std::to_string(size) + " onto " +
                 std::to_string(in));
    };
    fits(node_.scale_h, x().height(), out().height());
    fits(node_.scale_w, x().width(), out().width());
}

void NodeCheck::in_strip() const {
    const Op op = node_.op;
    const bool windowed = op == Op::conv || op == Op::depthwise || op == Op::pool;
    const bool pointwise = op == Op::unary || op == Op::binary || op == Op::copy || op == Op::gather ||
                           op == Op::softmax || (op == Op::norm && node_.trailing == 1);
    if (!windowed && !pointwise) fail("does not run row by row");
    if (out().rank != 3) fail("out is not (H, W, C), as it must be in a strip");
}

void NodeCheck::all() {
    writable();
    switch (node_.op) {
        case Op::conv: conv(); break;
        case Op::depthwise: depthwise(); break;
        case Op::pool: pool(); break;
        case Op::matmul: matmul(); break;
        case Op::unary:
        case Op::copy:
        case Op::softmax:
            roles({kX}, {});
            same_shape(x(), "x");
            break;
        case Op::binary:
            roles({kA, kB}, {});
            same_shape(node_.in[kA], "a");
            same_shape(node_.in[kB], "b");
            break;
        case Op::norm: norm(); break;
        case Op::reduce: reduce(); break;
        case Op::fill: roles({}, {}); break;
        case Op::gather: gather(); break;
        case Op::resize: resize(); break;
        case Op::strip: roles({}, {}); break;
    }
    // Kernels walk the last dimension of all but reductions, which may leave none.
    if (node_.op != Op::reduce && out().rank < 1) fail("out has no dimension");
    if (inside_strip_) in_strip();
}

// ---- The plan as a whole ----

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

void validate(const Plan& plan) {
    if (plan.arena_bytes > kMaxBytes || plan.ring_bytes > kMaxBytes)
        bad_plan("the arena or the rings are larger than 16 GiB");
    for (size_t i = 0; i < plan.tensors.size(); ++i) check_tensor(plan, i);
    check_memory(plan);
    check_ends(plan, plan.inputs, Kind::input, "input");
    check_ends(plan, plan.outputs, Kind::output, "output");
    for (size_t i = 0; i < plan.nodes.size(); ++i) {
        validate_node(plan, plan.nodes[i], std::to_string(i), false);
        if (plan.nodes[i].op == Op::strip) validate_strip(plan, plan.nodes[i], std::to_string(i));
    }
    validate_order(plan);
}

}  // namespace ff
