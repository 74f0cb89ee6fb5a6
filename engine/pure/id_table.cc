#include "engine/pure/id_table.h"

#include <algorithm>

namespace postbag {
namespace {

std::int64_t milliseconds_of(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace

IdTable::Found IdTable::take(const Hash128& id, const Hash128& content, const Call& call,
                             TimePoint now, bool relies) {
  const SteadyMs now_ms = milliseconds_of(now.time_since_epoch());
  forget_old(now_ms);
  const SteadyMs window_ms = milliseconds_of(window_);
  auto [found, is_new] = entries_.try_emplace(id);
  Entry& entry = found->second;
  if (!is_new && (entry.call || entry.expires_ms > now_ms)) {
    if (entry.leaving) return {Answer::leaving, nullptr, 0};
    if (entry.content != content) return {Answer::conflict, nullptr, 0};
    if (relies) entry.relied_on = true;
    if (entry.call) return {Answer::pending, entry.call, 0};
    return {Answer::duplicate, nullptr, entry.location};
  }
  try {
    sweep_ages();
    by_age_.push_back({now_ms + window_ms, id});
  } catch (...) {
    entries_.erase(found);  // it would be pending for ever
    throw;
  }
  entry = {content, 0, now_ms + window_ms, false, false, round_ != sweeps_, call};
  return {};
}

IdTable::Entry* IdTable::find_of(const Hash128& id, const void* call, FailedKey location) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return nullptr;
  Entry& entry = found->second;
  const bool is_this = entry.call ? entry.call.get() == call : entry.location == location;
  return is_this ? &entry : nullptr;
}

void IdTable::settle(const Hash128& id, const void* call, FailedKey location) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.call.get() != call) return;
  found->second.location = location;
  found->second.call.reset();
}

void IdTable::release(const Hash128& id, const void* call) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.call.get() != call) return;
  entries_.erase(found);
  // Those of a call that is refused at once are the newest.
  while (!by_age_.empty() && !entry_of(by_age_.back())) by_age_.pop_back();
}

bool IdTable::leave(const Hash128& id, const void* call, FailedKey location) {
  Entry* const entry = find_of(id, call, location);
  if (entry == nullptr) return !entries_.contains(id);  // forgotten
  if (entry->relied_on) return false;
  entry->leaving = true;
  return true;
}

void IdTable::left(const Hash128& id, const void* call, FailedKey location) {
  if (find_of(id, call, location) != nullptr) entries_.erase(id);
}

void IdTable::restore(const RememberedId& remembered, const Now& now) {
  const SteadyMs left_ms = std::min(remembered.expires_ms - now.wall_ms, milliseconds_of(window_));
  const SteadyMs expires_ms = milliseconds_of(now.steady.time_since_epoch()) + left_ms;
  entries_[remembered.id_hash] = {
      remembered.content_hash, remembered.location, expires_ms, false, false, false, nullptr};
  by_age_.push_back({expires_ms, remembered.id_hash});
  while (entries_.size() > capacity_ && !by_age_.empty()) {
    forgotten_early_ += entries_.erase(by_age_.front().id);
    by_age_.pop_front();
  }
}

std::optional<TimePoint> IdTable::taken_at(const Hash128& id, FailedKey location) const {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return std::nullopt;
  const Entry& entry = found->second;
  if (entry.call || entry.leaving || entry.location != location) return std::nullopt;
  return TimePoint(std::chrono::milliseconds(entry.expires_ms - milliseconds_of(window_)));
}

std::optional<FailedKey> IdTable::find(const Hash128& id, TimePoint now) const {
  const SteadyMs now_ms = milliseconds_of(now.time_since_epoch());
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.call || found->second.expires_ms <= now_ms) {
    return std::nullopt;
  }
  return found->second.location;
}

// The id may be free, or have been taken anew since.
IdTable::Entry* IdTable::entry_of(const Age& age) {
  const auto found = entries_.find(age.id);
  const bool is_its = found != entries_.end() && found->second.expires_ms == age.expires_ms;
  return is_its ? &found->second : nullptr;
}

// Ids that were given back leave their ages behind, which are looked for a few at a time: others
// wait for the lock meanwhile.
void IdTable::sweep_ages() {
  if (!sweeps_) {
    if (by_age_.size() <= 2 * entries_.size() + dead_ages_min) return;
    sweeps_ = true;
    round_ = !round_;
  }
  for (int left = ages_a_take; left > 0 && !by_age_.empty(); --left) {
    const Age& age = by_age_.front();
    Entry* const entry = entry_of(age);
    // One that was given back and taken again within a millisecond has several that look alike.
    if (entry != nullptr && entry->round != round_) {
      swept_.push_back(age);
      entry->round = round_;
    }
    by_age_.pop_front();
  }
  if (!by_age_.empty()) return;
  by_age_.swap(swept_);
  sweeps_ = false;
}

// A few at a time, too: after a pause all of them may be old. Nobody finds one that is.
void IdTable::forget_old(SteadyMs now_ms) {
  for (int left = ages_a_take; ages() > 0; --left) {
    std::deque<Age>& ages = oldest_ages();
    const Age& oldest = ages.front();
    const bool expired = oldest.expires_ms <= now_ms;
    if (entries_.size() < capacity_ && (!expired || left <= 0)) return;
    if (const Entry* const entry = entry_of(oldest)) {
      // Its call is under way: without its age nothing would ever forget it; those behind it wait
      // with it.
      if (entry->call) return;
      entries_.erase(oldest.id);
      if (!expired) forgotten_early_ += 1;
    }
    ages.pop_front();
  }
}

}  // namespace postbag
