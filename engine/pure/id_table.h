#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "engine/pure/content_hash.h"
#include "postbag/store.h"
#include "postbag/time.h"

namespace postbag {

// The ids that producers gave lately, as hashes: at most `capacity`, the oldest forgotten first.
// Makes a call repeatable. The window is an interval, so whoever sets the wall clock meanwhile
// makes no id new and keeps none; over a restart it is the wall clock that counts. Not thread-safe;
// whoever owns it locks.
class IdTable {
 public:
  // The call that brought an id first and is not accepted yet; the table never looks into it.
  using Call = std::shared_ptr<void>;

  IdTable(std::size_t capacity, Duration window) : capacity_(capacity), window_(window) {}

  // Memory per id, its place in the order of ages included.
  static constexpr std::size_t id_bytes = 88;

  enum class Answer { fresh, duplicate, pending, conflict, leaving };
  struct Found {
    Answer answer = Answer::fresh;
    Call call;               // pending: the call to wait for
    FailedKey location = 0;  // duplicate
  };
  // Looks the id up; a fresh one is taken for `call` until settle() or release(). `relies`: whoever
  // asks is told that the hook is accepted, and hears no more of it.
  Found take(const Hash128& id, const Hash128& content, const Call& call, TimePoint now,
             bool relies = true);
  // Accepted: from now on it is known at `location` for the window. Here and below an id that is
  // not this call's (any more) is left alone.
  void settle(const Hash128& id, const void* call, FailedKey location);
  // Refused: the id is free again.
  void release(const Hash128& id, const void* call);
  // The hook failed and its call wants to take it over. False: another call relies on the hook or
  // has the id by now, and what the store remembers belongs to that call. True: until left() the id
  // can be neither taken nor relied on. `location` is compared only once the id is settled.
  bool leave(const Hash128& id, const void* call, FailedKey location);
  // The id is free again.
  void left(const Hash128& id, const void* call, FailedKey location);
  // From the store, at start: known for what is left of its window by the wall clock, and for a
  // whole window at most.
  void restore(const RememberedId& remembered, const Now& now);

  std::optional<FailedKey> find(const Hash128& id, TimePoint now) const;
  // When the id known at `location` was taken; empty if it is leaving or no longer known.
  std::optional<TimePoint> taken_at(const Hash128& id, FailedKey location) const;

  // Of those that are known, and of some whose window has ended: each take() forgets a few.
  std::size_t size() const { return entries_.size(); }
  // Of ids that are known, and of some that are not any more.
  std::size_t ages() const { return swept_.size() + by_age_.size(); }
  std::uint64_t forgotten_early() const { return forgotten_early_; }
  Duration window() const { return window_; }
  std::size_t memory_bytes() const {
    return entries_.size() * (id_bytes - sizeof(Age)) + ages() * sizeof(Age);
  }

 private:
  using SteadyMs = std::int64_t;
  struct Entry {
    Hash128 content{};
    FailedKey location = 0;
    SteadyMs expires_ms : 56 = 0;
    bool relied_on : 1 = false;
    bool leaving : 1 = false;
    bool round : 1 = false;  // see swept_
    Call call;               // set while pending
  };
  struct HashOf {
    std::size_t operator()(const Hash128& hash) const { return hash[0] ^ hash[1]; }
  };
  struct Age {
    SteadyMs expires_ms = 0;
    Hash128 id{};
  };
  static_assert(sizeof(Entry) + sizeof(Hash128) + sizeof(Age) == id_bytes);
  static constexpr std::size_t dead_ages_min = 4'096;
  static constexpr int ages_a_take = 8;
  Entry* entry_of(const Age& age);
  void sweep_ages();
  std::deque<Age>& oldest_ages() { return swept_.empty() ? by_age_ : swept_; }
  void forget_old(SteadyMs now_ms);
  Entry* find_of(const Hash128& id, const void* call, FailedKey location);

  std::size_t capacity_;
  Duration window_;
  boost::unordered_flat_map<Hash128, Entry, HashOf> entries_;
  // In the order of ages. While dead ones are looked for, those that were looked at are in swept_,
  // before the others, and their entries are of this round.
  std::deque<Age> swept_, by_age_;
  bool round_ = false;
  bool sweeps_ = false;
  std::uint64_t forgotten_early_ = 0;
};

}  // namespace postbag
