// The parts of validate(), which plan.hpp declares. Each throws Error(FF_BAD_PLAN).
#pragma once

#include <string>

#include "plan.hpp"
#include "work.hpp"

namespace ff {

// `place` is the node's number, or strip's number.number.
void validate_node(const Plan& plan, const Node& node, const std::string& place, bool inside_strip);

// A strip that passed validate_node: its nodes, and that its rings suffice wherever stretches begin.
void validate_strip(const Plan& plan, const Node& strip, const std::string& place, Work& work);

// A plan whose nodes passed the above: no element is read before a node has written it, or after another tensor
// has taken its bytes, and every output is written as a whole.
void validate_order(const Plan& plan, Work& work);

}  // namespace ff
