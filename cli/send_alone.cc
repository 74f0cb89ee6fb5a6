#include <algorithm>
#include <utility>

#include "cli/exit_codes.h"
#include "cli/send_way.h"
#include "postbag/error.h"

namespace postbag {

namespace {
constexpr Duration look_interval = std::chrono::milliseconds(200);
}

SendAlone::SendAlone(std::unique_ptr<Store> store, const Options& options, Logger logger,
                     const SignalWatch& signals)
    : drain_timeout_(options.engine.drain_timeout),
      is_durable_(options.store.durability != Durability::memory),
      signals_(signals),
      engine_(options, std::move(store), std::move(logger)) {}

std::optional<SendError> SendAlone::hand_over(SendGroup& group) {
  for (int tries = 1;; ++tries) {
    const SubmitResult result = engine_.submit(std::move(group.hooks), {});
    if (result.ok()) {
      group.accepted = true;
      return std::nullopt;
    }
    const bool one_is_to_blame =
        result.index != SubmitResult::whole_call || group.line_numbers.size() == 1;
    if (result.error < Errc::full && one_is_to_blame) {
      const std::size_t index = std::min(result.index, group.line_numbers.size() - 1);
      return SendError{group.line_numbers[index], result.message};
    }
    if (result.error != Errc::full) {
      throw CommandError(exit_code_of(make_error_code(result.error)), result.message);
    }
    if (signals_.stopped()) return std::nullopt;
    // What waits in bags without a timer would keep its room for ever.
    if (tries % 10 == 0) engine_.flush();
    const bool idle = engine_.wait_idle(look_interval);
    if (idle && tries > 100) throw CommandError(exit_system, "[engine] max_memory is too small");
    // submit() took the list along with its refusal.
    group.hooks = parse_send_lines(group.ndjson).hooks;
  }
}

void SendAlone::finish(const std::function<void()>& look) {
  engine_.flush();
  while (!signals_.stopped() && !engine_.wait_idle(look_interval)) {
    // It waits no more then.
    if (!engine_.status().healthy) break;
    look();
  }
  if (signals_.stopped()) engine_.drain(drain_timeout_);
  if (!engine_.status().healthy) throw CommandError(exit_io, "the store failed");
}

std::string SendAlone::left_text() {
  if (is_durable_) return "pending in the store";
  return "lost, as they could not be stored as failed";
}

SendCounts SendAlone::counts() {
  const EngineStatus status = engine_.status();
  SendCounts counts;
  counts.accepted = status.accepted;
  counts.duplicates = status.duplicates;
  counts.delivered = status.delivered;
  counts.left = status.pending;
  // What is neither is stored as failed, for whatever reason (given up, shutdown).
  counts.failed = status.accepted - std::min(status.accepted, status.delivered + status.pending);
  return counts;
}

}  // namespace postbag
