#include "postbag/memory_store.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "postbag/error.h"
#include "store/failed_match.h"

namespace postbag {
namespace {

struct Chunk {
  PendingChunk head;
  std::string data;
};

struct Response {
  std::string headers, excerpt;
  std::uint64_t rows = 0;  // in the store, that refer here
};

struct FailedRow {
  FailedHook hook;  // without the response
  std::string token;
  std::shared_ptr<Response> response;  // of the whole batch; may be null
};

class MemoryStore final : public Store {
 public:
  MemoryStore() : tag_(static_cast<std::uint16_t>(1 + std::random_device()() % 65535)) {}

  StoreInfo info() const override;
  std::error_code commit(const StoreGroup& group, CommitLevel level) override;
  std::error_code scan_pending(ChunkNumber after, std::size_t max,
                               std::vector<PendingChunk>& out) override;
  std::error_code read_chunks(std::span<const ChunkNumber> chunks,
                              std::vector<std::string>& blobs) override;
  std::optional<BatchNumber> find_chunk(ChunkNumber chunk) override;
  std::error_code list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                              const SliceLimits& limits, FailedPage& page) override;
  std::optional<FailedHook> find_failed(FailedKey key) override;
  std::error_code purge_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                               const SliceLimits& limits, std::span<const FailedKey> except,
                               std::uint64_t& purged, std::optional<FailedKey>& next) override;
  std::error_code load_ids(WallMs now_ms,
                           const std::function<void(const RememberedId&)>& each) override;
  std::error_code forget_ids(WallMs now_ms) override;
  StoreStats stats() override;
  bool maintain() override { return false; }
  // There is nothing that a copy could be opened from.
  std::error_code begin_backup(const std::string&, std::unique_ptr<StoreBackup>&) override {
    return Errc::store_cannot_create;
  }

 private:
  using Chunks = std::map<ChunkNumber, Chunk>;
  using FailedRows = std::map<FailedKey, FailedRow>;

  void remember(const RememberedId& id);
  void forget(const std::array<std::uint64_t, 2>& id_hash);
  // A failed row, into failed_ and out of it.
  void entered(const FailedRow& row);
  void left(const FailedRow& row);
  FailedRows::iterator after_key(std::optional<FailedKey> after) {
    return after ? failed_.upper_bound(*after) : failed_.begin();
  }
  // Calls `match` for the rows of one slice; gives where to go on. `match` gives the bytes that it
  // took.
  template <typename Match>
  std::optional<FailedKey> slice(const FailedFilter& filter, std::optional<FailedKey> after,
                                 const SliceLimits& limits, Match match);

  const std::uint16_t tag_;
  ChunkNumber reserved_below_ = 1;
  Chunks chunks_;
  FailedRows failed_;
  std::uint64_t bytes_ = 0, failed_bytes_ = 0;
  std::uint64_t next_id_ = 0;
  std::map<std::uint64_t, RememberedId> ids_;  // in the order in which they came
  std::map<std::array<std::uint64_t, 2>, std::uint64_t> id_order_;
};

std::uint64_t size_of(const FailedRow& row) {
  const FailedHook& hook = row.hook;
  return sizeof(FailedRow) + hook.id.size() + hook.target.size() + hook.headers.size() +
         hook.body.size();
}

std::uint64_t counted_bytes(const FailedRow& row) {
  const FailedHook& hook = row.hook;
  return failed_row_bytes(hook.id.size() + hook.target.size() + hook.group.size() +
                              hook.event.size() + hook.headers.size() + hook.content_type.size(),
                          hook.body.size());
}

std::uint64_t response_bytes(const FailedRow& row) {
  return row.response->headers.size() + row.response->excerpt.size();
}

std::uint64_t size_of(const Chunk& chunk) {
  return sizeof(Chunk) + chunk.data.size();
}

FailedFields fields_of(const FailedRow& row) {
  const FailedHook& hook = row.hook;
  return {hook.id, hook.target, hook.group, hook.event, row.token, hook.status, hook.last_at};
}

FailedHook with_response(const FailedRow& row) {
  FailedHook hook = row.hook;
  if (row.response) {
    hook.response_headers = row.response->headers;
    hook.response_excerpt = row.response->excerpt;
  }
  return hook;
}

