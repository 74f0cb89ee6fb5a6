#include "engine/pure/json.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <new>

#include "engine/pure/json_accept.h"

namespace postbag {
namespace {

static_assert(json_padding >= simdjson::SIMDJSON_PADDING);

// A parser needs about 14 bytes for each byte of text. Above this size it is not kept for the next
// text.
constexpr std::size_t kept_text_bytes = 256 << 10;
constexpr std::size_t first_text_bytes = 16 << 10;

// In longer texts simdjson is as fast as accept_json().
constexpr std::size_t accepted_text_bytes = 4 << 10;

constexpr std::string_view too_deep = "nested deeper than 64 levels";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// RFC 8259 by the letter. simdjson decides nearly always; this one where simdjson's refusal is
// about its own limits: numbers that no double or 64-bit integer holds, and an innermost empty
// container, which it does not count as a level.
class Reader {
 public:
  explicit Reader(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  std::string_view check() {
    skip_space();
    while (problem_.empty()) {
      if (!read_value()) continue;
      if (!read_after_value()) continue;
      skip_space();
      if (at_ != end_) return "something follows the value";
      return {};
    }
    return problem_;
  }

 private:
  bool fail(std::string_view what) {
    problem_ = what;
    return false;
  }

  char peek() const { return at_ == end_ ? '\0' : *at_; }

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  bool take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    skip_space();
    return true;
  }

  // True: a whole value was read. False: a container was entered and its first value is next, or
  // there is a problem.
  bool read_value() {
    const char c = peek();
    if (c == '{' || c == '[') return enter(c);
    if (c == '"') return read_string();
    if (c == '-' || is_digit(c)) return read_number();
    for (const std::string_view word : {"true", "false", "null"}) {
      if (std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(word)) {
        at_ += word.size();
        return true;
      }
    }
    return fail("a value is missing or misspelt");
  }

  bool enter(char open) {
    if (depth_ == json_depth_max) return fail(too_deep);
    is_object_[depth_++] = open == '{';
    ++at_;
    skip_space();
    if (take_close()) return true;
    if (open == '{') read_key();
    return false;
  }

  // A ']' or '}' that ends the innermost container. Spaces behind it are left to
  // read_after_value().
  bool take_close() {
    if (at_ == end_ || *at_ != (is_object_[depth_ - 1] ? '}' : ']')) return false;
    ++at_;
    --depth_;
    return true;
  }

  bool read_key() {
    if (peek() != '"') return fail("an object's key is missing");
    if (!read_string()) return false;
    skip_space();
    return take(':') || fail("a ':' is missing");
  }

  // True: the outermost value has ended. False: another value is next, or there is a problem.
  bool read_after_value() {
    while (depth_ > 0) {
      skip_space();
      if (take_close()) continue;
      if (!take(',')) return fail("a ',' or the end of a container is missing");
      if (is_object_[depth_ - 1]) read_key();
      return false;
    }
    return true;
  }

  bool read_number() {
    if (*at_ == '-') ++at_;
    if (peek() == '0') {
      ++at_;
    } else if (!read_digits()) {
      return false;
    }
    if (peek() == '.') {
      ++at_;
      if (!read_digits()) return false;
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!read_digits()) return false;
    }
    return !is_digit(peek()) || fail("a number begins with 0");
  }

  bool read_digits() {
    if (!is_digit(peek())) return fail("a number is not well formed");
    while (is_digit(peek())) ++at_;
    return true;
  }

  // UTF-8 is checked for the text as a whole.
  bool read_string() {
    for (++at_; at_ != end_; ++at_) {
      const auto c = static_cast<unsigned char>(*at_);
      if (c == '"') {
        ++at_;
        return true;
      }
      if (c < 0x20) return fail("a string has a control character");
      if (c == '\\' && !read_escape()) return fail("a string has an escape that does not exist");
    }
    return fail("a string does not end");
  }

