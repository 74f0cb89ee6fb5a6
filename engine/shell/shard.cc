#include "engine/shell/shard.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/post.hpp>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "engine/pure/prefetch.h"
#include "engine/pure/wire.h"
#include "engine/shell/clock.h"
#include "engine/shell/guarded.h"
#include "engine/shell/log_text.h"
#include "engine/shell/store_group.h"
#include "postbag/target_match.h"

namespace postbag {
namespace {

constexpr std::uint64_t number_block = 1 << 16;

// On a shard's thread a wake is never held back: callbacks of the embedder run here, and one may
// submit to another engine and wait for it, or destroy it, before the HeldWakes scope ends.
thread_local bool is_shard_thread = false;

constexpr std::size_t prepared_max = 32;

// Segments lead from one to the next: of one batch alone each is waited for, of some in turns most
// are there when they are asked for.
void fetch_segments(std::span<Batch* const> batches) {
  constexpr int segments_fetched_max = 5;
  std::array<const Segment*, prepared_max> places{};
  for (std::size_t at = 0; at < batches.size(); ++at) {
    places[at] = batches[at]->first_segment;
    fetch(places[at], sizeof(Segment));
  }
  for (int number = 1; number < segments_fetched_max; ++number) {
    for (std::size_t at = 0; at < batches.size(); ++at) {
      if (places[at] == nullptr) continue;
      places[at] = places[at]->next;
      fetch(places[at], sizeof(Segment));
    }
  }
}

void show(std::atomic<std::uint64_t>& shown, std::uint64_t value) {
  shown.store(value, std::memory_order_relaxed);
}

}  // namespace

Shard::Shard(const ShardCore::Config& config, std::shared_ptr<const PolicyTable> policies,
             ShardHost& host, const TransportFactory& make_transport, Logger logger)
    : host_(host),
      logger_(std::move(logger)),
      work_(boost::asio::make_work_guard(io_)),
      waker_(io_, wake_memory_, [this] { on_wake(); }),
      timer_(io_),
      core_(config, std::move(policies)),
      transport_(make_transport(io_, *this, [this] { need_cycle(); })) {}

Shard::Inbox::~Inbox() {
  while (first != nullptr) {
    const auto keep = std::move(first->keep);
    first = first->next;
  }
}

void Shard::Inbox::swap(Inbox& other) noexcept {
  std::swap(first, other.first);
  std::swap(last, other.last);
  commands.swap(other.commands);
  answers.swap(other.answers);
  recovered.swap(other.recovered);
}

Shard::~Shard() {
  stop();
}

void Shard::start(StoreThread& store) {
  store_ = &store;
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "postbag-shard");
}

void Shard::stop() {
  if (!thread_.joinable()) return;
  io_.stop();
  thread_.join();
  transport_.reset();
}

void Shard::run() {
  is_shard_thread = true;
  for (;;) {
    try {
      io_.run();
      return;
    } catch (const std::exception& error) {
      halt(error.what());
    }
  }
}

// Puts something into the inbox; `put` says whether the thread is to look at it.
template <typename Put>
void Shard::hand_in(Put put) {
  bool wakes = false;
  {
    const std::lock_guard lock(inbox_mutex_);
    wakes = put() && needs_wake();
  }
  if (wakes) waker_.wake();
}

void Shard::post(InboxParcel& entry) noexcept {
  hand_in([&] {
    entry.next = nullptr;
    (inbox_.last != nullptr ? inbox_.last->next : inbox_.first) = &entry;
    inbox_.last = &entry;
    return !recovering_;
  });
}

void Shard::post(std::function<void(ShardCore&, const Now&)> command) {
  hand_in([&] {
    inbox_.commands.push_back(std::move(command));
    return !recovering_;
  });
}

void Shard::post_answer(std::unique_ptr<StorePart> part) {
  hand_in([&] {
    inbox_.answers.push_back(std::move(part));
    return true;
  });
}

