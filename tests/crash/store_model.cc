#include "tests/crash/store_model.h"

#include <algorithm>
#include <functional>

#include "tests/crash/hook_names.h"
#include "tests/support/failed_row.h"

namespace postbag::test {
namespace {

constexpr WallMs far_ms = 4'000'000'000'000;

// Items of a store are summed up, so that their order does not count.
class Digest {
 public:
  template <typename... Fields>
  void add(const Fields&... fields) {
    text_.clear();
    (append(fields), ...);
    sum_ += mix64(std::hash<std::string>()(text_));
  }
  std::uint64_t value() const { return sum_; }

 private:
  void append(std::string_view field) {
    text_ += std::to_string(field.size()) + ":";
    text_ += field;
  }
  void append(const char* field) { append(std::string_view(field)); }
  void append(const std::string& field) { append(std::string_view(field)); }
  template <typename Number>
  void append(Number number) {
    text_ += std::to_string(number) + ",";
  }

  std::string text_;
  std::uint64_t sum_ = 0;
};

void add_failed(Digest& digest, const FailedHook& row) {
  digest.add("failed", row.key, row.id, row.target, row.group, row.event, row.headers,
             row.content_type, row.body, static_cast<int>(row.reason), row.status, row.attempts,
             row.first_at, row.last_at, row.response_headers, row.response_excerpt);
}

void add_id(Digest& digest, const RememberedId& id) {
  digest.add("id", id.id_hash[0], id.id_hash[1], id.content_hash[0], id.content_hash[1],
             id.location, id.expires_ms);
}

}  // namespace

void StoreModel::apply(const StoreGroup& group) {
  for (const ChunkNumber number : group.settle) {
    chunks_.erase(number);
    attempts_.erase(number);
  }
  for (const FailedKey key : group.delete_failed) failed_.erase(key);
  for (const ChunkAppend& chunk : group.append) {
    Chunk& row = chunks_[chunk.chunk];
    row.batch = chunk.batch;
    row.target = chunk.key.target;
    row.group = chunk.key.group;
    row.headers = chunk.key.headers;
    row.accepted_ms = chunk.accepted_ms;
    row.hooks = chunk.hooks;
    row.data.clear();
    for (const std::string_view piece : chunk.data) row.data += piece;
    reserved_below_ = std::max(reserved_below_, chunk.chunk + 1);
  }
  for (const FailBatch& batch : group.fail) fail(batch);
  for (const AttemptsUpdate& update : group.attempts) {
    if (chunks_.contains(update.batch)) attempts_[update.batch] = update;
  }
  for (const auto& id_hash : group.forget) ids_.erase(id_hash);
  for (const RememberedId& id : group.remember) ids_[id.id_hash] = id;
  reserved_below_ = std::max(reserved_below_, group.reserve_below);
}

void StoreModel::fail(const FailBatch& batch) {
  batch.each_hook([&](const FailedHookView& hook) {
    put_failed_row(failed_, batch, hook);
    reserved_below_ = std::max(reserved_below_, failed_key_chunk(hook.key) + 1);
  });
}

void StoreModel::purge(const std::vector<FailedKey>& keys) {
  for (const FailedKey key : keys) failed_.erase(key);
}

void StoreModel::forget_ids(WallMs now_ms) {
  std::erase_if(ids_, [now_ms](const auto& id) { return id.second.expires_ms < now_ms; });
}

std::vector<ChunkNumber> StoreModel::chunks_of(BatchNumber batch) const {
  std::vector<ChunkNumber> found;
  for (const auto& [number, chunk] : chunks_) {
    if (chunk.batch == batch) found.push_back(number);
  }
  return found;
}

std::uint64_t StoreModel::digest() const {
  Digest digest;
  for (const auto& [number, chunk] : chunks_) {
    const auto attempts = attempts_.find(number);
    const AttemptsUpdate made = attempts == attempts_.end() ? AttemptsUpdate() : attempts->second;
    digest.add("chunk", number, chunk.batch, chunk.target, chunk.group, chunk.headers,
               chunk.accepted_ms, chunk.hooks, chunk.data, made.attempts, made.next_attempt_ms);
  }
  for (const auto& [key, row] : failed_) add_failed(digest, row);
  for (const auto& [hash, id] : ids_) add_id(digest, id);
  return digest.value();
}

std::optional<std::uint64_t> digest_of(Store& store, std::string& problem) {
  Digest digest;
  std::vector<PendingChunk> chunks;
  std::vector<std::string> blobs;
  ChunkNumber after = 0;
  do {
    if (const auto error = store.scan_pending(after, 50, chunks)) {
      problem = "scan_pending: " + error.message();
      return std::nullopt;
    }
    for (const PendingChunk& chunk : chunks) {
      if (const auto error = store.read_chunks(std::span(&chunk.chunk, 1), blobs)) {
        problem = "read_chunks " + std::to_string(chunk.chunk) + ": " + error.message();
        return std::nullopt;
      }
      digest.add("chunk", chunk.chunk, chunk.batch, chunk.target, chunk.group, chunk.headers,
                 chunk.accepted_ms, chunk.hooks, blobs.at(0), chunk.attempts,
                 chunk.next_attempt_ms);
      after = chunk.chunk;
    }
  } while (!chunks.empty());
  std::optional<FailedKey> next;
  std::uint64_t rows = 0;
  do {
    FailedPage page;
    if (const auto error = store.list_failed({}, next, {}, page)) {
      problem = "list_failed: " + error.message();
      return std::nullopt;
    }
    for (const FailedHook& row : page.rows) add_failed(digest, row);
    rows += page.rows.size();
    next = page.next;
  } while (next);
  if (rows != store.info().failed_hooks) {
    problem = "info() says " + std::to_string(store.info().failed_hooks) + " failed rows, " +
              std::to_string(rows) + " are listed";
    return std::nullopt;
  }
  if (const auto error = store.load_ids(0, [&](const RememberedId& id) { add_id(digest, id); })) {
    problem = "load_ids: " + error.message();
    return std::nullopt;
  }
  return digest.value();
}

StoreGroup& GroupMaker::begin() {
  group_ = {};
  next_ = 0;
  taken_.clear();
  strings_.clear();
  pieces_.clear();
  hooks_.clear();
  return group_;
}

std::string_view GroupMaker::keep(std::string text) {
  return strings_.emplace_back(std::move(text));
}

std::string GroupMaker::text(std::size_t bytes_max) {
  std::string bytes(random_() % (bytes_max + 1), '\0');
  for (char& byte : bytes) byte = static_cast<char>('a' + random_() % 26);
  return bytes;
}

std::optional<BatchNumber> GroupMaker::pick_batch(const StoreModel& model) {
  if (model.chunks().empty()) return std::nullopt;
  auto chunk = model.chunks().begin();
  std::advance(chunk, static_cast<long>(random_() % model.chunks().size()));
  const BatchNumber batch = chunk->second.batch;
  if (std::find(taken_.begin(), taken_.end(), batch) != taken_.end()) return std::nullopt;
  return batch;
}

void GroupMaker::append(const StoreModel& model) {
  if (next_ == 0) next_ = model.next_number();
  ChunkAppend& chunk = group_.append.emplace_back();
  chunk.chunk = chunk.batch = next_++;
  chunk.key.target = keep("https://" + std::to_string(random_() % 7) + ".example/" + text(20));
  chunk.key.group = keep(text(5));
  // One that goes on has the key of its batch.
  if (const auto batch = random_() % 2 == 0 ? pick_batch(model) : std::nullopt) {
    const StoreModel::Chunk& first = model.chunks().at(*batch);
    chunk.batch = *batch;
    taken_.push_back(*batch);  // not to be ended by the same group
    chunk.key = {keep(first.target), keep(first.group), keep(first.headers)};
  }
  chunk.accepted_ms = static_cast<WallMs>(1'700'000'000'000 + random_() % 1'000'000);
  chunk.hooks = 1 + static_cast<std::uint32_t>(random_() % 100);
  std::vector<std::string_view>& pieces = pieces_.emplace_back();
  for (std::uint64_t left = random_() % 4; left > 0; --left) pieces.push_back(keep(text(3'000)));
  if (random_() % 10 == 0) pieces.push_back(keep(text(40'000)));
  chunk.data = pieces;
}

void GroupMaker::settle(const StoreModel& model) {
  const auto batch = pick_batch(model);
  if (!batch) return;
  taken_.push_back(*batch);
  for (const ChunkNumber number : model.chunks_of(*batch)) group_.settle.push_back(number);
}

void GroupMaker::add_fail(FailBatch batch, std::vector<FailedHookView> hooks) {
  batch.reason = random_() % 2 == 0 ? Reason::connect_refused : Reason::status;
  batch.status = batch.reason == Reason::status ? 500 : 0;
  batch.attempts = 1 + static_cast<std::uint32_t>(random_() % 5);
  batch.last_at = static_cast<WallMs>(1'700'001'000'000 + random_() % 1'000'000);
  if (random_() % 2 == 0) {
    batch.response_headers = keep("Server: " + text(20));
    batch.response_excerpt = keep(text(300));
  }
  const std::vector<FailedHookView>& kept = hooks_.emplace_back(std::move(hooks));
  batch.each_hook = [&kept](const std::function<void(const FailedHookView&)>& each) {
    for (const FailedHookView& hook : kept) each(hook);
  };
  group_.fail.push_back(std::move(batch));
}

void GroupMaker::fail(const StoreModel& model) {
  const auto number = pick_batch(model);
  if (!number) return;
  taken_.push_back(*number);
  const StoreModel::Chunk& first = model.chunks().at(*number);
  FailBatch batch;
  batch.batch = *number;
  batch.key = {keep(first.target), keep(first.group), keep(first.headers)};
  std::vector<FailedHookView> hooks;
  for (const ChunkNumber chunk : model.chunks_of(*number)) {
    group_.settle.push_back(chunk);
    for (std::uint64_t i = 0; i < 1 + random_() % 4; ++i) {
      FailedHookView& hook = hooks.emplace_back();
      hook.key = failed_key(chunk, i);
      hook.id = keep("id-" + std::to_string(hook.key));
      hook.event = keep(text(6));
      hook.body = keep(text(700));
      hook.accepted_ms = static_cast<WallMs>(1'700'000'000'000 + random_() % 1'000'000);
    }
  }
  add_fail(std::move(batch), std::move(hooks));
}

// As after retry-failed-hooks: the row is there, its batch is a new one.
void GroupMaker::fail_again(const StoreModel& model) {
  if (model.failed().empty() || !group_.delete_failed.empty()) return;
  if (next_ == 0) next_ = model.next_number();
  auto row = model.failed().begin();
  std::advance(row, static_cast<long>(random_() % model.failed().size()));
  FailBatch batch;
  batch.batch = next_++;
  group_.reserve_below = std::max(group_.reserve_below, next_);
  batch.key = {keep(row->second.target), keep(row->second.group), keep(row->second.headers)};
  std::vector<FailedHookView> hooks(1);
  hooks[0].key = row->first;
  hooks[0].id = keep(row->second.id);
  hooks[0].event = keep(row->second.event);
  hooks[0].body = keep(row->second.body);
  hooks[0].accepted_ms = 1'700'000'500'000;
  add_fail(std::move(batch), std::move(hooks));
}

void GroupMaker::count_attempt(const StoreModel& model) {
  const auto batch = pick_batch(model);
  if (!batch || !model.chunks().contains(*batch)) return;
  AttemptsUpdate& update = group_.attempts.emplace_back();
  update.batch = *batch;
  update.attempts = 1 + static_cast<std::uint32_t>(random_() % 9);
  update.next_attempt_ms = static_cast<WallMs>(1'700'002'000'000 + random_() % 1'000);
}

void GroupMaker::delete_failed(const StoreModel& model) {
  if (model.failed().empty() || !group_.fail.empty()) return;
  auto row = model.failed().begin();
  std::advance(row, static_cast<long>(random_() % model.failed().size()));
  for (std::uint64_t left = 1 + random_() % 4; left > 0 && row != model.failed().end(); --left) {
    group_.delete_failed.push_back((row++)->first);
  }
  group_.delete_failed.push_back(1);  // not there
}

void GroupMaker::remember() {
  RememberedId& id = group_.remember.emplace_back();
  id.id_hash = {random_() % 50, 7};  // some come again
  id.content_hash = {random_(), random_()};
  id.location = random_() >> 2;
  id.expires_ms = far_ms + static_cast<WallMs>(random_() % 1'000);
  for (std::size_t i = 0; i + 1 < group_.remember.size(); ++i) {
    if (group_.remember[i].id_hash != id.id_hash) continue;
    group_.remember.pop_back();  // the engine knows it already
    return;
  }
}

const StoreGroup& GroupMaker::make(const StoreModel& model, bool& wants_sync) {
  begin();
  // Few rows wait and few are kept, so that pages are freed and used again.
  const bool is_full = model.chunks().size() > 60;
  for (std::uint64_t left = random_() % (is_full ? 2 : 4); left > 0; --left) append(model);
  for (std::uint64_t left = random_() % (is_full ? 5 : 3); left > 0; --left) settle(model);
  if (random_() % 4 == 0) fail(model);
  if (random_() % 6 == 0) fail_again(model);
  if (random_() % 2 == 0) count_attempt(model);
  if (random_() % 4 == 0 || model.failed().size() > 60) delete_failed(model);
  if (random_() % 3 == 0) remember();
  if (random_() % 6 == 0) group_.forget = {{random_() % 50, 7}};
  if (random_() % 10 == 0) group_.reserve_below = model.next_number() + 1'000;
  wants_sync = !group_.append.empty() || !group_.fail.empty();
  return group_;
}

}  // namespace postbag::test
