#include "program.hpp"

#include <algorithm>
#include <chrono>

namespace ff {
namespace {

int64_t panels(int64_t channels) { return (channels + kPanel - 1) / kPanel; }

int64_t product(const View& view, int32_t dimensions) {
    int64_t n = 1;
    for (int32_t i = 0; i < dimensions; ++i) n *= view.shape[i];
    return n;
}

}  // namespace

double now_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Part whole(const Node& node) {
    const View& out = node.out;
    switch (node.op) {
        case Op::conv:
            return {{0, out.height() * out.width()}, {0, node.groups * panels(out.channels() / node.groups)}};
        case Op::depthwise:
        case Op::pool: return {{0, out.height()}, {0, panels(out.channels())}};
        case Op::resize:
        case Op::strip: return {{0, out.height()}, {}};
        case Op::matmul: return {{0, product(out, out.rank - 1)}, {}};
        case Op::norm: return {{0, product(out, out.rank - node.trailing)}, {}};
        case Op::reduce: return {{0, product(out, out.rank)}, {}};
        case Op::unary:
        case Op::binary:
        case Op::softmax:
        case Op::copy:
        case Op::fill:
        case Op::gather: return {{0, product(out, out.rank - 1)}, {}};
    }
    return {};
}

Program::Program(const Plan& plan, const Kernels& kernels, char* arena, char* rings)
    : plan_(plan), kernels_(kernels), arena_(arena), rings_(rings), steps_(plan.nodes.size()) {
    // Steps stay where they are from here on: slots point into them.
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
        scratch_bytes_ = std::max(scratch_bytes_, scratch_of(step));
        for (const Step& inner : step.inner) scratch_bytes_ = std::max(scratch_bytes_, scratch_of(inner));
    }
}

void Program::address(const View& view, const float*& pointer) {
    const Tensor& tensor = plan_.tensors[static_cast<size_t>(view.tensor)];
    switch (tensor.kind) {
        case Kind::arena: pointer = reinterpret_cast<const float*>(arena_ + tensor.offset) + view.offset; break;
        case Kind::ring: pointer = reinterpret_cast<const float*>(rings_ + tensor.offset) + view.offset; break;
        case Kind::constant: pointer = static_cast<const float*>(tensor.data) + view.offset; break;
        case Kind::input:
        case Kind::output: reads_.push_back({&pointer, &tensor, view.offset}); break;
    }
}

void Program::address(const View& view, float*& pointer) {
    const Tensor& tensor = plan_.tensors[static_cast<size_t>(view.tensor)];
    if (tensor.kind == Kind::output) writes_.push_back({&pointer, &tensor, view.offset});
    else
        pointer = reinterpret_cast<float*>((tensor.kind == Kind::ring ? rings_ : arena_) + tensor.offset) + view.offset;
}

template <class T>
void Program::map(const View& view, MapOf<T>& map) {
    if (!view) return;
    address(view, map.data);
    map.row = view.stride[0];
    map.pixel = view.stride[1];
    map.height = static_cast<int32_t>(view.height());
    map.width = static_cast<int32_t>(view.width());
    map.channels = static_cast<int32_t>(view.channels());
    map.ring = plan_.tensors[static_cast<size_t>(view.tensor)].ring;
}

template <class T>
void Program::strided(const View& view, StridedOf<T>& strided) {
    if (!view) return;
    address(view, strided.data);
    strided.rank = view.rank;
    std::copy(view.shape, view.shape + kMaxRank, strided.shape);
    std::copy(view.stride, view.stride + kMaxRank, strided.stride);
}

// Each convolution is told the weights of the one that follows it.
void Program::link_ahead() {
    ConvArgs* before = nullptr;
    const auto link = [&](Step& step) {
        if (step.node->op != Op::conv) return;
        ConvArgs& args = std::get<ConvArgs>(step.args);
        if (before) {
            before->ahead = args.winograd ? args.transformed : args.weight;
            before->ahead_floats = step.node->in[args.winograd ? kTransformed : kWeight].elements();
        }
        before = &args;
    };
    for (Step& step : steps_) {
        link(step);
        for (Step& inner : step.inner) link(inner);
    }
}

