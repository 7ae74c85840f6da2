#include "program.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace ff {

double now_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Gives a step's arguments their tensors: addresses, or a note of what moves from run to run.
class Program::Binding final : public Views {
public:
    Binding(Program& program, const Node& node) : program_(program), node_(node) {}

    void input(Role role, ConstMap& map) override { lay(node_.in[role], map); }
    void input(Role role, ConstStrided& strided) override { lay(node_.in[role], strided); }
    void input(Role role, const float*& numbers) override {
        if (node_.in[role]) address(node_.in[role], numbers);
    }
    void input(Role role, const int32_t*& numbers) override {  // a constant, as NodeCheck::packed saw
        numbers = static_cast<const int32_t*>(tensor(node_.in[role]).data) + node_.in[role].offset;
    }
    void output(Map& map) override { lay(node_.out, map); }
    void output(Strided& strided) override { lay(node_.out, strided); }
    void type(Role role, Type& type) override { type = tensor(node_.in[role]).type; }
    void fault(Fault*& fault) override {
        program_.watched_.push_back({&node_, {}});
        fault = &program_.watched_.back().fault;
    }

private:
    const Tensor& tensor(const View& view) const { return program_.plan_.tensors[static_cast<size_t>(view.tensor)]; }

    static float* floats(char* start, const Tensor& tensor, const View& view) {
        return reinterpret_cast<float*>(start + tensor.offset) + view.offset;
    }

    void address(const View& view, const float*& pointer) {
        const Tensor& from = tensor(view);
        switch (from.kind) {
            case Kind::arena: pointer = floats(program_.arena_, from, view); break;
            case Kind::ring: pointer = floats(program_.rings_, from, view); break;
            case Kind::constant: pointer = static_cast<const float*>(from.data) + view.offset; break;
            case Kind::input:
            case Kind::output: program_.reads_.push_back({&pointer, &from, view.offset}); break;
        }
    }

    void address(const View& view, float*& pointer) {
        const Tensor& to = tensor(view);
        if (to.kind == Kind::output) program_.writes_.push_back({&pointer, &to, view.offset});
        else pointer = floats(to.kind == Kind::ring ? program_.rings_ : program_.arena_, to, view);
    }

    template <class T>
    void lay(const View& view, MapOf<T>& map) {
        if (!view) return;
        address(view, map.data);
        map.row = view.stride[0];
        map.pixel = view.stride[1];
        map.height = static_cast<int32_t>(view.height());
        map.width = static_cast<int32_t>(view.width());
        map.channels = static_cast<int32_t>(view.channels());
        map.ring = tensor(view).ring;
    }

    template <class T>
    void lay(const View& view, StridedOf<T>& strided) {
        if (!view) return;
        address(view, strided.data);
        strided.rank = view.rank;
        std::copy(view.shape, view.shape + kMaxRank, strided.shape);
        std::copy(view.stride, view.stride + kMaxRank, strided.stride);
    }

    Program& program_;
    const Node& node_;
};

Program::Program(const Plan& plan, const Kernels& kernels, char* arena, char* rings)
    : plan_(plan), kernels_(kernels), arena_(arena), rings_(rings), steps_(plan.nodes.size()) {
    // Steps stay where they are from here on: reads_ and writes_ point into their arguments.
    size_t place = 0;
    for (size_t i = 0; i < steps_.size(); ++i) {
        Step& step = steps_[i];
        const Node& node = plan.nodes[i];
        bind(step, node, place++);
        if (node.op != Op::strip) continue;
        step.inner.resize(node.nodes.size());
        for (size_t j = 0; j < node.nodes.size(); ++j) bind(step.inner[j], node.nodes[j], place++);
        step.flow = std::make_unique<StripFlow>(node);
        step.needed.resize(node.nodes.size());
        step.done.resize(node.nodes.size());
    }
    link_ahead();
    for (const Step& step : steps_) {
        const auto make_room = [this](const Step& one) {
            scratch_bytes_ = std::max(scratch_bytes_, one.op->scratch(kernels_, one.args));
        };
        make_room(step);
        for (const Step& inner : step.inner) make_room(inner);
    }
}

// Tells each convolution where the weights of the next one are.
void Program::link_ahead() {
    ConvArgs* before = nullptr;
    const auto link = [&](Step& step) {
        ConvArgs* const args = std::get_if<ConvArgs>(&step.args);
        if (!args) return;
        if (before) {
            before->ahead = args->winograd ? args->transformed : args->weight;
            before->ahead_floats = step.node->in[args->winograd ? kTransformed : kWeight].elements();
        }
        before = args;
    };
    for (Step& step : steps_) {
        link(step);
        for (Step& inner : step.inner) link(inner);
    }
}

void Program::bind(Step& step, const Node& node, size_t place) {
    step.node = &node;
    step.place = place;
    step.op = &operator_of(node.op);
    step.args = node.args;
    step.whole = step.op->whole(node);
    Binding binding(*this, node);
    step.op->views(step.args, binding);
}

std::string Program::take_fault() {
    std::string said;
    for (Watched& watched : watched_) {
        const Fault fault = std::exchange(watched.fault, Fault());
        if (fault.kind == Fault::Kind::none || !said.empty()) continue;
        said = "node '" + watched.node->name + "' (" + name_of(watched.node->op) + ") ";
        if (fault.kind == Fault::Kind::division) said += "divides a whole number by 0";
        else said += "reads index " + std::to_string(fault.index) + " of " + std::to_string(fault.size);
    }
    return said;
}

void Program::point_to(const float* const* inputs, float* const* outputs, int64_t picture) {
    for (const auto& read : reads_) {
        const Tensor& tensor = *read.tensor;
        const float* start = tensor.kind == Kind::input ? inputs[tensor.index] : outputs[tensor.index];
        *read.pointer = start + picture * tensor.size + read.offset;
    }
    for (const auto& write : writes_)
        *write.pointer = outputs[write.tensor->index] + picture * write.tensor->size + write.offset;
}

void Program::run(size_t number, const Part& part, void* scratch, double* seconds) {
    Step& step = steps_[number];
    if (step.node->op == Op::strip) run_strip(step, part.first, scratch, seconds);
    else run_kernel(step, part, scratch);
}

void Program::run_kernel(const Step& step, const Part& part, void* scratch) const {
    const bool empty = part.first.begin >= part.first.end;
    const bool second_empty = step.whole.second.end > 0 && part.second.begin >= part.second.end;
    if (!empty && !second_empty) step.op->run(kernels_, step.args, part, scratch);
}

}  // namespace ff
