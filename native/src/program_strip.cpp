// How a program runs a strip: strip.hpp says what that means.
#include <algorithm>

#include "program.hpp"

namespace ff {
namespace {

// The first row at or after `end`'s limit where a piece that starts at row y must stop: slots follow one
// another up to the end of the ring only.
int64_t stop(int64_t y, int64_t end, int32_t ring) { return ring ? std::min(end, (y / ring + 1) * ring) : end; }

// Rows [y, end) of a view of shape (H, W, C). A stride of 0 repeats: every row is the same.
template <class T>
void take_rows(StridedOf<T>& view, int32_t ring, int64_t y, int64_t end) {
    if (!view.data) return;
    view.data += (ring ? y % ring : y) * view.stride[0];
    view.shape[0] = end - y;
}

}  // namespace

void Program::run_strip(Step& strip, Range rows, void* scratch, double* seconds) {
    std::fill(strip.done.begin(), strip.done.end(), 0);
    for (int64_t y = rows.begin; y < rows.end; y += strip.node->rows) {
        strip.flow->needed({y, std::min(y + strip.node->rows, rows.end)}, strip.needed);
        for (size_t i = 0; i < strip.inner.size(); ++i) {
            const Range missing = {std::max(strip.needed[i].begin, strip.done[i]), strip.needed[i].end};
            if (missing.begin >= missing.end) continue;
            const double start = seconds ? now_seconds() : 0;
            run_rows(strip.inner[i], missing, scratch);
            if (seconds) seconds[strip.inner[i].place] += now_seconds() - start;
            strip.done[i] = missing.end;
        }
    }
}

void Program::run_rows(const Step& step, Range rows, void* scratch) const {
    const Node& node = *step.node;
    const auto ring = [this](const View& view) {
        return view ? plan_.tensors[static_cast<size_t>(view.tensor)].ring : 0;
    };
    const Part all = whole(node);
    const int64_t width = node.out.width();
    const bool windowed = node.op == Op::conv || node.op == Op::depthwise || node.op == Op::pool;
    for (int64_t y = rows.begin, end = 0; y < rows.end; y = end) {
        end = stop(y, rows.end, ring(node.out));
        if (windowed) {
            const int64_t unit = node.op == Op::conv ? width : 1;
            run_kernel(step, {{y * unit, end * unit}, all.second}, scratch);
            continue;
        }
        // These kernels know no rings: they get the piece as a view of its own.
        for (const View& view : node.in) end = stop(y, end, ring(view));
        const Range units = {0, (end - y) * width};
        switch (node.op) {
            case Op::unary: {
                UnaryArgs args = std::get<UnaryArgs>(step.args);
                take_rows(args.x, ring(node.in[kX]), y, end);
                take_rows(args.out, ring(node.out), y, end);
                kernels_.unary(args, units);
                break;
            }
            case Op::binary: {
                BinaryArgs args = std::get<BinaryArgs>(step.args);
                take_rows(args.a, ring(node.in[kA]), y, end);
                take_rows(args.b, ring(node.in[kB]), y, end);
                take_rows(args.out, ring(node.out), y, end);
                kernels_.binary(args, units);
                break;
            }
            case Op::softmax: {
                SoftmaxArgs args = std::get<SoftmaxArgs>(step.args);
                take_rows(args.x, ring(node.in[kX]), y, end);
                take_rows(args.out, ring(node.out), y, end);
                kernels_.softmax(args, units);
                break;
            }
            case Op::norm: {
                NormArgs args = std::get<NormArgs>(step.args);
                take_rows(args.x, ring(node.in[kX]), y, end);
                take_rows(args.weight, ring(node.in[kWeight]), y, end);
                take_rows(args.bias, ring(node.in[kBias]), y, end);
                take_rows(args.out, ring(node.out), y, end);
                kernels_.norm(args, units, scratch);
                break;
            }
            case Op::copy: {
                CopyArgs args = std::get<CopyArgs>(step.args);
                take_rows(args.x, ring(node.in[kX]), y, end);
                take_rows(args.out, ring(node.out), y, end);
                kernels_.copy(args, units);
                break;
            }
            case Op::gather: {
                GatherArgs args = std::get<GatherArgs>(step.args);
                take_rows(args.x, ring(node.in[kX]), y, end);
                take_rows(args.out, ring(node.out), y, end);
                kernels_.gather(args, units);
                break;
            }
            default: break;  // validate() lets no other in
        }
    }
}

}  // namespace ff
