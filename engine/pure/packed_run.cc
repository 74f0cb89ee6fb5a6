#include "engine/pure/packed_run.h"

#include <cstring>
#include <utility>

#include "engine/pure/check.h"
#include "engine/pure/varint.h"

namespace postbag {
namespace {

// Five numbers of at most ten bytes.
constexpr std::size_t packed_head_bytes_max = 50;

char* put_number(char* at, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) *at++ = static_cast<char>(value | 0x80);
  *at++ = static_cast<char>(value);
  return at;
}

}  // namespace

std::size_t PackedRun::bytes_of(const Batch& batch) {
  return packed_head_bytes_max + batch.meta.size() + batch.body_bytes;
}

PackedRun::PackedRun(SegmentPool& pool, std::size_t bytes)
    : pool_(pool), segment_(pool.take(bytes)) {}

PackedRun::~PackedRun() {
  pool_.give_back(segment_);
}

// Differences are taken modulo 2^64: a clock that was set back costs some bytes, no more.
char* PackedRun::push_head(const Place& place, const Sizes& sizes) {
  if (batches_ == 0) {
    segment_->used = taken_ = 0;
    first_ = last_ = {place.number - 1, place.accepted_ms};
  }
  check(place.number > last_.number);
  char* at = put_number(segment_->data() + segment_->used, place.number - last_.number);
  at = put_number(at, static_cast<std::uint64_t>(place.accepted_ms) -
                          static_cast<std::uint64_t>(last_.accepted_ms));
  at = put_number(at, sizes.hooks);
  at = put_number(at, sizes.meta_bytes);
  at = put_number(at, sizes.body_bytes);
  last_ = place;
  batches_ += 1;
  hooks_ += sizes.hooks;
  return at;
}

void PackedRun::push_end(const char* end) {
  segment_->used = static_cast<std::uint32_t>(end - segment_->data());
}

bool PackedRun::push_back(const Batch& batch) {
  if (segment_->room() < bytes_of(batch)) return false;
  char* at = push_head({batch.number, batch.chunk.accepted_ms},
                       {batch.hooks, batch.meta.size(), batch.body_bytes});
  std::memcpy(at, batch.meta.data(), batch.meta.size());
  at += batch.meta.size();
  for (const Segment* from = batch.first_segment; from != nullptr; from = from->next) {
    std::memcpy(at, from->data(), from->used);
    at += from->used;
  }
  push_end(at);
  return true;
}

bool PackedRun::has_room(std::size_t bytes) const {
  return segment_->room() >= packed_head_bytes_max + bytes;
}

void PackedRun::push_back(BatchNumber number, WallMs accepted_ms, std::string_view meta,
                          std::string_view hook) {
  check(has_room(meta.size() + 1 + hook.size()));
  char* at = push_head({number, accepted_ms}, {1, meta.size(), 1 + hook.size()});
  std::memcpy(at, meta.data(), meta.size());
  at += meta.size();
  *at++ = '[';
  std::memcpy(at, hook.data(), hook.size());
  push_end(at + hook.size());
}

PackedRun::PackedBatch PackedRun::take(std::string_view& code, const Place& last) {
  PackedBatch batch;
  batch.place.number = last.number + take_varint(code);
  batch.place.accepted_ms =
      static_cast<WallMs>(static_cast<std::uint64_t>(last.accepted_ms) + take_varint(code));
  batch.hooks = static_cast<std::uint32_t>(take_varint(code));
  const std::uint64_t meta_bytes = take_varint(code);
  const std::uint64_t body_bytes = take_varint(code);
  check(meta_bytes + body_bytes <= code.size());
  batch.meta = code.substr(0, meta_bytes);
  batch.body = code.substr(meta_bytes, body_bytes);
  code.remove_prefix(meta_bytes + body_bytes);
  return batch;
}

void PackedRun::pop_front(Batch& batch) {
  check(batches_ > 0 && batch.first_segment == nullptr);
  std::string_view code = packed_bytes();
  const PackedBatch packed = take(code, first_);
  taken_ = segment_->used - static_cast<std::uint32_t>(code.size());
  first_ = packed.place;
  batches_ -= 1;
  hooks_ -= packed.hooks;

  Segment* segment = pool_.take(packed.body.size());
  std::memcpy(segment->data(), packed.body.data(), packed.body.size());
  segment->used = static_cast<std::uint32_t>(packed.body.size());
  batch.first_segment = batch.last_segment = segment;
  batch.meta = packed.meta;
  batch.body_bytes = packed.body.size();
  batch.hooks = packed.hooks;
  batch.number = packed.place.number;
  batch.chunk = {packed.place.number, packed.place.accepted_ms, 0, packed.hooks};
  batch.state = BatchState::queued;
}

bool PackedRun::has(ChunkNumber chunk, std::uint32_t index) const {
  if (batches_ == 0 || chunk <= first_.number || chunk > last_.number) return false;
  std::string_view code = packed_bytes();
  Place last = first_;
  for (std::uint64_t at = 0; at < batches_; ++at) {
    const PackedBatch packed = take(code, last);
    if (packed.place.number >= chunk) return packed.place.number == chunk && index < packed.hooks;
    last = packed.place;
  }
  return false;
}

// The bytes stay as they are: what each batch is coded against goes with it.
std::unique_ptr<PackedRun> PackedRun::take_before(ChunkNumber chunk) {
  const std::string_view all = packed_bytes();
  std::string_view code = all;
  Place last = first_;
  std::uint64_t batches = 0;
  std::uint64_t hooks = 0;
  std::size_t bytes = 0;  // of those before it
  for (;; ++batches) {
    check(batches < batches_);
    const PackedBatch packed = take(code, last);
    if (packed.place.number == chunk) break;
    last = packed.place;
    hooks += packed.hooks;
    bytes = all.size() - code.size();
  }
  if (batches == 0) return nullptr;
  auto front = std::make_unique<PackedRun>(pool_, bytes);
  std::memcpy(front->segment_->data(), all.data(), bytes);
  front->segment_->used = static_cast<std::uint32_t>(bytes);
  front->first_ = std::exchange(first_, last);
  front->last_ = last;
  front->batches_ = batches;
  front->hooks_ = hooks;
  taken_ += static_cast<std::uint32_t>(bytes);
  batches_ -= batches;
  hooks_ -= hooks;
  return front;
}

void PackedRun::shrink() {
  const std::string_view code = packed_bytes();
  if (code.size() > segment_->capacity / 2) return;
  Segment* fitting = pool_.take(code.size());
  std::memcpy(fitting->data(), code.data(), code.size());
  fitting->used = static_cast<std::uint32_t>(code.size());
  taken_ = 0;
  pool_.give_back(std::exchange(segment_, fitting));
}

}  // namespace postbag
