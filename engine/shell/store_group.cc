#include "engine/shell/store_group.h"

#include <algorithm>

#include "engine/pure/chunk_codec.h"
#include "engine/pure/hook_id.h"
#include "engine/pure/target.h"
#include "postbag/store.h"

namespace postbag {
namespace {

BatchKeyView key_of(const Batch& batch) {
  return {batch.bag->target->url, batch.bag->group(), batch.bag->headers()};
}

FailedHookView failed_hook(const Batch& batch, const BatchedHook& hook, std::uint16_t store_tag,
                           std::string& id) {
  const ChunkInfo& chunk = batch.chunk_of(hook.index);
  const std::uint32_t index = hook.index - chunk.first_hook;
  FailedHookView view;
  view.key = hook.row != 0 ? hook.row : failed_key(chunk.number, index);
  view.event = hook.event;
  view.content_type = hook.content_type;
  view.body = hook.body;
  view.accepted_ms = chunk.accepted_ms;
  if (hook.id.empty()) {
    id = to_string(make_hook_id(chunk.accepted_ms, chunk.number, index, store_tag));
    view.id = id;
  } else {
    view.id = hook.id;
  }
  return view;
}

void each_failed(const Batch& batch, std::uint16_t store_tag,
                 const std::function<void(const FailedHookView&)>& each) {
  const auto is_taken = [&](std::uint32_t index) {
    return batch.taken_over &&
           std::binary_search(batch.taken_over->begin(), batch.taken_over->end(), index);
  };
  std::string id;
  if (batch.is_corrupt) {  // the rows say which hooks were lost; there is nothing else to say
    for (std::uint32_t index = 0; index < batch.hooks; ++index) {
      BatchedHook hook;
      hook.index = index;
      each(failed_hook(batch, hook, store_tag, id));
    }
    return;
  }
  for_each_hook(batch, [&](const BatchedHook& hook) {
    if (!is_taken(hook.index)) each(failed_hook(batch, hook, store_tag, id));
  });
}

void add_fail(const StorePart::Fail& fail, std::uint16_t store_tag, StoreGroup& group) {
  const Batch& batch = *fail.batch;
  FailBatch row;
  row.batch = batch.number;
  row.key = key_of(batch);
  row.reason = fail.result.reason;
  row.status = fail.result.status;
  row.attempts = batch.attempts;
  row.last_at = fail.at;
  row.response_headers = fail.result.response_headers;
  row.response_excerpt = fail.result.response_excerpt;
  row.each_hook = [&batch, store_tag](const std::function<void(const FailedHookView&)>& each) {
    each_failed(batch, store_tag, each);
  };
  group.fail.push_back(std::move(row));
  if (batch.is_stored) {  // in memory mode, too: an earlier life may have had another
    batch.for_each_chunk([&](const ChunkInfo& chunk) { group.settle.push_back(chunk.number); });
  }
}

}  // namespace

void add_to_group(const StorePart& part, PartHalf half, std::uint16_t store_tag, StoreGroup& group,
                  StoreGroupMemory& memory) {
  if (half == PartHalf::appends) {
    for (const StorePart::Chunk& chunk : part.append) {
      std::vector<std::string_view>& pieces = memory.pieces.emplace_back();
      pieces.push_back(chunk.head);
      chunk_body_pieces(chunk.from, chunk.to, chunk.batch->first_segment, pieces);
      group.append.push_back({chunk.info.number, chunk.batch->number, key_of(*chunk.batch),
                              chunk.info.accepted_ms, chunk.info.hooks, pieces});
    }
    group.remember.insert(group.remember.end(), part.remember.begin(), part.remember.end());
    return;
  }
  group.settle.insert(group.settle.end(), part.settle.begin(), part.settle.end());
  group.attempts.insert(group.attempts.end(), part.attempts.begin(), part.attempts.end());
  if (half == PartHalf::rest) {
    for (const StorePart::Fail& fail : part.fail) add_fail(fail, store_tag, group);
  }
  // Without the failures some come early: that may repeat a hook, to come late could lose one.
  group.forget.insert(group.forget.end(), part.forget.begin(), part.forget.end());
  for (const StorePart::Rows& rows : part.delivered_rows) {
    group.delete_failed.insert(group.delete_failed.end(), rows.keys.begin(), rows.keys.end());
  }
}

std::uint64_t failed_rows(const StorePart& part) {
  std::uint64_t rows = 0;
  for (const StorePart::Fail& fail : part.fail) {
    const Batch& batch = *fail.batch;
    if (batch.bag->is_retry()) continue;  // each has its row
    rows += batch.hooks - (batch.taken_over && !batch.is_corrupt ? batch.taken_over->size() : 0);
  }
  return rows;
}

}  // namespace postbag