void Program::bind(Step& step, const Node& node, size_t place) {
    step.node = &node;
    step.place = place;
    const View &x = node.in[kX], &out = node.out;
    switch (node.op) {
        case Op::conv: {
            ConvArgs& args = step.args.emplace<ConvArgs>();
            map(x, args.x);
            map(out, args.out);
            map(node.in[kResidual], args.residual);
            if (node.in[kGate]) address(node.in[kGate], args.gate);
            address(node.in[kWeight], args.weight);
            if (node.in[kBias]) address(node.in[kBias], args.bias);
            args.window = node.window;
            args.groups = node.groups;
            args.winograd = node.winograd;
            if (node.winograd) address(node.in[kTransformed], args.transformed);
            args.act = node.act;
            args.post = node.post;
            break;
        }
        case Op::depthwise: {
            DepthwiseArgs& args = step.args.emplace<DepthwiseArgs>();
            map(x, args.x);
            map(out, args.out);
            map(node.in[kResidual], args.residual);
            address(node.in[kWeight], args.weight);
            if (node.in[kBias]) address(node.in[kBias], args.bias);
            args.window = node.window;
            args.multiplier = node.multiplier;
            args.act = node.act;
            args.post = node.post;
            break;
        }
        case Op::pool: {
            PoolArgs& args = step.args.emplace<PoolArgs>();
            map(x, args.x);
            map(out, args.out);
            args.window = node.window;
            args.mode = node.pool;
            args.count_include_pad = node.count_include_pad;
            args.pad_bottom = node.pad_bottom;
            args.pad_right = node.pad_right;
            break;
        }
        case Op::matmul: {
            MatmulArgs& args = step.args.emplace<MatmulArgs>();
            strided(node.in[kA], args.a);
            strided(node.in[kB], args.b);
            strided(out, args.out);
            args.alpha = node.alpha;
            break;
        }
        case Op::unary: {
            UnaryArgs& args = step.args.emplace<UnaryArgs>();
            strided(x, args.x);
            strided(out, args.out);
            args.act = node.act;
            break;
        }
        case Op::binary: {
            BinaryArgs& args = step.args.emplace<BinaryArgs>();
            strided(node.in[kA], args.a);
            strided(node.in[kB], args.b);
            strided(out, args.out);
            args.op = node.binary;
            args.act = node.act;
            break;
        }
        case Op::softmax: {
            SoftmaxArgs& args = step.args.emplace<SoftmaxArgs>();
            strided(x, args.x);
            strided(out, args.out);
            break;
        }
        case Op::norm: {
            NormArgs& args = step.args.emplace<NormArgs>();
            strided(x, args.x);
            strided(out, args.out);
            strided(node.in[kWeight], args.weight);
            strided(node.in[kBias], args.bias);
            args.trailing = node.trailing;
            args.mode = node.norm;
            args.eps = node.eps;
            break;
        }
        case Op::reduce: {
            ReduceArgs& args = step.args.emplace<ReduceArgs>();
            strided(x, args.x);
            strided(out, args.out);
            args.trailing = node.trailing;
            args.op = node.reduce;
            break;
        }
        case Op::copy: {
            CopyArgs& args = step.args.emplace<CopyArgs>();
            strided(x, args.x);
            strided(out, args.out);
            break;
        }
        case Op::fill: {
            FillArgs& args = step.args.emplace<FillArgs>();
            strided(out, args.out);
            args.value = node.value;
            break;
        }
        case Op::gather: {
            GatherArgs& args = step.args.emplace<GatherArgs>();
            strided(x, args.x);
            strided(out, args.out);
            const View& index = node.in[kIndex];
            args.index =
                static_cast<const int32_t*>(plan_.tensors[static_cast<size_t>(index.tensor)].data) + index.offset;
            break;
        }
        case Op::resize: {
            ResizeArgs& args = step.args.emplace<ResizeArgs>();
            map(x, args.x);
            map(out, args.out);
            args.mode = node.resize;
            args.align_corners = node.align_corners;
            args.scale_h = node.scale_h;
            args.scale_w = node.scale_w;
            break;
        }
        case Op::strip: break;
    }
}

size_t Program::scratch_of(const Step& step) const {
    switch (step.node->op) {
        case Op::conv: return kernels_.conv_scratch(std::get<ConvArgs>(step.args));
        case Op::depthwise: return kernels_.depthwise_scratch(std::get<DepthwiseArgs>(step.args));
        case Op::matmul: return kernels_.matmul_scratch(std::get<MatmulArgs>(step.args));
        case Op::norm: return kernels_.norm_scratch(std::get<NormArgs>(step.args));
        case Op::reduce: return kernels_.reduce_scratch(std::get<ReduceArgs>(step.args));
        default: return 0;
    }
}

void Program::point_to(const float* const* inputs, float* const* outputs, int64_t picture) {
    for (const auto& slot : reads_) {
        const Tensor& tensor = *slot.tensor;
        const float* start = tensor.kind == Kind::input ? inputs[tensor.index] : outputs[tensor.index];
        *slot.pointer = start + picture * tensor.size + slot.offset;
    }
    for (const auto& slot : writes_)
        *slot.pointer = outputs[slot.tensor->index] + picture * slot.tensor->size + slot.offset;
}

void Program::run(size_t number, const Part& part, void* scratch, double* seconds) {
    Step& step = steps_[number];
    if (step.node->op == Op::strip) run_strip(step, part.first, scratch, seconds);
    else run_kernel(step, part, scratch);
}

void Program::run_kernel(const Step& step, const Part& part, void* scratch) const {
    const Range first = part.first, second = part.second;
    if (first.begin >= first.end) return;
    const auto& args = step.args;
    switch (step.node->op) {
        case Op::conv:
            if (second.begin < second.end) kernels_.conv(std::get<ConvArgs>(args), first, second, scratch);
            break;
        case Op::depthwise:
            if (second.begin < second.end) kernels_.depthwise(std::get<DepthwiseArgs>(args), first, second, scratch);
            break;
        case Op::pool:
            if (second.begin < second.end) kernels_.pool(std::get<PoolArgs>(args), first, second);
            break;
        case Op::matmul: kernels_.matmul(std::get<MatmulArgs>(args), first, scratch); break;
        case Op::unary: kernels_.unary(std::get<UnaryArgs>(args), first); break;
        case Op::binary: kernels_.binary(std::get<BinaryArgs>(args), first); break;
        case Op::softmax: kernels_.softmax(std::get<SoftmaxArgs>(args), first); break;
        case Op::norm: kernels_.norm(std::get<NormArgs>(args), first, scratch); break;
        case Op::reduce: kernels_.reduce(std::get<ReduceArgs>(args), first, scratch); break;
        case Op::copy: kernels_.copy(std::get<CopyArgs>(args), first); break;
        case Op::fill: kernels_.fill(std::get<FillArgs>(args), first); break;
        case Op::gather: kernels_.gather(std::get<GatherArgs>(args), first); break;
        case Op::resize: kernels_.resize(std::get<ResizeArgs>(args), first); break;
        case Op::strip: break;
    }
}

}  // namespace ff
