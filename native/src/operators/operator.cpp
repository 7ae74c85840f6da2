#include "operators/operator.hpp"

#include <algorithm>

namespace ff {

const Operator& operator_of(Op op) {
#define FF_CASE(name, args) \
    case Op::name: return operators::name();
    switch (op) { FF_OPERATORS(FF_CASE) }
#undef FF_CASE
    __builtin_unreachable();
}

void Operator::types(const NodeCheck& node) const {
    for (int i = 0; i < kRoles; ++i) node.typed(static_cast<Role>(i), i == kIndex ? Type::i32 : Type::f32);
    node.out_typed(Type::f32);
}

double Operator::nanoseconds(const Node& node, const Core&, double first, double) const {
    const double units = static_cast<double>(std::max<int64_t>(whole(node).first.end, 1));
    return Core::kCallNs + 12 * (static_cast<double>(node.out.elements()) / units) * first / Core::kBytesPerNs;
}

}  // namespace ff