void Shard::begin_recovery() {
  const std::lock_guard lock(inbox_mutex_);
  recovering_ = !halted_;
}

void Shard::post_recovered(std::function<void(ShardCore&, const Now&)> command) {
  hand_in([&] {
    inbox_.recovered.push_back(std::move(command));
    return true;
  });
}

void Shard::end_recovery(bool is_sound) noexcept {
  hand_in([&] {
    recovery_end_ = is_sound ? RecoveryEnd::sound : RecoveryEnd::unsound;
    return true;
  });
}

void Shard::abort_attempts(Reason reason) {
  boost::asio::post(io_, [this, reason] {
    if (!halted_) transport_->abort_all(reason);
  });
}

void Shard::forget_connections() {
  boost::asio::post(io_, [this] {
    if (!halted_) transport_->forget_connections();
  });
}

// Under inbox_mutex_; see CoalescedWake.
bool Shard::needs_wake() {
  // Not owned: who submits does not outlive the engine.
  return wake_.want(!is_shard_thread,
                    [this] { return std::shared_ptr<Wakeable>(std::shared_ptr<void>(), this); });
}

void Shard::wake_now() {
  bool wakes = false;
  {
    const std::lock_guard lock(inbox_mutex_);
    wakes = wake_.want_held();
  }
  if (wakes) waker_.wake();
}

void Shard::on_wake() {
  RecoveryEnd recovery_end = RecoveryEnd::none;
  {
    const std::lock_guard lock(inbox_mutex_);
    if (recovering_) {
      inbox_.answers.swap(taken_.answers);
      inbox_.recovered.swap(taken_.recovered);
    } else {
      inbox_.swap(taken_);
    }
    recovery_end = std::exchange(recovery_end_, RecoveryEnd::none);
    wake_.taken();
  }
  if (halted_) return refuse_inbox();
  const Now now = clock_now();
  std::optional<HeldWakes> held(std::in_place);  // many calls may be answered
  std::uint64_t reserved_bytes = 0;
  for (auto& answer : taken_.answers) {
    if (answer->error == Errc::ok && !answer->fails_left) failed_rows_ += failed_rows(*answer);
    core_.part_done(*answer, now);
  }
  for (auto& command : taken_.recovered) command(core_, now);
  if (recovery_end != RecoveryEnd::none) let_in(recovery_end, now);
  std::shared_ptr<void> keep;
  while (taken_.first != nullptr) {
    reserved_bytes += taken_.first->reserved_bytes;
    take_parcel(*taken_.first, now);
    next_parcel(keep)->parcel = {};
  }
  for (auto& command : taken_.commands) command(core_, now);
  taken_.answers.clear();
  taken_.recovered.clear();
  taken_.commands.clear();
  held.reset();
  cycle(now);
  // Only now does memory_bytes show the hooks: in between both count, so the limit holds.
  if (reserved_bytes > 0) host_.memory_released(reserved_bytes);
}

void Shard::let_in(RecoveryEnd end, const Now& now) {
  if (end == RecoveryEnd::unsound) core_.stop_sending(now);
  core_.end_recovery();
  hand_in([this] {
    recovering_ = false;
    return true;
  });
}

void Shard::take_parcel(InboxParcel& entry, const Now& now) {
  const Parcel& parcel = entry.parcel;
  const std::size_t hooks = parcel.count();
  // A hook opens at most one batch, or one chunk.
  if (core_.numbers_left() < hooks) {
    core_.give_numbers(store_->take_numbers(hooks + number_block), hooks + number_block);
  }
  adding_ = core_.counters().accepted;
  core_.add(parcel, now);
  adding_.reset();
}

// Takes the first one out of what was taken from the inbox; `keep` owns it then.
InboxParcel* Shard::next_parcel(std::shared_ptr<void>& keep) {
  InboxParcel* const first = taken_.first;
  taken_.first = first->next;
  if (taken_.first == nullptr) taken_.last = nullptr;
  keep = std::move(first->keep);
  return first;
}

