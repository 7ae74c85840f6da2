// A plan bound to memory: the kernels' arguments of every node, for one thread.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "plan.hpp"
#include "strip.hpp"

namespace ff {

// What of a node one thread computes: `first` counts pixels, rows or units of its out, `second` panels or
// blocks, as Kernels says for each kind.
struct Part {
    Range first, second;
};
Part whole(const Node& node);

struct Step {
    const Node* node = nullptr;
    size_t place = 0;  // in Plan::list
    std::variant<std::monostate, ConvArgs, DepthwiseArgs, PoolArgs, MatmulArgs, UnaryArgs, BinaryArgs, SoftmaxArgs,
                 NormArgs, ReduceArgs, CopyArgs, FillArgs, GatherArgs, ResizeArgs>
        args;
    // Of a strip:
    std::vector<Step> inner;
    std::unique_ptr<StripFlow> flow;
    std::vector<Range> needed;
    std::vector<int64_t> done;  // of each inner node, the row before which all are computed
};

class Program {
public:
    // `arena` and `rings` hold what the plan asks for.
    Program(const Plan& plan, const Kernels& kernels, char* arena, char* rings);
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    size_t scratch_bytes() const { return scratch_bytes_; }
    size_t size() const { return steps_.size(); }

    // Inputs and outputs of the runs that follow: picture `picture` of each.
    void point_to(const float* const* inputs, float* const* outputs, int64_t picture);

    // `seconds` (by place) is added to for the nodes within a strip; nullptr measures nothing.
    void run(size_t step, const Part& part, void* scratch, double* seconds);

private:
    template <class Pointer>
    struct Slot {  // of an argument that differs from run to run
        Pointer* pointer;
        const Tensor* tensor;
        int64_t offset;
    };

    void bind(Step& step, const Node& node, size_t place);
    void link_ahead();
    size_t scratch_of(const Step& step) const;
    void address(const View& view, const float*& pointer);
    void address(const View& view, float*& pointer);
    template <class T>
    void map(const View& view, MapOf<T>& map);
    template <class T>
    void strided(const View& view, StridedOf<T>& strided);

    void run_kernel(const Step& step, const Part& part, void* scratch) const;
    void run_strip(Step& step, Range rows, void* scratch, double* seconds);
    void run_rows(const Step& step, Range rows, void* scratch) const;

    const Plan& plan_;
    const Kernels& kernels_;
    char* const arena_;
    char* const rings_;
    std::vector<Step> steps_;
    std::vector<Slot<const float*>> reads_;
    std::vector<Slot<float*>> writes_;
    size_t scratch_bytes_ = 0;
};

double now_seconds();

}  // namespace ff
