#include "plan.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "checksum.hpp"
#include "error.hpp"
#include "json.hpp"
#include "safetensors.hpp"

namespace ff {
namespace {

constexpr const char* kOps[] = {"conv", "depthwise", "pool", "matmul", "unary", "binary", "softmax",
                                "norm", "reduce", "copy", "fill", "gather", "resize", "strip"};
constexpr const char* kRoleNames[] = {"x", "weight", "bias", "residual", "gate", "a", "b", "index", "transformed"};
constexpr const char* kKinds[] = {"arena", "input", "output", "constant", "ring"};
constexpr const char* kActs[] = {"none", "relu", "relu6", "hardswish", "hardsigmoid", "silu", "gelu", "gelu_tanh",
                                 "sigmoid", "tanh", "leaky_relu", "elu", "selu", "mish", "softplus", "clamp", "abs",
                                 "exp", "log", "sqrt", "rsqrt", "neg", "reciprocal", "square", "erf", "scale"};
constexpr const char* kPoolModes[] = {"max", "average"};
constexpr const char* kBinaries[] = {"add", "sub", "mul", "div", "max", "min", "pow"};
constexpr const char* kNorms[] = {"layer", "rms", "l2"};
constexpr const char* kReduces[] = {"sum", "mean", "max", "min"};
constexpr const char* kResizes[] = {"nearest", "bilinear", "bicubic"};

// The members of one JSON object, each of which has to be asked for: what nobody reads is refused, as a
// file that says more than is understood may mean something else.
class Fields {
public:
    Fields(const json::Value* object, std::string what) : what_(std::move(what)) {
        members_ = object ? object->get<json::Object>() : nullptr;
        if (!members_) bad_plan(what_ + " is not an object");
        object_ = object;
    }

    const std::string& what() const { return what_; }
    const json::Value* optional(const char* key) {
        const json::Value* value = object_->find(key);
        asked_ += value != nullptr;
        return value;
    }
    const json::Value& required(const char* key) {
        const json::Value* value = optional(key);
        if (!value) fail(key, "is missing");
        return *value;
    }
    [[noreturn]] void fail(const char* key, const std::string& reason) const {
        bad_plan(what_ + ": " + key + " " + reason);
    }

    int64_t whole(const char* key) { return whole(required(key), key); }
    int64_t whole(const json::Value& value, const char* key) const {
        const int64_t* x = value.get<int64_t>();
        if (!x || *x < 0) fail(key, "is not a whole number of 0 or more");
        return *x;
    }
    int32_t small(const char* key) { return small(required(key), key); }
    int32_t small(const json::Value& value, const char* key) const {
        const int64_t x = whole(value, key);
        if (x > std::numeric_limits<int32_t>::max()) fail(key, "is too large");
        return static_cast<int32_t>(x);
    }
    float number(const char* key) { return number(required(key), key); }
    // Infinity is written as "inf" or "-inf", which JSON's numbers lack.
    float number(const json::Value& value, const char* key) const {
        if (const int64_t* x = value.get<int64_t>()) return static_cast<float>(*x);
        if (const std::string* text = value.get<std::string>()) {
            if (*text == "inf") return std::numeric_limits<float>::infinity();
            if (*text == "-inf") return -std::numeric_limits<float>::infinity();
        }
        const double* x = value.get<double>();
        if (!x) fail(key, "is not a number");
        if (std::fabs(*x) > std::numeric_limits<float>::max()) fail(key, "is out of float32's range");
        return static_cast<float>(*x);
    }
    const std::string& text(const char* key) { return text(required(key), key); }
    const std::string& text(const json::Value& value, const char* key) const {
        const std::string* x = value.get<std::string>();
        if (!x) fail(key, "is not a text");
        return *x;
    }
    const json::Array& array(const char* key) { return array(required(key), key); }
    const json::Array& array(const json::Value& value, const char* key) const {
        const json::Array* x = value.get<json::Array>();
        if (!x) fail(key, "is not an array");
        return *x;
    }
    template <class Enum, size_t n>
    Enum one_of(const char* key, const char* const (&names)[n]) { return one_of<Enum>(required(key), key, names); }
    template <class Enum, size_t n>
    Enum one_of(const json::Value& value, const char* key, const char* const (&names)[n]) const {
        const std::string& name = text(value, key);
        for (size_t i = 0; i < n; ++i)
            if (name == names[i]) return static_cast<Enum>(i);
        fail(key, "'" + name + "' is unknown");
    }
    // `count` small numbers, each to its place.
    void list(const char* key, std::initializer_list<int32_t*> places) {
        const json::Array& items = array(key);
        if (items.size() != places.size()) fail(key, "has not " + std::to_string(places.size()) + " numbers");
        size_t i = 0;
        for (int32_t* place : places) *place = small(items[i++], key);
    }

