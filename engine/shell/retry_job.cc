#include "engine/shell/retry_job.h"

#include <algorithm>
#include <map>
#include <new>
#include <set>
#include <utility>

#include "engine/pure/header_rules.h"
#include "engine/pure/hook_check.h"
#include "engine/shell/guarded.h"
#include "engine/shell/inbox_parcel.h"
#include "engine/shell/log_text.h"
#include "postbag/json.h"
#include "postbag/store.h"

namespace postbag {
namespace {

constexpr std::size_t slice_rows = 1000;
constexpr std::size_t slice_bytes = 2 << 20;
constexpr std::size_t rows_under_way_max = 20'000;
constexpr std::uint64_t memory_share = 8;  // of max_memory, for their bodies
constexpr Duration report_interval = std::chrono::seconds(1);
constexpr Duration cut_interval = std::chrono::milliseconds(10);  // where there was no memory

SliceLimits slice_limits(std::uint64_t bytes_max = slice_bytes) {
  SliceLimits limits;
  limits.rows = slice_rows;
  limits.bytes = std::min<std::uint64_t>(slice_bytes, bytes_max);
  return limits;
}

// Whether a row can be sent by today's policy; `canonical` is its target.
bool can_be_sent(const FailedHook& row, const PolicyTable& policies, std::string& canonical) {
  if (check_target_url(policies, row.target, canonical)) return false;
  return row.reason != Reason::corrupt_payload && !check_json(row.body, false);
}

std::vector<HeaderView> split_headers(std::string_view lines) {
  std::vector<HeaderView> headers;
  for_each_header(lines, [&](std::string_view name, std::string_view value) {
    headers.push_back({name, value});
  });
  return headers;
}

void release(RetryClaims& claims, std::span<const FailedKey> keys) {
  const std::lock_guard lock(claims.mutex);
  for (const FailedKey key : keys) claims.keys.erase(key);
}

// Rows that were claimed; those that are still in it at its end are free again.
struct ClaimedRows {
  explicit ClaimedRows(RetryClaims& of_engine) : claims(of_engine) {}
  ~ClaimedRows() { release(claims, keys); }
  ClaimedRows(const ClaimedRows&) = delete;
  ClaimedRows& operator=(const ClaimedRows&) = delete;

  // Leaves in `rows` those from before `end` that no other run has, and those from then on. Returns
  // how many other runs have.
  std::size_t claim(std::vector<FailedHook>& rows, FailedKey end) {
    keys.reserve(rows.size());  // what is claimed can be noted
    const std::lock_guard lock(claims.mutex);
    return std::erase_if(rows, [&](const FailedHook& row) {
      if (row.key >= end) return false;
      if (!claims.keys.insert(row.key).second) return true;
      keys.push_back(row.key);
      return false;
    });
  }

