#include "store/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

#include "store/little_endian.h"

namespace postbag {
namespace {

constexpr std::uint32_t polynomial = 0x82f63b78;  // reflected

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? polynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    for (std::size_t t = 1; t < tables.size(); ++t) {
      const std::uint32_t before = tables[t - 1][byte];
      tables[t][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables tables = make_tables();

#if defined(__x86_64__)
// The instruction takes three cycles and can begin every cycle: three lanes beside each other.
constexpr std::size_t lane_bytes = 512;
using LaneTables = std::array<std::array<std::uint32_t, 256>, 4>;

// What a lane of zeros makes of a state; each byte of the state by itself, as all of it is linear.
constexpr LaneTables make_lane_tables() {
  std::array<std::uint32_t, 32> bits{};
  for (std::size_t bit = 0; bit < bits.size(); ++bit) {
    std::uint32_t state = std::uint32_t{1} << bit;
    for (std::size_t i = 0; i < lane_bytes; ++i) state = (state >> 8) ^ tables[0][state & 0xff];
    bits[bit] = state;
  }
  LaneTables lanes{};
  for (std::size_t byte = 0; byte < lanes.size(); ++byte) {
    for (std::uint32_t value = 0; value < 256; ++value) {
      for (std::size_t bit = 0; bit < 8; ++bit) {
        if ((value >> bit & 1) != 0) lanes[byte][value] ^= bits[8 * byte + bit];
      }
    }
  }
  return lanes;
}

constexpr LaneTables lane_tables = make_lane_tables();

std::uint32_t over_zero_lane(std::uint64_t state) {
  return lane_tables[0][state & 0xff] ^ lane_tables[1][state >> 8 & 0xff] ^
         lane_tables[2][state >> 16 & 0xff] ^ lane_tables[3][state >> 24 & 0xff];
}

std::uint64_t word_at(const char* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

__attribute__((target("sse4.2"))) std::uint32_t crc32c_sse42(std::uint32_t crc,
                                                             std::string_view data) {
  std::uint64_t state = crc ^ 0xffffffffu;
  const char* at = data.data();
  std::size_t left = data.size();
  for (; left >= 3 * lane_bytes; at += 3 * lane_bytes, left -= 3 * lane_bytes) {
    std::uint64_t second = 0, third = 0;
    for (std::size_t i = 0; i < lane_bytes; i += 8) {
      state = __builtin_ia32_crc32di(state, word_at(at + i));
      second = __builtin_ia32_crc32di(second, word_at(at + lane_bytes + i));
      third = __builtin_ia32_crc32di(third, word_at(at + 2 * lane_bytes + i));
    }
    state = over_zero_lane(over_zero_lane(state) ^ second) ^ third;
  }
  for (; left >= 8; at += 8, left -= 8) {
    state = __builtin_ia32_crc32di(state, word_at(at));
  }
  auto state32 = static_cast<std::uint32_t>(state);
  for (; left > 0; ++at, --left) {
    state32 = __builtin_ia32_crc32qi(state32, static_cast<unsigned char>(*at));
  }
  return state32 ^ 0xffffffffu;
}
#endif

using Function = std::uint32_t (*)(std::uint32_t, std::string_view);

Function choose() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42;
#endif
  return crc32c_portable;
}

}  // namespace

std::uint32_t crc32c_portable(std::uint32_t crc, std::string_view data) {
  crc ^= 0xffffffffu;
  const auto* at = reinterpret_cast<const unsigned char*>(data.data());
  std::size_t left = data.size();
  for (; left >= 8; at += 8, left -= 8) {
    // Bytes are taken one by one, so the result does not depend on the byte order of the machine.
    const std::uint32_t low = crc ^ (at[0] | std::uint32_t{at[1]} << 8 |
                                     std::uint32_t{at[2]} << 16 | std::uint32_t{at[3]} << 24);
    crc = tables[7][low & 0xff] ^ tables[6][(low >> 8) & 0xff] ^ tables[5][(low >> 16) & 0xff] ^
          tables[4][low >> 24] ^ tables[3][at[4]] ^ tables[2][at[5]] ^ tables[1][at[6]] ^
          tables[0][at[7]];
  }
  for (; left > 0; ++at, --left) crc = (crc >> 8) ^ tables[0][(crc ^ *at) & 0xff];
  return crc ^ 0xffffffffu;
}

std::uint32_t crc32c(std::uint32_t crc, std::string_view data) {
  static const Function function = choose();
  return function(crc, data);
}

RowChecksum& RowChecksum::add(std::string_view field) {
  add(std::uint64_t{field.size()});
  crc_ = crc32c(crc_, field);
  return *this;
}

RowChecksum& RowChecksum::add(std::uint64_t number) {
  char bytes[8];
  put_little_endian(bytes, number);
  crc_ = crc32c(crc_, {bytes, sizeof bytes});
  return *this;
}

}  // namespace postbag