  // Leaves at_ on the escape's last character.
  bool read_escape() {
    ++at_;
    if (at_ == end_) return false;
    if (*at_ != 'u') return std::strchr("\"\\/bfnrt", *at_) != nullptr && *at_ != '\0';
    const int unit = read_unit();
    if (unit < 0 || (unit >= 0xdc00 && unit < 0xe000)) return false;
    if (unit < 0xd800 || unit >= 0xe000) return true;
    if (end_ - at_ < 3 || at_[1] != '\\' || at_[2] != 'u') return false;
    at_ += 2;
    const int low = read_unit();
    return low >= 0xdc00 && low < 0xe000;
  }

  int read_unit() {
    if (end_ - at_ < 5) return -1;
    int unit = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = *++at_;
      const char folded = static_cast<char>(c | 0x20);
      if (!is_digit(c) && (folded < 'a' || folded > 'f')) return -1;
      unit = unit * 16 + (is_digit(c) ? c - '0' : folded - 'a' + 10);
    }
    return unit;
  }

  const char* at_;
  const char* const end_;
  std::size_t depth_ = 0;
  std::array<bool, json_depth_max> is_object_{};
  std::string_view problem_;
};

struct Scratch {
  simdjson::dom::parser parser;
  std::unique_ptr<char[]> padded;
  std::size_t padded_bytes = 0;

  // Where simdjson stops at max_depth - 1 levels that hold something, it has passed at most
  // json_depth_max levels.
  Scratch() {
    if (parser.allocate(first_text_bytes, json_depth_max) != simdjson::SUCCESS ||
        parser.doc.allocate(first_text_bytes) != simdjson::SUCCESS) {
      throw std::bad_alloc();
    }
  }

  const char* copy(std::string_view text) {
    if (padded_bytes < text.size() + json_padding) {
      padded_bytes = std::max(text.size() + json_padding, first_text_bytes);
      padded = std::make_unique_for_overwrite<char[]>(padded_bytes);
    }
    std::memcpy(padded.get(), text.data(), text.size());
    return padded.get();
  }
};

std::string_view message_of(simdjson::error_code code) {
  switch (code) {
    case simdjson::UTF8_ERROR:
      return "not valid UTF-8";
    case simdjson::UNESCAPED_CHARS:
      return "a string has a control character";
    case simdjson::UNCLOSED_STRING:
      return "a string does not end";
    case simdjson::STRING_ERROR:
      return "a string has an escape that does not exist";
    case simdjson::EMPTY:
      return "empty";
    case simdjson::CAPACITY:
      return "too large to be checked";
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
      return "a value is missing or misspelt";
    default:
      return "a bracket, comma, colon or value is missing or out of place";
  }
}

}  // namespace

std::optional<std::string> check_json(std::string_view text, bool padded) {
  if (text.size() <= accepted_text_bytes && accept_json(text)) return std::nullopt;
  return check_json_thoroughly(text, padded);
}

std::optional<std::string> check_json_thoroughly(std::string_view text, bool padded) {
  if (text.empty()) return "empty";
  // Later versions of simdjson skip it; inside a batch it would be an error.
  if (text.starts_with("\xef\xbb\xbf")) return "begins with a byte order mark";
  thread_local std::unique_ptr<Scratch> scratch;
  if (!scratch) scratch = std::make_unique<Scratch>();
  const char* const data = padded ? text.data() : scratch->copy(text);
  const simdjson::error_code code = scratch->parser.parse(data, text.size(), false).error();
  if (text.size() > kept_text_bytes || code == simdjson::MEMALLOC) scratch.reset();
  switch (code) {
    case simdjson::SUCCESS:
      return std::nullopt;
    case simdjson::MEMALLOC:
      throw std::bad_alloc();  // it says nothing about the text
    case simdjson::NUMBER_ERROR:
    case simdjson::DEPTH_ERROR:
      break;
    default:
      return std::string(message_of(code));
  }
  // A text can have other faults too, which simdjson did not get to.
  if (!simdjson::validate_utf8(text.data(), text.size())) return "not valid UTF-8";
  const std::string_view problem = Reader(text).check();
  if (problem.empty()) return std::nullopt;
  return std::string(problem);
}

}  // namespace postbag
