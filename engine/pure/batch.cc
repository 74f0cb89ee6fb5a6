#include "engine/pure/batch.h"

#include <algorithm>
#include <cstring>

#include "engine/pure/check.h"
#include "engine/pure/disk_run.h"
#include "engine/pure/packed_run.h"
#include "engine/pure/varint.h"

namespace postbag {
namespace {

// Meta of a hook: flags, body length, then what the flags announce. Three or four bytes for an
// ordinary hook.
constexpr char flag_event = 1;  // an event other than the hook's before
constexpr char flag_id = 2;
constexpr char flag_content_type = 4;
constexpr char flag_row = 8;

// Few pieces on the wire, and little unused if the batch stays as small as it is: many may wait.
std::size_t next_segment_bytes(const Batch& batch, std::size_t expected_bytes) {
  constexpr std::size_t whole_bytes_max = 4096;
  constexpr std::size_t step_bytes_min = 2048;
  const std::size_t body_bytes = batch.body_bytes;
  constexpr std::size_t bytes_max = segment_bytes_max - sizeof(Segment);
  if (batch.dropped_hooks > 0) {  // memory is scarce
    return batch.last_segment != nullptr
               ? std::min<std::size_t>(2 * batch.last_segment->capacity, bytes_max)
               : 0;
  }
  if (body_bytes < expected_bytes) {
    const std::size_t left = expected_bytes - body_bytes;
    return std::min({left, std::max(expected_bytes / 4 + 1, whole_bytes_max), bytes_max});
  }
  return std::min({2 * body_bytes, std::max(body_bytes / 8, step_bytes_min), bytes_max});
}

void put_text(std::string& out, std::string_view text) {
  put_varint(out, text.size());
  out += text;
}

}  // namespace

Batch::Batch() = default;
Batch::~Batch() = default;

const ChunkInfo& Batch::chunk_of(std::uint32_t index) const {
  if (!more_chunks || index < chunk.first_hook + chunk.hooks) return chunk;
  auto after = std::upper_bound(
      more_chunks->begin(), more_chunks->end(), index,
      [](std::uint32_t wanted, const ChunkInfo& info) { return wanted < info.first_hook; });
  return after == more_chunks->begin() ? chunk : *(after - 1);
}

void append_hook(Batch& batch, SegmentPool& pool, const HookFields& hook,
                 std::size_t expected_bytes) {
  const std::size_t needed = hook.body.size() + 1;
  if (batch.last_segment == nullptr || batch.last_segment->room() < needed) {
    Segment* added = pool.take(std::max(needed, next_segment_bytes(batch, expected_bytes)));
    (batch.last_segment != nullptr ? batch.last_segment->next : batch.first_segment) = added;
    batch.last_segment = added;
  }
  Segment& segment = *batch.last_segment;
  char* place = segment.data() + segment.used;
  *place = batch.hooks == 0 ? '[' : ',';
  std::memcpy(place + 1, hook.body.data(), hook.body.size());
  segment.used += static_cast<std::uint32_t>(needed);
  batch.body_bytes += needed;
  batch.hooks += 1;

  const bool names_event = hook.event != batch.last_event() || batch.names_event;
  batch.names_event = false;
  const std::size_t event_at = append_meta(batch.meta, hook, names_event);
  if (!names_event) return;
  batch.event_at = static_cast<std::uint32_t>(event_at);
  batch.event_bytes = static_cast<std::uint32_t>(hook.event.size());
}

std::size_t append_meta(std::string& meta, const HookFields& hook, bool names_event) {
  char flags = 0;
  if (names_event) flags |= flag_event;
  if (!hook.id.empty()) flags |= flag_id;
  if (!hook.content_type.empty()) flags |= flag_content_type;
  if (hook.row != 0) flags |= flag_row;
  // Each byte that is added to a string waits for the one before.
  char start[1 + varint_bytes_max] = {flags};
  const char* const end = write_varint(start + 1, hook.body.size());
  meta.append(start, static_cast<std::size_t>(end - start));
  if (flags == 0) return 0;
  if (names_event) put_text(meta, hook.event);
  const std::size_t event_end = meta.size();
  if (flags & flag_id) put_text(meta, hook.id);
  if (flags & flag_content_type) put_text(meta, hook.content_type);
  if (flags & flag_row) put_varint(meta, hook.row);
  return event_end - hook.event.size();
}

BatchMark mark_of(const Batch& batch) {
  return {batch.last_segment, batch.last_segment != nullptr ? batch.last_segment->used : 0,
          static_cast<std::uint32_t>(batch.meta.size()), batch.hooks, batch.body_bytes};
}

void truncate_to(Batch& batch, SegmentPool& pool, const BatchMark& mark) {
  Segment* extra = mark.segment != nullptr ? mark.segment->next : batch.first_segment;
  while (extra != nullptr) {
    Segment* next = extra->next;
    pool.give_back(extra);
    extra = next;
  }
  batch.last_segment = mark.segment;
  if (mark.segment != nullptr) {
    mark.segment->next = nullptr;
    mark.segment->used = mark.segment_used;
  } else {
    batch.first_segment = nullptr;
  }
  batch.meta.resize(mark.meta_bytes);
  batch.hooks = mark.hooks;
  batch.body_bytes = mark.body_bytes;
  // The event that the meta repeats is the last one that is still in it.
  batch.event_at = batch.event_bytes = 0;
  for_each_hook(batch, [&](const BatchedHook& hook) {
    batch.event_at =
        hook.event.empty() ? 0 : static_cast<std::uint32_t>(hook.event.data() - batch.meta.data());
    batch.event_bytes = static_cast<std::uint32_t>(hook.event.size());
  });
}

void drop_hooks(Batch& batch, SegmentPool& pool) {
  for (Segment* segment = batch.first_segment; segment != nullptr;) {
    Segment* next = segment->next;
    pool.give_back(segment);
    segment = next;
  }
  batch.first_segment = batch.last_segment = nullptr;
  std::string().swap(batch.meta);
  batch.event_at = batch.event_bytes = 0;
}

void for_each_hook(const Batch& batch, const std::function<void(const BatchedHook&)>& each) {
  const Segment* segment = batch.first_segment;
  std::size_t offset = 0;
  std::string_view meta = batch.meta;
  std::string_view event;
  for (std::uint32_t index = batch.dropped_hooks; index < batch.hooks; ++index) {
    BatchedHook hook;
    hook.index = index;
    check(!meta.empty());
    const char flags = meta.front();
    meta.remove_prefix(1);
    std::size_t body_bytes = take_varint(meta);
    if (flags & flag_event) event = take_text(meta);
    if (flags & flag_id) hook.id = take_text(meta);
    if (flags & flag_content_type) hook.content_type = take_text(meta);
    if (flags & flag_row) hook.row = take_varint(meta);
    hook.event = event;
    if (offset == segment->used) {
      segment = segment->next;
      offset = 0;
    }
    check(segment != nullptr && offset + 1 + body_bytes <= segment->used);
    hook.body = segment->text().substr(offset + 1, body_bytes);
    offset += 1 + body_bytes;
    each(hook);
  }
}

void sort_by_number(std::vector<Batch*>& batches) {
  std::sort(batches.begin(), batches.end(),
            [](const Batch* a, const Batch* b) { return a->number < b->number; });
}

void wire_pieces(const Batch& batch, std::vector<std::string_view>& pieces) {
  pieces.clear();
  for (const Segment* segment = batch.first_segment; segment != nullptr; segment = segment->next) {
    pieces.push_back(segment->text());
  }
  pieces.push_back("]");
}

}  // namespace postbag
