#pragma once

#include <string>
#include <vector>

#include "postbag/options.h"

namespace postbag {

// The keys that differ and that a reload leaves as they are until a restart, in the order of the
// configuration file.
std::vector<std::string> keys_for_restart(const Options& running, const Options& wanted);

}  // namespace postbag
