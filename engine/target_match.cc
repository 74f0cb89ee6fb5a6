#include "postbag/target_match.h"

#include "engine/pure/url_hash.h"
#include "postbag/glob.h"

namespace postbag {

std::string target_log_name(std::string_view canonical_url) {
  static constexpr char hex_digits[] = "0123456789abcdef";
  const std::size_t authority = canonical_url.find("://");
  const std::size_t path =
      authority == std::string_view::npos ? 0 : canonical_url.find('/', authority + 3);
  std::string text(canonical_url.substr(0, path));
  if (path == std::string_view::npos || canonical_url.substr(path) == "/") return text + "/";
  text += "/#";
  const std::uint64_t hash = url_hash(canonical_url);
  for (int shift = 28; shift >= 0; shift -= 4) text += hex_digits[(hash >> shift) & 15];
  return text;
}

bool target_matches(std::string_view pattern, std::string_view canonical_url) {
  if (pattern.find('#') == std::string_view::npos) return glob_match(pattern, canonical_url);
  const std::string name = target_log_name(canonical_url);
  if (pattern.front() != '#') return glob_match(pattern, name);
  return glob_match("*/" + std::string(pattern), name);
}

}  // namespace postbag
