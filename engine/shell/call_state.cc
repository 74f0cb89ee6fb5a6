#include "engine/shell/call_state.h"

#include "engine/pure/failed_key.h"
#include "engine/pure/hook_id.h"

namespace postbag {

bool CallState::add_dependent(std::shared_ptr<CallState> other) {
  if (finished_) return false;
  dependents_.push_back(std::move(other));
  return true;
}

void CallState::shard_done(Errc error) {
  if (error != Errc::ok) error_.store(error, std::memory_order_relaxed);
  if (parts_left_.fetch_sub(1, std::memory_order_acq_rel) == 1) finish();
}

void CallState::refuse() {
  result_.accepted = result_.duplicates = 0;
  handler_(std::move(result_));
}

void CallState::finish() {
  const Errc error = error_.load(std::memory_order_relaxed);
  std::vector<std::shared_ptr<CallState>> dependents;
  if (!given_.empty()) {
    const std::lock_guard lock(ids_.mutex);
    for (const GivenId& given : given_) {
      if (error != Errc::ok) {
        ids_.table.release(given.id);
        continue;
      }
      const HookPlace place = locate(result_.ids[given.index]);
      ids_.table.settle(given.id, failed_key(place.chunk, place.index));
      result_.ids[given.index] = HookId{};  // the producer knows it by its own
    }
    finished_ = true;
    dependents.swap(dependents_);
  }
  if (error != Errc::ok) {
    result_.error = error;
    result_.message = error == Errc::disk_low   ? "the store has no room"
                      : error == Errc::stopping ? "the engine is stopping"
                                                : "the store failed";
    result_.accepted = result_.duplicates = 0;
    result_.ids.clear();
  } else {
    if (!wants_ids_) result_.ids.clear();
    if (accepted_handler_) accepted_handler_();
  }
  if (handler_) handler_(std::move(result_));
  for (const auto& dependent : dependents) dependent->shard_done(error);
}

}  // namespace postbag
