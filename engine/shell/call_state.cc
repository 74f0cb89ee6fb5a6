#include "engine/shell/call_state.h"

#include <exception>
#include <new>
#include <string>

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

std::span<ShardDelivery> CallState::make_deliveries(std::size_t shards) {
  if (shards > 1) more_deliveries_ = std::make_unique<ShardDelivery[]>(shards);
  deliveries_ = {shards > 1 ? more_deliveries_.get() : &only_delivery_, shards};
  return deliveries_;
}

void CallState::abandon() noexcept {
  error_.store(Errc::full, std::memory_order_relaxed);
  finish();
}

void CallState::set_message(Errc error) noexcept {
  try {
    result_.message = error == Errc::disk_low   ? "the store has no room"
                      : error == Errc::stopping ? "the engine is stopping"
                      : error == Errc::full     ? "no memory for the call"
                                                : "the store failed";
  } catch (const std::bad_alloc&) {
    result_.message.clear();
  }
}

// What is accepted stays accepted: without memory nobody is told of the outcome of duplicates.
void CallState::tell_accepted() noexcept {
  if (!accepted_handler_) return;
  try {
    accepted_handler_();
  } catch (const std::bad_alloc&) {
    return;
  }
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
    set_message(error);
    result_.accepted = result_.duplicates = 0;
    result_.ids.clear();
  } else {
    if (!wants_ids_) result_.ids.clear();
    tell_accepted();
  }
  accepted_handler_ = nullptr;
  answer();
  for (const auto& dependent : dependents) dependent->shard_done(error);
}

// On a thread of the engine, which has others to answer, too.
void CallState::answer() noexcept {
  if (!handler_) return;
  try {
    handler_(std::move(result_));
  } catch (const std::exception& error) {
    log_thrown(error.what());
  } catch (...) {
    log_thrown("no std::exception");
  }
}

void CallState::log_thrown(const char* what) noexcept {
  try {
    ids_.logger.log(LogLevel::error, std::string("a callback threw: ") + what);
  } catch (const std::bad_alloc&) {
    return;  // there are more important things to have memory for
  }
}

}  // namespace postbag
