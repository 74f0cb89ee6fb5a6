#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "engine/pure/batch.h"
#include "engine/pure/policy_table.h"
#include "postbag/transport.h"

namespace postbag {

struct TargetState;

// What tells a bag from its target's default one.
struct BagKey {
  std::string group;
  std::string headers;
  // Set: a bag of retry-failed-hooks; its hooks are rows of the store.
  std::shared_ptr<RetrySink> retry;
  std::optional<std::uint32_t> retries;  // instead of the policy's
  const std::string* place = nullptr;    // in the target's other_bags
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
  bool in_ready = false;
  Bag* ready_next = nullptr;

  std::string_view group() const { return key ? std::string_view(key->group) : ""; }
  std::string_view headers() const { return key ? std::string_view(key->headers) : ""; }
  std::shared_ptr<RetrySink> retry() const { return key ? key->retry : nullptr; }
  bool is_retry() const { return key && key->retry != nullptr; }
};

// Everything about a target, on the one shard it belongs to. Made by make(): its url stands behind
// it, for there may be a million.
struct TargetState {
  static std::unique_ptr<TargetState> make(std::string_view url) {
    return std::unique_ptr<TargetState>(new (url.size()) TargetState(url));
  }
  static void operator delete(void* memory) { ::operator delete(memory); }
  static void operator delete(void* memory, std::size_t) { ::operator delete(memory); }
  TargetState(const TargetState&) = delete;
  TargetState& operator=(const TargetState&) = delete;

  std::string_view url;
  std::shared_ptr<const ResolvedPolicy> policy;
  std::shared_ptr<const Destination> destination;  // made when first needed

  Bag default_bag;  // no group, no headers: nearly every hook
  std::unique_ptr<std::unordered_map<std::string, std::unique_ptr<Bag>>> other_bags;

  // Bags whose next batch can go, served in turn.
  Bag* ready_bags_head = nullptr;
  Bag* ready_bags_tail = nullptr;
  // Batches whose retry is due.
  Batch* due_head = nullptr;
  Batch* due_tail = nullptr;

  std::uint32_t batches = 0;    // of all bags
  std::uint32_t in_flight = 0;  // batches
  std::uint32_t retrying = 0;   // batches, the due ones included

  // In the shard's ring of targets that can send, or in its list of idle ones; never in both.
  TargetState* prev = nullptr;
  TargetState* next = nullptr;
  enum class List : std::uint8_t { none, ready, idle } list = List::none;

  std::uint64_t hooks_waiting = 0, hooks_in_flight = 0, hooks_retrying = 0;
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
