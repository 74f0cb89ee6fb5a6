#include "engine/pure/hook_id.h"

#include <cstring>

namespace postbag {
namespace {

// high: 48 time | 4 version = 7 | 12 chunk (its upper bits)
// low:  2 variant = 10 | 32 chunk (its lower bits) | 14 index | 16 tag
constexpr std::uint64_t version_bits = 7ULL << 12;
constexpr std::uint64_t variant_bits = 2ULL << 62;
constexpr int chunk_low_bits = 32;
constexpr int chunk_shift = hook_id_index_bits + hook_id_tag_bits;
constexpr std::uint64_t mask(int bits) {
  return (1ULL << bits) - 1;
}

struct HexPairs {
  char text[256][2];
};
constexpr HexPairs make_hex_pairs() {
  HexPairs pairs{};
  for (int i = 0; i < 256; ++i) {
    pairs.text[i][0] = "0123456789abcdef"[i >> 4];
    pairs.text[i][1] = "0123456789abcdef"[i & 15];
  }
  return pairs;
}
constexpr HexPairs hex_pairs = make_hex_pairs();

// The value of a digit as append_to() writes it, or -1.
int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Without a loop: every request has an id, and every answer of the intake many.
template <int shift, int count>
[[gnu::always_inline]] inline char* write_bytes(char* out, std::uint64_t value) {
  std::memcpy(out, hex_pairs.text[value >> shift & 255], 2);
  if constexpr (count > 1) return write_bytes<shift - 8, count - 1>(out + 2, value);
  return out + 2;
}

}  // namespace

char* write_text(char* out, const HookId& id) {
  out = write_bytes<56, 4>(out, id.high);
  *out++ = '-';
  out = write_bytes<24, 2>(out, id.high);
  *out++ = '-';
  out = write_bytes<8, 2>(out, id.high);
  *out++ = '-';
  out = write_bytes<56, 2>(out, id.low);
  *out++ = '-';
  return write_bytes<40, 6>(out, id.low);
}

HookId make_hook_id(WallMs wall_ms, std::uint64_t chunk, std::uint32_t index, std::uint16_t tag) {
  HookId id;
  id.high = (static_cast<std::uint64_t>(wall_ms) & mask(hook_id_time_bits)) << 16 | version_bits |
            (chunk & mask(hook_id_chunk_bits)) >> chunk_low_bits;
  id.low = variant_bits | (chunk & mask(chunk_low_bits)) << chunk_shift |
           (index & mask(hook_id_index_bits)) << hook_id_tag_bits | tag;
  return id;
}

HookLocation locate(const HookId& id) {
  HookLocation location;
  location.wall_ms = static_cast<WallMs>(id.high >> 16);
  location.chunk = (id.high & mask(hook_id_chunk_bits - chunk_low_bits)) << chunk_low_bits |
                   (id.low >> chunk_shift & mask(chunk_low_bits));
  location.index =
      static_cast<std::uint32_t>(id.low >> hook_id_tag_bits & mask(hook_id_index_bits));
  location.tag = static_cast<std::uint16_t>(id.low & mask(hook_id_tag_bits));
  return location;
}

void append_to(std::string& out, const HookId& id) {
  char text[hook_id_text_size];
  write_text(text, id);
  out.append(text, hook_id_text_size);
}

std::string to_string(const HookId& id) {
  std::string out;
  append_to(out, id);
  return out;
}

// Lower case only: an id that a producer chose in other letters stays its own text, and
// to_string(parse(x)) == x.
std::optional<HookId> parse_hook_id(std::string_view text) {
  if (text.size() != hook_id_text_size) return std::nullopt;
  std::uint64_t halves[2] = {0, 0};
  std::size_t digits = 0;
  for (std::size_t i = 0; i < hook_id_text_size; ++i) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const int value = hex_digit(text[i]);
    if (value < 0) return std::nullopt;
    std::uint64_t& half = halves[digits++ / 16];
    half = half << 4 | static_cast<std::uint64_t>(value);
  }
  const HookId id{halves[0], halves[1]};
  if ((id.high & mask(4) << 12) != version_bits || (id.low & 3ULL << 62) != variant_bits)
    return std::nullopt;
  return id;
}

}  // namespace postbag
