#pragma once

#include <string>
#include <string_view>

#include "cli/intake/request_body.h"

namespace postbag {

// Reads the JSON string whose opening quote is at `begin`: full validation (escapes, surrogate
// pairs, UTF-8, control characters). `out` points into the text, or, if there are escapes in it, to
// an unescaped copy kept by `body`. Returns the first byte behind the closing quote, or null and
// what is wrong. Up to json_padding bytes behind `end` are read.
const char* read_json_string(const char* begin, const char* end, RequestBody& body,
                             std::string_view& out, std::string& problem);

}  // namespace postbag
