#include "tests/crash/kill_oracle.h"

#include <algorithm>

#include "cli/demo/ledger.h"

namespace postbag::test {
namespace {

constexpr std::size_t violations_max = 100;
constexpr std::uint64_t late_kills_spare = 3;

}  // namespace

KillOracle::KillOracle(const HookNames& names, const OracleLimits& limits)
    : names_(names),
      limits_(limits),
      hooks_(limits.producers),
      newest_(names.targets(), std::vector<std::int64_t>(limits.producers, -1)) {}

void KillOracle::found(const std::string& what) {
  ++violations_count_;
  if (violations_.size() >= violations_max) return;
  violations_.push_back("run " + std::to_string(run()) + ": " + what);
}

void KillOracle::violation(const std::string& what) {
  const std::lock_guard lock(mutex_);
  found(what);
}

bool KillOracle::has_violations() const {
  const std::lock_guard lock(mutex_);
  return violations_count_ > 0;
}

KillOracle::Hook* KillOracle::find(HookName name) {
  if (name.producer >= hooks_.size()) return nullptr;
  auto& hooks = hooks_[name.producer];
  return name.number < hooks.size() ? &hooks[name.number] : nullptr;
}

void KillOracle::offering(HookName first, std::uint32_t count, bool with_ids) {
  const std::lock_guard lock(mutex_);
  auto& hooks = hooks_.at(first.producer);
  hooks.resize(std::max<std::size_t>(hooks.size(), std::size_t{first.number} + count));
  for (std::uint32_t i = 0; i < count; ++i) {
    Hook& hook = hooks[first.number + i];
    counts_.offered += hook.sent == 0;
    hook.with_id = with_ids;
    ++hook.sent;
  }
}

void KillOracle::outcome(HookName first, std::uint32_t count, CallOutcome outcome) {
  const std::lock_guard lock(mutex_);
  for (std::uint32_t i = 0; i < count; ++i) {
    Hook& hook = hooks_.at(first.producer).at(first.number + i);
    switch (outcome) {
      case CallOutcome::accepted:
        counts_.accepted += hook.accepted == 0;
        ++hook.accepted;
        break;
      case CallOutcome::refused:
        --hook.sent;
        break;
      case CallOutcome::lost:
        ++counts_.lost_answers;
        break;
    }
  }
}

void KillOracle::run_begins() {
  const std::lock_guard lock(mutex_);
  killed_.push_back(false);
  forgot_.push_back(false);
  repeats_this_run_ = 0;
}

void KillOracle::run_ended(bool killed) {
  const std::lock_guard lock(mutex_);
  killed_.back() = killed;
  counts_.kills += killed;
}

void KillOracle::arrived(const ArrivedBatch& arrived) {
  const std::lock_guard lock(mutex_);
  ++counts_.requests;
  const std::string name = "batch " + arrived.batch_id + ": ";
  if (arrived.attempt == 0 || arrived.attempt > limits_.attempts) {
    found(name + "attempt " + std::to_string(arrived.attempt));
  }
  const auto [place, is_new] =
      batch_index_.emplace(arrived.batch_id, static_cast<std::uint32_t>(batches_.size()));
  if (is_new) {
    batches_.emplace_back();
    first_arrival(arrived, batches_.back(), place->second);
  } else {
    later_arrival(arrived, batches_[place->second]);
  }
  Batch& batch = batches_[place->second];
  batch.attempt = arrived.attempt;
  batch.run = run();
  batch.dropped = arrived.dropped;
  if (!arrived.answered_ok || batch.ok_run == run()) return;
  if (batch.ok_run == 0) {
    for (const HookName member : batch.members) {
      if (Hook* hook = find(member)) ++hook->delivered;
    }
    batch.members = {};
  }
  batch.ok_run = run();
}

void KillOracle::first_arrival(const ArrivedBatch& arrived, Batch& batch, std::uint32_t index) {
  const std::string name = "batch " + arrived.batch_id + ": ";
  ++counts_.batches;
  batch.target = arrived.target;
  batch.body_hash = std::hash<std::string_view>()(arrived.body);
  batch.body_size = static_cast<std::uint32_t>(arrived.body.size());
  const auto payloads = split_json_array(arrived.body);
  if (!payloads || payloads->empty()) return found(name + "its body is no array of hooks");
  if (payloads->size() != arrived.size || payloads->size() > limits_.batch_size) {
    found(name + std::to_string(payloads->size()) + " hooks, its header says " +
          std::to_string(arrived.size));
  }
  for (const std::string_view payload : *payloads) {
    const auto parsed = HookNames::parse(payload);
    Hook* hook = parsed ? find(*parsed) : nullptr;
    if (hook == nullptr || hook->sent == 0 || payload != names_.payload(*parsed)) {
      found(name + "holds what nobody offered: " + std::string(payload.substr(0, 80)));
      continue;
    }
    if (names_.target(*parsed) != arrived.target) {
      found(name + HookNames::id(*parsed) + " came to another target");
    }
    batch.members.push_back(*parsed);
    if (hook->places++ > 0) continue;
    hook->batch = index;
    std::int64_t& newest = newest_[arrived.target][parsed->producer];
    if (newest > std::int64_t{parsed->number}) {
      found(name + HookNames::id(*parsed) + " came after number " + std::to_string(newest));
    }
    newest = std::max(newest, std::int64_t{parsed->number});
  }
}

void KillOracle::later_arrival(const ArrivedBatch& arrived, Batch& batch) {
  const std::string name = "batch " + arrived.batch_id + ": ";
  if (batch.target != arrived.target || batch.body_size != arrived.body.size() ||
      batch.body_hash != std::hash<std::string_view>()(arrived.body)) {
    found(name + "came again with another target or body");
  }
  // A kill takes at most the record of the attempt in flight. And what a kept connection swallowed
  // without an answer is sent once more at once, as the same attempt.
  const bool after_kill = batch.run != run() && killed_.at(batch.run - 1);
  const std::uint32_t lowest = batch.attempt + (after_kill || batch.dropped ? 0 : 1);
  if (arrived.attempt < lowest && after_kill) {
    ++counts_.late_records;
    counts_.late_kills += !forgot_.at(batch.run - 1);
    forgot_.at(batch.run - 1) = true;
  } else if (arrived.attempt < lowest) {
    found(name + "attempt " + std::to_string(arrived.attempt) + " after attempt " +
          std::to_string(batch.attempt) + " of run " + std::to_string(batch.run));
  }
  if (batch.ok_run == 0) return;
  batch.repeated_after_ok = true;
  ++counts_.repeated_batches;
  if (batch.ok_run == run() || !killed_.at(batch.ok_run - 1)) {
    found(name + "came again after its 2xx in run " + std::to_string(batch.ok_run));
  }
  counts_.most_repeats_a_kill = std::max(counts_.most_repeats_a_kill, ++repeats_this_run_);
  if (repeats_this_run_ == limits_.repeats_a_kill + 1) found("too many batches came again");
}

void KillOracle::failed_row(const FailedHook& row, std::uint32_t target) {
  const std::lock_guard lock(mutex_);
  ++counts_.failed;
  const auto parsed = HookNames::parse(row.body);
  Hook* hook = parsed ? find(*parsed) : nullptr;
  if (hook == nullptr || hook->sent == 0 || row.body != names_.payload(*parsed) ||
      names_.target(*parsed) != target) {
    return found("failed row " + row.id + ": nobody offered this");
  }
  ++hook->failed;
  const std::string name = "failed row " + row.id + " (" + HookNames::id(*parsed) + "): ";
  if (hook->with_id && row.id != HookNames::id(*parsed)) found(name + "another id");
  if (row.attempts != limits_.attempts) {
    found(name + std::to_string(row.attempts) + " attempts");
  }
  if (hook->delivered == 0 || hook->sent > 1) return;
  if (!batches_[hook->batch].repeated_after_ok) found(name + "was delivered, too");
}

std::vector<std::string> KillOracle::verdict() {
  const std::lock_guard lock(mutex_);
  for (std::uint32_t producer = 0; producer < hooks_.size(); ++producer) {
    for (std::uint32_t number = 0; number < hooks_[producer].size(); ++number) {
      const Hook& hook = hooks_[producer][number];
      const std::string name = "hook " + HookNames::id({producer, number}) + ": ";
      const unsigned allowed = hook.with_id ? std::min<unsigned>(hook.sent, 1) : hook.sent;
      counts_.delivered += hook.delivered > 0;
      counts_.unaccepted_delivered += hook.accepted == 0 && hook.places > 0;
      if (hook.accepted > 0 && hook.delivered + hook.failed == 0) {
        found(name + (hook.places > 0 ? "accepted, never delivered with success, not failed"
                                      : "accepted, LOST"));
      }
      if (hook.places > allowed) {
        found(name + "in " + std::to_string(hook.places) + " places, offered " +
              std::to_string(hook.sent) + " times" + (hook.with_id ? " with its id" : ""));
      }
      if (hook.failed > allowed) found(name + "has " + std::to_string(hook.failed) + " rows");
    }
  }
  if (counts_.late_kills > late_kills_spare + counts_.kills / 10) {
    found(std::to_string(counts_.late_records) + " attempts were forgotten by " +
          std::to_string(counts_.late_kills) + " of " + std::to_string(counts_.kills) + " kills");
  }
  if (violations_count_ > violations_.size()) {
    violations_.push_back("and " + std::to_string(violations_count_ - violations_.size()) +
                          " more");
  }
  return violations_;
}

OracleCounts KillOracle::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace postbag::test
