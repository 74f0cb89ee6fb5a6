#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/pure/batch.h"

namespace postbag {

// A cut, committed batch of which only its places in the store are known: never attempted, watched
// by nobody.
struct DiskBatch {
  ChunkInfo chunk;  // the first: its number is the batch's, its time that of the batch's opening
  std::vector<ChunkInfo> more_chunks;
  std::uint32_t hooks = 0;

  const ChunkInfo* find_chunk(ChunkNumber number) const;  // null: it has not got this one
};

// Batches of one bag that follow each other, oldest first, and are on disk only. Coded: differences
// to the batch before as varints, three to six bytes for a batch of one chunk. Not thread-safe.
class DiskRun {
 public:
  void push_back(const DiskBatch& batch);
  // Another chunk of the newest batch. Must not be empty.
  void extend_back(const ChunkInfo& chunk);
  // Costs a move of all bytes.
  void push_front(const DiskBatch& batch);
  // The oldest. Must not be empty.
  DiskBatch pop_front();
  // Oldest first, until the function says false.
  void for_each(const std::function<bool(const DiskBatch&)>& each) const;
  // The batch that a chunk belongs to.
  std::optional<DiskBatch> find(ChunkNumber chunk) const;

  std::uint64_t batches() const { return batches_; }
  std::uint64_t hooks() const { return hooks_; }
  std::size_t code_bytes() const { return code_.size(); }
  std::size_t memory_bytes() const { return sizeof(DiskRun) + code_.capacity(); }
  // Releases unused capacity.
  void shrink() { code_.shrink_to_fit(); }

  // Where the shard finds it among its runs.
  std::size_t slot = 0;

 private:
  struct Place {  // what the next chunk is coded against
    ChunkNumber number = 0;
    WallMs accepted_ms = 0;
  };
  static void put(std::string& code, const ChunkInfo& chunk, bool has_more, Place& last);
  static bool take(std::string_view& code, ChunkInfo& chunk, Place& last);
  static void put_batch(std::string& code, const DiskBatch& batch, Place& last);
  static DiskBatch take_batch(std::string_view& code, Place& last);
  std::string_view rest() const { return std::string_view(code_).substr(taken_); }

  std::string code_;
  std::size_t taken_ = 0;  // bytes at the front
  Place first_, last_;     // what the first batch is, and the next one would be, coded against
  ChunkNumber lowest_ = 0, highest_ = 0;  // no chunk has a number outside of these
  std::uint64_t batches_ = 0, hooks_ = 0;
};

}  // namespace postbag
