#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "postbag/error.h"

namespace postbag {

// Every code of an error that intake answers. Stable: programs decide by them, and metrics count
// them.
inline constexpr auto error_codes = std::to_array<std::string_view>(
    {"bad_argument",     "bad_hook",        "bad_json",  "bad_query",    "bad_request",
     "content_type",     "disk_low",        "empty",     "full",         "head_too_large",
     "header",           "id_conflict",     "internal",  "method",       "not_delivered",
     "not_found",        "not_json",        "not_live",  "not_ready",    "not_remembered",
     "origin",           "request_timeout", "stopping",  "store_busy",   "store_cannot_create",
     "store_corrupt",    "store_failed",    "store_io",  "store_newer",  "store_permission",
     "target_forbidden", "timeout",         "too_large", "unauthorized", "url_syntax"});

// error_codes.size(): it is none of them.
constexpr std::uint8_t error_code_index(std::string_view name) {
  std::uint8_t index = 0;
  while (index < error_codes.size() && error_codes[index] != name) ++index;
  return index;
}

// One of these.
class ErrorCode {
 public:
  // "internal"
  constexpr ErrorCode() = default;
  // A text that is not one of them does not compile.
  template <std::size_t Size>
  consteval ErrorCode(const char (&name)[Size]) : index_(error_code_index(name)) {
    if (index_ == error_codes.size()) throw "not one of error_codes";
  }
  explicit ErrorCode(Errc error) {
    const std::uint8_t index = error_code_index(error_token(error));
    if (index < error_codes.size()) index_ = index;
  }

  constexpr std::size_t index() const { return index_; }
  constexpr std::string_view name() const { return error_codes[index_]; }
  friend constexpr bool operator==(ErrorCode code, std::string_view name) {
    return code.name() == name;
  }

 private:
  std::uint8_t index_ = error_code_index("internal");
};

// An error as intake answers it: {"error": {"code", "message", "index"?}}. Holds no payload and no
// secret.
struct ApiError {
  int status = 400;
  ErrorCode code;
  std::string message;
  std::optional<std::size_t> index;  // which hook of the call, 0-based
};

// The status that an engine error is answered with.
int http_status(Errc error);

}  // namespace postbag
