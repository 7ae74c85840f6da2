#include "plan.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "checksum.hpp"
#include "error.hpp"
#include "fields.hpp"
#include "json.hpp"
#include "operators/operator.hpp"
#include "safetensors.hpp"

namespace ff {
namespace {

constexpr const char* kOpNames[] = {FF_OPERATORS(FF_TEXT)};
constexpr const char* kKindNames[] = {FF_KINDS(FF_TEXT)};
constexpr const char* kTypeNames[] = {FF_TYPES(FF_TEXT)};
#define FF_ROLE_NAME(role, name) name,
constexpr const char* kRoleNames[] = {FF_ROLES(FF_ROLE_NAME)};
#undef FF_ROLE_NAME

View read_view(const json::Value& value, const Fields& fields, const char* key, size_t tensors) {
    const json::Array& parts = fields.array(value, key);
    if (parts.size() != 4) fields.fail(key, "is not [tensor, offset, shape, strides]");
    View view;
    view.tensor = fields.small(parts[0], key);
    view.offset = fields.whole(parts[1], key);
    const json::Array &shape = fields.array(parts[2], key), &stride = fields.array(parts[3], key);
    if (static_cast<size_t>(view.tensor) >= tensors) fields.fail(key, "is of a tensor that is not there");
    if (shape.size() != stride.size()) fields.fail(key, "has a shape and strides of different lengths");
    if (shape.size() > kMaxRank) fields.fail(key, "has more than " + std::to_string(kMaxRank) + " dimensions");
    view.rank = static_cast<int32_t>(shape.size());
    for (int32_t i = 0; i < view.rank; ++i) {
        view.shape[i] = fields.whole(shape[i], key);
        view.stride[i] = fields.whole(stride[i], key);
    }
    return view;
}

Node read_node(const json::Value& value, const std::string& place, size_t tensors, bool inside_strip) {
    Node node;
    {
        Fields fields(&value, "node " + place);
        node.name = fields.text("name");
        node.op = fields.one_of<Op>("op", kOpNames);
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
    node.args = operator_of(node.op).read(attributes);
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
    tensor.kind = fields.one_of<Kind>("kind", kKindNames);
    tensor.size = fields.whole("size");
    if (tensor.kind != Kind::constant) tensor.type = fields.one_of("type", kTypeNames, Type::f32);
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
            tensor.type = at->second.whole_numbers ? Type::i32 : Type::f32;
            tensor.least = at->second.least;
            tensor.most = at->second.most;
            break;
        }
    }
    fields.done();
    return tensor;
}

void read_graph(Plan& plan, const std::string& text, const Safetensors& stored, Work& work) {
    const json::Value graph = json::parse(text, "the graph", &work);
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

void check_format(const Safetensors& file) {
    if (metadata(file, "format") != "fleetfoot-plan")
        bad_plan("not a fleetfoot plan: format '" + metadata(file, "format") + "'");
    const std::string readable = std::to_string(FF_PLAN_VERSION);
    if (metadata(file, "version") != readable)
        bad_plan("plan version " + metadata(file, "version") + "; this library reads version " + readable +
                 "; compile the network again with this release of fleetfoot");
}

void check_sum(const Safetensors& file, Work& work) {
    const std::string& graph = metadata(file, "graph");
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx",
                  static_cast<unsigned long long>(checksum(graph.data(), graph.size(),
                                                           checksum(file.data, file.data_bytes, 0, &work), &work)));
    if (metadata(file, "checksum") != digits)
        bad_plan("the checksum differs (" + metadata(file, "checksum") + " in the file, " + digits +
                 " of its content): the file is damaged");
}

// What the whole numbers of each tensor lie between, so that no node need look at them again.
void find_bounds(Safetensors& file) {
    for (auto& [name, tensor] : file.tensors) {
        if (!tensor.whole_numbers || tensor.elements == 0) continue;
        const int32_t* first = static_cast<const int32_t*>(tensor.data);
        const auto [least, most] = std::minmax_element(first, first + tensor.elements);
        tensor.least = *least;
        tensor.most = *most;
    }
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

// A convolution by Winograd's tiles reads its direct weights only if a tile is not finite. The checksum has read
// them all, so that they fill memory now.
void set_aside(const Plan& plan, const Node& node) {
    if (!winograd_tile(node)) return;
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

const char* name_of(Op op) { return kOpNames[static_cast<int>(op)]; }
const char* name_of(Role role) { return kRoleNames[role]; }
const char* name_of(Type type) { return kTypeNames[static_cast<int>(type)]; }

int64_t View::elements() const {
    int64_t n = 1;
    for (int32_t i = 0; i < rank; ++i) n *= shape[i];
    return n;
}

Plan load_plan(File file, Work& work) {
    file.fill(sizeof(uint64_t), work);
    file.fill(header_bytes(file.data(), file.size()), work);
    Safetensors stored = read_safetensors(file.data(), file.size(), work);
    check_format(stored);
    file.fill(file.size(), work);
    check_sum(stored, work);
    find_bounds(stored);
    Plan plan;
    plan.weight_bytes = static_cast<int64_t>(stored.data_bytes);
    const std::string& graph = metadata(stored, "graph");
    work.allow(graph.size());
    read_graph(plan, graph, stored, work);
    plan.signature = read_signature(stored);
    plan.file = std::move(file);  // its bytes stay where they are
    validate(plan, work);
    set_aside(plan);
    for (const Node& node : plan.nodes) {
        const int32_t place = static_cast<int32_t>(plan.list.size());
        plan.list.push_back({&node, -1});
        for (const Node& inner : node.nodes) plan.list.push_back({&inner, place});
    }
    return plan;
}

Plan load_plan(File file) {
    Work work;
    return load_plan(std::move(file), work);
}

}  // namespace ff
