#include "engine/pure/json_accept.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/pure/json.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace postbag {
namespace {

// Where more is not ASCII than the accents of a European language, simdjson is faster.
constexpr int wide_max = 16;
constexpr int wide_in_a_row_max = 3;

bool is_space(unsigned char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}
bool is_digit(unsigned char c) {
  return c >= '0' && c <= '9';
}
bool is_hex(unsigned char c) {
  return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

// The text is one object or array, so its last byte is a bracket. That ends whatever is read byte
// by byte, except strings: only there, and behind a bracket that closes, the end is looked for.
// Each function takes the place where it begins and gives the one behind what it took, or null.
class Acceptor {
 public:
  using At = const unsigned char*;
  explicit Acceptor(std::string_view text)
      : begin_(reinterpret_cast<At>(text.data())), end_(begin_ + text.size()) {}

  bool run() {
    At at = begin_;
    while (true) {
      const std::size_t depth = depth_;
      if ((at = take_value(at)) == nullptr) return false;
      if (depth_ > depth) continue;  // up to the first value in it
      if ((at = leave_values(at)) == nullptr) return false;
      if (depth_ == 0) return at == end_;
    }
  }

 private:
  static At skip_space(At at) {
    if (*at > ' ') return at;
    while (is_space(*at)) ++at;
    return at;
  }

  At take_value(At at) {
    const unsigned char first = *at;
    if (first == '"') return take_string(at);
    if (first == '-' || is_digit(first)) return take_number(at);
    switch (first) {
      case '{':
      case '[':
        return enter(at);
      case 't':
        return take_word(at, "true");
      case 'f':
        return take_word(at, "false");
      case 'n':
        return take_word(at, "null");
      default:
        return nullptr;
    }
  }

  // A container that is empty is a level as well, but it is never entered.
  At enter(At at) {
    if (depth_ == json_depth_max) return nullptr;
    const bool object = *at == '{';
    at = skip_space(at + 1);
    if (*at == (object ? '}' : ']')) return at + 1;
    objects_ = objects_ << 1 | (object ? 1 : 0);
    ++depth_;
    return object ? take_key(at) : at;
  }

  // Behind a value: to the next one, or out of all containers.
  At leave_values(At at) {
    while (depth_ > 0) {
      if (at == end_) return nullptr;
      at = skip_space(at);
      const bool object = (objects_ & 1) != 0;
      if (*at == ',') {
        at = skip_space(at + 1);
        return object ? take_key(at) : at;
      }
      if (*at != (object ? '}' : ']')) return nullptr;
      objects_ >>= 1;
      --depth_;
      ++at;
    }
    return at;
  }

  At take_key(At at) {
    if (*at != '"' || (at = take_string(at)) == nullptr) return nullptr;
    at = skip_space(at);
    return *at == ':' ? skip_space(at + 1) : nullptr;
  }

  At take_word(At at, std::string_view word) const {
    if (static_cast<std::size_t>(end_ - at) < word.size()) return nullptr;
    return std::memcmp(at, word.data(), word.size()) == 0 ? at + word.size() : nullptr;
  }

  static At take_digits(At at) {
    if (!is_digit(*at)) return nullptr;
    while (is_digit(*at)) ++at;
    return at;
  }

  static At take_number(At at) {
    if (*at == '-') ++at;
    at = *at == '0' ? at + 1 : take_digits(at);
    if (at != nullptr && *at == '.') at = take_digits(at + 1);
    if (at == nullptr || (*at | 0x20) != 'e') return at;
    ++at;
    return take_digits(*at == '+' || *at == '-' ? at + 1 : at);
  }

  At take_string(At at) {
    ++at;
    while (true) {
      at = skip_plain(at);
      if (at == end_) return nullptr;
      if (*at == '"') return at + 1;
      if (*at < 0x20) return nullptr;
      at = *at == '\\' ? take_escape(at) : take_wide(at);
      if (at == nullptr) return nullptr;
    }
  }

  // To the first byte that is not simply part of a string, or to the end.
  At skip_plain(At at) const {
#ifdef __SSE2__
    if (end_ - at >= 16) {
      if (const std::uint64_t stops = stops_of(at)) return at + std::countr_zero(stops);
      at += 16;
      for (; end_ - at >= 32; at += 32) {
        const std::uint64_t stops = stops_of(at) | stops_of(at + 16) << 16;
        if (stops != 0) return at + std::countr_zero(stops);
      }
    }
    if (end_ - begin_ >= 32) {
      const std::uint64_t last = stops_of(end_ - 32) | stops_of(end_ - 16) << 16;
      const std::uint64_t stops = last >> (32 - (end_ - at));
      return stops != 0 ? at + std::countr_zero(stops) : end_;
    }
#endif
    while (at != end_ && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\') ++at;
    return at;
  }

#ifdef __SSE2__
  // A bit for each of 16 bytes.
  static std::uint64_t stops_of(At bytes) {
    const __m128i lane = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
    // A quote becomes 0x20, and nothing else changes sides; signed, so what is not ASCII is below.
    const __m128i low = _mm_cmplt_epi8(_mm_xor_si128(lane, _mm_set1_epi8(2)), _mm_set1_epi8(0x21));
    const __m128i backslash = _mm_cmpeq_epi8(lane, _mm_set1_epi8('\\'));
    return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_or_si128(low, backslash)));
  }
#endif

  static At take_escape(At at) {
    switch (*++at) {
      case '"':
      case '\\':
      case '/':
      case 'b':
      case 'f':
      case 'n':
      case 'r':
      case 't':
        return at + 1;
      case 'u':
        break;
      default:
        return nullptr;
    }
    const bool may_be_half = (at[1] | 0x20) == 'd';  // of a pair of surrogates
    for (int i = 0; i < 4; ++i) {
      ++at;
      if (!is_hex(*at) || (i == 1 && may_be_half && *at >= '8')) return nullptr;
    }
    return at + 1;
  }

  // Some characters of UTF-8 that are not ASCII (Unicode 15, table 3-7).
  At take_wide(At at) {
    for (int in_a_row = 0; *at >= 0x80; ++in_a_row) {
      if (in_a_row == wide_in_a_row_max || ++wide_characters_ > wide_max) return nullptr;
      const unsigned char first = *at;
      if (first < 0xc2 || first > 0xf4) return nullptr;
      const int length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
      const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
      const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
      if (at[1] < low || at[1] > high) return nullptr;
      for (int i = 2; i < length; ++i) {
        if ((at[i] & 0xc0) != 0x80) return nullptr;
      }
      at += length;
    }
    return at;
  }

  const At begin_;
  const At end_;
  std::size_t depth_ = 0;
  std::uint64_t objects_ = 0;  // a bit for each container that is open, the innermost one's lowest
  static_assert(json_depth_max <= 64);
  int wide_characters_ = 0;
};

}  // namespace

bool accept_json(std::string_view text) {
  const auto space = [](char c) { return is_space(static_cast<unsigned char>(c)); };
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  if (text.size() < 2 || (text.front() != '{' && text.front() != '[')) return false;
  return (text.back() == '}' || text.back() == ']') && Acceptor(text).run();
}

}  // namespace postbag
