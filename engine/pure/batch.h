#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/pure/deadline_queue.h"
#include "engine/pure/segment.h"
#include "postbag/engine.h"
#include "postbag/store.h"

namespace postbag {

struct Bag;
class DiskRun;
class PackedRun;

// One hook of a batch as it is read back from the batch's memory.
struct BatchedHook {
  std::uint32_t index = 0;  // in the batch
  std::string_view body, event, id, content_type;
  FailedKey row = 0;  // of a retried failed hook, else 0
};

// The part of a batch that is, or will be, one row of the store.
struct ChunkInfo {
  ChunkNumber number = 0;
  WallMs accepted_ms = 0;
  std::uint32_t first_hook = 0;
  std::uint32_t hooks = 0;
};

// How far a body has grown: a place to cut back to, and the bounds of a chunk.
struct BatchMark {
  Segment* segment = nullptr;
  std::uint32_t segment_used = 0;
  std::uint32_t meta_bytes = 0;
  std::uint32_t hooks = 0;
  std::uint64_t body_bytes = 0;
};

enum class BatchState : std::uint8_t {
  open,       // in its bag, growing
  queued,     // cut: from now on frozen; waits for its commit and its turn
  loading,    // due, being read back from the store
  in_flight,  // on the wire
  retrying,   // waits for its retry
  due,        // its retry is due, waits for its turn
  failing,    // given up, being written to the store
};

// The hooks of one request. Its bytes are written once, in wire form ("[a,b" in segments, the "]"
// is added on the wire), and used from there by the store, every attempt and the failed rows.
// Beside the body a few bytes of meta per hook.
//
// Owned by the shard core; what the store thread or the transport uses is counted in `uses` (by the
// shard's thread only) and not freed or changed until they answered.
struct Batch {
  DeadlineNode deadline;  // first, so that the queue's node leads back here: cut while open, retry
                          // while retrying
  Bag* bag = nullptr;
  Batch* next = nullptr;         // in the bag's queue, or among the due ones
  Batch* before = nullptr;       // in the bag's queue
  std::unique_ptr<DiskRun> run;  // in the bag's queue: batches right behind it, on disk only
  // The same of batches in memory; never beside a `run`.
  std::unique_ptr<PackedRun> packed;
  BatchNumber number = 0;

  Segment* first_segment = nullptr;
  Segment* last_segment = nullptr;
  std::string meta;
  // Without the closing bracket, what is dropped included. While it is being read back: what it may
  // become at most (ShardCore::read_bytes_bound).
  std::uint64_t body_bytes = 0;
  std::uint32_t hooks = 0;

  std::uint32_t attempts = 0;
  std::uint16_t uses = 0;
  std::uint16_t uncommitted = 0;  // chunks not yet committed, the dirty one included
  std::int16_t last_status = 0;
  Reason last_reason = Reason::none;
  BatchState state = BatchState::open;
  bool is_resident = true;        // false: the hooks are in the store only
  bool is_corrupt = false;        // the store could not give them back
  bool is_dirty = false;          // its last chunk is not handed to the store yet
  bool was_attempted = false;     // counts in Bag::unresolved
  bool is_retry : 1 = false;      // the attempt under way is a retry
  bool is_read_back : 1 = false;  // counts as read from the store
  bool is_droppable : 1 = false;  // the shard has noted it, see shard_core_room.cc
  bool is_cancelled = false;      // by an operator, before its commit
  bool is_stored = false;         // its chunks are, or will be, rows of the store
  bool names_event = false;       // the next hook is the first of a chunk
  ChunkInfo chunk;                // the first one; the only one of nearly every batch
  std::unique_ptr<std::vector<ChunkInfo>> more_chunks;
  // The meta repeats an event only when it changes, and for the first hook of a chunk, which is
  // read back on its own. The last event is where the meta has it.
  std::uint32_t event_at = 0, event_bytes = 0;
  // Of a resident batch: this many hooks at its front are in the store only, as they were dropped
  // while it was open. Before it can be sent the rest is dropped too and all of it is read back.
  std::uint32_t dropped_hooks = 0;

  // Who wants to know what becomes of single hooks.
  struct Watcher {
    std::uint32_t index = 0;  // in the batch
    std::uint32_t call_index = 0;
    std::shared_ptr<OutcomeListener> listener;
  };
  std::unique_ptr<std::vector<Watcher>> watchers;
  // Hooks that a listener answers for, ascending.
  std::unique_ptr<std::vector<std::uint32_t>> taken_over;

  Batch();
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  WallMs opened_ms() const { return chunk.accepted_ms; }
  std::string_view last_event() const {
    return std::string_view(meta).substr(event_at, event_bytes);
  }
  const ChunkInfo& last_chunk() const { return more_chunks ? more_chunks->back() : chunk; }
  ChunkInfo& last_chunk() { return more_chunks ? more_chunks->back() : chunk; }
  template <typename Each>
  void for_each_chunk(const Each& each) const {
    if (chunk.number != 0) each(chunk);
    if (!more_chunks) return;
    for (const ChunkInfo& info : *more_chunks) each(info);
  }
  // The chunk of a hook.
  const ChunkInfo& chunk_of(std::uint32_t index) const;
};

// Oldest first: what is done to many batches must not depend on the order of a hash table.
void sort_by_number(std::vector<Batch*>& batches);

// What the body would hold with one more payload, the closing bracket included.
inline std::uint64_t wire_bytes_with(const Batch& batch, std::size_t payload_bytes) {
  return batch.body_bytes + 1 + payload_bytes + 1;
}
inline std::uint64_t wire_bytes(const Batch& batch) {
  return batch.body_bytes + 1;
}

// Appends a hook: payload into the body, the rest into meta. `expected_bytes` is what the body will
// perhaps become: that much lies in few pieces.
struct HookFields {
  std::string_view body, event, id, content_type;
  FailedKey row = 0;
};
void append_hook(Batch& batch, SegmentPool& pool, const HookFields& hook,
                 std::size_t expected_bytes);
// The meta alone; where it names the event, returns where that stands in it.
std::size_t append_meta(std::string& meta, const HookFields& hook, bool names_event);

BatchMark mark_of(const Batch& batch);
// Back to an earlier mark: hooks behind it leave the batch.
void truncate_to(Batch& batch, SegmentPool& pool, const BatchMark& mark);
// Frees the hooks' memory; counts and chunks stay.
void drop_hooks(Batch& batch, SegmentPool& pool);

// Every hook that is in memory, in order. Reads frozen memory only, so any thread may do it while
// `uses` holds the batch.
void for_each_hook(const Batch& batch, const std::function<void(const BatchedHook&)>& each);

// The body as the wire wants it: pieces with the closing bracket.
void wire_pieces(const Batch& batch, std::vector<std::string_view>& pieces);

}  // namespace postbag
