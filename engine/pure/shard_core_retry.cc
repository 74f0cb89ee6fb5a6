// Batches of retry-failed-hooks: their hooks are rows of the store, which has them whatever happens
// here.
#include "engine/pure/shard_core.h"

namespace postbag {

std::vector<FailedKey> ShardCore::rows_of(const Batch& batch) {
  std::vector<FailedKey> rows;
  rows.reserve(batch.hooks);
  for_each_hook(batch, [&](const BatchedHook& hook) { rows.push_back(hook.row); });
  return rows;
}

// Of one run, oldest first.
std::vector<Batch*> ShardCore::batches_of(const RetrySink* sink) const {
  std::vector<Batch*> batches;
  for (const auto& [number, batch] : by_number_) {
    if (batch->bag->is_retry() && batch->bag->key->retry.get() == sink) batches.push_back(batch);
  }
  sort_by_number(batches);
  return batches;
}

void ShardCore::flush_retry(const RetrySink* sink, const Now& now) {
  for (Batch* batch : batches_of(sink)) {
    if (batch->state == BatchState::open) cut(*batch->bag, Cut::request);
  }
  advance(now);
}

void ShardCore::stop_retry(const RetrySink* sink) {
  for (Batch* batch : batches_of(sink)) {
    batch->bag->is_stopped = true;  // for what is on the wire
    if (batch->state == BatchState::in_flight || batch->state == BatchState::failing) continue;
    TargetState& target = *batch->bag->target;
    take_out(*batch);
    give_rows_back(*batch);
    target_changed(target);
  }
  pump();
}

// The batch waits for nothing any more.
void ShardCore::give_rows_back(Batch& batch) {
  const std::shared_ptr<RetrySink> sink = batch.bag->retry();
  const std::vector<FailedKey> rows = rows_of(batch);
  const std::uint64_t body_bytes = batch.body_bytes;
  const bool has_failed = batch.attempts > 0;
  resolved(batch);
  free_batch(batch);
  sink->rows_done(rows, body_bytes, has_failed ? RowsOutcome::failed : RowsOutcome::untouched);
}

}  // namespace postbag
