#include "cli/text/json_writer.h"

#include <cmath>
#include <cstdio>

#include "cli/text/rfc3339.h"
#include "cli/text/utf8.h"

namespace postbag {
namespace {

constexpr char hex_digits[] = "0123456789abcdef";

void append_escape(std::string& out, unsigned char byte) {
  switch (byte) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      out += "\\u00";
      out += hex_digits[byte >> 4];
      out += hex_digits[byte & 15];
  }
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  std::size_t run = 0;  // begin of what can be copied as it is
  std::size_t at = 0;
  const auto copy_run = [&] { out.append(text, run, at - run); };
  while (at < text.size()) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
      ++at;
      continue;
    }
    if (byte >= 0x80) {
      const std::size_t length = utf8_sequence_length(text, at);
      if (length != 0) {
        at += length;
        continue;
      }
      copy_run();
      out += "\xef\xbf\xbd";
    } else {
      copy_run();
      append_escape(out, byte);
    }
    run = ++at;
  }
  copy_run();
  out += '"';
}

std::string to_base64(std::string_view bytes) {
  static constexpr char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::size_t left = bytes.size() - at;
    std::uint32_t word = static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at])) << 16;
    if (left > 1)
      word |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + 1])) << 8;
    if (left > 2) word |= static_cast<unsigned char>(bytes[at + 2]);
    out += digits[word >> 18];
    out += digits[(word >> 12) & 63];
    out += left > 1 ? digits[(word >> 6) & 63] : '=';
    out += left > 2 ? digits[word & 63] : '=';
  }
  return out;
}

void JsonWriter::comma() {
  if (comma_) out_ += ',';
  comma_ = true;
}

void JsonWriter::open(char bracket) {
  comma();
  out_ += bracket;
  comma_ = false;
}

void JsonWriter::close(char bracket) {
  out_ += bracket;
  comma_ = true;
}

void JsonWriter::key(std::string_view name) {
  comma();
  out_ += '"';
  out_ += name;
  out_ += "\":";
  comma_ = false;
}

void JsonWriter::value(std::string_view text) {
  comma();
  append_json_string(out_, text);
}

void JsonWriter::value(double number) {
  if (!std::isfinite(number)) return null();
  char text[64];
  std::snprintf(text, sizeof text, "%.3f", number);
  // A fraction of zeros says nothing: 12.000 is written as 12.
  std::string_view digits = text;
  while (digits.back() == '0') digits.remove_suffix(1);
  if (digits.back() == '.') digits.remove_suffix(1);
  raw(digits == "-0" ? "0" : digits);
}

void JsonWriter::raw(std::string_view json) {
  comma();
  out_ += json;
}

void JsonWriter::time_member(std::string_view name, std::int64_t wall_ms) {
  key(name);
  if (wall_ms == 0) return null();
  value(format_rfc3339(wall_ms));
}

}  // namespace postbag
