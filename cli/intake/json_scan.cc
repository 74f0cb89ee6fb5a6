#include "cli/intake/json_scan.h"

#include <bit>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace postbag {
namespace {

bool ends_scalar(char c) {
  return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// Numbers, true, false, null; and whatever else begins with no bracket and no quote.
const char* skip_scalar(const char* p, const char* end) {
  const char* const begin = p;
  while (p < end && !ends_scalar(*p)) ++p;
  return p == begin ? nullptr : p;
}

const char* skip_string_plain(const char* p, const char* end) {
  for (++p; p < end; ++p) {
    if (*p == '\\') {
      ++p;
    } else if (*p == '"') {
      return p + 1;
    }
  }
  return nullptr;
}

}  // namespace

const char* skip_json_value_plain(const char* begin, const char* end) {
  if (begin >= end) return nullptr;
  if (*begin == '"') return skip_string_plain(begin, end);
  if (*begin != '{' && *begin != '[') return skip_scalar(begin, end);
  std::size_t depth = 0;
  const char* p = begin;
  while (p < end) {
    switch (*p) {
      case '"':
        p = skip_string_plain(p, end);
        if (p == nullptr) return nullptr;
        continue;
      case '{':
      case '[':
        ++depth;
        break;
      case '}':
      case ']':
        if (--depth == 0) return p + 1;
        break;
      default:
        break;
    }
    ++p;
  }
  return nullptr;
}

StringScan scan_json_string_plain(const char* begin, const char* end) {
  StringScan scan;
  for (const char* p = begin; p < end; ++p) {
    const auto byte = static_cast<unsigned char>(*p);
    if (byte == '"' || byte == '\\' || byte < 0x20) {
      scan.stop = p;
      return scan;
    }
    scan.ascii = scan.ascii && byte < 0x80;
  }
  return scan;
}

#ifdef __SSE2__

namespace {

struct Lane {
  __m128i bytes;

  explicit Lane(const char* p) : bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))) {}
  std::uint64_t equal(char c) const {
    return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(c))));
  }
  // '[' and '{', and ']' and '}', differ in this one bit only.
  std::uint64_t equal_folded(char c) const {
    const __m128i folded = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
    return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(folded, _mm_set1_epi8(c))));
  }
  std::uint64_t control() const {
    const __m128i low = _mm_min_epu8(bytes, _mm_set1_epi8(0x1f));
    return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(low, bytes)));
  }
  std::uint64_t not_ascii() const { return static_cast<std::uint32_t>(_mm_movemask_epi8(bytes)); }
};

// One bit for each of 64 bytes.
struct Block {
  std::uint64_t quotes = 0, backslashes = 0, opening = 0, closing = 0;

  explicit Block(const char* p) {
    for (int i = 0; i < 4; ++i) {
      const Lane lane(p + 16 * i);
      quotes |= lane.equal('"') << (16 * i);
      backslashes |= lane.equal('\\') << (16 * i);
      opening |= lane.equal_folded('{') << (16 * i);
      closing |= lane.equal_folded('}') << (16 * i);
    }
  }
};

// Bit i of the answer is the parity of bits 0 to i.
std::uint64_t prefix_xor(std::uint64_t bits) {
  bits ^= bits << 1;
  bits ^= bits << 2;
  bits ^= bits << 4;
  bits ^= bits << 8;
  bits ^= bits << 16;
  bits ^= bits << 32;
  return bits;
}

// The characters that a backslash before them escapes; `carry` goes from block to block.
std::uint64_t escaped_characters(std::uint64_t backslashes, std::uint64_t& carry) {
  std::uint64_t escaped = carry;
  backslashes &= ~carry;
  carry = 0;
  while (backslashes != 0) {
    const int at = std::countr_zero(backslashes);
    if (at == 63) {
      carry = 1;
      break;
    }
    escaped |= 2ull << at;
    backslashes &= ~(3ull << at);
  }
  return escaped;
}

const char* skip_composite(const char* p, const char* end) {
  std::uint64_t in_string_carry = 0;
  std::uint64_t escape_carry = 0;
  std::int64_t depth = 0;
  for (; p < end; p += 64) {
    const Block block(p);
    const std::uint64_t escaped = escaped_characters(block.backslashes, escape_carry);
    const std::uint64_t in_string = prefix_xor(block.quotes & ~escaped) ^ in_string_carry;
    in_string_carry = static_cast<std::uint64_t>(static_cast<std::int64_t>(in_string) >> 63);
    const std::uint64_t opening = block.opening & ~in_string;
    const std::uint64_t closing = block.closing & ~in_string;
    const int closed = std::popcount(closing);
    if (depth > closed) {  // cannot come down to 0 in this block
      depth += std::popcount(opening) - closed;
      continue;
    }
    for (std::uint64_t bits = opening | closing; bits != 0; bits &= bits - 1) {
      const std::uint64_t bit = bits & (~bits + 1);
      depth += (opening & bit) != 0 ? 1 : -1;
      if (depth == 0) {
        const char* behind = p + std::countr_zero(bits) + 1;
        return behind <= end ? behind : nullptr;
      }
    }
  }
  return nullptr;
}

}  // namespace

const char* skip_json_value(const char* begin, const char* end) {
  if (begin >= end) return nullptr;
  if (*begin == '{' || *begin == '[') return skip_composite(begin, end);
  if (*begin != '"') return skip_scalar(begin, end);
  for (const char* p = begin + 1;;) {
    const char* const stop = scan_json_string(p, end).stop;
    if (stop == nullptr) return nullptr;
    if (*stop == '"') return stop + 1;
    p = stop + (*stop == '\\' ? 2 : 1);
  }
}

StringScan scan_json_string(const char* begin, const char* end) {
  StringScan scan;
  std::uint64_t seen_not_ascii = 0;
  for (const char* p = begin; p < end; p += 16) {
    const Lane lane(p);
    const std::uint64_t stops = lane.equal('"') | lane.equal('\\') | lane.control();
    const std::uint64_t not_ascii = lane.not_ascii();
    if (stops != 0) {
      const int at = std::countr_zero(stops);
      if (p + at >= end) return {};
      scan.stop = p + at;
      scan.ascii = (seen_not_ascii | (not_ascii & ((1ull << at) - 1))) == 0;
      return scan;
    }
    seen_not_ascii |= not_ascii;
  }
  return {};
}

#else

const char* skip_json_value(const char* begin, const char* end) {
  return skip_json_value_plain(begin, end);
}
StringScan scan_json_string(const char* begin, const char* end) {
  return scan_json_string_plain(begin, end);
}

#endif

}  // namespace postbag
