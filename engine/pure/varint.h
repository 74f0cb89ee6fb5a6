#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/pure/check.h"

namespace postbag {

inline constexpr std::size_t varint_bytes_max = 10;

// LEB128, as in the chunks of the store: seven bits a byte, the lowest first. Returns the end.
inline char* write_varint(char* out, std::uint64_t value) {
  while (value >= 0x80) {
    *out++ = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  *out++ = static_cast<char>(value);
  return out;
}

inline void put_varint(std::string& out, std::uint64_t value) {
  char bytes[varint_bytes_max];
  out.append(bytes, static_cast<std::size_t>(write_varint(bytes, value) - bytes));
}

// For input that a file can have damaged: false, and `in` somewhere inside, where it ends early or
// overflows.
inline bool try_take_varint(std::string_view& in, std::uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 64 && !in.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(in.front());
    in.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

// For memory of our own.
inline std::uint64_t take_varint(std::string_view& in) {
  std::uint64_t value = 0;
  check(try_take_varint(in, value));
  return value;
}

inline std::string_view take_text(std::string_view& in) {
  const std::uint64_t bytes = take_varint(in);
  check(bytes <= in.size());
  const std::string_view text = in.substr(0, bytes);
  in.remove_prefix(bytes);
  return text;
}

}  // namespace postbag
