#pragma once

#include <cstddef>
#include <cstdint>

namespace postbag {

// Numbers in files and checksums: eight bytes, the lowest first, whatever the machine's order.
inline void put_little_endian(char* out, std::uint64_t value) {
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

inline std::uint64_t little_endian_at(const char* in) {
  std::uint64_t value = 0;
  for (std::size_t i = 8; i-- > 0;) value = value << 8 | static_cast<unsigned char>(in[i]);
  return value;
}

}  // namespace postbag
