#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "engine/pure/batch.h"
#include "engine/pure/policy_table.h"
#include "engine/pure/recent_chunks.h"
#include "engine/pure/sinks.h"
#include "engine/pure/transport.h"

namespace postbag {

struct TargetState;

// What tells a bag from its target's default one.
struct BagKey {
  std::string group;
  std::string headers;
  // Set: a bag of retry-failed-hooks; its hooks are rows of the store.
  std::shared_ptr<RetrySink> retry;
  std::optional<std::uint32_t> retries;  // instead of the policy's
  const std::string* map_key = nullptr;  // its own in the target's other_bags
};

// The hooks of one batch key. Batches that are cut and were never attempted stand in its queue,
// oldest first; of those on disk only, many may be coded in the run of the one before them.
struct Bag {
  TargetState* target = nullptr;
  std::unique_ptr<const BagKey> key;        // null: the default bag, and so of nearly every target
  std::unique_ptr<std::string> head_start;  // see wire.h; made when first needed

  Batch* open = nullptr;
  Batch* queue_head = nullptr;
  Batch* queue_tail = nullptr;
  std::uint32_t batches = 0;     // all that exist, the open one and those in runs included
  std::uint32_t unresolved = 0;  // attempted, no outcome yet; `ordered` waits for 0
  // Body bytes of the last batch: the next one gets its memory in few pieces.
  std::uint32_t size_hint = 0;
  std::uint16_t meta_hint = 0;  // likewise its meta's bytes, as far as they fit in here
  bool in_ready = false;
  bool is_stopped = false;  // of a run of retry-failed-hooks: nothing more is sent
  Bag* ready_next = nullptr;

  std::string_view group() const { return key ? std::string_view(key->group) : ""; }
  std::string_view headers() const { return key ? std::string_view(key->headers) : ""; }
  std::shared_ptr<RetrySink> retry() const { return key ? key->retry : nullptr; }
  bool is_retry() const { return key && key->retry != nullptr; }
};

// Whether a target works, for the log, which hears of the changes and not of each attempt. A target
// that comes and goes is announced once in so many seconds.
class TargetHealth {
 public:
  static constexpr std::uint32_t announce_interval_s = 60;

  bool is_failing() const { return failures_ > 0; }
  // An attempt failed; `now_s` goes ahead steadily, from 1. True: to be announced.
  bool failed(std::uint32_t now_s) {
    if (failures_ < UINT32_MAX) failures_ += 1;
    if (is_announced_ || (announced_s_ != 0 && now_s - announced_s_ < announce_interval_s)) {
      return false;
    }
    announced_s_ = now_s;
    return is_announced_ = true;
  }
  // One delivered. True: to be announced, as its failure was; says how many failed in a row, and
  // for how long since that was said.
  bool worked(std::uint32_t now_s, std::uint32_t& failures, std::uint32_t& for_s) {
    failures = failures_;
    for_s = now_s - announced_s_;
    failures_ = 0;
    return std::exchange(is_announced_, false);
  }

 private:
  std::uint32_t failures_ = 0;     // since it worked
  std::uint32_t announced_s_ = 0;  // last; 0: never
  bool is_announced_ = false;      // that it fails
};

// Everything about a target, on the one shard it belongs to. Made by make(): its url stands behind
// it, for there may be a million.
struct TargetState {
  static std::unique_ptr<TargetState> make(std::string_view url) {
    return std::unique_ptr<TargetState>(new (url.size()) TargetState(url));
  }
  static void operator delete(void* memory) { ::operator delete(memory); }
  static void operator delete(void* memory, std::size_t) { ::operator delete(memory); }
  // A batch of it, with a body of so many bytes, is in the store only.
  void note_stored(std::uint64_t body_bytes) {
    const auto bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(body_bytes, UINT32_MAX));
    stored_bytes_max = std::max(stored_bytes_max, bytes);
  }

  TargetState(const TargetState&) = delete;
  TargetState& operator=(const TargetState&) = delete;

  // Where the bytes of `url` are, without reading it.
  const char* text() const { return reinterpret_cast<const char*>(this + 1); }

  // What every hook touches stands together.
  std::string_view url;
  std::shared_ptr<const ResolvedPolicy> policy;
  std::uint64_t hooks_waiting = 0;
  std::shared_ptr<const Destination> destination;  // made when first needed

  Bag default_bag;  // no group, no headers: nearly every hook
  std::unique_ptr<std::unordered_map<std::string, std::unique_ptr<Bag>>> other_bags;

  template <typename Each>
  void for_each_bag(const Each& each) {
    each(default_bag);
    if (!other_bags) return;
    for (auto& [key, bag] : *other_bags) each(*bag);
  }

  // Bags whose next batch can go, served in turn.
  Bag* ready_bags_head = nullptr;
  Bag* ready_bags_tail = nullptr;
  // Batches whose retry is due.
  Batch* due_head = nullptr;
  Batch* due_tail = nullptr;

  std::uint32_t batches = 0;    // of all bags
  std::uint32_t in_flight = 0;  // batches
  std::uint32_t retrying = 0;   // batches, the due ones included
  TargetHealth health;
  RecentChunks::TextPlace recent_place = 0;
  std::uint32_t stored_bytes_max = 0;  // the largest of its batches that were in the store only

  // In the shard's ring of targets that can send, or in its list of idle ones; never in both.
  TargetState* prev = nullptr;
  TargetState* next = nullptr;
  enum class List : std::uint8_t { none, ready, idle } list = List::none;

  std::uint64_t hooks_in_flight = 0, hooks_retrying = 0;
  std::uint64_t delivered = 0, given_up = 0;
  Reason last_reason = Reason::none;
  int last_status = 0;
  WallMs last_attempt_ms = 0;

 private:
  explicit TargetState(std::string_view text)
      : url(reinterpret_cast<char*>(this + 1), text.size()) {
    std::memcpy(reinterpret_cast<char*>(this + 1), text.data(), text.size());
  }
  static void* operator new(std::size_t bytes, std::size_t url_bytes) {
    return ::operator new(bytes + url_bytes);
  }
};

}  // namespace postbag
