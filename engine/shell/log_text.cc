#include "engine/shell/log_text.h"

namespace postbag {
namespace {

constexpr char hex_digits[] = "0123456789abcdef";
constexpr std::size_t line_bytes_max = 256;

}  // namespace

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
