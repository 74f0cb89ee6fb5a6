#include "engine/pure/read_ahead.h"

#include <algorithm>
#include <utility>

#include "engine/pure/check.h"

namespace postbag {
namespace {

// Of one bag, and of all together. What is not wanted for so many other starts may give way: its
// target takes nothing just now.
constexpr std::size_t chunks_per_bag = 64;
constexpr std::size_t chunks_max = 4096;
constexpr std::uint64_t blob_bytes_max = 2 << 20;
constexpr std::uint64_t starts_max = 16'384;
constexpr std::uint64_t sweep_starts = 1024;  // how often that is looked for
constexpr std::uint64_t pause_starts = 4096;

}  // namespace

bool ReadAhead::has_room() const {
  return chunks_.size() < chunks_max && blob_bytes_ <= blob_bytes_max / 2;
}

std::size_t ReadAhead::room() {
  if (starts_ < paused_until_) return 0;
  if (!has_room()) {
    if (starts_ - last_sweep_ < sweep_starts) return 0;
    last_sweep_ = starts_;
    drop(starts_max);
    if (!has_room()) return 0;
  }
  return std::min(chunks_per_bag, chunks_max - chunks_.size());
}

bool ReadAhead::plan(ChunkNumber chunk) {
  if (!chunks_.try_emplace(chunk, Chunk{{}, nullptr, starts_, false}).second) return false;
  wanted_.push_back(chunk);
  return true;
}

Batch* ReadAhead::arrived(ChunkNumber chunk, std::string& blob, bool keeps) {
  const auto found = chunks_.find(chunk);
  check(found != chunks_.end() && !found->second.is_read);
  Chunk& planned = found->second;
  Batch* const waiter = planned.waiter;
  if (waiter != nullptr || blob.empty() || !keeps || blob_bytes_ + blob.size() > blob_bytes_max) {
    chunks_.erase(found);
    return waiter;
  }
  blob_bytes_ += blob.size();
  planned.blob = std::move(blob);
  planned.is_read = true;
  return nullptr;
}

ReadAhead::Found ReadAhead::take(ChunkNumber chunk, Batch& batch, std::string& out) {
  const auto found = chunks_.find(chunk);
  if (found == chunks_.end()) return Found::nothing;
  if (!found->second.is_read) {
    found->second.waiter = &batch;
    return Found::being_read;
  }
  blob_bytes_ -= found->second.blob.size();
  out = std::exchange(found->second.blob, {});
  chunks_.erase(found);
  return Found::blob;
}

void ReadAhead::erase(Chunks::iterator chunk) {
  blob_bytes_ -= chunk->second.blob.size();
  chunks_.erase(chunk);
}

// What was read and has been waiting for so many starts.
void ReadAhead::drop(std::uint64_t starts) {
  for (auto at = chunks_.begin(); at != chunks_.end();) {
    const auto chunk = at++;
    if (chunk->second.is_read && starts_ - chunk->second.planned_at >= starts) erase(chunk);
  }
}

void ReadAhead::pause() {
  paused_until_ = starts_ + pause_starts;
}

}  // namespace postbag
