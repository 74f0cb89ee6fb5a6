// Where a hook is: in a shard, among the failed rows, or delivered.
#include <algorithm>

#include "engine/pure/hook_id.h"
#include "engine/shell/engine_impl.h"

namespace postbag {

std::optional<HookStatus> Engine::Impl::find_in_shards(ChunkNumber chunk, std::uint32_t index,
                                                       std::optional<BatchNumber> batch) {
  for (const auto& answer : ask_shards(
           [=](const ShardCore&core, const Now&) { return core.find_hook(chunk, index, batch); })) {
    if (answer) return answer;
  }
  return std::nullopt;
}

// A row is found by its place, and a producer's own id says the place only while it is remembered:
// after that all rows are looked through. Of several with the id the latest.
std::optional<FailedHook> Engine::Impl::find_failed(std::string_view own_id) {
  std::optional<FailedHook> found;
  if (store_thread_->stats().failed_hooks == 0) return found;
  FailedFilter filter;
  filter.ids = {std::string(own_id)};
  std::optional<FailedKey> after;
  do {
    FailedPage page;
    const std::error_code error = store_thread_->run(
        [&](Store& store) { return store.list_failed(filter, after, SliceLimits{}, page); });
    if (error) break;
    if (!page.rows.empty()) found = std::move(page.rows.back());
    after = page.next;
  } while (after);
  return found;
}

// Of a hook that no shard has and that has no failed row, on the store's thread: the shards
// remember fewer of those that were delivered than ids are known. Where hooks were dropped nobody
// can say. Open: it waits for recover(), or its rows cannot be read.
Engine::Impl::Past Engine::Impl::past_of(const Hash128& id, FailedKey location, Store& store) {
  const ChunkNumber chunk = failed_key_chunk(location);
  if (store_thread_->failed() || has_failed() || store.find_chunk(chunk)) return Past::open;
  if (chunk < store_info_.next_number || !policies()->keep_failed()) return Past::forgotten;
  const TimePoint dropped_at = std::max(dropped_at_.load(), store_thread_->retention_purged_at());
  const std::lock_guard lock(ids_.mutex);
  // Now, as it leaves before its shard lets go of it.
  const auto taken_at = ids_.table.taken_at(id, location);
  return taken_at && *taken_at > dropped_at ? Past::delivered : Past::forgotten;
}

std::optional<HookStatus> Engine::Impl::find_hook(std::string_view id) {
  const Hash128 hash = id_hash(id);
  std::optional<FailedKey> location;
  {
    const std::lock_guard lock(ids_.mutex);
    location = ids_.table.find(hash, steady_now());
  }
  std::optional<HookStatus> status;
  const auto show_failed = [&](const FailedHook& failed) {
    status.emplace();
    status->id = id;
    status->target = failed.target;
    status->state = "failed";
    status->attempts = failed.attempts;
    status->reason = reason_token(failed.reason, failed.status);
    status->status = failed.status;
  };
  if (!location) {
    const auto parsed = parse_hook_id(id);
    const HookLocation place = parsed ? locate(*parsed) : HookLocation();
    if (!parsed || place.tag != store_info_.store_tag) {
      if (const auto failed = find_failed(id)) show_failed(*failed);
      return status;
    }
    location = failed_key(place.chunk, place.index);
  }
  const ChunkNumber chunk = failed_key_chunk(*location);
  const std::uint32_t index = failed_key_index(*location);
  status = find_in_shards(chunk, index, std::nullopt);
  if (!status && options_.store.durability != Durability::memory) {
    const auto batch =
        store_thread_->run([chunk](Store& store) { return store.find_chunk(chunk); });
    if (batch) status = find_in_shards(chunk, index, batch);
  }
  if (!status) {
    bool is_delivered = false;
    const auto failed = store_thread_->run([&](Store& store) {
      auto row = store.find_failed(*location);
      is_delivered = !row && past_of(hash, *location, store) == Past::delivered;
      return row;
    });
    if (failed) {
      show_failed(*failed);
    } else if (is_delivered) {
      status.emplace();
      status->state = "delivered";
    }
  }
  if (status) status->id = id;
  return status;
}

}  // namespace postbag
