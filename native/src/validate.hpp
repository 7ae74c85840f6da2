// The parts of validate(), which plan.hpp declares. Each throws Error(FF_BAD_PLAN).
#pragma once

#include <string>

#include "plan.hpp"

namespace ff {

// `place` is the node's number, or strip's number.number.
void validate_node(const Plan& plan, const Node& node, const std::string& place, bool inside_strip);

// A strip that passed validate_node: its nodes, and that its rings suffice wherever stretches begin.
void validate_strip(const Plan& plan, const Node& strip, const std::string& place);

}  // namespace ff