    void done() const {
        if (asked_ == members_->size()) return;
        std::string keys;
        for (const json::Member& member : *members_) keys += " '" + member.key + "'";
        bad_plan(what_ + ": a key is unknown among" + keys);
    }

private:
    std::string what_;
    const json::Value* object_ = nullptr;
    const json::Object* members_ = nullptr;
    size_t asked_ = 0;
};

View read_view(const json::Value& value, const Fields& of, const char* key, size_t tensors) {
    const json::Array& parts = of.array(value, key);
    if (parts.size() != 4) of.fail(key, "is not [tensor, offset, shape, strides]");
    View view;
    view.tensor = of.small(parts[0], key);
    view.offset = of.whole(parts[1], key);
    const json::Array &shape = of.array(parts[2], key), &stride = of.array(parts[3], key);
    if (static_cast<size_t>(view.tensor) >= tensors) of.fail(key, "is of a tensor that is not there");
    if (shape.size() != stride.size()) of.fail(key, "has a shape and strides of different lengths");
    if (shape.size() > kMaxRank) of.fail(key, "has more than " + std::to_string(kMaxRank) + " dimensions");
    view.rank = static_cast<int32_t>(shape.size());
    for (int32_t i = 0; i < view.rank; ++i) {
        view.shape[i] = of.whole(shape[i], key);
        view.stride[i] = of.whole(stride[i], key);
    }
    return view;
}

Activation read_activation(Fields& attributes, const char* key) {
    Activation result;
    const json::Value* value = attributes.optional(key);
    if (!value) return result;
    const json::Array& parts = attributes.array(*value, key);
    if (parts.size() != 3) attributes.fail(key, "is not [name, a, b]");
    result.kind = attributes.one_of<Act>(parts[0], key, kActs);
    result.a = attributes.number(parts[1], key);
    result.b = attributes.number(parts[2], key);
    return result;
}

void read_window(Node& node, Fields& attributes) {
    Window& w = node.window;
    attributes.list("kernel", {&w.kernel_h, &w.kernel_w});
    attributes.list("stride", {&w.stride_h, &w.stride_w});
    if (node.op == Op::pool) attributes.list("padding", {&w.pad_top, &w.pad_left, &node.pad_bottom, &node.pad_right});
    else attributes.list("padding", {&w.pad_top, &w.pad_left});
    attributes.list("dilation", {&w.dilation_h, &w.dilation_w});
}

void read_attributes(Node& node, Fields& attributes) {
    switch (node.op) {
        case Op::conv:
        case Op::depthwise:
            read_window(node, attributes);
            (node.op == Op::conv ? node.groups : node.multiplier) =
                attributes.small(node.op == Op::conv ? "groups" : "multiplier");
            node.act = read_activation(attributes, "act");
            node.post = read_activation(attributes, "post");
            if (const json::Value* value = node.op == Op::conv ? attributes.optional("winograd") : nullptr)
                node.winograd = attributes.small(*value, "winograd");
            break;
        case Op::pool:
            node.pool = attributes.one_of<PoolMode>("mode", kPoolModes);
            read_window(node, attributes);
            node.count_include_pad = attributes.small("count_include_pad");
            break;
        case Op::matmul: node.alpha = attributes.number("alpha"); break;
        case Op::unary: node.act = read_activation(attributes, "act"); break;
        case Op::binary:
            node.binary = attributes.one_of<Binary>("kind", kBinaries);
            node.act = read_activation(attributes, "act");
            break;
        case Op::norm:
            node.norm = attributes.one_of<NormMode>("mode", kNorms);
            node.trailing = attributes.small("trailing");
            node.eps = attributes.number("eps");
            break;
        case Op::reduce:
            node.reduce = attributes.one_of<Reduce>("kind", kReduces);
            node.trailing = attributes.small("trailing");
            break;
        case Op::fill: node.value = attributes.number("value"); break;
        case Op::resize: {
            node.resize = attributes.one_of<ResizeMode>("mode", kResizes);
            node.align_corners = attributes.small("align_corners");
            const json::Array& scale = attributes.array("scale");
            if (scale.size() != 2) attributes.fail("scale", "has not 2 numbers");
            node.scale_h = attributes.number(scale[0], "scale");
            node.scale_w = attributes.number(scale[1], "scale");
            break;
        }
        case Op::strip: node.rows = attributes.small("rows"); break;
        case Op::softmax:
        case Op::copy:
        case Op::gather: break;
    }
}

Node read_node(const json::Value& value, const std::string& place, size_t tensors, bool inside_strip) {
    Node node;
    {
        Fields fields(&value, "node " + place);
        node.name = fields.text("name");
        node.op = fields.one_of<Op>("op", kOps);
    }
    if (node.op == Op::strip && inside_strip) bad_plan("node " + place + ": a strip within a strip");
    Fields fields(&value, "node " + place + " '" + node.name + "' (" + name_of(node.op) + ")");
    fields.required("name");
    fields.required("op");
    if (const json::Value* in = fields.optional("in")) {
        Fields inputs(in, fields.what() + ": in");
        for (int role = 0; role < kRoles; ++role)
            if (const json::Value* view = inputs.optional(kRoleNames[role]))
                node.in[role] = read_view(*view, inputs, kRoleNames[role], tensors);
        inputs.done();
    }
    node.out = read_view(fields.required("out"), fields, "out", tensors);
    static const json::Value kNothing{json::Object{}};
    const json::Value* attr = fields.optional("attr");
    Fields attributes(attr ? attr : &kNothing, fields.what());
    read_attributes(node, attributes);
    attributes.done();
    if (node.op == Op::strip) {
        for (const json::Value& inner : fields.array("nodes"))
            node.nodes.push_back(read_node(inner, place + "." + std::to_string(node.nodes.size()), tensors, true));
    }
    fields.done();
    return node;
}

Tensor read_tensor(const json::Value& value, size_t number, const Safetensors& stored) {
    Fields fields(&value, "tensor " + std::to_string(number));
    Tensor tensor;
    tensor.kind = fields.one_of<Kind>("kind", kKinds);
    tensor.size = fields.whole("size");
    switch (tensor.kind) {
        case Kind::ring: tensor.ring = fields.small("ring"); [[fallthrough]];
        case Kind::arena: tensor.offset = fields.whole("offset"); break;
        case Kind::input:
        case Kind::output: tensor.index = fields.small("index"); break;
        case Kind::constant: {
            const std::string& name = fields.text("name");
            const auto at = stored.tensors.find(name);
            if (at == stored.tensors.end()) fields.fail("name", "'" + name + "' is no tensor of the file");
            tensor.data = at->second.data;
            tensor.stored = at->second.elements;
            tensor.whole_numbers = at->second.whole_numbers;
            break;
        }
    }
    fields.done();
    return tensor;
}

void read_graph(Plan& plan, const std::string& text, const Safetensors& stored) {
    const json::Value graph = json::parse(text, "the graph");
    Fields fields(&graph, "the graph");
    plan.model = fields.text("model");
    plan.arena_bytes = fields.whole("arena");
    plan.ring_bytes = fields.whole("rings");
    for (const json::Value& tensor : fields.array("tensors"))
        plan.tensors.push_back(read_tensor(tensor, plan.tensors.size(), stored));
    for (const json::Value& view : fields.array("inputs"))
        plan.inputs.push_back(read_view(view, fields, "inputs", plan.tensors.size()));
    for (const json::Value& view : fields.array("outputs"))
        plan.outputs.push_back(read_view(view, fields, "outputs", plan.tensors.size()));
    for (const json::Value& node : fields.array("nodes"))
        plan.nodes.push_back(read_node(node, std::to_string(plan.nodes.size()), plan.tensors.size(), false));
    fields.done();
}

const std::string& metadata(const Safetensors& file, const char* key) {
    const auto at = file.metadata.find(key);
    if (at == file.metadata.end()) bad_plan(std::string("not a fleetfoot plan: its metadata has no '") + key + "'");
    return at->second;
}

void check_identity(const Safetensors& file) {
    if (metadata(file, "format") != "fleetfoot-plan")
        bad_plan("not a fleetfoot plan: format '" + metadata(file, "format") + "'");
    const std::string readable = std::to_string(FF_PLAN_VERSION);
    if (metadata(file, "version") != readable)
        bad_plan("plan version " + metadata(file, "version") + "; this library reads version " + readable +
                 "; compile the network again with this release of fleetfoot");
    const std::string& graph = metadata(file, "graph");
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx",
                  static_cast<unsigned long long>(checksum(graph.data(), graph.size(),
                                                           checksum(file.data, file.data_bytes, 0))));
    if (metadata(file, "checksum") != digits)
        bad_plan("the checksum differs (" + metadata(file, "checksum") + " in the file, " + digits +
                 " of its content): the file is damaged");
}

// Nothing here depends on it, so only that it is what was written is checked.
std::string read_signature(const Safetensors& file) {
    const auto at = file.metadata.find("signature");
    if (at == file.metadata.end()) return "";
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx",
                  static_cast<unsigned long long>(checksum(at->second.data(), at->second.size(), 0)));
    if (metadata(file, "signature_checksum") != digits)
        bad_plan("the checksum of the signature differs (" + metadata(file, "signature_checksum") + " in the file, " +
                 digits + " of its content): the file is damaged");
    return at->second;
}

