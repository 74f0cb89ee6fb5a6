#pragma once

#include <string>
#include <string_view>

namespace postbag {

// A target as log lines name it: scheme, host and port, and "#" with a short hash of the URL where
// it has a path or a query, as those are often the secret (Slack, Discord). The same URL has the
// same name; two URLs of one origin hardly ever share one.
std::string target_log_name(std::string_view canonical_url);

// Whether a pattern means a target (FailedFilter::target, Engine::cancel()): a glob of its
// canonical URL, `*` for any characters and `?` for one; or, if it has a '#', which no canonical
// URL has, a glob of its name in the log. "#2373a219" is short for "*/#2373a219". Empty: any.
bool target_matches(std::string_view pattern, std::string_view canonical_url);

}  // namespace postbag
