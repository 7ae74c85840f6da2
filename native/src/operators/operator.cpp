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

double Operator::nanoseconds(const Node& node, const Core&, double first, double) const {
    const double units = static_cast<double>(std::max<int64_t>(whole(node).first.end, 1));
    return Core::kCallNs + 12 * (static_cast<double>(node.out.elements()) / units) * first / Core::kBytesPerNs;
}

}  // namespace ff
