#include "engine/pure/disk_run.h"

#include <algorithm>

#include "engine/pure/check.h"
#include "engine/pure/varint.h"

namespace postbag {
namespace {

// Small differences in either direction become small numbers. Unsigned, so that even the wildest
// times of a damaged store only wrap around.
std::uint64_t zigzag(std::uint64_t difference) {
  return difference << 1 ^ (0 - (difference >> 63));
}
std::uint64_t unzigzag(std::uint64_t code) {
  return code >> 1 ^ (0 - (code & 1));
}

}  // namespace

const ChunkInfo* DiskBatch::find_chunk(ChunkNumber number) const {
  if (chunk.number == number) return &chunk;
  const auto found =
      std::find_if(more_chunks.begin(), more_chunks.end(),
                   [number](const ChunkInfo& more) { return more.number == number; });
  return found != more_chunks.end() ? &*found : nullptr;
}

void DiskRun::put(std::string& code, const ChunkInfo& chunk, bool has_more, Place& last) {
  put_varint(code, zigzag(chunk.number - last.number));
  put_varint(code, zigzag(static_cast<std::uint64_t>(chunk.accepted_ms) -
                          static_cast<std::uint64_t>(last.accepted_ms)));
  put_varint(code, std::uint64_t{chunk.hooks} << 1 | (has_more ? 1 : 0));
  last = {chunk.number, chunk.accepted_ms};
}

// True: another chunk of the same batch follows.
bool DiskRun::take(std::string_view& code, ChunkInfo& chunk, Place& last) {
  chunk.number = last.number + unzigzag(take_varint(code));
  chunk.accepted_ms = static_cast<WallMs>(static_cast<std::uint64_t>(last.accepted_ms) +
                                          unzigzag(take_varint(code)));
  const std::uint64_t hooks = take_varint(code);
  chunk.hooks = static_cast<std::uint32_t>(hooks >> 1);
  last = {chunk.number, chunk.accepted_ms};
  return (hooks & 1) != 0;
}

void DiskRun::put_batch(std::string& code, const DiskBatch& batch, Place& last) {
  put(code, batch.chunk, !batch.more_chunks.empty(), last);
  for (const ChunkInfo& chunk : batch.more_chunks) {
    put(code, chunk, &chunk != &batch.more_chunks.back(), last);
  }
}

DiskBatch DiskRun::take_batch(std::string_view& code, Place& last) {
  DiskBatch batch;
  bool has_more = take(code, batch.chunk, last);
  batch.hooks = batch.chunk.hooks;
  while (has_more) {
    ChunkInfo& chunk = batch.more_chunks.emplace_back();
    has_more = take(code, chunk, last);
    chunk.first_hook = batch.hooks;
    batch.hooks += chunk.hooks;
  }
  return batch;
}

void DiskRun::push_back(const DiskBatch& batch) {
  const ChunkNumber last_chunk =
      batch.more_chunks.empty() ? batch.chunk.number : batch.more_chunks.back().number;
  if (batches_ == 0) {
    code_.clear();
    taken_ = 0;
    // The first one stands whole here and as no difference in the code.
    first_ = last_ = {batch.chunk.number, batch.chunk.accepted_ms};
    lowest_ = batch.chunk.number;
    highest_ = last_chunk;
  }
  put_batch(code_, batch, last_);
  lowest_ = std::min(lowest_, batch.chunk.number);
  highest_ = std::max(highest_, last_chunk);
  batches_ += 1;
  hooks_ += batch.hooks;
}

void DiskRun::extend_back(const ChunkInfo& chunk) {
  check(batches_ > 0);
  // The last number in the code says how many hooks the last chunk has, and that none follows it.
  std::size_t at = code_.size() - 1;
  while (at > taken_ && (static_cast<unsigned char>(code_[at - 1]) & 0x80) != 0) --at;
  code_[at] = static_cast<char>(code_[at] | 1);
  put(code_, chunk, false, last_);
  lowest_ = std::min(lowest_, chunk.number);
  highest_ = std::max(highest_, chunk.number);
  hooks_ += chunk.hooks;
}

void DiskRun::push_front(const DiskBatch& batch) {
  if (batches_ == 0) return push_back(batch);
  // The batch behind it is coded anew, against this one.
  std::string_view behind = rest();
  Place old = first_;
  const DiskBatch second = take_batch(behind, old);
  first_ = {batch.chunk.number, batch.chunk.accepted_ms};
  Place at = first_;
  std::string code;
  put_batch(code, batch, at);
  put_batch(code, second, at);
  code_.replace(0, code_.size() - behind.size(), code);
  taken_ = 0;
  lowest_ = std::min(lowest_, batch.chunk.number);
  highest_ = std::max(
      highest_, batch.more_chunks.empty() ? batch.chunk.number : batch.more_chunks.back().number);
  batches_ += 1;
  hooks_ += batch.hooks;
}

DiskBatch DiskRun::pop_front() {
  check(batches_ > 0);
  std::string_view behind = rest();
  DiskBatch batch = take_batch(behind, first_);
  taken_ = code_.size() - behind.size();
  batches_ -= 1;
  hooks_ -= batch.hooks;
  return batch;
}

void DiskRun::for_each(const std::function<bool(const DiskBatch&)>& each) const {
  std::string_view code = rest();
  Place last = first_;
  for (std::uint64_t at = 0; at < batches_; ++at) {
    if (!each(take_batch(code, last))) return;
  }
}

std::optional<DiskBatch> DiskRun::find(ChunkNumber chunk) const {
  std::optional<DiskBatch> found;
  if (batches_ == 0 || chunk < lowest_ || chunk > highest_) return found;
  for_each([&](const DiskBatch& batch) {
    if (batch.find_chunk(chunk) != nullptr) found = batch;
    return !found;
  });
  return found;
}

}  // namespace postbag
