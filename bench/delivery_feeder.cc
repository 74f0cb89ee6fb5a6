#include "bench/delivery_feeder.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "bench/bench_support.h"

namespace postbag {
namespace {

constexpr std::uint64_t list_hooks = 1000;
constexpr std::size_t lists_outstanding_max = 32;
// Payload bytes in bags that fill at one time.
constexpr std::uint64_t filling_bytes_max = 64 << 20;
constexpr double patience_s = 30;

}  // namespace

FeedOrder::FeedOrder(const DeliveryCase& what, std::uint64_t group)
    : targets_(what.targets), group_(group), batch_(what.batch) {}

FeedOrder::Place FeedOrder::next() {
  const Place place{first_ + offset_, round_ * batch_ + in_bag_};
  if (++offset_ == std::min(group_, targets_ - first_)) {
    offset_ = 0;
    if (++in_bag_ == batch_) {
      in_bag_ = 0;
      first_ += group_;
      if (first_ >= targets_) {
        first_ = 0;
        ++round_;
      }
    }
  }
  return place;
}

std::uint64_t DeliveryFeeder::group_of(const DeliveryCase& what) {
  const std::uint64_t fitting = filling_bytes_max / (what.batch * delivery_payload_bytes);
  return std::max<std::uint64_t>(1, std::min({what.targets, std::uint64_t{1000}, fitting}));
}

DeliveryFeeder::DeliveryFeeder(Engine& engine, const DeliveryCase& what,
                               const ReceiverCounters& received, std::uint16_t port,
                               std::uint64_t backlog)
    : engine_(engine),
      case_(what),
      received_(received),
      backlog_(backlog),
      order_(what, group_of(what)) {
  // Beside twice what may lie in open bags, or nothing would be cut before its time, and twice what
  // is on the wire. With a store or retries more is under way; without, more would only leave the
  // caches.
  if (backlog_ == 0) {
    const bool much = what.durability != Durability::memory || what.fail_per_mille > 0;
    backlog_ = (much ? 100'000 : 20'000) + 2 * (group_of(what) + what.in_flight) * what.batch;
  }
  const std::string prefix =
      std::string(what.tls ? "https" : "http") + "://127.0.0.1:" + std::to_string(port) + "/t/";
  for (std::uint64_t i = 0; i < what.targets; ++i) targets_.push_back(prefix + std::to_string(i));
}

bool DeliveryFeeder::feed(const std::function<void(int)>& each_percent) {
  int percent = 0;
  for (std::uint64_t fed = 0; fed < case_.hooks;) {
    if (!wait_for_room(fed)) return false;
    const std::uint64_t count = std::min(list_hooks, case_.hooks - fed);
    const FeedOrder before = order_;
    offer(make_list(count));
    std::unique_lock lock(mutex_);
    if (failed_) return false;
    if (full_) {
      // Offered again; room may come from deliveries, of which nobody tells.
      full_ = false;
      ++full_answers_;
      order_ = before;
      changed_.wait_for(lock, std::chrono::milliseconds(1));
      continue;
    }
    lock.unlock();
    fed += count;
    if (!each_percent) continue;
    while (percent < 100 && fed * 100 >= case_.hooks * static_cast<std::uint64_t>(percent + 1)) {
      each_percent(++percent);
    }
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return outstanding_ == 0; });
  return !failed_;
}

bool DeliveryFeeder::wait_for_room(std::uint64_t fed) {
  const auto waiting = [&] { return fed - std::min(fed, received_.hooks.load()); };
  if (waiting() + list_hooks > backlog_) {
    const double start = now_s();
    while (waiting() + list_hooks > backlog_) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      if (now_s() - start > patience_s) {
        std::fprintf(stderr, "nothing was received for %.0f s\n", patience_s);
        return false;
      }
    }
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return outstanding_ < lists_outstanding_max; });
  return !failed_;
}

// The first one that is free: it is the likeliest to be in the caches.
std::shared_ptr<DeliveryFeeder::Block> DeliveryFeeder::take_block() {
  for (const auto& block : blocks_) {
    if (!block->is_free.load(std::memory_order_acquire)) continue;
    block->is_free.store(false, std::memory_order_relaxed);
    return block;
  }
  blocks_.push_back(std::make_shared<Block>(list_hooks));
  blocks_.back()->is_free = false;
  return blocks_.back();
}

HookList DeliveryFeeder::make_list(std::uint64_t hooks) {
  const std::shared_ptr<Block> block = take_block();
  HookList list;
  list.adopt(std::shared_ptr<const void>(block.get(), [block](const void*) {
    block->is_free.store(true, std::memory_order_release);
  }));
  list.reserve(hooks);
  HookView hook;
  for (std::uint64_t i = 0; i < hooks; ++i) {
    const FeedOrder::Place place = order_.next();
    hook.target = targets_[place.target];
    hook.body = block->payloads.make(i, place.target, place.sequence);
    list.add_view(hook);
  }
  return list;
}

void DeliveryFeeder::offer(HookList list) {
  {
    const std::lock_guard lock(mutex_);
    ++outstanding_;
  }
  engine_.submit(std::move(list), SubmitOptions(), [this](const SubmitResult& result) {
    const std::lock_guard lock(mutex_);
    --outstanding_;
    // A refusal is told on the feeding thread, before submit() returns.
    if (result.error == Errc::full) full_ = true;
    if (!result.ok() && result.error != Errc::full) {
      failed_ = true;
      std::fprintf(stderr, "refused: %s\n", result.message.c_str());
    }
    changed_.notify_one();
  });
}

}  // namespace postbag
