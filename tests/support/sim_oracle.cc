#include "tests/support/sim_oracle.h"

#include <algorithm>
#include <charconv>

namespace postbag::test {

SimOracle::SimOracle(CoreWorld& world, bool is_durable, std::uint32_t max_connections)
    : world_(world), is_durable_(is_durable), max_connections_(max_connections) {
  shard_in_flight_.resize(world.shards());
  world.on_request = [this](const WorldRequest& request) { on_request(request); };
  world.on_reply = [this](const WorldRequest& request) { on_reply(request); };
  world.on_failed_row = [this](const FailedHook& row, bool is_new) { on_failed_row(row, is_new); };
}

void SimOracle::wrong(std::string what) {
  if (violations_.size() < 10) {
    const auto at = std::chrono::duration_cast<std::chrono::microseconds>(
        world_.now().steady - TimePoint{std::chrono::hours(1)});
    violations_.push_back(std::to_string(at.count()) + " us: " + std::move(what));
  }
}

WorldHook SimOracle::offer(std::size_t target, const std::string& group, std::size_t padding) {
  target_index_.emplace(targets[target].url, static_cast<std::uint32_t>(target));
  unresolved_.resize(targets.size());
  recovered_retrying_.resize(targets.size());
  Hook hook;
  hook.target = static_cast<std::uint32_t>(target);
  hook.life = world_.life();
  hook.offered = world_.now().steady;
  hook.group = group;
  hook.body = "{\"n\":" + std::to_string(hooks_.size()) + ",\"pad\":\"" +
              std::string(padding, static_cast<char>('a' + hooks_.size() % 26)) + "\"}";
  WorldHook offered;
  offered.target = targets[target].url;
  offered.body = hook.body;
  offered.group = group;
  offered.event = hooks_.size() % 3 == 0 ? "made" : "changed";
  hooks_.push_back(std::move(hook));
  added_in_life_ += 1;
  return offered;
}

void SimOracle::watch(WorldCall& call, std::vector<std::uint64_t> numbers) {
  const auto take = [this, numbers = std::move(numbers)](WorldCall& answered) {
    for (std::uint64_t number : numbers) {
      Hook& hook = hooks_[number];
      if (answered.error == Errc::ok) {
        hook.answer = Answer::accepted;
        continue;
      }
      hook.answer = answered.shards > 1 ? Answer::unclear : Answer::refused;
    }
  };
  if (call.answered()) {
    take(call);
  } else {
    call.on_answer = take;
  }
}

std::uint64_t SimOracle::number_in(std::string_view body) const {
  constexpr std::string_view start = "{\"n\":";
  std::uint64_t number = ~0ull;
  if (body.substr(0, start.size()) != start) return number;
  std::from_chars(body.data() + start.size(), body.data() + body.size(), number);
  return number < hooks_.size() ? number : ~0ull;
}

// The hooks of a body; every byte is compared with what was offered (I2).
std::vector<std::uint64_t> SimOracle::parse(const WorldRequest& request) {
  std::vector<std::uint64_t> numbers;
  std::string_view rest = request.body;
  char expected = '[';
  while (rest.size() > 1) {
    if (rest.front() != expected) break;
    rest.remove_prefix(1);
    expected = ',';
    const std::uint64_t number = number_in(rest);
    if (number == ~0ull) break;
    const Hook& hook = hooks_[number];
    if (rest.substr(0, hook.body.size()) != hook.body) break;
    if (targets[hook.target].url != request.target) wrong("a hook went to another target");
    if (hook.group != request.group) wrong("groups share a batch");
    numbers.push_back(number);
    rest.remove_prefix(hook.body.size());
  }
  if (rest != "]") wrong("the body is not what was offered: " + request.body.substr(0, 200));
  if (numbers.size() != request.size) wrong("the head announces another number of hooks");
  return numbers;
}

void SimOracle::on_request(const WorldRequest& request) {
  was_drained_ = was_drained_ || draining;
  std::vector<std::uint64_t> numbers = parse(request);
  const auto [place, is_first] = batches_.try_emplace(request.batch_id);
  SentBatch& batch = place->second;
  if (is_first) {
    batch.members = std::move(numbers);
    batch.body = request.body;
    batch.target = target_index_.at(request.target);
    batch.group = request.group;
    batch.is_retried_rows = request.is_retried_rows;
    batch.is_stopped = request.is_stopped;  // it was on its way already (seed 4439)
    check_first_send(request, batch);
  } else {
    check_repeat(request, batch);
    if (numbers != batch.members) wrong("a repeat has other members");
    if (batch.life != request.life) {  // recovered: its outcome, if it had one, was not stored
      batch.resolved = batch.delivered = false;
      unresolved_[batch.target] += 1;
      bags_[{batch.target, request.group}].unresolved.insert(request.batch_id);
    }
  }
  if (!request.is_retried_rows) check_recovered(request);
  batch.attempt = request.attempt;
  batch.life = request.life;
  batch.in_flight = true;
  targets[batch.target].in_flight += 1;
  shard_in_flight_[request.shard] += 1;
  in_flight_hooks_ += batch.members.size();
  check_limits(request, batch);
}

void SimOracle::check_first_send(const WorldRequest& request, SentBatch& batch) {
  if (request.attempt != 1)
    wrong("the first attempt has number " + std::to_string(request.attempt));
  SimTarget& target = targets[batch.target];
  for (std::uint64_t number : batch.members) {
    Hook& hook = hooks_[number];
    if (request.is_retried_rows) {
      if (!hook.has_row) wrong("a retried hook has no row");
      continue;
    }
    if (hook.answer == Answer::refused) wrong("a refused hook was sent");
    if (hook.batch != 0) wrong("hook " + std::to_string(number) + " is in two batches");
    hook.batch = request.batch;
  }
  BagState& bag = bags_[{batch.target, request.group}];
  if (!request.is_retried_rows) {
    if (!std::is_sorted(batch.members.begin(), batch.members.end())) wrong("order in a batch");
    // What is on disk only has to be read first, so with more than one in flight a new one may pass
    // it.
    const bool is_ordered =
        !reads_fail && ((world_.life() == 0 && !has_shed) || target.in_flight_max == 1);
    // What was cancelled while newer ones went on comes back if a crash came before its rows (seed
    // 4619).
    const bool was_cancelled = hooks_[batch.members.front()].was_cancelled;
    if (batch.members.front() < bag.next_number && is_ordered && !was_cancelled) {
      wrong("order of batches: " + std::to_string(batch.members.front()) + " after " +
            std::to_string(bag.next_number - 1) + " to " + request.target + " " + request.group);
    }
    bag.next_number = std::max(bag.next_number, batch.members.back() + 1);
    if (target.ordered && !bag.unresolved.empty()) wrong("ordered: two batches at a time");
    bag.unresolved.insert(request.batch_id);
    check_cut(request, batch);
  }
  unresolved_[batch.target] += 1;
}

// A batch that is not full was cut by its timer, and a timer runs from the first hook.
void SimOracle::check_cut(const WorldRequest& request, const SentBatch& batch) {
  const SimTarget& target = targets[batch.target];
  const Hook& first = hooks_[batch.members.front()];
  const bool is_full =
      batch.members.size() >= target.size_min || request.body.size() + 400 >= target.bytes_min;
  if (draining || is_full || first.life != world_.life() || first.offered <= target.disturbed)
    return;
  // What is left of a batch that was cut back by a refusal goes out smaller than it was cut.
  if (first.offered <= world_.last_refusal()) return;
  if (request.started - first.offered < target.time_min) {
    wrong("cut before its time: " + std::to_string((request.started - first.offered).count()) +
          " ns of " + std::to_string(target.time_min.count()));
  }
}

void SimOracle::check_repeat(const WorldRequest& request, const SentBatch& batch) {
  repeats_ += 1;
  if (batch.in_flight) wrong("a batch is on the wire twice");
  if (request.body != batch.body) wrong("a repeat has other bytes");
  if (batch.life == request.life) {
    if (batch.delivered) wrong("a delivered batch was sent again");
    if (batch.resolved) wrong("a batch that was given up was sent again");
    const std::uint32_t expected = batch.attempt + (batch.counted ? 1 : 0);
    if (request.attempt != expected) wrong("attempt " + std::to_string(request.attempt));
    if (draining) wrong("a retry in a drain");
    if (request.started - batch.ended < targets[batch.target].interval_min) {
      wrong("retried before its interval");
    }
  } else if (request.attempt > batch.attempt + 1) {
    wrong("an attempt was skipped over a crash");
  }
}

// Attempts made are kept over a start, and the schedule goes on (I5).
void SimOracle::check_recovered(const WorldRequest& request) {
  const auto found = recovered_.find(request.batch);
  if (found == recovered_.end()) return;
  if (request.attempt != found->second.attempts + 1) {
    wrong("attempt " + std::to_string(request.attempt) + " after a start that found " +
          std::to_string(found->second.attempts));
  }
  if (request.started < found->second.not_before) wrong("retried before its time after a start");
  recovered_.erase(found);
}

void SimOracle::check_limits(const WorldRequest& request, const SentBatch& batch) {
  const SimTarget& target = targets[batch.target];
  if (batch.members.size() > target.size_max) wrong("a batch is larger than size");
  if (request.body.size() > target.bytes_max && batch.members.size() > 1) {
    wrong("a batch is larger than bytes");
  }
  if (target.in_flight > target.in_flight_max) wrong("in_flight of the target");
  if (shard_in_flight_[request.shard] > max_connections_) wrong("max_connections");
  // A drain has no bound, and what it leaves waits for its retry after the restart.
  const std::uint32_t bound =
      std::max({target.retrying_max, target.in_flight_max, recovered_retrying_[batch.target]});
  if (!was_drained_ && unresolved_[batch.target] > bound) {
    wrong("more than max_retrying");
  }
  if (is_durable_ && !request.is_retried_rows) {
    const auto stored = world_.durable().stored_hooks.find(request.batch);
    if (stored == world_.durable().stored_hooks.end() || stored->second != request.size) {
      wrong("sent before its commit");
    }
  }
}

void SimOracle::on_reply(const WorldRequest& request) {
  SentBatch& batch = batches_.at(request.batch_id);
  batch.in_flight = false;
  batch.ended = request.ended;
  batch.counted = request.result.counted;
  targets[batch.target].in_flight -= 1;
  shard_in_flight_[request.shard] -= 1;
  in_flight_hooks_ -= batch.members.size();
  const bool is_last = request.attempt > targets[batch.target].retries && batch.counted;
  const bool is_over = is_last || batch.is_stopped || request.result.final;
  if (!request.result.delivered() && !is_over) return;
  batch.resolved = true;
  batch.delivered = request.result.delivered();
  unresolved_[batch.target] -= 1;
  bags_[{batch.target, request.group}].unresolved.erase(request.batch_id);
  if (!batch.delivered) return;
  delivered_in_life_ += batch.members.size();
  for (std::uint64_t number : batch.members) hooks_[number].deliveries += 1;
}

void SimOracle::on_failed_row(const FailedHook& row, bool is_new) {
  const std::uint64_t number = number_in(row.body);
  if (number == ~0ull || hooks_[number].body != row.body) {
    wrong("a failed row has a body that was not offered");
    return;
  }
  Hook& hook = hooks_[number];
  const SimTarget& target = targets[hook.target];
  rows_ += 1;
  if (row.target != target.url || row.group != hook.group) wrong("a failed row has another key");
  if (hook.answer == Answer::refused) wrong("a refused hook failed");
  if (is_new && hook.has_row) wrong("a hook failed twice");
  hook.has_row = true;
  const bool is_by_hand = row.reason == Reason::cancelled || row.reason == Reason::shutdown ||
                          row.reason == Reason::ssrf_denied;
  if (is_new && !is_by_hand && row.attempts != target.retries + 1) {
    wrong("given up after " + std::to_string(row.attempts) + " attempts");
  }
}

// Everything of a target that is not on the wire has its outcome now.
void SimOracle::cancelled(std::size_t target) {
  for (Hook& hook : hooks_) hook.was_cancelled |= hook.target == target && hook.batch == 0;
  for (auto& [id, batch] : batches_) {
    const bool is_out = batch.resolved || batch.in_flight || batch.life != world_.life();
    if (batch.target != target || is_out || batch.is_retried_rows) continue;
    batch.resolved = true;
    unresolved_[target] -= 1;
    bags_[{batch.target, batch.group}].unresolved.erase(id);
  }
}

// What is not on the wire is never sent again, the rest gets no retry.
void SimOracle::retries_stopped() {
  for (auto& [id, batch] : batches_) {
    if (!batch.is_retried_rows || batch.resolved || batch.life != world_.life()) continue;
    batch.is_stopped = true;
    if (batch.in_flight) continue;
    batch.resolved = true;
    unresolved_[batch.target] -= 1;
  }
}

void SimOracle::crashed() {
  for (auto& [id, batch] : batches_) batch.in_flight = false;
  for (auto& [key, bag] : bags_) bag.unresolved.clear();
  for (SimTarget& target : targets) {
    target.in_flight = 0;
    target.disturbed = world_.now().steady;
  }
  std::fill(shard_in_flight_.begin(), shard_in_flight_.end(), 0);
  std::fill(unresolved_.begin(), unresolved_.end(), 0);
  // More than the bound can be found: one whose outcome was known but not stored (seed 8678).
  std::fill(recovered_retrying_.begin(), recovered_retrying_.end(), 0);
  recovered_.clear();
  const Now now = world_.now();
  for (const auto& [number, chunk] : world_.durable().chunks) {
    if (number != chunk.batch) continue;
    const std::uint32_t target = target_index_.at(chunk.target);
    Recovered& recovered = recovered_[number];
    recovered.attempts = chunk.attempts;
    if (chunk.attempts == 0) continue;
    recovered_retrying_[target] += 1;
    // A wall clock that was set cannot make the wait longer than it ever was: twice the interval at
    // least.
    const auto left = std::chrono::milliseconds(chunk.next_attempt_ms - now.wall_ms);
    recovered.not_before = now.steady + std::min<Duration>(left, 2 * targets[target].interval_min);
  }
  in_flight_hooks_ = 0;
  delivered_in_life_ = 0;
  added_in_life_ = world_.durable().pending_hooks();
  draining = false;
}

void SimOracle::check_counts() {
  std::uint64_t left = 0, in_flight = 0;
  for (std::uint32_t shard = 0; shard < world_.shards(); ++shard) {
    left += world_.core(shard).counters().ended;
    in_flight += world_.core(shard).batches_in_flight();
  }
  if (world_.hooks_held() + left != added_in_life_) wrong("hooks_held does not add up");
  std::uint64_t sent = 0;
  for (std::uint32_t count : shard_in_flight_) sent += count;
  if (in_flight < sent) wrong("in_flight does not add up");
  if (world_.memory_bytes() > (64u << 20)) wrong("memory_bytes ran away");
  for (std::string& violation : world_.violations) wrong(std::move(violation));
  world_.violations.clear();
}

void SimOracle::check_end() {
  check_counts();
  if (world_.hooks_held() != 0) wrong("not drained: " + std::to_string(world_.hooks_held()));
  if (!world_.durable().chunks.empty()) wrong("chunks are left in the store");
  std::uint64_t delivered = 0, bags = 0, targets_known = 0;
  for (std::uint32_t shard = 0; shard < world_.shards(); ++shard) {
    delivered += world_.core(shard).counters().delivered;
    bags += world_.core(shard).batches_held() + world_.core(shard).open_bags();
    targets_known += world_.core(shard).targets();
  }
  if (delivered != delivered_in_life_) wrong("counters.delivered");
  if (bags != 0) wrong("bags are left");
  if (world_.memory_bytes() > targets_known * (sizeof(TargetState) + 200)) wrong("memory is left");
  for (std::size_t number = 0; number < hooks_.size(); ++number) {
    const Hook& hook = hooks_[number];
    if (hook.answer == Answer::accepted && hook.deliveries == 0 && !hook.has_row) {
      wrong("hook " + std::to_string(number) + " was accepted and is gone");
    }
    if (hook.answer == Answer::refused && hook.deliveries > 0)
      wrong("a refused hook was delivered");
    if (hook.answer == Answer::none && hook.life == world_.life()) wrong("a call got no answer");
  }
}

}  // namespace postbag::test