Chunk chunk_of(const ChunkAppend& append) {
  Chunk chunk;
  chunk.head.chunk = append.chunk;
  chunk.head.batch = append.batch;
  chunk.head.target = append.key.target;
  chunk.head.group = append.key.group;
  chunk.head.headers = append.key.headers;
  chunk.head.accepted_ms = append.accepted_ms;
  chunk.head.hooks = append.hooks;
  for (const std::string_view piece : append.data) chunk.data.append(piece);
  chunk.head.bytes = chunk.data.size();
  return chunk;
}

template <typename Each>
void for_each_row(const FailBatch& batch, Each each) {
  if (!batch.each_hook) return;
  std::shared_ptr<Response> response;
  if (!batch.response_headers.empty() || !batch.response_excerpt.empty()) {
    response = std::make_shared<Response>(
        Response{std::string(batch.response_headers), std::string(batch.response_excerpt), 0});
  }
  batch.each_hook([&](const FailedHookView& view) {
    FailedRow row;
    FailedHook& hook = row.hook;
    hook.key = view.key;
    hook.id = view.id;
    hook.target = batch.key.target;
    hook.group = batch.key.group;
    hook.event = view.event;
    hook.headers = batch.key.headers;
    hook.content_type = view.content_type;
    hook.body = view.body;
    hook.reason = batch.reason;
    hook.status = batch.status;
    hook.attempts = batch.attempts;
    hook.first_at = view.accepted_ms;
    hook.last_at = batch.last_at;
    row.token = reason_token(batch.reason, batch.status);
    row.response = response;
    each(std::move(row));
  });
}

StoreInfo MemoryStore::info() const {
  StoreInfo info;  // pending_* are what was there at open: nothing
  info.next_number = reserved_below_;
  info.store_tag = tag_;
  info.failed_hooks = failed_.size();
  return info;
}

// Whatever can run out of memory comes first, beside the store; then nodes change hands, which
// cannot fail.
std::error_code MemoryStore::commit(const StoreGroup& group, CommitLevel) {
  Chunks appended;
  FailedRows failed;
  ChunkNumber below = std::max(reserved_below_, group.reserve_below);
  for (const ChunkAppend& append : group.append) {
    appended.emplace(append.chunk, chunk_of(append));
    below = std::max(below, append.chunk + 1);
  }
  for (const FailBatch& batch : group.fail) {
    for_each_row(batch, [&](FailedRow row) {
      const FailedKey key = row.hook.key;
      below = std::max<ChunkNumber>(below, failed_key_chunk(key) + 1);
      const auto [staged, is_new] = failed.try_emplace(key);
      if (!is_new) {
        row.hook.attempts += staged->second.hook.attempts;
        row.hook.first_at = staged->second.hook.first_at;
      }
      staged->second = std::move(row);
    });
  }
  for (const auto& id : group.forget) forget(id);
  for (const RememberedId& id : group.remember) remember(id);

  for (const ChunkNumber number : group.settle) {
    if (auto node = chunks_.extract(number)) bytes_ -= size_of(node.mapped());
  }
  for (const FailedKey key : group.delete_failed) {
    if (auto node = failed_.extract(key)) left(node.mapped());
  }
  for (auto& [key, row] : failed) {
    if (auto before = failed_.extract(key)) {
      left(before.mapped());
      row.hook.attempts += before.mapped().hook.attempts;
      row.hook.first_at = before.mapped().hook.first_at;
    }
    entered(row);
  }
  for (const auto& [number, chunk] : appended) bytes_ += size_of(chunk);
  failed_.merge(failed);
  chunks_.merge(appended);
  for (const AttemptsUpdate& update : group.attempts) {
    const auto found = chunks_.find(update.batch);
    if (found == chunks_.end()) continue;
    found->second.head.attempts = update.attempts;
    found->second.head.next_attempt_ms = update.next_attempt_ms;
  }
  reserved_below_ = below;
  return {};
}

void MemoryStore::entered(const FailedRow& row) {
  bytes_ += size_of(row);
  failed_bytes_ += counted_bytes(row);
  if (row.response && row.response->rows++ == 0) failed_bytes_ += response_bytes(row);
}

void MemoryStore::left(const FailedRow& row) {
  bytes_ -= size_of(row);
  failed_bytes_ -= counted_bytes(row);
  if (row.response && --row.response->rows == 0) failed_bytes_ -= response_bytes(row);
}

std::error_code MemoryStore::scan_pending(ChunkNumber after, std::size_t max,
                                          std::vector<PendingChunk>& out) {
  out.clear();
  for (auto at = chunks_.upper_bound(after); at != chunks_.end() && out.size() < max; ++at) {
    out.push_back(at->second.head);
  }
  return {};
}

