// How a program runs a strip: strip.hpp says what that means.
#include <algorithm>

#include "program.hpp"

namespace ff {
namespace {

// Where a piece of rows [y, end) must stop: slots follow one another up to the end of the ring only.
int64_t stop(int64_t y, int64_t end, int32_t ring) { return ring ? std::min(end, (y / ring + 1) * ring) : end; }

// Makes arguments those of rows [y, end) of the node.
class Piece final : public Views {
public:
    Piece(const Plan& plan, const Node& node, int64_t y, int64_t end) : plan_(plan), node_(node), y_(y), end_(end) {}

    void input(Role role, ConstStrided& strided) override { take_rows(strided, node_.in[role]); }
    void output(Strided& strided) override { take_rows(strided, node_.out); }
    // What has no rows, or knows rings itself, stays as it is.
    void input(Role, ConstMap&) override {}
    void input(Role, const float*&) override {}
    void input(Role, const int32_t*&) override {}
    void output(Map&) override {}

private:
    // The view has shape (H, W, C). A stride of 0 repeats: every row is the same.
    template <class T>
    void take_rows(StridedOf<T>& strided, const View& view) const {
        if (!strided.data) return;
        const int32_t ring = plan_.tensors[static_cast<size_t>(view.tensor)].ring;
        strided.data += (ring ? y_ % ring : y_) * strided.stride[0];
        strided.shape[0] = end_ - y_;
    }

    const Plan& plan_;
    const Node& node_;
    const int64_t y_, end_;
};

}  // namespace

void Program::run_strip(Step& strip, Range rows, void* scratch, double* seconds) {
    std::fill(strip.done.begin(), strip.done.end(), 0);
    const int64_t stretch = std::get<StripArgs>(strip.args).rows;
    for (int64_t y = rows.begin; y < rows.end; y += stretch) {
        strip.flow->needed({y, std::min(y + stretch, rows.end)}, strip.needed);
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
    const int64_t units = step.whole.first.end / node.out.height();  // of the first extent, in one row
    const bool pieces = step.op->row_by_row(node) == RowByRow::pieces;
    for (int64_t y = rows.begin, end = 0; y < rows.end; y = end) {
        end = stop(y, rows.end, ring(node.out));
        if (!pieces) {
            run_kernel(step, {{y * units, end * units}, step.whole.second}, scratch);
            continue;
        }
        for (const View& view : node.in) end = stop(y, end, ring(view));
        Args args = step.args;
        Piece piece(plan_, node, y, end);
        step.op->views(args, piece);
        step.op->run(kernels_, args, {{0, (end - y) * units}, {}}, scratch);
    }
}

}  // namespace ff
