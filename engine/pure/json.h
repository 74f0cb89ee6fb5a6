#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "postbag/json.h"

namespace postbag {

// The answer of check_json() without accept_json() (engine/pure/json_accept.h) before it.
std::optional<std::string> check_json_thoroughly(std::string_view text, bool padded);

}  // namespace postbag