std::error_code MemoryStore::read_chunks(std::span<const ChunkNumber> chunks,
                                         std::vector<std::string>& blobs) {
  blobs.clear();
  for (const ChunkNumber number : chunks) {
    const auto found = chunks_.find(number);
    if (found == chunks_.end()) {
      blobs.clear();
      return Errc::not_found;
    }
    blobs.push_back(found->second.data);
  }
  return {};
}

std::optional<BatchNumber> MemoryStore::find_chunk(ChunkNumber chunk) {
  const auto found = chunks_.find(chunk);
  return found == chunks_.end() ? std::nullopt : std::optional(found->second.head.batch);
}

template <typename Match>
std::optional<FailedKey> MemoryStore::slice(const FailedFilter& filter,
                                            std::optional<FailedKey> after,
                                            const SliceLimits& limits, Match match) {
  const FailedMatcher matcher(filter);
  SliceBudget budget(limits);
  FailedKey last = 0;
  for (auto at = after_key(after); at != failed_.end(); ++at) {
    if (budget.used_up()) return last;
    last = at->first;
    budget.looked_at();
    if (!matcher.matches(fields_of(at->second))) continue;
    if (const std::size_t bytes = match(at->second); bytes > 0) budget.took(bytes);
  }
  return std::nullopt;
}

std::error_code MemoryStore::list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                                         const SliceLimits& limits, FailedPage& page) {
  page.rows.clear();
  page.next = slice(filter, after, limits, [&](const FailedRow& row) {
    FailedHook& hook = page.rows.emplace_back(limits.bodies ? with_response(row) : row.hook);
    if (!limits.bodies) hook.body.clear();
    return hook.body.size() + 256;
  });
  return {};
}

std::optional<FailedHook> MemoryStore::find_failed(FailedKey key) {
  const auto found = failed_.find(key);
  return found == failed_.end() ? std::nullopt : std::optional(with_response(found->second));
}

std::error_code MemoryStore::purge_failed(const FailedFilter& filter,
                                          std::optional<FailedKey> after, const SliceLimits& limits,
                                          std::span<const FailedKey> except, std::uint64_t& purged,
                                          std::optional<FailedKey>& next) {
  std::vector<FailedKey> keys;
  next = slice(filter, after, limits, [&](const FailedRow& row) -> std::size_t {
    if (std::binary_search(except.begin(), except.end(), row.hook.key)) return 0;
    keys.push_back(row.hook.key);
    return counted_bytes(row);
  });
  for (const FailedKey key : keys) {
    if (auto node = failed_.extract(key)) left(node.mapped());
  }
  purged = keys.size();
  return {};
}

void MemoryStore::remember(const RememberedId& id) {
  const auto [known, is_new] = id_order_.emplace(id.id_hash, next_id_);
  if (!is_new) ids_.erase(std::exchange(known->second, next_id_));
  ids_.emplace(next_id_++, id);
  if (ids_.size() > remembered_ids_max) {
    id_order_.erase(ids_.begin()->second.id_hash);
    ids_.erase(ids_.begin());
  }
}

void MemoryStore::forget(const std::array<std::uint64_t, 2>& id_hash) {
  const auto known = id_order_.find(id_hash);
  if (known == id_order_.end()) return;
  ids_.erase(known->second);
  id_order_.erase(known);
}

std::error_code MemoryStore::load_ids(WallMs now_ms,
                                      const std::function<void(const RememberedId&)>& each) {
  (void)forget_ids(now_ms);
  for (const auto& [order, id] : ids_) {
    if (id.expires_ms >= now_ms) each(id);
  }
  return {};
}

std::error_code MemoryStore::forget_ids(WallMs now_ms) {
  // Expiry times almost always ascend with the order of arrival; one that does not is left for
  // later.
  while (!ids_.empty() && ids_.begin()->second.expires_ms < now_ms) {
    id_order_.erase(ids_.begin()->second.id_hash);
    ids_.erase(ids_.begin());
  }
  return {};
}

StoreStats MemoryStore::stats() {
  StoreStats stats;
  stats.failed_hooks = failed_.size();
  stats.failed_bytes = failed_bytes_;
  stats.used_bytes = bytes_;
  return stats;
}

}  // namespace

std::unique_ptr<Store> make_memory_store() {
  return std::make_unique<MemoryStore>();
}

}  // namespace postbag