void Shard::need_cycle() {
  if (halted_ || std::exchange(cycle_pending_, true)) return;
  boost::asio::post(io_, [this] {
    if (cycle_pending_) cycle(clock_now());
  });
}

// Carries out what the core decided.
void Shard::cycle(const Now& now) {
  cycle_pending_ = has_done_at_ = false;
  if (halted_) return;
  if (core_.next_deadline() <= now.steady) core_.advance(now);
  if (transport_->next_deadline() <= now.steady) transport_->on_deadline(now.steady);
  start_attempts();
  start_loads();
  while (auto part = core_.take_part(now)) store_->push(std::move(part));
  const std::uint64_t excess = host_.memory_excess(core_.memory_bytes());
  if (excess > 0) core_.shed(excess);
  publish(now);
  tell();
  arm_timer();
}

// Some heads first, then their sends: between two system calls there should be little code, because
// the kernel's own drives it out of the caches.
void Shard::start_attempts() {
  const std::span<Batch* const> sends = core_.sends();
  for (std::size_t first = 0; first < sends.size(); first += prepared_max) {
    starting_.clear();
    const auto some = sends.subspan(first, std::min(prepared_max, sends.size() - first));
    fetch_segments(some);
    for (Batch* batch : some) starting_.push_back(&prepare(*batch));
    const TimePoint begin = steady_now();
    for (InFlight* slot : starting_) {
      Batch& batch = *slot->batch;
      transport_->start(
          slot, {core_.destination(batch), slot->head, slot->pieces, wire_bytes(batch), begin});
    }
  }
  core_.sends().clear();
}

Shard::InFlight& Shard::prepare(Batch& batch) {
  if (free_slots_.empty()) free_slots_.push_back(&slots_.emplace_back());
  InFlight& slot = *free_slots_.back();
  free_slots_.pop_back();
  slot.batch = &batch;
  wire_pieces(batch, slot.pieces);
  write_request_head(slot.head, core_.head_start(batch),
                     {core_.batch_id(batch), batch.hooks, batch.attempts, wire_bytes(batch)});
  return slot;
}

void Shard::attempt_done(AttemptToken token, AttemptResult&& result) {
  if (halted_) return;
  auto* slot = static_cast<InFlight*>(token);
  Batch& batch = *slot->batch;
  slot->batch = nullptr;
  free_slots_.push_back(slot);
  if (result.reason == Reason::shutdown) result.counted = false;  // we broke it off, not the peer
  // Answers that came together share a reading; the interval of a retry counts from its own.
  if (!std::exchange(has_done_at_, true) || !result.delivered()) done_at_ = clock_now();
  if (!result.delivered() || batch.bag->target->health.is_failing()) {
    log_outcome(batch, result, done_at_.steady);
  }
  core_.attempt_done(batch, std::move(result), done_at_);
  need_cycle();
}

