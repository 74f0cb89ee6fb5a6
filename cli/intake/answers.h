#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/intake/api_error.h"
#include "cli/intake/exchange.h"
#include "cli/text/json_writer.h"
#include "postbag/engine.h"
#include "postbag/options.h"

namespace postbag {

// Appends the text of an error as intake answers it: {"code":...,"message":...,"index":...}.
void append_error(std::string& out, const ApiError& error);

// {"error": {...}}; 503 comes with Retry-After.
Answer error_answer(const ApiError& error);
ApiError to_api_error(const SubmitResult& result);
// Where the system has no memory. Short enough to need none itself.
ApiError out_of_memory();
// The bodies that are being read have no room for one more.
ApiError bodies_full(const ByteBudget& budget);
ApiError body_too_large(std::uint64_t bytes_max);
ApiError to_api_error(std::error_code code);

// 202 {"accepted", "duplicates", "ids", "durability"}. `own_ids` as in ParsedCall: where a hook has
// one it stands for the engine's.
Answer accepted_answer(const SubmitResult& result, std::span<const std::string_view> own_ids,
                       Durability durability);

// The answer of ?wait=delivered: as above with "outcomes"; hooks without an outcome (at the
// timeout, or forgotten) are left out.
struct WaitedHook {
  bool known = false;
  HookOutcome outcome;
  bool forgotten = false;  // what became of it is not remembered; not known then
};
Answer waited_answer(const SubmitResult& result, std::span<const std::string_view> own_ids,
                     Durability durability, std::span<const WaitedHook> hooks);

Answer status_answer(const EngineStatus& status);
Answer targets_answer(const std::vector<TargetStatus>& targets);
Answer hook_answer(const HookStatus& hook);
// What rows show: `bodies` false: body, headers and response fields are left out. Values of their
// headers are often secrets: only who sends them again needs them, for others they are masked, as
// are those of the answer's that may be (masked_headers.h).
struct FailedParts {
  bool bodies = true;
  bool header_values = false;
};
void write_failed_hook(JsonWriter& json, std::string& out, const FailedHook& row,
                       FailedParts parts);
Answer failed_answer(const FailedPage& page, FailedParts parts);
// {"delivered", "failed", "skipped"}, and "claimed" if another run has some; a line of progress has
// "total" and "done" too.
void append_progress(std::string& out, const RetryProgress& progress);
void append_progress_line(std::string& out, const RetryProgress& progress, bool done);
// {"purged": n}, and "claimed" if a run of retry-failed-hooks has some.
Answer purge_answer(const PurgeResult& result);
Answer plan_answer(const RetryPlan& plan);
// {"<name>": n}
Answer count_answer(std::string_view name, std::uint64_t count);

}  // namespace postbag
