#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "postbag/store.h"

namespace postbag {

struct Batch;

// Chunks that are read from the store before the turn of their batches, or being read: one way to
// the store thread and back for many. What was read and is not wanted for long gives way. Time is
// counted in starts(), batches whose turn came while they were on disk only. One thread.
class ReadAhead {
 public:
  // A batch's turn has come.
  void started() { starts_ += 1; }

  // --- Planning
  // How many more chunks may be planned for one bag. May drop what has been waiting too long.
  std::size_t room();
  // False: it is planned, or read, already.
  bool plan(ChunkNumber chunk);
  // What was planned and not asked of the store yet, in this order; cleared by who asks.
  std::vector<ChunkNumber>& wanted() { return wanted_; }

  // A chunk that was asked for was read; an empty blob: it could not be. Returns the batch that
  // waits for it, for which the blob stays where it is. If none does, it is taken and kept as far
  // as there is room, or forgotten where `keeps` is false.
  Batch* arrived(ChunkNumber chunk, std::string& blob, bool keeps);

  // --- Its turn
  enum class Found : std::uint8_t { nothing, being_read, blob };
  // For `batch`, of the one chunk `chunk`. `being_read`: the batch is its waiter from now on.
  // `blob`: it is in `out`, and no longer here.
  Found take(ChunkNumber chunk, Batch& batch, std::string& out);

  // --- Room
  bool holds_blobs() const { return blob_bytes_ > 0; }
  void drop_all() { drop(0); }
  // Nothing is planned for a while.
  void pause();
  // All that this takes.
  std::size_t bytes() const { return chunks_.size() * overhead_bytes + blob_bytes_; }

 private:
  // Of a chunk beside its blob: the entry in the table and its place in the order.
  static constexpr std::size_t overhead_bytes = 96;
  struct Chunk {
    std::string blob;
    Batch* waiter = nullptr;  // whose turn came while it is being read
    std::uint64_t planned_at = 0;
    bool is_read = false;
  };
  using Chunks = boost::unordered_flat_map<ChunkNumber, Chunk>;

  bool has_room() const;
  void drop(std::uint64_t starts);
  void erase(Chunks::iterator chunk);

  Chunks chunks_;
  std::vector<ChunkNumber> wanted_;
  std::uint64_t blob_bytes_ = 0;
  std::uint64_t starts_ = 0, last_sweep_ = 0, paused_until_ = 0;
};

}  // namespace postbag
