#include "node_check.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "error.hpp"
#include "operators/operator.hpp"

namespace ff {

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

void NodeCheck::fail(const std::string& reason) const {
    bad_plan("node " + place_ + " '" + node_.name + "' (" + name_of(node_.op) + "): " + reason);
}

void NodeCheck::all() const {
    writable();
    inputs();
    operator_of(node_.op).types(*this);
    operator_of(node_.op).check(*this);
    // Kernels walk the last dimension of all but reductions, which may leave none.
    if (node_.op != Op::reduce && node_.op != Op::aggregate && out().rank < 1) fail("out has no dimension");
    if (inside_strip_) runs_in_strip();
}

// The view lies inside its tensor; of a ring, inside each of its slots.
void NodeCheck::view(const View& view, const char* role) const {
    const Tensor& held_by = tensor(view);
    const auto refuse = [&](const char* reason) { fail(std::string(role) + " " + reason); };
    int64_t last = view.offset, elements = 1;
    for (int32_t i = 0; i < view.rank; ++i) {
        if (view.shape[i] < 1 || view.shape[i] > kMaxSide) refuse("has a size that is 0 or too large");
        elements = product({elements, view.shape[i]});
        const int64_t slots =
            held_by.kind == Kind::ring && i == 0 ? std::min<int64_t>(held_by.ring, view.shape[0]) : view.shape[i];
        if (__builtin_add_overflow(last, product({slots - 1, view.stride[i]}), &last))
            refuse("lies outside its tensor");
    }
    if (elements > kMaxElements) refuse("has too many elements");
    if (last >= held_by.size) refuse("lies outside its tensor");
    if (held_by.kind != Kind::ring) return;
    if (!inside_strip_) refuse("is a ring outside a strip");
    if (view.rank != 3) refuse("is a ring and not (H, W, C)");
    if (view.stride[0] != held_by.size / held_by.ring) refuse("does not step from slot to slot of its ring");
    if (view.offset + product({view.width() - 1, view.stride[1]}) + product({view.channels() - 1, view.stride[2]}) >=
        view.stride[0])
        refuse("reaches into the next slot of its ring");
}

void NodeCheck::inputs() const {
    const Inputs inputs = operator_of(node_.op).inputs();
    for (int i = 0; i < kRoles; ++i) {
        const Role role = static_cast<Role>(i);
        const bool required = inputs.required & roles(role), optional = inputs.optional & roles(role);
        if (required && !in(role)) fail(std::string("input ") + name_of(role) + " is missing");
        if (in(role) && !required && !optional) fail(std::string("has no input ") + name_of(role));
        if (in(role)) view(in(role), name_of(role));
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

void NodeCheck::runs_in_strip() const {
    if (operator_of(node_.op).row_by_row(node_) == RowByRow::never) fail("does not run row by row");
    if (out().rank != 3) fail("out is not (H, W, C), as it must be in a strip");
}

void NodeCheck::typed(const View& view, const char* role, Type wanted) const {
    if (tensor(view).type != wanted)
        fail(std::string(role) + " is " + name_of(tensor(view).type) + " where " + name_of(wanted) + " is wanted");
}

void NodeCheck::typed(Role role, Type wanted) const {
    if (in(role)) typed(in(role), name_of(role), wanted);
}

void NodeCheck::out_typed(Type wanted) const { typed(out(), "out", wanted); }

void NodeCheck::map(const View& view, const char* role) const {
    if (view.rank != 3) fail(std::string(role) + " is not a map (H, W, C)");
    if (view.channels() > 1 && view.stride[2] != 1) fail(std::string(role) + " is not channels-last");
}

void NodeCheck::same_shape(Role role) const {
    const View& view = in(role);
    if (view.rank == out().rank && std::equal(view.shape, view.shape + view.rank, out().shape)) return;
    fail(std::string(name_of(role)) + " has shape " + shape_text(view) + " and out " + shape_text(out()));
}

// A constant that a kernel reads from its view's start, in whole panels.
void NodeCheck::packed(Role role, int64_t elements) const {
    const View& view = in(role);
    if (!view) return;
    const Tensor& constant = tensor(view);
    if (constant.kind != Kind::constant) fail(std::string(name_of(role)) + " is not a constant");
    if (view.offset % kPanel) fail(std::string(name_of(role)) + " is not aligned to 64 bytes");
    if (elements > constant.stored - view.offset)
        fail(std::string(name_of(role)) + " holds " + std::to_string(constant.stored - view.offset) +
             " elements where " + std::to_string(elements) + " are read");
}

void NodeCheck::trailing(int32_t dimensions) const {
    if (dimensions < 1 || dimensions > x().rank) fail("trailing is not a count of x's dimensions");
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

void NodeCheck::window(const Window& w) const {
    map(x(), "x");
    map(out(), "out");
    window_fits(x().height(), out().height(), w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, "H");
    window_fits(x().width(), out().width(), w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, "W");
    if (!in(kResidual)) return;
    map(in(kResidual), "residual");
    same_shape(kResidual);
}

}  // namespace ff
