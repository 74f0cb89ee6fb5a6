#pragma once

#include <string>
#include <string_view>

namespace postbag {

// Text that came from a peer, fit for one log line: control characters and bytes above 0x7e
// escaped, at most 256 bytes.
std::string log_escape(std::string_view text);

}  // namespace postbag
