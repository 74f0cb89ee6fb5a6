#include "cli/intake/json_strings.h"

#include <cstdint>
#include <optional>

#include "cli/intake/json_scan.h"
#include "cli/text/utf8.h"

namespace postbag {
namespace {

std::optional<std::uint32_t> read_hex4(const char* p, const char* end) {
  if (end - p < 4) return {};
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = p[i];
    value <<= 4;
    if (c >= '0' && c <= '9') {
      value |= static_cast<std::uint32_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value |= static_cast<std::uint32_t>(c - 'a' + 10);
    } else if (c >= 'A' && c <= 'F') {
      value |= static_cast<std::uint32_t>(c - 'A' + 10);
    } else {
      return {};
    }
  }
  return value;
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 63));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 63));
    put(0x80 | (code & 63));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 63));
    put(0x80 | (code >> 6 & 63));
    put(0x80 | (code & 63));
  }
}

// `p` is behind "\u". Returns what is behind the escape (or the pair of them), or null.
const char* read_unicode_escape(const char* p, const char* end, std::string& out) {
  auto code = read_hex4(p, end);
  if (!code) return nullptr;
  p += 4;
  if (*code >= 0xdc00 && *code <= 0xdfff) return nullptr;  // the second half alone
  if (*code >= 0xd800 && *code <= 0xdbff) {
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return nullptr;
    const auto low = read_hex4(p + 2, end);
    if (!low || *low < 0xdc00 || *low > 0xdfff) return nullptr;
    code = 0x10000 + ((*code - 0xd800) << 10) + (*low - 0xdc00);
    p += 6;
  }
  append_utf8(out, *code);
  return p;
}

// `p` is behind the backslash.
const char* read_escape(const char* p, const char* end, std::string& out) {
  if (p >= end) return nullptr;
  switch (*p) {
    case '"':
    case '\\':
    case '/':
      out += *p;
      return p + 1;
    case 'b':
      out += '\b';
      return p + 1;
    case 'f':
      out += '\f';
      return p + 1;
    case 'n':
      out += '\n';
      return p + 1;
    case 'r':
      out += '\r';
      return p + 1;
    case 't':
      out += '\t';
      return p + 1;
    case 'u':
      return read_unicode_escape(p + 1, end, out);
    default:
      return nullptr;
  }
}

}  // namespace

const char* read_json_string(const char* begin, const char* end, RequestBody& body,
                             std::string_view& out, std::string& problem) {
  const char* p = begin + 1;
  std::string unescaped;
  bool ascii = true;
  bool escapes = false;
  for (;;) {
    const StringScan scan = scan_json_string(p, end);
    if (scan.stop == nullptr) {
      problem = "the JSON text ends inside a string";
      return nullptr;
    }
    ascii = ascii && scan.ascii;
    if (*scan.stop == '"') {
      const std::string_view tail(p, static_cast<std::size_t>(scan.stop - p));
      if (!escapes) {
        out = tail;
      } else {
        unescaped += tail;
        out = body.keep(std::move(unescaped));
      }
      if (!ascii && !is_valid_utf8(out)) {
        problem = "a string is not valid UTF-8";
        return nullptr;
      }
      return scan.stop + 1;
    }
    if (*scan.stop != '\\') {
      problem = "a string has a control character that is not escaped";
      return nullptr;
    }
    unescaped.append(p, scan.stop);
    escapes = true;
    p = read_escape(scan.stop + 1, end, unescaped);
    if (p == nullptr) {
      problem = "a string has a bad escape";
      return nullptr;
    }
  }
}

}  // namespace postbag
