#include "cli/target_pattern.h"

#include "postbag/options.h"

namespace postbag {

std::string target_pattern(std::string_view text) {
  // A `?` in the host is a wildcard, not the begin of a query.
  const std::size_t host = text.find("://");
  const std::size_t host_end =
      host == std::string_view::npos ? host : text.find_first_of("/?#", host + 3);
  if (host_end != std::string_view::npos && text[host_end] == '?') return std::string(text);
  std::string ignored;
  std::string canonical = canonical_target(text, ignored);
  return canonical.empty() ? std::string(text) : canonical;
}

}  // namespace postbag
