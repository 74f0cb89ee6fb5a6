#include "engine/pure/shard_core.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <limits>
#include <span>

#include "engine/pure/check.h"
#include "engine/pure/header_rules.h"
#include "engine/pure/hook_id.h"
#include "engine/pure/prefetch.h"
#include "engine/pure/url_hash.h"
#include "postbag/store.h"

namespace postbag {
namespace {

// Idle targets kept for their statistics; the one idle longest is forgotten first.
constexpr std::size_t idle_targets_max = 4096;
// What a hash map entry and an allocation cost beside the object.
constexpr std::size_t entry_overhead_bytes = 48;
constexpr std::size_t table_places_kept = 16'384;
// About as many misses as a processor has under way.
constexpr std::size_t hooks_together = 16;
constexpr std::size_t touched_target_bytes = offsetof(TargetState, default_bag) + sizeof(Bag);
constexpr std::size_t fetched_body_bytes_max = 512;  // the processor goes on by itself

// Mostly the last letter tells them apart.
bool is_same_text(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  return a.data() == b.data() || a.empty() || (a.back() == b.back() && a == b);
}

template <typename Number>
Number at_most(std::uint64_t value) {
  return static_cast<Number>(std::min<std::uint64_t>(value, std::numeric_limits<Number>::max()));
}

std::size_t target_bytes(const TargetState& target) {
  return sizeof(TargetState) + target.url.size() + entry_overhead_bytes;
}

// Only of a bag with a key; the default bag is part of its target.
std::size_t bag_bytes(const Bag& bag) {
  const BagKey& key = *bag.key;
  return sizeof(Bag) + sizeof(BagKey) + key.map_key->size() + key.group.size() +
         key.headers.size() + entry_overhead_bytes;
}

}  // namespace

ShardCore::ShardCore(const Config& config, std::shared_ptr<const PolicyTable> policies)
    : config_(config),
      policies_(std::move(policies)),
      pool_(config.kept_bytes_max),
      random_(config.random_seed) {}

ShardCore::~ShardCore() {
  for (auto& [number, batch] : by_number_) {
    drop_hooks(*batch, pool_);
    batches_.destroy(*batch);
  }
  if (coming_ != nullptr) {
    drop_hooks(*coming_, pool_);
    batches_.destroy(*coming_);
  }
}

void ShardCore::add(const Parcel& parcel, const Now& now) {
  const HookList& hooks = *parcel.hooks;
  const std::size_t count = parcel.count();
  std::array<TargetState*, hooks_together> targets{};
  std::size_t remembered = 0;
  for (std::size_t position = 0; position < count; ++position) {
    const std::size_t place_in_group = position % hooks_together;
    if (place_in_group == 0) {
      find_targets(parcel, position,
                   std::span(targets).first(std::min(hooks_together, count - position)));
    }
    TargetState& target = *targets[place_in_group];
    const std::uint32_t call_index = parcel.index_at(position);
    const HookView hook = hooks[call_index];
    Bag& bag = hook.group.empty() && hook.headers.empty() && parcel.retry == nullptr
                   ? target.default_bag
                   : bag_of(target, hook.group, join_headers(hook.headers), parcel);
    const FailedKey row = parcel.rows.empty() ? 0 : parcel.rows[position];
    const FailedKey location = add_hook(bag, hook, parcel, call_index, row, now);
    if (remembered < parcel.remember.size() && parcel.remember_indices[remembered] == call_index) {
      RememberedId id = parcel.remember[remembered++];
      id.location = location;
      if (config_.durable) part().remember.push_back(id);
    }
  }
  if (parcel.retry == nullptr) {
    if (config_.durable) {
      if (parcel.call) waiting_calls_.push_back(parcel.call);
      waiting_sync_ = waiting_sync_ || parcel.sync;
    } else {
      counters_.accepted += count;
      if (parcel.call) parcel.call->shard_done(Errc::ok, config_.shard);
    }
  }
  if (draining_) flush(std::nullopt, now);  // handed over before the drain, come in after it
  pump();
}

// The targets of some of a parcel's hooks; they stay until the next pump(). Where these are
// several, the lines that their bags touch are fetched, in steps, each for all of them: what is not
// in the caches is waited for together, and not line after line and hook after hook.
void ShardCore::find_targets(const Parcel& parcel, std::size_t first,
                             std::span<TargetState*> found) {
  const HookList& hooks = *parcel.hooks;
  const auto url_at = [&](std::size_t at) { return hooks[parcel.index_at(first + at)].target; };
  std::bitset<hooks_together> is_other;  // than the one before
  std::string_view last;
  for (std::size_t at = 0; at < found.size(); ++at) {
    const std::string_view url = url_at(at);
    is_other[at] = at == 0 || !is_same_text(url, last);
    if (!is_other[at]) continue;
    last = url;
    const HashedUrl key{url_hash(url), url};
    const auto likely = targets_.find(OfHash{key.hash});
    found[at] = likely != targets_.end() ? likely->state.get() : &make_target(key);
    fetch(found[at], touched_target_bytes);
    fetch(found[at]->text(), url.size());
  }
  for (std::size_t at = 0; at < found.size(); ++at) {
    if (!is_other[at]) {
      found[at] = found[at - 1];
    } else if (const std::string_view url = url_at(at); found[at]->url != url) {
      found[at] = &target_of(url);  // who knows the hash makes two urls of one
    }
  }
  if (is_other.count() > 1) fetch_bags(parcel, first, found);
}

void ShardCore::fetch_bags(const Parcel& parcel, std::size_t first,
                           std::span<TargetState* const> found) {
  const HookList& hooks = *parcel.hooks;
  for (std::size_t at = 0; at < found.size(); ++at) {
    const Batch* const open = found[at]->default_bag.open;
    if (open != nullptr) fetch(open, sizeof(Batch));
    const std::string_view body = hooks[parcel.index_at(first + at)].body;
    fetch(body.data(), std::min(body.size(), fetched_body_bytes_max));
  }
  for (const TargetState* target : found) {
    const Batch* const open = target->default_bag.open;
    if (open == nullptr || open->last_segment == nullptr) continue;
    fetch(open->last_segment, sizeof(Segment));
    fetch(open->meta.data() + open->meta.size(), 1);
  }
  for (std::size_t at = 0; at < found.size(); ++at) {
    const Batch* const open = found[at]->default_bag.open;
    if (open == nullptr || open->last_segment == nullptr) continue;
    const Segment& tail = *open->last_segment;
    const std::size_t body_bytes = hooks[parcel.index_at(first + at)].body.size();
    fetch(tail.data() + tail.used, std::min({body_bytes, tail.room(), fetched_body_bytes_max}));
  }
}

TargetState& ShardCore::target_of(std::string_view url) {
  const HashedUrl key{url_hash(url), url};
  const auto found = targets_.find(key);
  return found != targets_.end() ? **found : make_target(key);
}

ShardCore::TargetTable::iterator ShardCore::find_target(std::string_view url) {
  return targets_.find(HashedUrl{url_hash(url), url});
}

TargetState& ShardCore::make_target(const HashedUrl& key) {
  auto made = TargetState::make(key.url);
  made->policy = policies_->find(key.url);
  made->default_bag.target = made.get();
  overhead_bytes_ += target_bytes(*made);
  TargetState& target = *made;
  targets_.insert(TargetPtr{key.hash, std::move(made)});
  idle_.add(target);
  return target;
}

Bag& ShardCore::bag_of(TargetState& target, std::string_view group, const std::string& headers,
                       const Parcel& parcel) {
  std::string key(group);
  key += '\n';
  key += headers;
  if (parcel.retry != nullptr) {
    key += '\n';
    key += std::to_string(parcel.retry->number);
  }
  if (!target.other_bags) {
    target.other_bags = std::make_unique<std::unordered_map<std::string, std::unique_ptr<Bag>>>();
  }
  auto& [map_key, bag] = *target.other_bags->try_emplace(std::move(key)).first;
  if (!bag) {
    bag = std::make_unique<Bag>();
    bag->target = &target;
    bag->key = std::make_unique<BagKey>(
        BagKey{std::string(group), headers, parcel.retry, parcel.retries, &map_key});
    overhead_bytes_ += bag_bytes(*bag);
  }
  return *bag;
}

FailedKey ShardCore::add_hook(Bag& bag, const HookView& hook, const Parcel& parcel,
                              std::uint32_t call_index, FailedKey row, const Now& now) {
  const BatchPolicy& policy = bag.target->policy->policy.batch;
  const HookFields fields{hook.body, hook.event, hook.id, hook.content_type, row};
  if (policy.size == 1 && !parcel.listener) {
    if (const ChunkNumber packed = add_packed(bag, fields, now)) {
      if (parcel.call && parcel.call->wants_ids()) {
        parcel.call->hook_bagged(call_index,
                                 make_hook_id(now.wall_ms, packed, 0, config_.store_tag));
      }
      return failed_key(packed, 0);
    }
  }
  if (bag.open != nullptr && wire_bytes_with(*bag.open, hook.body.size()) > policy.bytes) {
    cut(bag, Cut::bytes);
  }
  const bool opens = bag.open == nullptr;
  if (opens) open_batch(bag, now);
  Batch& batch = *bag.open;
  if (is_stored(bag) && !batch.is_dirty) open_chunk(batch, now);

  const std::uint32_t index = batch.hooks;
  ChunkInfo& chunk = batch.last_chunk();
  const std::size_t meta_before = batch.meta.capacity();
  if (opens && bag.meta_hint > meta_before) batch.meta.reserve(bag.meta_hint);
  append_hook(batch, pool_, fields, bag.size_hint);
  overhead_bytes_ += batch.meta.capacity() - meta_before;
  chunk.hooks += 1;
  const FailedKey location = failed_key(chunk.number, index - chunk.first_hook);
  bag.target->hooks_waiting += 1;
  if (!bag.is_retry()) hooks_held_ += 1;
  if (parcel.listener) {
    if (!batch.watchers) batch.watchers = std::make_unique<std::vector<Batch::Watcher>>();
    batch.watchers->push_back({index, call_index, parcel.listener});
  }
  if (parcel.call && parcel.call->wants_ids()) {
    parcel.call->hook_bagged(call_index, make_hook_id(chunk.accepted_ms, chunk.number,
                                                      index - chunk.first_hook, config_.store_tag));
  }
  cut_if_full(bag);
  // One that is full at once never waits, and may have gone into a run.
  if (coming_ != nullptr) enter_batch(*coming_);
  if (opens && bag.open != nullptr && policy.time > Duration::zero()) {
    deadlines_.arm(bag.open->deadline, now.steady, policy.time);
  }
  return location;
}

void ShardCore::cut_if_full(Bag& bag) {
  const BatchPolicy& policy = bag.target->policy->policy.batch;
  const std::uint32_t size_max = policy.size != 0 ? policy.size : batch_size_max;
  if (bag.open->hooks >= size_max) {
    cut(bag, Cut::size);
  } else if (wire_bytes(*bag.open) >= policy.bytes) {
    cut(bag, Cut::bytes);  // full to the byte, or one hook that is larger than a batch may be
  }
}

void ShardCore::count_batch(Bag& bag, WallMs opened_ms) {
  if (!bag.is_retry()) opened_.add(opened_ms);
  batches_live_ += 1;
  bag.batches += 1;
  TargetState& target = *bag.target;
  target.batches += 1;
  if (idle_.has(target)) idle_.remove(target);
}

void ShardCore::uncount_batch(Bag& bag, WallMs opened_ms) {
  if (!bag.is_retry()) opened_.remove(opened_ms);
  batches_live_ -= 1;
  bag.batches -= 1;
  bag.target->batches -= 1;
}

void ShardCore::uncount_run(Bag& bag, const DiskRun& run) {
  run.for_each([&](const DiskBatch& places) {
    uncount_batch(bag, places.chunk.accepted_ms);
    return true;
  });
}

Batch& ShardCore::make_batch(Bag& bag) {
  coming_ = &batches_.make();
  coming_->bag = &bag;
  overhead_bytes_ += sizeof(Batch) + entry_overhead_bytes + coming_->meta.capacity();
  return *coming_;
}

void ShardCore::enter_batch(Batch& batch) {
  by_number_.emplace(batch.number, &batch);
  coming_ = nullptr;
}

void ShardCore::open_batch(Bag& bag, const Now& now) {
  count_batch(bag, now.wall_ms);
  Batch& batch = make_batch(bag);
  batch.number = numbers_.take();
  batch.chunk.accepted_ms = now.wall_ms;
  batch.chunk.number = batch.number;
  bag.open = &batch;
  open_bags_ += 1;
  if (is_stored(bag)) {
    enter_batch(batch);
    batch.is_stored = true;
    batch.is_dirty = true;
    batch.uncommitted = 1;
    dirty_.push_back({&batch, mark_of(batch)});
  }
}

void ShardCore::open_chunk(Batch& batch, const Now& now) {
  if (!batch.more_chunks) batch.more_chunks = std::make_unique<std::vector<ChunkInfo>>();
  batch.more_chunks->push_back({numbers_.take(), now.wall_ms, batch.hooks, 0});
  overhead_bytes_ += sizeof(ChunkInfo);
  batch.names_event = true;
  batch.is_dirty = true;
  batch.uncommitted += 1;
  dirty_.push_back({&batch, mark_of(batch)});
}

void ShardCore::cut(Bag& bag, Cut why) {
  Batch& batch = *bag.open;
  bag.open = nullptr;
  open_bags_ -= 1;
  deadlines_.disarm(batch.deadline);
  batch.state = BatchState::queued;
  // Where memory is scarce, the next one gets no more than it needs.
  const bool is_scarce = batch.dropped_hooks > 0;
  bag.size_hint = at_most<std::uint32_t>(is_scarce ? 0 : batch.body_bytes);
  bag.meta_hint = at_most<std::uint16_t>(is_scarce ? 0 : batch.meta.size());
  queue_insert(bag, bag.queue_tail, batch);
  counters_.batches += 1;
  counters_.cut_by_size += why == Cut::size;
  counters_.cut_by_bytes += why == Cut::bytes;
  counters_.cut_by_time += why == Cut::time;
  counters_.cut_by_request += why == Cut::request;
  if (batch.is_stored) {
    note_sheddable(batch);  // may destroy it
    bag_changed(bag);
  } else {
    bag_changed(bag);
    pack(batch);  // may destroy it
  }
}

void ShardCore::free_batch(Batch& batch) {
  Bag& bag = *batch.bag;
  TargetState& target = *bag.target;
  const WallMs opened_ms = batch.opened_ms();
  destroy_batch(batch);
  uncount_batch(bag, opened_ms);
  remove_bag_if_unused(bag);
  touch_idle(target);
}

void ShardCore::destroy_batch(Batch& batch) {
  check(batch.uses == 0 && !batch.deadline.armed() && !batch.is_dirty && !batch.run &&
        !batch.packed);
  if (batch.more_chunks) overhead_bytes_ -= batch.more_chunks->size() * sizeof(ChunkInfo);
  overhead_bytes_ -= sizeof(Batch) + entry_overhead_bytes + batch.meta.capacity();
  end_read(batch);
  drop_hooks(batch, pool_);
  if (coming_ == &batch) {
    coming_ = nullptr;
  } else {
    by_number_.erase(batch.number);
  }
  batches_.destroy(batch);
  // A hash table never shrinks by itself, and this one may have held the whole backlog that has
  // since moved to disk.
  const std::size_t places = by_number_.bucket_count();
  if (places > table_places_kept && by_number_.size() < places / 8) by_number_.rehash(0);
}

void ShardCore::unuse(Batch& batch) {
  check(batch.uses > 0);
  batch.uses -= 1;
}

void ShardCore::remove_bag_if_unused(Bag& bag) {
  if (bag.batches != 0 || bag.key == nullptr || bag.in_ready) return;
  overhead_bytes_ -= bag_bytes(bag);
  auto& bags = *bag.target->other_bags;
  bags.erase(bags.find(*bag.key->map_key));
}

// A target without batches is kept for a while for its statistics, with none of its caches.
void ShardCore::touch_idle(TargetState& target) {
  if (target.batches != 0) return;
  // Bags that are listed as ready, but whose batches were cancelled or refused meanwhile.
  while (target.ready_bags_head != nullptr) {
    Bag& bag = *target.ready_bags_head;
    target.ready_bags_head = bag.ready_next;
    bag.in_ready = false;
    remove_bag_if_unused(bag);
  }
  target.ready_bags_tail = nullptr;
  target.destination.reset();
  target.default_bag.head_start.reset();
  target.stored_bytes_max = 0;
  if (target.list == TargetState::List::none) idle_.add(target);
}

void ShardCore::evict_idle_targets() {
  while (idle_.size() > idle_targets_max) {
    TargetState& oldest = *idle_.first();
    idle_.remove(oldest);
    overhead_bytes_ -= target_bytes(oldest);
    recent_.forget(oldest.recent_place);
    targets_.erase(find_target(oldest.url));
  }
}

}  // namespace postbag
