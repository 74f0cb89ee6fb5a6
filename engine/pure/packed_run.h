#pragma once

#include <cstdint>
#include <memory>

#include "engine/pure/batch.h"

namespace postbag {

// Cut batches of one bag that follow each other, oldest first, in memory but not as objects: each
// is its frozen bytes and about ten more, one behind the other in one segment. Only for batches of
// one chunk that were never attempted and that nobody watches; their numbers ascend. Not
// thread-safe.
class PackedRun {
 public:
  // The batch right before them, which carries the run.
  Batch* carrier = nullptr;
  // Where the shard finds it among its runs.
  std::size_t slot = 0;

  // What a batch takes in a run, at most.
  static std::size_t bytes_of(const Batch& batch);

  // With room for so many bytes, out of a pool that outlives it. Throws std::bad_alloc.
  PackedRun(SegmentPool& pool, std::size_t bytes);
  ~PackedRun();
  PackedRun(const PackedRun&) = delete;
  PackedRun& operator=(const PackedRun&) = delete;

  // False: there is no room.
  bool push_back(const Batch& batch);
  // A batch of one hook that was never an object, its meta and body taking so many bytes together.
  bool has_room(std::size_t bytes) const;
  // There must be room.
  void push_back(BatchNumber number, WallMs accepted_ms, std::string_view meta,
                 std::string_view hook);
  // The oldest, into a new batch. There must be one.
  void pop_front(Batch& batch);
  // Takes the batches before that one, which must be there, into a run of their own that is just
  // large enough. Null: there are none. Throws std::bad_alloc, and has changed nothing then.
  std::unique_ptr<PackedRun> take_before(ChunkNumber chunk);
  // Into a smaller segment, if most of this one is not in use. Throws std::bad_alloc.
  void shrink();
  // Whether the hook is in one of the batches.
  bool has(ChunkNumber chunk, std::uint32_t index) const;

  std::uint64_t batches() const { return batches_; }
  std::uint64_t hooks() const { return hooks_; }
  std::size_t capacity() const { return segment_->capacity; }
  // What the next pop_front() reads first.
  std::string_view packed_bytes() const { return segment_->text().substr(taken_); }

 private:
  struct Place {  // what the next batch is coded against
    ChunkNumber number = 0;
    WallMs accepted_ms = 0;
  };
  struct PackedBatch {
    Place place;
    std::uint32_t hooks = 0;
    std::string_view meta, body;
  };
  struct Sizes {
    std::uint32_t hooks = 0;
    std::uint64_t meta_bytes = 0, body_bytes = 0;
  };
  // Returns where meta and body go, which must have room; push_end() is told where they end.
  char* push_head(const Place& place, const Sizes& sizes);
  void push_end(const char* end);
  // Reads the batch at the front of `code` and takes it off.
  static PackedBatch take(std::string_view& code, const Place& last);

  SegmentPool& pool_;
  Segment* segment_;
  std::uint32_t taken_ = 0;  // bytes at the front
  Place first_, last_;       // what the first batch is, and the next one would be, coded against
  std::uint64_t batches_ = 0, hooks_ = 0;
};

}  // namespace postbag
