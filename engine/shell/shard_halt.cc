// What a shard does when memory ran out inside its core.
#include <utility>

#include "engine/shell/shard.h"

namespace postbag {

// Calls that the core holds are answered first, so that nobody waits for a halted shard.
void Shard::halt(const char* what) {
  const std::error_code error = std::make_error_code(std::errc::not_enough_memory);
  if (!halted_) {
    bool wakes = false;
    {
      // Nobody ends the recovery of a shard that drops what it is told.
      const std::lock_guard lock(inbox_mutex_);
      halted_ = true;
      recovering_ = false;
      wakes = needs_wake();
    }
    if (wakes) waker_.wake();
    const bool was_adding = adding_.has_value() && taken_.first != nullptr;
    const CallSink* const call = was_adding ? taken_.first->parcel.call.get() : nullptr;
    // The parcel that was being bagged: the core took its call over, or answered it, or neither.
    if (call != nullptr && (core_.waits(*call) || core_.counters().accepted != *adding_)) {
      taken_.first->parcel.call.reset();
    }
    core_.forsake_calls(Errc::store_failed);
    try {
      logger_.log(LogLevel::error, std::string("the engine halts: ") + what,
                  {{"event", "engine_failed"}, {"cause", what}});
    } catch (const std::exception&) {
      // No memory for the line either.
    }
    host_.shard_failed(error);
  }
  refuse_inbox();
}

void Shard::answer_rest() noexcept {
  {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.swap(taken_);
  }
  refuse_inbox();
  core_.forsake_calls(Errc::store_failed);
}

// What the store said of a call's hooks stands; everything else is refused.
void Shard::refuse_inbox() noexcept {
  for (auto& answer : taken_.answers) {
    for (const auto& call : std::exchange(answer->calls, {})) {
      call->shard_done(answer->append_error, core_.shard());
    }
  }
  taken_.answers.clear();
  std::uint64_t reserved_bytes = 0;
  std::shared_ptr<void> keep;
  while (taken_.first != nullptr) {
    InboxParcel& entry = *next_parcel(keep);
    reserved_bytes += entry.reserved_bytes;
    const Parcel parcel = std::exchange(entry.parcel, {});
    if (parcel.call) parcel.call->shard_done(Errc::store_failed, core_.shard());
  }
  taken_.recovered.clear();
  taken_.commands.clear();
  if (reserved_bytes > 0) host_.memory_released(reserved_bytes);
}

}  // namespace postbag
