#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "postbag/time.h"

namespace postbag {

// "2026-01-02T03:04:05.678Z". Years beyond 0 to 9999 are cut to them.
std::string format_rfc3339(WallMs wall_ms);

// RFC 3339 date-time with Z or an offset and any number of decimals (cut to milliseconds). A blank
// may stand for the '+' of the offset, since a query string turns one into the other. A leap second
// counts as the second before it.
std::optional<WallMs> parse_rfc3339(std::string_view text);

// A time as filters take it: RFC 3339, or an age before `now_ms` ("1h", "250ms", bare seconds).
std::optional<WallMs> parse_when(std::string_view text, WallMs now_ms);

}  // namespace postbag
