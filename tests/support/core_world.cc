#include "tests/support/core_world.h"

#include <algorithm>

#include "engine/pure/url_hash.h"
#include "engine/pure/wire.h"
#include "postbag/error.h"
#include "postbag/store.h"
#include "tests/support/failed_row.h"

namespace postbag::test {
namespace {

constexpr std::uint16_t store_tag = 0xbead;
constexpr WallMs wall_start_ms = 1'700'000'000'000;
constexpr std::uint64_t number_block = 64;  // small, so that ranges run out often

std::string joined(std::span<const std::string_view> pieces) {
  std::string all;
  for (std::string_view piece : pieces) all += piece;
  return all;
}

std::uint64_t hash_of(const StoreGroup& group) {
  std::uint64_t hash = 0;
  for (const ChunkAppend& chunk : group.append) hash = hash * 31 + url_hash(joined(chunk.data));
  for (const FailBatch& fail : group.fail) {
    fail.each_hook([&](const FailedHookView& hook) {
      hash = hash * 31 + url_hash(hook.body) + url_hash(hook.id) + hook.key;
    });
  }
  return hash;
}

}  // namespace

Reply answer(int status, Duration latency) {
  Reply reply;
  reply.result.status = status;
  reply.result.reason = status >= 200 && status <= 299 ? Reason::none : Reason::status;
  reply.latency = latency;
  return reply;
}

Reply broken(Reason reason, Duration latency) {
  Reply reply;
  reply.result.reason = reason;
  reply.latency = latency;
  return reply;
}

void WorldCall::shard_done(Errc shard_error, std::uint32_t) {
  if (shard_error != Errc::ok) error = shard_error;
  shards_left -= 1;
  if (shards_left == 0 && on_answer) on_answer(*this);
}

void WorldRetry::rows_done(std::span<const FailedKey> keys, std::uint64_t body_bytes,
                           RowsOutcome outcome) {
  for (FailedKey key : keys) claimed.erase(key);
  body_bytes_left -= body_bytes;
  std::uint64_t* const counts[] = {&delivered, &failed, &untouched};
  *counts[static_cast<std::size_t>(outcome)] += keys.size();
}

std::uint64_t DurableState::pending_hooks() const {
  std::uint64_t hooks = 0;
  for (const auto& [number, chunk] : chunks) hooks += chunk.hooks;
  return hooks;
}

CoreWorld::CoreWorld(WorldConfig config)
    : config_(std::move(config)),
      policies_(std::make_shared<PolicyTable>(config_.options, generation_)) {
  make_cores();
}

CoreWorld::~CoreWorld() = default;

void CoreWorld::make_cores() {
  cores_.clear();
  for (std::uint32_t shard = 0; shard < config_.shards; ++shard) {
    ShardCore::Config core;
    core.shard = shard;
    core.durable = config_.durable;
    core.store_tag = store_tag;
    core.max_connections = config_.max_connections;
    core.unpacked_batches = config_.unpacked_batches;
    core.read_bytes_max = config_.read_bytes_max;
    core.random_seed = config_.seed * 1000 + life_ * 16 + shard;
    cores_.push_back(std::make_unique<ShardCore>(core, policies_));
  }
}

Now CoreWorld::now() const {
  const auto since = now_ - TimePoint{std::chrono::hours(1)};
  return {now_, wall_start_ms + wall_offset_ms_ +
                    std::chrono::duration_cast<std::chrono::milliseconds>(since).count()};
}

void CoreWorld::trace(std::uint64_t value) {
  trace_ = (trace_ ^ value) * 0x100000001b3 + (trace_ >> 29);
}

std::uint32_t CoreWorld::shard_of(std::string_view target) const {
  return static_cast<std::uint32_t>(shard_index(url_hash(target), config_.shards));
}

void CoreWorld::schedule(Duration delay, Event event) {
  events_.emplace(std::pair(now_ + std::max(delay, Duration::zero()), sequence_++),
                  std::move(event));
}

void CoreWorld::after(Duration delay, std::function<void()> then) {
  Event event;
  event.then = std::move(then);
  schedule(delay, std::move(event));
}

bool CoreWorld::step() {
  TimePoint deadline = time_point_never;
  std::uint32_t due_shard = 0;
  for (std::uint32_t shard = 0; shard < shards(); ++shard) {
    const TimePoint next = cores_[shard]->next_deadline();
    if (next >= deadline) continue;
    deadline = next;
    due_shard = shard;
  }
  if (events_.empty() && deadline == time_point_never) return false;
  events_done_ += 1;
  if (events_.empty() || deadline < events_.begin()->first.first) {
    now_ = std::max(now_, deadline);
    trace(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
    cores_[due_shard]->advance(now());
    touch(due_shard);
    return true;
  }
  auto first = events_.extract(events_.begin());
  now_ = std::max(now_, first.key().first);
  run_event(first.mapped());
  return true;
}

void CoreWorld::run_event(Event& event) {
  trace(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  trace(static_cast<std::uint64_t>(event.kind));
  switch (event.kind) {
    case Event::Kind::attempt:
      end_attempt(event);
      break;
    case Event::Kind::commit:
      end_commit();
      break;
    case Event::Kind::load:
      end_load(event);
      break;
    case Event::Kind::ahead:
      end_ahead(event);
      break;
    case Event::Kind::custom:
      event.then();
      break;
  }
}

void CoreWorld::run_for(Duration duration) {
  bool reached = false;
  after(duration, [&reached] { reached = true; });
  while (!reached && step()) {
  }
}

bool CoreWorld::run_idle(Duration most) {
  const TimePoint limit = now_ + most;
  while (now_ <= limit) {
    if (!step()) return true;
  }
  return false;
}

// Carries out what a core decided.
void CoreWorld::touch(std::uint32_t shard) {
  ShardCore& core = *cores_[shard];
  for (Batch* batch : std::exchange(core.sends(), {})) start_attempt(shard, *batch);
  for (Batch* batch : std::exchange(core.loads(), {})) {
    Event event;
    event.kind = Event::Kind::load;
    event.shard = shard;
    event.batch = batch;
    schedule(config_.load_time, std::move(event));
  }
  if (!core.loads_ahead().empty()) {
    Event event;
    event.kind = Event::Kind::ahead;
    event.shard = shard;
    event.chunks = std::exchange(core.loads_ahead(), {});
    schedule(config_.load_time, std::move(event));
  }
  while (auto part = core.take_part(now())) store_queue_.push_back(std::move(part));
  if (!commit_ && !store_queue_.empty()) start_commit();
  core.tell();
  // Of the fixture's every core, after its every event.
  if (core.batches_held() == 0 && core.oldest_ms())
    violations.push_back("the oldest of no batches");
  if (core.hooks_held() > 0 && !core.oldest_ms()) violations.push_back("no hook is the oldest");
}

void CoreWorld::start_attempt(std::uint32_t shard, Batch& batch) {
  ShardCore& core = *cores_[shard];
  WorldRequest request;
  request.started = now_;
  request.target = batch.bag->target->url;
  request.group = batch.bag->group();
  request.batch_id = to_string(core.batch_id(batch));
  request.batch = batch.number;
  request.shard = shard;
  request.attempt = batch.attempts;
  request.size = batch.hooks;
  request.life = life_;
  request.is_retried_rows = batch.bag->is_retry();
  request.is_stopped = batch.bag->is_stopped;
  std::vector<std::string_view> pieces;
  wire_pieces(batch, pieces);
  request.body = joined(pieces);
  write_request_head(request.head, core.head_start(batch),
                     {core.batch_id(batch), batch.hooks, batch.attempts, wire_bytes(batch)});
  if (request.body.size() != wire_bytes(batch)) violations.push_back("content length is wrong");
  if (core.destination(batch)->host.empty()) violations.push_back("no destination");
  trace(batch.number);
  trace(batch.attempts);
  trace(url_hash(request.body));
  const Reply reply = network ? network(request) : answer(200);
  request.result = reply.result;
  if (on_request) on_request(request);
  Event event;
  event.kind = Event::Kind::attempt;
  event.shard = shard;
  event.batch = &batch;
  event.request = requests_.size();
  requests_.push_back(std::move(request));
  schedule(reply.latency, std::move(event));
}

void CoreWorld::end_attempt(Event& event) {
  std::vector<std::string_view> pieces;
  wire_pieces(*event.batch, pieces);
  WorldRequest& request = requests_[event.request];
  if (joined(pieces) != request.body) violations.push_back("body changed while on the wire");
  request.ended = now_;
  request.has_ended = true;
  trace(static_cast<std::uint64_t>(request.result.reason));
  if (on_reply) on_reply(request);
  cores_[event.shard]->attempt_done(*event.batch, AttemptResult(requests_[event.request].result),
                                    now());
  touch(event.shard);
}

void CoreWorld::end_load(Event& event) {
  loads_done_ += 1;
  std::vector<std::string> blobs;
  std::error_code error = load_fault ? load_fault() : std::error_code();
  if (!error) {
    event.batch->for_each_chunk([&](const ChunkInfo& info) {
      const auto found = durable_.chunks.find(info.number);
      if (found == durable_.chunks.end()) {
        error = Errc::not_found;
        violations.push_back("a chunk to be read is not in the store");
        return;
      }
      blobs.push_back(found->second.blob);
      if (damage_loads) blobs.back()[0] = 77;
    });
  }
  cores_[event.shard]->loaded(*event.batch, error, blobs, now());
  touch(event.shard);
}

// One may be missing: it was cancelled meanwhile.
void CoreWorld::end_ahead(Event& event) {
  std::vector<ChunkBlob> read;
  for (const ChunkNumber chunk : event.chunks) {
    ChunkBlob& one = read.emplace_back();
    one.chunk = chunk;
    const auto found = durable_.chunks.find(chunk);
    const bool is_read = found != durable_.chunks.end() && !(ahead_fault && ahead_fault());
    if (is_read) one.blob = found->second.blob;
    if (is_read && damage_loads) one.blob[0] = 77;
  }
  cores_[event.shard]->read_ahead(read, now());
  touch(event.shard);
}

// The same decisions as engine/shell/store_thread.cc, on a virtual disk.
void CoreWorld::start_commit() {
  commit_ = std::make_unique<Commit>();
  Commit& commit = *commit_;
  commit.parts = std::exchange(store_queue_, {});
  commit.fault = store_fault ? store_fault() : StoreFault::none;
  for (auto& part : commit.parts) {
    const auto poisoned = poisoned_series_.find(part->shard);
    if (poisoned != poisoned_series_.end() && part->refusal_series <= poisoned->second) {
      part->append_error = Errc::disk_low;
      continue;
    }
    add_to_group(*part, PartHalf::appends, store_tag, commit.group, commit.memory);
    commit.has_appends = commit.has_appends || !part->append.empty();
  }
  for (auto& part : commit.parts) {
    add_to_group(*part, PartHalf::rest, store_tag, commit.rest, commit.rest_memory);
  }
  commit.bytes_hash = hash_of(commit.group) ^ hash_of(commit.rest);
  Event event;
  event.kind = Event::Kind::commit;
  schedule(config_.commit_time, std::move(event));
}

void CoreWorld::end_commit() {
  const std::unique_ptr<Commit> commit = std::move(commit_);
  if ((hash_of(commit->group) ^ hash_of(commit->rest)) != commit->bytes_hash) {
    violations.push_back("memory changed while the store used it");
  }
  const Errc rest_error = commit->fault == StoreFault::full     ? Errc::disk_low
                          : commit->fault == StoreFault::failed ? Errc::store_failed
                                                                : Errc::ok;
  Errc append_error = rest_error;
  if (commit->fault == StoreFault::disk_low && commit->has_appends) append_error = Errc::disk_low;
  if (append_error == Errc::ok) apply(commit->group);
  if (rest_error == Errc::ok) apply(commit->rest);
  durable_.commits += 1;
  std::set<std::uint32_t> touched;
  for (auto& part : commit->parts) {
    if (part->append_error == Errc::ok) part->append_error = append_error;
    const bool has_work = !part->append.empty() || !part->calls.empty();
    if (part->append_error != Errc::ok && has_work) {
      poisoned_series_[part->shard] = part->refusal_series;
      last_refusal_ = now_;
    }
    part->error = rest_error;
    trace(part->shard * 8 + static_cast<std::uint64_t>(part->append_error));
    cores_[part->shard]->part_done(*part, now());
    touched.insert(part->shard);
  }
  for (std::uint32_t shard : touched) touch(shard);
  if (!commit_ && !store_queue_.empty()) start_commit();
}

void CoreWorld::apply(const StoreGroup& group) {
  for (const ChunkAppend& append : group.append) {
    StoredChunk chunk;
    chunk.batch = append.batch;
    chunk.target = append.key.target;
    chunk.group = append.key.group;
    chunk.headers = append.key.headers;
    chunk.blob = joined(append.data);
    chunk.accepted_ms = append.accepted_ms;
    chunk.hooks = append.hooks;
    if (append.chunk != append.batch && !durable_.chunks.contains(append.batch)) {
      violations.push_back("a chunk is stored without the first one of its batch");
    }
    durable_.stored_hooks[append.batch] += append.hooks;
    if (!durable_.chunks.emplace(append.chunk, std::move(chunk)).second) {
      violations.push_back("a chunk number was used twice");
    }
  }
  for (const FailBatch& fail : group.fail) apply_fail(fail);
  for (ChunkNumber number : group.settle) {
    const auto found = durable_.chunks.find(number);
    if (found == durable_.chunks.end()) {
      if (config_.durable) violations.push_back("a chunk was settled twice");
      continue;
    }
    std::uint32_t& left = durable_.stored_hooks[found->second.batch];
    left -= found->second.hooks;
    if (left == 0) durable_.stored_hooks.erase(found->second.batch);
    durable_.chunks.erase(found);
  }
  for (const AttemptsUpdate& update : group.attempts) {
    const auto found = durable_.chunks.find(update.batch);
    if (found == durable_.chunks.end()) continue;
    if (found->second.attempts > update.attempts) violations.push_back("attempts went back");
    found->second.attempts = update.attempts;
    found->second.next_attempt_ms = update.next_attempt_ms;
  }
  for (FailedKey key : group.delete_failed) durable_.failed.erase(key);
  for (const auto& id_hash : group.forget) durable_.remembered.erase(id_hash);
  for (const RememberedId& id : group.remember) durable_.remembered[id.id_hash] = id;
}

void CoreWorld::apply_fail(const FailBatch& fail) {
  fail.each_hook([&](const FailedHookView& hook) {
    const bool is_new = put_failed_row(durable_.failed, fail, hook);
    if (on_failed_row) on_failed_row(durable_.failed.at(hook.key), is_new);
  });
}

void CoreWorld::ensure_numbers(std::uint32_t shard, std::size_t hooks) {
  if (cores_[shard]->numbers_left() >= hooks) return;
  cores_[shard]->give_numbers(durable_.next_number, hooks + number_block);
  durable_.next_number += hooks + number_block;
}

std::shared_ptr<WorldCall> CoreWorld::submit(const std::vector<WorldHook>& hooks,
                                             std::shared_ptr<OutcomeListener> listener) {
  auto list = std::make_shared<HookList>();
  std::map<std::uint32_t, std::vector<std::uint32_t>> by_shard;
  for (const WorldHook& hook : hooks) {
    std::vector<HeaderView> headers;
    for (const auto& [name, value] : hook.headers) headers.push_back({name, value});
    list->add(
        {hook.target, hook.body, hook.event, hook.group, hook.id, hook.content_type, headers});
    by_shard[shard_of(hook.target)].push_back(static_cast<std::uint32_t>(list->size() - 1));
  }
  auto call = std::make_shared<WorldCall>();
  call->number = calls_made_++;
  call->hooks = hooks.size();
  call->ids.resize(hooks.size());
  call->shards = call->shards_left = static_cast<std::uint32_t>(by_shard.size());
  call->life = life_;
  for (auto& [shard, indices] : by_shard) {
    Parcel parcel;
    parcel.hooks = list;
    if (indices.size() != hooks.size()) parcel.indices = std::move(indices);
    parcel.call = call;
    parcel.listener = listener;
    ensure_numbers(shard, hooks.size());
    cores_[shard]->add(parcel, now());
    touch(shard);
  }
  return call;
}

std::shared_ptr<WorldCall> CoreWorld::submit(const std::string& target, const std::string& body) {
  WorldHook hook;
  hook.target = target;
  hook.body = body;
  return submit(std::vector<WorldHook>{hook});
}

std::shared_ptr<WorldRetry> CoreWorld::retry_failed(
    const std::function<bool(const FailedHook&)>& wanted, std::optional<std::uint32_t> retries,
    std::size_t most) {
  auto run = std::make_shared<WorldRetry>(retries_.size());
  std::map<std::uint32_t, Parcel> parcels;
  std::map<std::uint32_t, std::shared_ptr<HookList>> lists;
  for (const auto& [key, row] : durable_.failed) {
    const bool is_claimed = std::any_of(retries_.begin(), retries_.end(), [&](const auto& one) {
      return one->claimed.contains(key);
    });
    if (is_claimed || (wanted && !wanted(row)) || run->rows == most) continue;
    run->rows += 1;
    run->claimed.insert(key);
    run->body_bytes_left += row.body.size() + 1;
    const std::uint32_t shard = shard_of(row.target);
    Parcel& parcel = parcels[shard];
    std::shared_ptr<HookList>& list = lists[shard];
    if (!list) list = std::make_shared<HookList>();
    list->add({row.target, row.body, row.event, row.group, row.id, row.content_type, {}});
    parcel.rows.push_back(key);
  }
  retries_.push_back(run);
  for (auto& [shard, parcel] : parcels) {
    parcel.hooks = lists[shard];
    parcel.retry = run;
    parcel.retries = retries;
    ensure_numbers(shard, parcel.hooks->size());
    cores_[shard]->add(parcel, now());
    touch(shard);
  }
  return run;
}

void CoreWorld::stop_retry(const std::shared_ptr<WorldRetry>& run) {
  for (std::uint32_t shard = 0; shard < shards(); ++shard) {
    cores_[shard]->stop_retry(run.get());
    touch(shard);
  }
}

void CoreWorld::stop_retries() {
  for (const auto& run : retries_) stop_retry(run);
}

std::uint64_t CoreWorld::flush(std::optional<std::string_view> target) {
  std::uint64_t bags = 0;
  for (std::uint32_t shard = 0; shard < shards(); ++shard) {
    bags += cores_[shard]->flush(target, now());
    touch(shard);
  }
  return bags;
}

std::uint64_t CoreWorld::cancel(std::string_view glob) {
  std::uint64_t hooks = 0;
  for (std::uint32_t shard = 0; shard < shards(); ++shard) {
    hooks += cores_[shard]->cancel(glob, now());
    touch(shard);
  }
  return hooks;
}

std::uint64_t CoreWorld::shed(std::uint64_t bytes) {
  std::uint64_t dropped = 0;
  for (auto& core : cores_) dropped += core->shed(bytes);
  return dropped;
}

std::uint64_t CoreWorld::make_room(std::uint64_t bytes) {
  std::uint64_t bags = 0;
  for (std::uint32_t shard = 0; shard < shards(); ++shard) {
    bags += cores_[shard]->make_room(bytes, now());
    touch(shard);
  }
  return bags;
}

void CoreWorld::drain() {
  draining_ = true;
  for (std::uint32_t shard = 0; shard < shards(); ++shard) {
    cores_[shard]->drain(now());
    touch(shard);
  }
}

bool CoreWorld::drained() const {
  return std::all_of(cores_.begin(), cores_.end(),
                     [](const auto& core) { return core->drained(); });
}

std::pair<std::uint64_t, std::uint64_t> CoreWorld::abandon() {
  std::pair<std::uint64_t, std::uint64_t> sum;
  for (std::uint32_t shard = 0; shard < shards(); ++shard) {
    const auto [left, failed] = cores_[shard]->abandon(now());
    sum.first += left;
    sum.second += failed;
    touch(shard);
  }
  return sum;
}

void CoreWorld::reload(const Options& options) {
  config_.options = options;
  policies_ = std::make_shared<PolicyTable>(options, ++generation_);
  for (std::uint32_t shard = 0; shard < shards(); ++shard) {
    cores_[shard]->set_policies(policies_, now());
    touch(shard);
  }
}

void CoreWorld::add_barrier(std::function<void()> barrier) {
  cores_[0]->add_barrier(std::move(barrier));
  touch(0);
}

void CoreWorld::crash(bool keep_commit) {
  if (commit_ && keep_commit && commit_->fault == StoreFault::none) {
    apply(commit_->group);
    apply(commit_->rest);
  }
  commit_.reset();
  store_queue_.clear();
  std::erase_if(events_,
                [](const auto& event) { return event.second.kind != Event::Kind::custom; });
  cores_.clear();
  retries_.clear();
  poisoned_series_.clear();
  life_ += 1;
  draining_ = false;
  trace(life_);
  make_cores();
  recover();
}

void CoreWorld::recover() {
  for (const auto& core : cores_) core->begin_recovery();
  std::vector<PendingChunk> slice;
  const auto hand_over = [&] {
    std::vector<std::vector<std::uint32_t>> parts(cores_.size());
    for (std::uint32_t index = 0; index < slice.size(); ++index) {
      parts[shard_of(slice[index].target)].push_back(index);
    }
    for (std::uint32_t shard = 0; shard < parts.size(); ++shard) {
      cores_[shard]->add_recovered(slice, parts[shard], now());
      touch(shard);
    }
    slice.clear();
  };
  constexpr std::size_t slice_chunks = 7;
  for (const auto& [number, chunk] : durable_.chunks) {
    const bool is_first = number == chunk.batch;
    slice.push_back({.chunk = number,
                     .batch = chunk.batch,
                     .target = chunk.target,
                     .group = chunk.group,
                     .headers = chunk.headers,
                     .accepted_ms = chunk.accepted_ms,
                     .hooks = chunk.hooks,
                     .bytes = chunk.blob.size(),
                     .attempts = is_first ? chunk.attempts : 0,
                     .next_attempt_ms = is_first ? chunk.next_attempt_ms : 0});
    if (slice.size() == slice_chunks) hand_over();
  }
  hand_over();
  for (std::uint32_t shard = 0; shard < cores_.size(); ++shard) {
    cores_[shard]->end_recovery();
    touch(shard);
  }
}

std::uint64_t CoreWorld::hooks_held() const {
  std::uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->hooks_held();
  return sum;
}

std::uint64_t CoreWorld::memory_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->memory_bytes();
  return sum;
}

}  // namespace postbag::test
