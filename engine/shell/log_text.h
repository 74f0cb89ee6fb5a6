#pragma once

#include <string>
#include <string_view>

namespace postbag {

// A target for the log: scheme, host and port, and a short hash of the rest, because paths and
// queries of webhook URLs are often the secret (Slack, Discord). The same URL has the same hash, so
// lines can be matched.
std::string log_url(std::string_view canonical_url);

// Text that came from a peer, fit for one log line: control characters and bytes above 0x7e
// escaped, at most 256 bytes.
std::string log_escape(std::string_view text);

}  // namespace postbag
