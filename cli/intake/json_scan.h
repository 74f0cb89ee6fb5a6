#pragma once

#include <cstddef>

namespace postbag {

// Finding ends in JSON text. All of these read up to json_padding (postbag/json.h) bytes behind
// `end`: those must be readable, their content does not matter. None of them validates; the user of
// the slice does.

// First byte behind the JSON value that begins at `begin`, or null if it does not end before `end`.
// Looks at brackets and quotes only. For text that is valid JSON up to there the answer is exact;
// for other text the slice found is not valid JSON, or what follows it is not what may follow a
// value.
const char* skip_json_value(const char* begin, const char* end);

struct StringScan {
  // First quote, backslash or control character; null: none before `end`.
  const char* stop = nullptr;
  bool ascii = true;  // of the bytes before `stop`
};
StringScan scan_json_string(const char* begin, const char* end);

// The same without vector instructions: what other machines use, and what the tests compare with.
const char* skip_json_value_plain(const char* begin, const char* end);
StringScan scan_json_string_plain(const char* begin, const char* end);

}  // namespace postbag
