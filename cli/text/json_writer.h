#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace postbag {

// Appends a JSON string with its quotes. The output is always valid UTF-8: a byte of `text` that is
// not becomes U+FFFD (give bytes that must come through exactly to to_base64()).
void append_json_string(std::string& out, std::string_view text);

std::string to_base64(std::string_view bytes);

// Writes JSON text to the end of a string; the caller opens and closes what it should. No
// whitespace.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}

  void begin_object() { open('{'); }
  void end_object() { close('}'); }
  void begin_array() { open('['); }
  void end_array() { close(']'); }
  // Names are literals of ours: they are not escaped.
  void key(std::string_view name);

  void value(std::string_view text);
  void value(const char* text) { value(std::string_view(text)); }
  void value(const std::string& text) { value(std::string_view(text)); }
  void value(double number);  // at most 3 decimals; null if it is not finite
  template <std::same_as<bool> Bool>
  void value(Bool flag) {
    raw(flag ? "true" : "false");
  }
  template <std::integral Int>
  requires(!std::same_as<Int, bool>) void value(Int number) { raw(std::to_string(number)); }
  void null() { raw("null"); }
  // Already JSON text.
  void raw(std::string_view json);

  template <typename Value>
  void member(std::string_view name, const Value& of) {
    key(name);
    value(of);
  }
  // A wall time as RFC 3339, null for 0 ("never").
  void time_member(std::string_view name, std::int64_t wall_ms);

 private:
  void comma();
  void open(char bracket);
  void close(char bracket);

  std::string& out_;
  bool comma_ = false;  // something stands before the next value on its level
};

}  // namespace postbag