// Weights that are only read where a tile of Winograd's is made again; the checksum has read them all.
void set_aside(const Plan& plan, const Node& node) {
    if (!node.winograd) return;
    const Tensor& weight = plan.tensors[static_cast<size_t>(node.in[kWeight].tensor)];
    plan.file.set_aside(weight.data, static_cast<size_t>(weight.stored) * sizeof(float));
}

void set_aside(const Plan& plan) {
    for (const Node& node : plan.nodes) {
        set_aside(plan, node);
        for (const Node& inner : node.nodes) set_aside(plan, inner);
    }
}

}  // namespace

const char* name_of(Op op) { return kOps[static_cast<int>(op)]; }
const char* name_of(Role role) { return kRoleNames[role]; }

int64_t View::elements() const {
    int64_t n = 1;
    for (int32_t i = 0; i < rank; ++i) n *= shape[i];
    return n;
}

Plan load_plan(File file) {
    const Safetensors stored = read_safetensors(file.data(), file.size());
    check_identity(stored);
    Plan plan;
    plan.weight_bytes = static_cast<int64_t>(stored.data_bytes);
    read_graph(plan, metadata(stored, "graph"), stored);
    plan.signature = read_signature(stored);
    plan.file = std::move(file);  // its bytes stay where they are
    validate(plan);
    set_aside(plan);
    for (const Node& node : plan.nodes) {
        const int32_t place = static_cast<int32_t>(plan.list.size());
        plan.list.push_back({&node, -1});
        for (const Node& inner : node.nodes) plan.list.push_back({&inner, place});
    }
    return plan;
}

}  // namespace ff
