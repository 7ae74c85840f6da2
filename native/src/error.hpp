// What is thrown inside the core and becomes a code and a text at the C interface.
#pragma once

#include <stdexcept>
#include <string>

#include "fleetfoot.h"

namespace ff {

struct Error : std::runtime_error {
    Error(ff_status code, const std::string& text) : std::runtime_error(text), status(code) {}
    ff_status status;
};

[[noreturn]] inline void bad_plan(const std::string& text) { throw Error(FF_BAD_PLAN, "bad plan: " + text); }

}  // namespace ff
