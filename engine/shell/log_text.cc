#include "engine/shell/log_text.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "postbag/target_match.h"

namespace postbag {
namespace {

constexpr char hex_digits[] = "0123456789abcdef";
constexpr std::size_t line_bytes_max = 256;

// RFC 3339, whole seconds.
std::string log_time(WallMs time_ms) {
  const std::time_t seconds = time_ms / 1000;
  std::tm parts{};
  char text[32];
  if (gmtime_r(&seconds, &parts) == nullptr) return std::to_string(time_ms) + " ms";
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace

std::string log_glob(std::string_view glob) {
  const std::size_t wildcard = glob.find_first_of("*?");
  if (wildcard == std::string_view::npos) {
    return log_escape(glob.starts_with('#') ? std::string(glob) : target_log_name(glob));
  }
  const std::size_t scheme = glob.substr(0, wildcard).find("://");
  const bool has_origin = scheme != std::string_view::npos;
  const std::size_t path = has_origin ? glob.find('/', scheme + 3) : std::string_view::npos;
  const std::size_t end = has_origin ? std::min(path, wildcard) : 0;
  const std::string_view origin = glob.substr(0, end);
  const std::string_view rest = glob.substr(end);
  if (origin.find('@') != std::string_view::npos) return "*...";  // no target has a password
  if (rest == "*" || rest == "/*") return log_escape(glob);
  // A `?` may be that of a URL's query.
  if (end == path && rest.find('*') == std::string_view::npos)
    return log_escape(target_log_name(glob));
  return log_escape(origin) + (end == path ? "/..." : "*...");
}

std::string log_filter(const FailedFilter& filter) {
  std::string text;
  const auto add = [&](const char* key, const std::string& value) {
    text += text.empty() ? "" : ", ";
    text.append(key).append(" ").append(value);
  };
  if (!filter.target.empty()) add("target", log_glob(filter.target));
  if (filter.group) add("group", '"' + log_escape(*filter.group) + '"');
  if (filter.event) add("event", '"' + log_escape(*filter.event) + '"');
  if (filter.status) add("status", std::to_string(*filter.status));
  if (!filter.reason.empty()) add("reason", log_escape(filter.reason));
  if (filter.since) add("since", log_time(*filter.since));
  if (filter.until) add("until", log_time(*filter.until));
  if (filter.ids.size() == 1) add("id", log_escape(filter.ids.front()));
  if (filter.ids.size() > 1) add("ids", std::to_string(filter.ids.size()));
  return text.empty() ? "all" : text;
}

std::string log_escape(std::string_view text) {
  std::string safe;
  for (const char c : text.substr(0, line_bytes_max)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      safe += c;
    } else {
      safe += "\\x";
      safe += hex_digits[byte >> 4];
      safe += hex_digits[byte & 15];
    }
  }
  return safe;
}

}  // namespace postbag
