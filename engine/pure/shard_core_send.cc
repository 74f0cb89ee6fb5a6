// Whose turn it is, and what follows from an attempt's outcome.
#include <algorithm>

#include "engine/pure/check.h"
#include "engine/pure/hook_id.h"
#include "engine/pure/prefetch.h"
#include "engine/pure/retry_schedule.h"
#include "engine/pure/shard_core.h"
#include "engine/pure/url.h"
#include "engine/pure/wire.h"

namespace postbag {
namespace {

constexpr Duration uncounted_delay_min = std::chrono::milliseconds(250);
constexpr std::uint32_t batch_id_index = 16'383;  // no hook has it: batch_size_max is lower

constexpr std::size_t fetched_bytes_max = 512;  // the processor goes on by itself

// What waited in a backlog has left the caches, and a request that waits for each of its lines
// costs a tenth more. So it is fetched ahead: the hooks of the batch whose turn is next, and of the
// one behind it the object, or the bytes that will be it, which the next call reads.
[[gnu::always_inline]] inline void fetch_ahead(const Bag& bag) {
  const Batch* const next = bag.queue_head;
  if (next == nullptr) return;
  if (next->first_segment != nullptr) {
    const std::uint64_t bytes = sizeof(Segment) + next->body_bytes;
    fetch(next->first_segment, std::min<std::uint64_t>(bytes, fetched_bytes_max));
  }
  if (next->packed) {
    const std::string_view packed = next->packed->packed_bytes();
    fetch(packed.data(), std::min(packed.size(), fetched_bytes_max));
  }
  if (next->next != nullptr) fetch(next->next, sizeof(Batch));
}

std::string pool_key_of(const Url& url, const TargetPolicy& policy) {
  std::string key = url.scheme + "://" + url.host + ":" + std::to_string(url.port);
  key += policy.network.allow_http ? "|http|" : "||";
  for (const std::string& entry : policy.network.allow) key += entry + ",";
  return key + "|" + policy.tls.ca_file;
}

}  // namespace

void ShardCore::set_state(Batch& batch, BatchState state) {
  TargetState& target = *batch.bag->target;
  const auto bucket = [&](BatchState of) -> std::uint64_t* {
    switch (of) {
      case BatchState::open:
      case BatchState::queued:
        return &target.hooks_waiting;
      case BatchState::loading:
      case BatchState::in_flight:
        return &target.hooks_in_flight;
      case BatchState::retrying:
      case BatchState::due:
        return &target.hooks_retrying;
      case BatchState::failing:
        return nullptr;
    }
    return nullptr;
  };
  if (auto* from = bucket(batch.state)) *from -= batch.hooks;
  if (auto* to = bucket(state)) *to += batch.hooks;
  batch.state = state;
}

bool ShardCore::front_can_go(const Bag& bag) const {
  if (bag.queue_head == nullptr || bag.queue_head->uncommitted > 0) return false;
  return !bag.target->policy->policy.delivery.ordered || bag.unresolved == 0;
}

void ShardCore::push_ready_bag(Bag& bag) {
  TargetState& target = *bag.target;
  bag.in_ready = true;
  bag.ready_next = nullptr;
  (target.ready_bags_tail != nullptr ? target.ready_bags_tail->ready_next
                                     : target.ready_bags_head) = &bag;
  target.ready_bags_tail = &bag;
}

void ShardCore::bag_changed(Bag& bag) {
  if (!bag.in_ready && front_can_go(bag)) push_ready_bag(bag);
  target_changed(*bag.target);
}

// With in_flight batches on the wire all may fail at once; so new ones start only while even then
// no more than max_retrying wait. Where in_flight is the larger of the two, it is the bound.
bool ShardCore::may_start_new(const TargetState& target) const {
  if (draining_) return true;
  const TargetPolicy& policy = target.policy->policy;
  return target.retrying + target.in_flight <
         std::max(policy.retry.max_retrying, policy.delivery.in_flight);
}

bool ShardCore::can_start(const TargetState& target) const {
  if (target.in_flight >= target.policy->policy.delivery.in_flight) return false;
  if (target.due_head != nullptr && !draining_) return true;
  return target.ready_bags_head != nullptr && may_start_new(target);
}

Batch* ShardCore::next_batch(TargetState& target) {
  if (!can_start(target)) return nullptr;
  if (target.due_head != nullptr && !draining_) {
    Batch* batch = target.due_head;
    target.due_head = batch->next;
    if (target.due_head == nullptr) target.due_tail = nullptr;
    batch->next = nullptr;
    return batch;
  }
  while (target.ready_bags_head != nullptr) {
    Bag& bag = *target.ready_bags_head;
    target.ready_bags_head = bag.ready_next;
    if (target.ready_bags_head == nullptr) target.ready_bags_tail = nullptr;
    bag.in_ready = false;
    if (!front_can_go(bag)) {
      remove_bag_if_unused(bag);
      continue;
    }
    Batch* batch = bag.queue_head;
    queue_remove(*batch);
    fetch_ahead(bag);
    return batch;
  }
  return nullptr;
}

void ShardCore::target_changed(TargetState& target) {
  if (!ready_.has(target) && can_start(target)) ready_.add(target);
}

void ShardCore::pump() {
  if (recovered_) return;
  while (in_flight_ < config_.max_connections && ready_.first() != nullptr && !store_failed_ &&
         !stopped_sending_) {
    TargetState& target = *ready_.first();
    ready_.remove(target);
    if (Batch* batch = next_batch(target)) {
      start(*batch);
      Bag& bag = *batch->bag;
      if (!bag.in_ready && front_can_go(bag)) push_ready_bag(bag);
    }
    target_changed(target);
    touch_idle(target);
  }
  evict_idle_targets();
}

void ShardCore::start(Batch& batch) {
  TargetState& target = *batch.bag->target;
  batch.is_retry = batch.state == BatchState::due;
  if (batch.is_retry) {
    target.retrying -= 1;
    retrying_ -= 1;
  }
  if (!batch.was_attempted) {
    batch.was_attempted = true;
    batch.bag->unresolved += 1;
  }
  target.in_flight += 1;
  in_flight_ += 1;
  batch.attempts += 1;
  batch.uses += 1;
  if (batch.is_resident) {
    set_state(batch, BatchState::in_flight);
    counters_.attempts += 1;
    sends_.push_back(&batch);
  } else {
    load(batch);
  }
}

bool ShardCore::gives_up(const Batch& batch, const AttemptResult& failed) const {
  if (!batch.is_resident) return false;  // its rows want the hooks, which could not be read
  const bool is_last = batch.bag->is_stopped && failed.counted;
  const std::uint32_t attempts = batch.attempts - (failed.counted ? 0 : 1);
  return is_last || failed.final || attempts_used_up(retries_of(batch), attempts);
}

void ShardCore::attempt_done(Batch& batch, AttemptResult&& result, const Now& now) {
  check(batch.state == BatchState::in_flight);
  unuse(batch);
  TargetState& target = *batch.bag->target;
  target.in_flight -= 1;
  in_flight_ -= 1;
  target.last_reason = result.reason;
  target.last_status = result.status;
  target.last_attempt_ms = now.wall_ms;
  if (result.delivered()) {
    delivered(batch);
  } else {
    counters_.attempts_failed += 1;
    batch.last_reason = result.reason;
    batch.last_status = static_cast<std::int16_t>(result.status);
    const bool is_last = gives_up(batch, result);
    if (!result.counted) batch.attempts -= 1;
    if (is_last) {
      give_up(batch, std::move(result), now.wall_ms);
    } else if (batch.bag->is_stopped) {
      give_rows_back(batch);
    } else {
      wait_for_retry(batch, now, result.counted);
    }
  }
  target_changed(target);
  pump();
  ask_loads();
}

std::uint32_t ShardCore::retries_of(const Batch& batch) const {
  const Bag& bag = *batch.bag;
  const std::uint32_t usual = bag.target->policy->policy.retry.retries;
  return bag.key ? bag.key->retries.value_or(usual) : usual;
}

void ShardCore::wait_for_retry(Batch& batch, const Now& now, bool counted) {
  TargetState& target = *batch.bag->target;
  const RetryPolicy& policy = target.policy->policy.retry;
  set_state(batch, BatchState::retrying);
  target.retrying += 1;
  retrying_ += 1;
  end_read(batch);
  note_sheddable(batch);
  const double random = std::generate_canonical<double, 53>(random_);
  Duration delay = retry_delay(policy, std::max(batch.attempts, 1u), random);
  // No number of attempts ends what is not counted.
  if (!counted) delay = std::max(delay, uncounted_delay_min);
  if (policy.jitter > 0) {
    deadlines_.arm_at(batch.deadline, now.steady + delay);
  } else {
    deadlines_.arm(batch.deadline, now.steady, delay);
  }
  if (batch.is_stored) {
    const auto delay_ms = std::chrono::ceil<std::chrono::milliseconds>(delay).count();
    part().attempts.push_back({batch.number, batch.attempts, now.wall_ms + delay_ms});
  }
}

void ShardCore::delivered(Batch& batch) {
  TargetState& target = *batch.bag->target;
  target.delivered += batch.hooks;
  counters_.delivered += batch.hooks;
  tell_watchers(batch, {true, Reason::none, target.last_status});
  remember_delivered(batch);
  if (batch.bag->is_retry()) {
    part().delivered_rows.push_back({batch.bag->retry(), rows_of(batch), batch.body_bytes});
  } else {
    settle(batch);
    counters_.ended += batch.hooks;
    hooks_held_ -= batch.hooks;
  }
  resolved(batch);
  free_batch(batch);
}

// From here the hooks belong to the store; the batch lives until it has them.
void ShardCore::give_up(Batch& batch, AttemptResult&& result, WallMs at) {
  if (!batch.bag->is_retry()) batch.bag->target->given_up += batch.hooks;
  batch.last_reason = result.reason;
  batch.last_status = static_cast<std::int16_t>(result.status);
  tell_watchers(batch, {false, result.reason, result.status});
  resolved(batch);
  const std::size_t taken = batch.taken_over ? batch.taken_over->size() : 0;
  if (!batch.bag->is_retry() && (taken == batch.hooks || !policies_->keep_failed())) {
    settle(batch);
    counters_.given_up += batch.hooks;
    counters_.handed_back += taken;
    counters_.discarded += batch.hooks - taken;
    counters_.ended += batch.hooks;
    hooks_held_ -= batch.hooks;
    free_batch(batch);
    return;
  }
  batch.uses += 1;
  part().fail.push_back({&batch, std::move(result), at});
}

void ShardCore::tell_watchers(Batch& batch, const HookOutcome& outcome) {
  if (!batch.watchers) return;
  for (const Batch::Watcher& watcher : *batch.watchers) {
    if (outcome.delivered) {
      notices_.push_back({watcher.listener, watcher.call_index, outcome});
      continue;
    }
    if (!watcher.listener->hook_done(watcher.call_index, outcome)) continue;
    if (!batch.taken_over) batch.taken_over = std::make_unique<std::vector<std::uint32_t>>();
    batch.taken_over->push_back(watcher.index);
    part().taken.push_back({watcher.listener, watcher.call_index});
  }
  batch.watchers.reset();
  if (!batch.taken_over) return;
  // A hook may have several watchers, in any order.
  std::vector<std::uint32_t>& taken = *batch.taken_over;
  std::sort(taken.begin(), taken.end());
  taken.erase(std::unique(taken.begin(), taken.end()), taken.end());
  forget_taken(batch);
}

// A listener may call back into the core and add notices, so the list is swapped out first.
void ShardCore::tell() {
  if (notices_.empty()) return;
  telling_.swap(notices_);
  for (const Notice& notice : telling_) {
    if (notice.outcome) {
      notice.listener->hook_done(notice.call_index, *notice.outcome);
    } else {
      notice.listener->hook_settled(notice.call_index);
    }
  }
  telling_.clear();
}

// A hook that its producer took back may be given again.
void ShardCore::forget_taken(const Batch& batch) {
  if (!config_.durable || batch.is_corrupt) return;
  const std::vector<std::uint32_t>& taken = *batch.taken_over;
  for_each_hook(batch, [&](const BatchedHook& hook) {
    if (hook.id.empty() || !std::binary_search(taken.begin(), taken.end(), hook.index)) return;
    part().forget.push_back(id_hash(hook.id));
  });
}

// The batch has its outcome: an ordered bag may go on.
void ShardCore::resolved(Batch& batch) {
  set_state(batch, BatchState::failing);
  Bag& bag = *batch.bag;
  if (!batch.was_attempted) return;
  batch.was_attempted = false;
  bag.unresolved -= 1;
  if (!bag.in_ready && front_can_go(bag)) push_ready_bag(bag);
}

const std::string& ShardCore::head_start(Batch& batch) {
  Bag& bag = *batch.bag;
  if (!bag.head_start) {
    std::string error;
    const auto url = parse_url(bag.target->url, error);
    check(url.has_value());  // see make_destination
    bag.head_start = std::make_unique<std::string>(
        request_head_start(*url, bag.target->policy->policy.delivery, bag.headers()));
  }
  return *bag.head_start;
}

// False: the target is not a URL. Intake refuses those, but one found in the store may be damaged
// or older; its hooks then fail when they are read back.
bool ShardCore::make_destination(TargetState& target) {
  if (target.destination) return true;
  std::string error;
  const auto url = parse_url(target.url, error);
  if (!url) return false;
  const TargetPolicy& policy = target.policy->policy;
  auto made = std::make_shared<Destination>();
  made->scheme = url->scheme;
  made->host = url->host;
  made->port = url->port;
  made->network = policy.network;
  made->tls = policy.tls;
  made->timeout = policy.delivery.timeout;
  made->connect_timeout = policy.delivery.connect_timeout;
  made->pool_key = pool_key_of(*url, policy);
  target.destination = std::move(made);
  return true;
}

const std::shared_ptr<const Destination>& ShardCore::destination(Batch& batch) {
  check(make_destination(*batch.bag->target));
  return batch.bag->target->destination;
}

HookId ShardCore::batch_id(const Batch& batch) const {
  return make_hook_id(batch.opened_ms(), batch.number, batch_id_index, config_.store_tag);
}

}  // namespace postbag