// Of a target that fails the log says that it does, what is given up, and when it works again; each
// attempt only at `debug`.
void Shard::log_outcome(const Batch& batch, const AttemptResult& result, TimePoint now) {
  TargetState& target = *batch.bag->target;
  const auto now_s = static_cast<std::uint32_t>(
      1 + std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
  if (result.delivered()) {
    std::uint32_t failures = 0, for_s = 0;
    if (target.health.worked(now_s, failures, for_s)) log_works_again(target, failures, for_s);
    return;
  }
  const bool is_new = result.reason != Reason::shutdown && target.health.failed(now_s);
  const bool gives_up = core_.gives_up(batch, result);
  const LogLevel level = gives_up || is_new ? LogLevel::warning : LogLevel::debug;
  if (!logger_.enabled(level)) return;
  const std::string name = target_log_name(target.url);
  const std::string reason = reason_token(result.reason, result.status);
  const std::string id = to_string(core_.batch_id(batch));
  const std::string detail = log_escape(result.detail);
  const std::uint64_t attempts_max = std::uint64_t{core_.retries_of(batch)} + 1;
  std::string line = gives_up ? "given up: " : is_new ? "fails: " : "attempt failed: ";
  line += name + " " + reason + ", batch " + id + " of " + std::to_string(batch.hooks);
  line += ", attempt " + std::to_string(batch.attempts) + " of " + std::to_string(attempts_max);
  if (!detail.empty()) line += ": " + detail;
  std::vector<LogField> fields = {{"event", gives_up ? "given_up"
                                            : is_new ? "fails"
                                                     : "attempt_failed"},
                                  {"target", name},
                                  {"reason", reason},
                                  {"batch_id", id},
                                  {"hooks", batch.hooks},
                                  {"attempt", batch.attempts},
                                  {"attempts_max", attempts_max},
                                  {"detail", detail}};
  if (result.status > 0) fields.push_back({"status", static_cast<std::uint64_t>(result.status)});
  logger_.log(level, line, fields);
}

void Shard::log_works_again(const TargetState& target, std::uint32_t failures,
                            std::uint32_t for_s) {
  const std::string name = target_log_name(target.url);
  logger_.log(LogLevel::info,
              "works again: " + name + " after " + std::to_string(failures) + " failed attempt" +
                  (failures == 1 ? ", in " : "s, in ") + std::to_string(for_s) + " s",
              {{"event", "works_again"},
               {"target", name},
               {"failed_attempts", failures},
               {"seconds", for_s}});
}

void Shard::arm_timer() {
  const TimePoint wanted = std::min(core_.next_deadline(), transport_->next_deadline());
  // An earlier wake than needed is harmless, and cheaper than moving the timer for every batch.
  if (wanted >= armed_for_) return;
  armed_for_ = wanted;
  timer_.expires_at(wanted);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    armed_for_ = time_point_never;
    cycle(clock_now());
  });
}

void Shard::publish(const Now& now) {
  const CoreCounters& counters = core_.counters();
  std::unique_lock<std::mutex> lock;
  if (failed_rows_ > 0) lock = host_.rows_told(std::exchange(failed_rows_, 0));
  for (const PublishedCounter& counter : published_counters) {
    show(stats_.*counter.shown, counters.*counter.counted);
  }
  show(stats_.memory_bytes, core_.memory_bytes());
  show(stats_.in_flight, core_.batches_in_flight());
  show(stats_.retrying, core_.batches_retrying());
  show(stats_.bags, core_.open_bags());
  show(stats_.batches_held, core_.batches_held());
  show(stats_.targets, core_.targets());
  show(stats_.connections, transport_->stats().connections_open);
  stats_.oldest_ms.store(core_.oldest_ms().value_or(ShardStats::none_waits),
                         std::memory_order_relaxed);
  rates_.add(now.steady, counters.accepted - published_.accepted,
             counters.delivered - published_.delivered);
  const std::uint64_t unsendable = counters.unsendable - published_.unsendable;
  const std::uint64_t ended = counters.ended - published_.ended;
  published_ = counters;
  if (ended > 0 || core_.has_to_tell()) {
    stats_.telling.store(true, std::memory_order_release);
    if (ended > 0) host_.hooks_ended(ended);
  }
  if (lock) lock.unlock();
  if (unsendable == 0) return;
  call_guarded(logger_, [&] {
    logger_.log(LogLevel::warning,
                std::to_string(unsendable) +
                    " hooks of the store cannot be sent, as they are damaged or their target is no "
                    "URL: given up",
                {{"event", "unsendable"}, {"hooks", unsendable}});
  });
}

// Listeners are told after the numbers are published, and whoever waits for the end of the engine
// after the listeners.
void Shard::tell() {
  core_.tell();
  stats_.drained.store(core_.drained(), std::memory_order_release);
  stats_.idle.store(core_.idle(), std::memory_order_release);
  if (stats_.telling.load(std::memory_order_relaxed)) {
    stats_.telling.store(false, std::memory_order_release);
    host_.listeners_told();
  }
  if (core_.ending()) host_.shard_settled();
}

}  // namespace postbag