  RetryClaims& claims;
  std::vector<FailedKey> keys;
};

}  // namespace

RetryJob::RetryJob(Engine::Impl& engine, const RetryOptions& options)
    : RetrySink(engine.claims().runs.fetch_add(1)),
      engine_(engine),
      options_(options),
      load_max_{rows_under_way_max, engine.max_memory() / memory_share},
      last_report_(steady_now()) {}

RetryProgress RetryJob::run() {
  const std::stop_callback on_stop(options_.stop, [this] { stop(Stop::after_wire); });
  const std::stop_callback on_leave(options_.leave, [this] { stop(Stop::at_once); });
  std::error_code error;
  say_begin();
  try {
    error = take_all();
  } catch (const std::bad_alloc&) {  // what was handed over before goes on
    error = std::make_error_code(std::errc::not_enough_memory);
  }
  wait_for({});
  {
    const std::lock_guard lock(mutex_);
    if (error || load_.rows > 0) progress_.stopped = true;
    if (!error && progress_.stopped && engine_.is_stopping()) error = Errc::stopping;
    progress_.error = engine_.fatal_error().value_or(error);
    if (progress_.error) progress_.stopped = true;
  }
  report(true);
  say_end();
  const std::lock_guard lock(mutex_);
  return progress_;
}

void RetryJob::say_begin() const {
  call_guarded(engine_.logger(), [this] {
    std::string what = "retry run " + std::to_string(number + 1) +
                       " of failed hooks begins: " + log_filter(options_.filter);
    if (options_.limit) what += ", limit " + std::to_string(*options_.limit);
    if (options_.retries) what += ", retries " + std::to_string(*options_.retries);
    engine_.logger().log(LogLevel::info, what);
  });
}

void RetryJob::say_end() {
  call_guarded(engine_.logger(), [this] {
    std::string what = "retry run " + std::to_string(number + 1) + " ended: ";
    {
      const std::lock_guard lock(mutex_);
      what += std::to_string(progress_.delivered) + " delivered, " +
              std::to_string(progress_.failed) + " failed again, " +
              std::to_string(progress_.skipped) + " skipped";
      if (progress_.claimed > 0) {
        what += ", " + std::to_string(progress_.claimed) + " left to another run";
      }
      if (progress_.stopped) what += "; stopped early";
      if (progress_.error) what += "; cut short: " + progress_.error.message();
    }
    engine_.logger().log(LogLevel::info, what);
  });
}

std::error_code RetryJob::take_all() {
  // What fails while this runs is left to the next run; without an end it could go on for ever.
  end_ = failed_key(engine_.store_thread().take_numbers(1), 0);
  if (options_.filter.empty()) {
    const std::uint64_t rows = engine_.store_thread().stats().failed_hooks;
    progress_.total = std::min(rows, options_.limit.value_or(rows));
  }
  std::optional<FailedKey> after;
  std::error_code error;
  bool has_more = true;
  while (has_more && report(false) && !engine_.is_stopping()) {
    has_more = take_slice(after, error);
    bool is_full = false;
    {
      const std::lock_guard lock(mutex_);
      is_full = !load_.fits(load_max_);
    }
    if (is_full) wait_for({load_max_.rows / 2, load_max_.body_bytes / 2});
  }
  const std::lock_guard lock(mutex_);
  if (has_more) progress_.stopped = true;
  return error;
}

// False: there are no more rows.
bool RetryJob::take_slice(std::optional<FailedKey>& after, std::error_code& error) {
  FailedPage page;
  ClaimedRows claimed(engine_.claims());
  std::size_t claimed_elsewhere = 0;
  // Read and claimed in one turn of the store's thread: a row that another run delivers is deleted
  // before its claim is given back, so it cannot be read before the one and claimed after the
  // other.
  error = engine_.store_thread().run([&](Store& store) {
    const std::error_code read =
        store.list_failed(options_.filter, after, slice_limits(load_max_.body_bytes / 2), page);
    if (!read) claimed_elsewhere = claimed.claim(page.rows, end_);
    return read;
  });
  if (error) return false;
  {
    const std::lock_guard lock(mutex_);
    progress_.claimed += claimed_elsewhere;
  }
  const auto policies = engine_.policies();
  std::vector<FailedHook> rows;
  std::vector<FailedKey> not_sent;
  bool more = page.next.has_value();
  for (FailedHook& row : page.rows) {
    if (row.key >= end_ || (options_.limit && taken_ >= *options_.limit)) {
      more = false;
      if (row.key < end_) not_sent.push_back(row.key);
      continue;
    }
    std::string canonical;
    if (!can_be_sent(row, *policies, canonical)) {
      not_sent.push_back(row.key);
      const std::lock_guard lock(mutex_);
      progress_.skipped += 1;
      continue;
    }
    row.target = std::move(canonical);
    taken_ += 1;
    rows.push_back(std::move(row));
  }
  after = page.next;
  if (rows.empty()) return more;
  if (!hand_over(rows)) return true;
  claimed.keys.swap(not_sent);
  return more;
}

// To all of their shards or, where it throws, to none. False: the engine is stopping, so nobody
// would send them or report on them.
bool RetryJob::hand_over(const std::vector<FailedHook>& rows) {
  const Engine::Impl::Entering entering(engine_);
  if (engine_.is_stopping()) return false;
  std::map<Shard*, std::pair<HookList, std::vector<FailedKey>>> by_shard;
  std::uint64_t body_bytes = 0;
  for (const FailedHook& row : rows) {
    auto& [hooks, keys] = by_shard[&engine_.shard_of(row.target)];
    const std::vector<HeaderView> headers = split_headers(row.headers);
    HookView view;
    view.target = row.target;
    view.body = row.body;
    view.event = row.event;
    view.group = row.group;
    view.id = row.id;
    view.content_type = row.content_type;
    view.headers = headers;
    hooks.add(view);
    keys.push_back(row.key);
    body_bytes += row.body.size() + 1;
  }
  std::vector<std::pair<Shard*, std::shared_ptr<InboxParcel>>> parcels;
  for (auto& [shard, part] : by_shard) {
    const auto& [to, entry] = parcels.emplace_back(shard, std::make_shared<InboxParcel>());
    Parcel& parcel = entry->parcel;
    parcel.hooks = std::make_shared<const HookList>(std::move(part.first));
    parcel.rows = std::move(part.second);
    parcel.retry = shared_from_this();
    parcel.retries = options_.retries;
  }
  {
    const std::lock_guard lock(mutex_);
    load_.rows += rows.size();
    load_.body_bytes += body_bytes;
  }
  for (const auto& [shard, entry] : parcels) {
    entry->keep = entry;
    shard->post(*entry);
  }
  return true;
}

// False: no memory for it now.
bool RetryJob::cut_bags() try {
  for (auto& shard : engine_.shards()) {
    shard->post([self = shared_from_this()](ShardCore& core, const Now& now) {
      core.flush_retry(self.get(), now);
    });
  }
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

// False: no memory for it now.
bool RetryJob::stop_bags() try {
  for (auto& shard : engine_.shards()) {
    shard->post(
        [self = shared_from_this()](ShardCore& core, const Now&) { core.stop_retry(self.get()); });
  }
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

// Cuts the run's bags first, as they would wait for rows that are only read once these are done.
// Returns early if the engine has failed (there may never be room) or the run is to end at once.
void RetryJob::wait_for(const Load& most) {
  std::unique_lock lock(mutex_);
  bool is_cut = false;
  bool is_stopped = false;
  while (!load_.fits(most)) {
    const Stop stop = stop_;
    lock.unlock();
    if (engine_.fatal_error()) return;
    bool& is_told = stop == Stop::none ? is_cut : is_stopped;
    is_told = is_told || (stop == Stop::none ? cut_bags() : stop_bags());
    if (is_told && stop == Stop::at_once) return;
    report(false);
    lock.lock();
    const auto wakes = [&] { return load_.fits(most) || stop_ != stop; };
    changed_.wait_for(lock, is_told ? report_interval : cut_interval, wakes);
  }
}

void RetryJob::stop(Stop how) {
  const std::lock_guard lock(mutex_);
  stop_ = std::max(stop_, how);
  changed_.notify_all();
}

void RetryJob::rows_done(std::span<const FailedKey> keys, std::uint64_t body_bytes,
                         RowsOutcome outcome) {
  release(engine_.claims(), keys);
  if (outcome == RowsOutcome::delivered) engine_.claims().delivered.fetch_add(keys.size());
  if (outcome == RowsOutcome::failed) engine_.claims().failed.fetch_add(keys.size());
  const std::lock_guard lock(mutex_);
  if (outcome == RowsOutcome::delivered) progress_.delivered += keys.size();
  if (outcome == RowsOutcome::failed) progress_.failed += keys.size();
  if (outcome == RowsOutcome::untouched) progress_.stopped = true;
  load_.rows -= keys.size();
  load_.body_bytes -= body_bytes;
  changed_.notify_all();
}

// False: whoever asked wants no more.
bool RetryJob::report(bool at_end) {
  const TimePoint now = steady_now();
  RetryProgress copy;
  {
    const std::lock_guard lock(mutex_);
    const bool is_due = at_end || now - last_report_ >= report_interval;
    if (!options_.progress || !is_due) return stop_ == Stop::none;
    copy = progress_;
  }
  last_report_ = now;
  if (!options_.progress(copy)) stop(Stop::after_wire);
  const std::lock_guard lock(mutex_);
  return stop_ == Stop::none;
}

RetryPlan RetryJob::plan(Engine::Impl& engine, const RetryOptions& options) {
  struct Gathered {
    std::uint64_t hooks = 0, bytes = 0;
  };
  RetryPlan plan;
  std::map<std::string, Gathered> bags;
  std::set<std::string> targets;
  const auto policies = engine.policies();
  std::optional<FailedKey> after;
  for (bool more = true; more;) {
    FailedPage page;
    const auto error = engine.store_thread().run([&](Store& store) {
      return store.list_failed(options.filter, after, slice_limits(), page);
    });
    if (error) {
      plan.error = error;
      return plan;
    }
    for (const FailedHook& row : page.rows) {
      if (options.limit && plan.hooks >= *options.limit) return plan;
      std::string canonical;
      if (!can_be_sent(row, *policies, canonical)) {
        plan.skipped += 1;
        continue;
      }
      const BatchPolicy& batch = policies->find(canonical)->policy.batch;
      Gathered& bag = bags[canonical + "\n" + row.group + "\n" + row.headers];
      const bool is_full = (batch.size != 0 && bag.hooks >= batch.size) ||
                           bag.bytes + row.body.size() + 2 > batch.bytes;
      if (bag.hooks == 0 || is_full) {
        plan.requests += 1;
        bag = {};
      }
      bag.hooks += 1;
      bag.bytes += row.body.size() + 1;
      plan.hooks += 1;
      plan.bytes += row.body.size();
      if (targets.insert(canonical).second) plan.targets += 1;
    }
    after = page.next;
    more = page.next.has_value();
  }
  return plan;
}

}  // namespace postbag
