// A plan bound to memory: the kernels' arguments of every node, for one thread.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "operators/operator.hpp"
#include "strip.hpp"

namespace ff {

struct Step {
    const Node* node = nullptr;
    size_t place = 0;  // in Plan::list
    const Operator* op = nullptr;
    Args args;     // of the kernel, bound to memory
    Part whole{};  // of the node
    // A strip also has:
    std::vector<Step> inner;
    std::unique_ptr<StripFlow> flow;
    std::vector<Range> needed;
    std::vector<int64_t> done;  // for each inner node, the row before which all are computed
};

class Program {
public:
    // `arena` and `rings` hold what the plan asks for.
    Program(const Plan& plan, const Kernels& kernels, char* arena, char* rings);
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    size_t scratch_bytes() const { return scratch_bytes_; }
    size_t size() const { return steps_.size(); }

    // What was at fault since the last call, with the node's name; "" if nothing was.
    std::string take_fault();

    // Sets the inputs and outputs of the runs that follow to picture `picture` of each.
    void point_to(const float* const* inputs, float* const* outputs, int64_t picture);

    // The times of the nodes within a strip are added to `seconds`, by place in Plan::list; nullptr measures nothing.
    void run(size_t step, const Part& part, void* scratch, double* seconds);

private:
    // A pointer in the arguments that differs from run to run.
    template <class Pointer>
    struct Moving {
        Pointer* pointer;
        const Tensor* tensor;
        int64_t offset;
    };
    class Binding;

    void bind(Step& step, const Node& node, size_t place);
    void link_ahead();

    void run_kernel(const Step& step, const Part& part, void* scratch) const;
    void run_strip(Step& step, Range rows, void* scratch, double* seconds);
    void run_rows(const Step& step, Range rows, void* scratch) const;

    const Plan& plan_;
    const Kernels& kernels_;
    char* const arena_;
    char* const rings_;
    std::vector<Step> steps_;
    std::vector<Moving<const float*>> reads_;
    std::vector<Moving<float*>> writes_;
    struct Watched {
        const Node* node;
        Fault fault;
    };
    std::deque<Watched> watched_;  // the arguments of its kernel point to a fault
    size_t scratch_bytes_ = 0;
};

double now_seconds();

}  // namespace ff
