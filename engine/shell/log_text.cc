#include "engine/shell/log_text.h"

#include "engine/pure/url_hash.h"

namespace postbag {
namespace {

constexpr char hex_digits[] = "0123456789abcdef";
constexpr std::size_t line_bytes_max = 256;

}  // namespace

std::string log_url(std::string_view url) {
  const std::size_t authority = url.find("://");
  const std::size_t path = authority == std::string_view::npos ? 0 : url.find('/', authority + 3);
  std::string text(url.substr(0, path));
  if (path == std::string_view::npos || url.substr(path) == "/") return text + "/";
  text += "/#";
  const std::uint64_t hash = url_hash(url);
  for (int shift = 28; shift >= 0; shift -= 4) text += hex_digits[(hash >> shift) & 15];
  return text;
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
