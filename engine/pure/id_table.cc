#include "engine/pure/id_table.h"

namespace postbag {

IdTable::Found IdTable::take(const Hash128& id, const Hash128& content, const Call& call,
                             WallMs now_ms) {
  forget_old(now_ms);
  const auto window_ms = std::chrono::duration_cast<std::chrono::milliseconds>(window_).count();
  auto [place, is_new] = entries_.try_emplace(id);
  Entry& entry = place->second;
  if (!is_new && (entry.call || entry.expires_ms > now_ms)) {
    if (entry.content != content) return {Answer::conflict, nullptr, 0};
    if (entry.call) return {Answer::pending, entry.call, 0};
    return {Answer::duplicate, nullptr, entry.location};
  }
  try {
    by_age_.push_back({now_ms + window_ms, id});
  } catch (...) {
    entries_.erase(place);  // it would be pending for ever
    throw;
  }
  entry = {content, 0, now_ms + window_ms, call};
  return {};
}

void IdTable::settle(const Hash128& id, FailedKey location) {
  if (auto found = entries_.find(id); found != entries_.end()) {
    found->second.location = location;
    found->second.call.reset();
  }
}

void IdTable::release(const Hash128& id) {
  entries_.erase(id);
}

void IdTable::restore(const RememberedId& remembered) {
  entries_[remembered.id_hash] = {remembered.content_hash, remembered.location,
                                  remembered.expires_ms, nullptr};
  by_age_.push_back({remembered.expires_ms, remembered.id_hash});
}

std::optional<FailedKey> IdTable::find(const Hash128& id, WallMs now_ms) const {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.call || found->second.expires_ms <= now_ms) {
    return std::nullopt;
  }
  return found->second.location;
}

void IdTable::forget_old(WallMs now_ms) {
  while (!by_age_.empty()) {
    const Age& oldest = by_age_.front();
    const bool expired = oldest.expires_ms <= now_ms;
    if (!expired && entries_.size() < capacity_) return;
    auto found = entries_.find(oldest.id);
    // The id may have been taken anew since, or its call may still be under way.
    if (found != entries_.end() && found->second.expires_ms == oldest.expires_ms) {
      if (found->second.call) {
        if (!expired) return;
      } else {
        entries_.erase(found);
        if (!expired) forgotten_early_ += 1;
      }
    }
    by_age_.pop_front();
  }
}

}  // namespace postbag
