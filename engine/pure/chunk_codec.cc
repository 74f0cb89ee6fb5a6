#include "engine/pure/chunk_codec.h"

#include <cstring>

#include "engine/pure/varint.h"

namespace postbag {
namespace {

constexpr char codec_version = 1;

// The meta says how many body bytes there must be; a blob that disagrees with itself is damaged.
bool meta_matches(std::string_view meta, std::uint64_t hooks, std::uint64_t body_bytes) {
  std::uint64_t sum = 0;
  for (std::uint64_t index = 0; index < hooks; ++index) {
    if (meta.empty()) return false;
    const char flags = meta.front();
    meta.remove_prefix(1);
    std::uint64_t bytes = 0;
    if (!try_take_varint(meta, bytes) || bytes > body_bytes) return false;
    sum += bytes + 1;
    for (char flag : {1, 2, 4}) {
      std::uint64_t length = 0;
      if (!(flags & flag)) continue;
      if (!try_take_varint(meta, length) || length > meta.size()) return false;
      meta.remove_prefix(length);
    }
    std::uint64_t row = 0;
    if ((flags & 8) && !try_take_varint(meta, row)) return false;
  }
  return meta.empty() && sum == body_bytes;
}

// Payloads never span segments, so hooks are copied one by one.
void append_bodies(std::string_view meta, std::string_view body, std::uint64_t hooks, Batch& batch,
                   SegmentPool& pool) {
  std::string_view rest = meta;
  std::string_view event;
  for (std::uint64_t index = 0; index < hooks; ++index) {
    const char flags = rest.front();
    rest.remove_prefix(1);
    const std::uint64_t bytes = take_varint(rest);
    HookFields fields;
    if (flags & 1) event = take_text(rest);
    if (flags & 2) fields.id = take_text(rest);
    if (flags & 4) fields.content_type = take_text(rest);
    if (flags & 8) fields.row = take_varint(rest);
    fields.event = event;
    fields.body = body.substr(1, bytes);
    append_hook(batch, pool, fields, body.size() + 1);
    body.remove_prefix(1 + bytes);
  }
}

}  // namespace

std::string encode_chunk_head(const Batch& batch, const BatchMark& from, const BatchMark& to) {
  std::string_view meta(batch.meta);
  meta = meta.substr(from.meta_bytes, to.meta_bytes - from.meta_bytes);
  std::string head;
  head.reserve(meta.size() + 12);
  head += codec_version;
  put_varint(head, to.hooks - from.hooks);
  put_varint(head, meta.size());
  head += meta;
  return head;
}

void chunk_body_pieces(const BatchMark& from, const BatchMark& to, Segment* first_segment,
                       std::vector<std::string_view>& pieces) {
  Segment* segment = from.segment != nullptr ? from.segment : first_segment;
  std::uint32_t begin = from.segment != nullptr ? from.segment_used : 0;
  // Only the segment `to` lies in may still grow; its fields are not looked at.
  while (segment != to.segment) {
    if (segment->used > begin) pieces.push_back(segment->text().substr(begin));
    segment = segment->next;
    begin = 0;
  }
  if (to.segment_used > begin) {
    pieces.emplace_back(segment->data() + begin, to.segment_used - begin);
  }
}

bool decode_chunk(std::string_view blob, Batch& batch, SegmentPool& pool) {
  if (blob.empty() || blob.front() != codec_version) return false;
  blob.remove_prefix(1);
  std::uint64_t hooks = 0;
  std::uint64_t meta_bytes = 0;
  if (!try_take_varint(blob, hooks) || hooks == 0 || hooks > batch_size_max) return false;
  if (!try_take_varint(blob, meta_bytes) || meta_bytes > blob.size()) return false;
  const std::string_view meta = blob.substr(0, meta_bytes);
  const std::string_view body = blob.substr(meta_bytes);
  if (!meta_matches(meta, hooks, body.size())) return false;
  append_bodies(meta, body, hooks, batch, pool);
  return true;
}

}  // namespace postbag
