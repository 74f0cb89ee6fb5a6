#pragma once

#include <string>
#include <string_view>

#include "postbag/store.h"

namespace postbag {

// A glob of targets for the log: one without a wildcard as target_log_name() has it, else no more
// of it than the origin that it begins with, as what a wildcard stands beside may be a part of a
// path.
std::string log_glob(std::string_view glob);

// Which failed rows, for the log: "target https://a.example/..., reason timeout", or "all".
std::string log_filter(const FailedFilter& filter);

// Text that came from a peer, fit for one log line: control characters and bytes above 0x7e
// escaped, at most 256 bytes.
std::string log_escape(std::string_view text);

}  // namespace postbag
