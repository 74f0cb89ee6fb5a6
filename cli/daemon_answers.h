#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/engine.h"
#include "postbag/store.h"

namespace postbag {

// Readers of the JSON that the daemon's routes answer. Pure. What is missing keeps its default;
// text that is no JSON object at all is nothing.

struct DaemonError {
  std::string code, message;
  std::optional<std::uint64_t> index;  // of the hook to blame in the call, 0-based
};
DaemonError parse_daemon_error(std::string_view json);

// A number of the top level, 0 if it is not there.
std::uint64_t json_number(std::string_view json, std::string_view name);
// A text of the top level, empty if it is not there.
std::string json_text(std::string_view json, std::string_view name);

struct AcceptedAnswer {
  std::uint64_t accepted = 0, duplicates = 0;
  std::vector<std::string> ids;
};
std::optional<AcceptedAnswer> parse_accepted(std::string_view json);

std::optional<RetryProgress> parse_retry_progress(std::string_view json);
std::optional<RetryPlan> parse_retry_plan(std::string_view json);
std::optional<HookStatus> parse_hook_status(std::string_view json);
std::optional<EngineStatus> parse_engine_status(std::string_view json);
std::optional<std::vector<TargetStatus>> parse_targets(std::string_view json);

struct FailedAnswer {
  std::vector<FailedHook> rows;
  std::string next;  // the cursor of the next page as given; empty at the end
};
std::optional<FailedAnswer> parse_failed_page(std::string_view json);

}  // namespace postbag
