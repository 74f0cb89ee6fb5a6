#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "postbag/store.h"

namespace postbag {

// Failed hooks as texts. Pure.

// One line that `send` reads again: {"target", "data", "event", "group", "id", "headers"}. Line
// ends within the payload (they can only be blanks between its parts) become spaces. Nothing if the
// body is not JSON (a damaged row).
std::optional<std::string> export_line(const FailedHook& row);

// One element of the array that GET /v1/failed answers.
std::string failed_json(const FailedHook& row);

// Rows of the table of `failed list`; the head is the first one.
std::vector<std::string> failed_table_head();
std::vector<std::string> failed_table_row(const FailedHook& row);

// Everything about one, for people. Values of its own headers are masked, and
// those of the answer that may be secrets.
std::string failed_details(const FailedHook& row);

}  // namespace postbag
