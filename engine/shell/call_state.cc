#include "engine/shell/call_state.h"

#include <algorithm>
#include <new>
#include <utility>

#include "engine/pure/hook_id.h"
#include "engine/shell/guarded.h"
#include "postbag/store.h"

namespace postbag {

bool CallState::add_dependent(std::shared_ptr<CallState> other) {
  if (finished_) return false;
  dependents_.push_back(std::move(other));
  return true;
}

void CallState::shard_done(Errc error, std::uint32_t shard) {
  if (error != Errc::ok) parcels_[shard].is_refused = true;
  part_done(error);
}

void CallState::part_done(Errc error) {
  if (error != Errc::ok) error_.store(error, std::memory_order_relaxed);
  if (parts_left_.fetch_sub(1, std::memory_order_acq_rel) == 1) finish();
}

std::span<InboxParcel> CallState::make_inbox_parcels(std::size_t shards) {
  if (shards > 1) more_parcels_ = std::make_unique<InboxParcel[]>(shards);
  parcels_ = {shards > 1 ? more_parcels_.get() : &only_parcel_, shards};
  return parcels_;
}

void CallState::abandon() noexcept {
  error_.store(Errc::full, std::memory_order_relaxed);
  abandoned_ = true;
  finish();
}

void CallState::set_message(Errc error) noexcept {
  try {
    result_.message = error == Errc::disk_low   ? no_room_text
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

std::shared_ptr<OutcomeListener> CallState::listen(std::shared_ptr<OutcomeListener> listener) {
  if (!listener || given_.empty()) return listener;
  listener_ = std::move(listener);
  return shared_from_this();
}

const CallState::GivenId* CallState::given_at(std::size_t index) const {
  const auto found = std::lower_bound(
      given_.begin(), given_.end(), index,
      [](const GivenId& given, std::size_t wanted) { return given.index < wanted; });
  return found != given_.end() && found->index == index ? &*found : nullptr;
}

// May run before finish(), if other shards take longer.
bool CallState::hook_done(std::size_t index, const HookOutcome& outcome) {
  const bool takes = listener_->hook_done(index, outcome);
  const GivenId* const given = given_at(index);
  if (!takes || outcome.delivered || given == nullptr) return takes;
  bool may_take = true;
  {
    const std::lock_guard lock(ids_.mutex);
    may_take = ids_.table.leave(given->id, this, given->location);
  }
  if (!may_take) listener_->hook_settled(index);
  return may_take;
}

void CallState::hook_settled(std::size_t index) {
  if (const GivenId* const given = given_at(index)) {
    const std::lock_guard lock(ids_.mutex);
    ids_.table.left(given->id, this, given->location);
  }
  listener_->hook_settled(index);
}

void CallState::finish() {
  const Errc error = error_.load(std::memory_order_relaxed);
  std::vector<std::shared_ptr<CallState>> dependents;
  if (!given_.empty()) {
    const std::lock_guard lock(ids_.mutex);
    for (GivenId& given : given_) {
      // A shard that has committed its part keeps it: a repeat of the call must find it.
      if (abandoned_ || parcels_[given.shard].is_refused) {
        ids_.table.release(given.id, this);
        continue;
      }
      const HookLocation place = locate(result_.ids[given.index]);
      given.location = failed_key(place.chunk, place.index);
      ids_.table.settle(given.id, this, given.location);
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
  for (const auto& dependent : dependents) dependent->part_done(error);
}

// On an engine thread that has other calls to answer, so nothing may be thrown.
void CallState::answer() noexcept {
  if (!handler_) return;
  call_guarded(ids_.logger, [this] { handler_(std::move(result_)); });
}

}  // namespace postbag
