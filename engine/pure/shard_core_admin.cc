// Deadlines, and what operators ask for: flush, cancel, drain, reload, looking.
#include <algorithm>
#include <utility>

#include "engine/pure/check.h"
#include "engine/pure/hook_id.h"
#include "engine/pure/shard_core.h"
#include "postbag/target_match.h"

namespace postbag {
namespace {

// As HookStatus::state has it.
const char* shown_state(BatchState state) {
  switch (state) {
    case BatchState::open:
    case BatchState::queued:
      return "waiting";
    case BatchState::loading:
    case BatchState::in_flight:
      return "in_flight";
    case BatchState::retrying:
    case BatchState::due:
      return "retrying";
    case BatchState::failing:
      break;
  }
  return "failed";
}

}  // namespace

void ShardCore::advance(const Now& now) {
  while (DeadlineNode* node = deadlines_.pop_due(now.steady)) {
    Batch& batch = *reinterpret_cast<Batch*>(node);  // the node is its first member
    if (batch.state == BatchState::open) {
      cut(*batch.bag, Cut::time);
      continue;
    }
    check(batch.state == BatchState::retrying);
    TargetState& target = *batch.bag->target;
    set_state(batch, BatchState::due);
    (target.due_tail != nullptr ? target.due_tail->next : target.due_head) = &batch;
    target.due_tail = &batch;
    target_changed(target);
  }
  pump();
}

std::uint64_t ShardCore::cut_all(TargetState& target, Cut why) {
  std::uint64_t bags = 0;
  target.for_each_bag([&](Bag& bag) {
    if (bag.open == nullptr) return;
    cut(bag, why);
    bags += 1;
  });
  return bags;
}

std::uint64_t ShardCore::flush(std::optional<std::string_view> url, const Now& now) {
  std::uint64_t bags = 0;
  if (url) {
    if (auto found = find_target(*url); found != targets_.end()) {
      bags = cut_all(**found, Cut::request);
    }
  } else {
    for (const TargetPtr& target : targets_) bags += cut_all(*target, Cut::request);
  }
  advance(now);
  return bags;
}

// Removes the batch from whatever list or timer it waits in; the caller decides what becomes of it.
void ShardCore::take_out(Batch& batch) {
  Bag& bag = *batch.bag;
  TargetState& target = *bag.target;
  const auto unlink_due = [&] {
    Batch* before = nullptr;
    for (Batch* at = target.due_head; at != nullptr; before = at, at = at->next) {
      if (at != &batch) continue;
      (before != nullptr ? before->next : target.due_head) = batch.next;
      if (target.due_tail == &batch) target.due_tail = before;
      batch.next = nullptr;
      return;
    }
  };
  deadlines_.disarm(batch.deadline);
  switch (batch.state) {
    case BatchState::open:
      bag.open = nullptr;
      open_bags_ -= 1;
      break;
    case BatchState::queued:
      queue_remove(batch);
      break;
    case BatchState::due:
      unlink_due();
      [[fallthrough]];
    case BatchState::retrying:
      target.retrying -= 1;
      retrying_ -= 1;
      break;
    default:
      check(false);
  }
}

// While its hooks are being read for their failed rows, a lookup already shows what give_up() will
// say.
void ShardCore::note_cancelled(Batch& batch) {
  batch.last_reason = Reason::cancelled;
  batch.last_status = 0;
}

void ShardCore::cancel_batch(Batch& batch, const Now& now) {
  take_out(batch);
  if (batch.dropped_hooks > 0) drop_resident(batch);
  if (!batch.is_resident) {  // failed rows want the hooks: loaded() goes on with it
    set_state(batch, BatchState::failing);
    note_cancelled(batch);
    batch.uses += 1;
    cancels_open_ += 1;
    cancel_loads_ += 1;
    want_load(batch);
    return;
  }
  AttemptResult result;
  result.reason = Reason::cancelled;
  give_up(batch, std::move(result), now.wall_ms);
}

// Barriers behind a cancel wait until its rows are on their way to the store, too.
void ShardCore::cancel_ended(std::uint64_t batches) {
  cancels_open_ -= batches;
  if (cancels_open_ > 0) return;
  for (auto& barrier : std::exchange(held_barriers_, {})) add_barrier(std::move(barrier));
}

std::uint64_t ShardCore::cancel(std::string_view target_glob, const Now& now) {
  check(!recovered_);
  std::vector<Batch*> batches;
  for (auto& [number, batch] : by_number_) {
    const bool is_waiting =
        batch->state != BatchState::in_flight && batch->state != BatchState::failing;
    if (!is_waiting || batch->is_cancelled || batch->bag->is_retry()) continue;
    if (target_matches(target_glob, batch->bag->target->url)) batches.push_back(batch);
  }
  sort_by_number(batches);
  std::uint64_t hooks = 0;
  for (Batch* batch : batches) {
    TargetState& target = *batch->bag->target;
    hooks += batch->hooks;
    if (batch->run) hooks += cancel_run(*batch);
    if (batch->packed) hooks += cancel_packed(*batch, Reason::cancelled, now);
    if (batch->uncommitted > 0) {  // goes as soon as it is committed; what comes later is not meant
      batch->is_cancelled = true;
      cancels_open_ += 1;
      if (batch->state == BatchState::open) cut(*batch->bag, Cut::request);
      continue;
    }
    if (batch->state == BatchState::loading) {  // not on the wire yet: its rows want the hooks
      target.in_flight -= 1;
      in_flight_ -= 1;
      batch->attempts -= 1;
      set_state(*batch, BatchState::failing);
      note_cancelled(*batch);
      cancels_open_ += 1;
      cancel_loads_ += 1;
    } else {
      cancel_batch(*batch, now);
    }
    target_changed(target);
    touch_idle(target);
  }
  move_cancelled_loads();
  cancel_more();
  pump();
  return hooks;
}

void ShardCore::drain(const Now& now) {
  draining_ = true;
  for (const TargetPtr& target : targets_) {
    cut_all(*target, Cut::request);
    target_changed(*target);
  }
  advance(now);
}

bool ShardCore::drained() const {
  const bool can_go_on = ready_.first() != nullptr && !store_failed_;
  return draining_ && in_flight_ == 0 && !can_go_on && parts_out_.empty() && !part_ &&
         dirty_.empty();
}

std::pair<std::uint64_t, std::uint64_t> ShardCore::abandon(const Now& now) {
  check(!recovered_);
  refuse_dirty(Errc::stopping, now);
  std::uint64_t failed = abandon_packed(now);
  std::vector<Batch*> batches;
  for (auto& [number, batch] : by_number_) {
    if (batch->state != BatchState::failing) batches.push_back(batch);
  }
  sort_by_number(batches);
  std::uint64_t left = leave_runs();
  for (Batch* batch : batches) {
    if (batch->uses > 0) continue;
    take_out(*batch);
    if (batch->bag->is_retry()) {
      give_rows_back(*batch);
    } else if (batch->is_stored) {
      left += batch->hooks;
      hooks_held_ -= batch->hooks;
      batch->watchers.reset();
      resolved(*batch);
      free_batch(*batch);
    } else {
      failed += batch->hooks;
      AttemptResult result;
      result.reason = Reason::shutdown;
      give_up(*batch, std::move(result), now.wall_ms);
    }
  }
  cancel_more();
  return {left, failed};
}

// A bag that is open goes by the new limits: its time counts from its first hook as before (from
// now where it had no timer).
void ShardCore::renew_open(Bag& bag, const BatchPolicy& before, const Now& now) {
  const BatchPolicy& policy = bag.target->policy->policy.batch;
  DeadlineNode& deadline = bag.open->deadline;
  if (policy.time != before.time) {
    const TimePoint opened = deadline.armed() ? deadline.deadline - before.time : now.steady;
    deadlines_.disarm(deadline);
    if (policy.time > Duration::zero()) deadlines_.arm_at(deadline, opened + policy.time);
  }
  cut_if_full(bag);
}

void ShardCore::set_policies(std::shared_ptr<const PolicyTable> policies, const Now& now) {
  policies_ = std::move(policies);
  for (const TargetPtr& target : targets_) {
    const std::shared_ptr<const ResolvedPolicy> old =
        std::exchange(target->policy, policies_->find(target->url));
    target->destination.reset();
    target->for_each_bag([&, &batch_before = old->policy.batch](Bag& bag) {
      bag.head_start.reset();
      if (bag.open != nullptr) renew_open(bag, batch_before, now);
      bag_changed(bag);  // one that was ordered need not wait for an outcome any more
    });
    target_changed(*target);
  }
  advance(now);
}

void ShardCore::remember_delivered(const Batch& batch) {
  if (batch.bag->is_retry()) return;
  TargetState& target = *batch.bag->target;
  batch.for_each_chunk([&](const ChunkInfo& chunk) {
    recent_.add(chunk.number, chunk.hooks, target.url, target.recent_place);
  });
}

Batch* ShardCore::batch_with(BatchNumber number, ChunkNumber chunk, std::uint32_t index,
                             std::uint32_t& index_in_batch) const {
  const auto found = by_number_.find(number);
  if (found == by_number_.end()) return nullptr;
  Batch* with = nullptr;
  found->second->for_each_chunk([&](const ChunkInfo& info) {
    if (info.number != chunk || index >= info.hooks) return;
    index_in_batch = info.first_hook + index;
    with = found->second;
  });
  return with;
}

bool ShardCore::watch(ChunkNumber chunk, std::uint32_t index, std::uint32_t call_index,
                      const std::shared_ptr<OutcomeListener>& listener,
                      std::optional<BatchNumber> number) {
  check(!recovered_);
  std::uint32_t index_in_batch = 0;
  Batch* batch = batch_with(number.value_or(chunk), chunk, index, index_in_batch);
  if (batch == nullptr) batch = unfold_batch(chunk, index, index_in_batch);
  if (batch == nullptr) batch = unfold_cancelled(chunk, index, index_in_batch);
  if (batch == nullptr && (batch = unpack_batch(chunk, index)) != nullptr) index_in_batch = index;
  if (batch == nullptr) {
    bool is_cancelled = false;
    if (!find_packed(chunk, index, is_cancelled)) return false;
    listener->hook_done(call_index, {false, Reason::cancelled, 0});
    return true;
  }
  // The outcome is known, only not stored yet; but a cancelled batch that is still being read may
  // come back, if that fails.
  if (batch->state == BatchState::failing && batch->is_resident) {
    listener->hook_done(call_index, {false, batch->last_reason, batch->last_status});
    return true;
  }
  if (!batch->watchers) batch->watchers = std::make_unique<std::vector<Batch::Watcher>>();
  std::vector<Batch::Watcher>& watchers = *batch->watchers;
  // A call that is repeated while its hook is stuck leaves one each time.
  if (watchers.size() == watchers.capacity()) {
    std::erase_if(watchers, [](const Batch::Watcher& old) { return old.listener->is_gone(); });
  }
  watchers.push_back({index_in_batch, call_index, listener});
  return true;
}

void ShardCore::collect_targets(std::vector<TargetStatus>& out) const {
  for (const TargetPtr& target : targets_) {
    TargetStatus status;
    status.url = target->url;
    status.state = target->retrying > 0                  ? "retrying"
                   : target->last_reason != Reason::none ? "failing"
                                                         : "ok";
    status.waiting = target->hooks_waiting;
    status.in_flight = target->hooks_in_flight;
    status.retrying = target->hooks_retrying;
    status.delivered = target->delivered;
    status.given_up = target->given_up;
    status.last_status = target->last_status;
    if (target->last_reason != Reason::none) {
      status.last_reason = reason_token(target->last_reason, target->last_status);
    }
    status.last_attempt_ms = target->last_attempt_ms;
    out.push_back(std::move(status));
  }
}

std::optional<HookStatus> ShardCore::find_hook(ChunkNumber chunk, std::uint32_t index,
                                               std::optional<BatchNumber> number) const {
  HookStatus status;
  if (auto found = by_number_.find(number.value_or(chunk)); found != by_number_.end()) {
    const Batch& batch = *found->second;
    bool here = false;
    batch.for_each_chunk([&](const ChunkInfo& info) {
      here = here || (info.number == chunk && index < info.hooks);
    });
    if (!here) return std::nullopt;
    status.target = batch.bag->target->url;
    status.state = shown_state(batch.state);
    status.attempts = batch.attempts;
    status.status = batch.last_status;
    if (batch.last_reason != Reason::none) {
      status.reason = reason_token(batch.last_reason, batch.last_status);
    }
    return status;
  }
  if (const auto target = recent_.find(chunk, index)) {
    status.state = "delivered";
    status.target = *target;
    return status;
  }
  bool is_cancelled = false;
  const Bag* bag = find_in_runs(chunk, index, is_cancelled);
  if (bag == nullptr) bag = find_packed(chunk, index, is_cancelled);
  if (bag != nullptr) {
    status.target = bag->target->url;
    status.state = is_cancelled ? "failed" : "waiting";
    return status;
  }
  return std::nullopt;
}

}  // namespace postbag
