#include "tests/support/fake_intake_backend.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

namespace postbag::test {
namespace {

HookId make_id(std::size_t index) {
  return {0x0190a6f200007000, 0x8000000000000000 + index};
}

SeenHook copy_hook(const HookView& view) {
  SeenHook seen;
  seen.target = view.target;
  seen.body = view.body;
  seen.event = view.event;
  seen.group = view.group;
  seen.id = view.id;
  seen.content_type = view.content_type;
  for (const HeaderView& header : view.headers)
    seen.headers.emplace_back(header.name, header.value);
  return seen;
}

}  // namespace

std::string fake_id(std::size_t index) {
  return to_string(make_id(index));
}

void FakeIntakeBackend::answer_next_with(SubmitResult result) {
  const std::lock_guard lock(mutex_);
  next_result_ = std::move(result);
}

void FakeIntakeBackend::hold_submits() {
  const std::lock_guard lock(mutex_);
  hold_submits_ = true;
}

void FakeIntakeBackend::hold_retry() {
  const std::lock_guard lock(mutex_);
  hold_retry_ = true;
}

void FakeIntakeBackend::retry_until_stopped() {
  const std::lock_guard lock(mutex_);
  until_stopped_ = true;
}

void FakeIntakeBackend::release_all() {
  std::vector<Held> held;
  {
    const std::lock_guard lock(mutex_);
    hold_submits_ = false;
    hold_retry_ = false;
    hold_backup_ = false;
    held.swap(held_);
  }
  changed_.notify_all();
  for (Held& one : held) {
    one.hooks = HookList();
    one.done(std::move(one.result));
  }
}

std::size_t FakeIntakeBackend::calls() {
  const std::lock_guard lock(mutex_);
  return calls_;
}

void FakeIntakeBackend::wait_for_calls(std::size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return calls_ >= count; });
}

void FakeIntakeBackend::wait_for_retry(std::size_t runs) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return retries_begun_ >= runs; });
}

bool FakeIntakeBackend::wait_for_retry_end() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return retries_stopped_ > retries_stopped_seen_; });
  retries_stopped_seen_ = retries_stopped_;
  retries_begun_ = 0;
  return true;
}

std::vector<SeenHook> FakeIntakeBackend::hooks() {
  const std::lock_guard lock(mutex_);
  return hooks_;
}

std::shared_ptr<OutcomeListener> FakeIntakeBackend::listener() {
  const std::lock_guard lock(mutex_);
  return listener_;
}

void FakeIntakeBackend::submit(HookList hooks, SubmitOptions options, SubmitHandler done) {
  SubmitResult result;
  bool hold = false;
  {
    const std::lock_guard lock(mutex_);
    ++calls_;
    for (std::size_t i = 0; i < hooks.size(); ++i) {
      hooks_.push_back(copy_hook(hooks[i]));
      if (options.want_ids) result.ids.push_back(hooks[i].id.empty() ? make_id(i) : HookId{});
    }
    result.accepted = hooks.size();
    if (next_result_) result = *std::exchange(next_result_, std::nullopt);
    listener_ = options.listener;
    hold = hold_submits_;
    if (hold) held_.push_back({std::move(hooks), std::move(done), std::move(result)});
  }
  changed_.notify_all();
  if (!hold) done(std::move(result));
}

std::vector<TargetStatus> FakeIntakeBackend::targets(std::size_t limit) const {
  const_cast<FakeIntakeBackend*>(this)->last_limit = limit;
  return target_list;
}

std::optional<HookStatus> FakeIntakeBackend::find_hook(std::string_view id) const {
  if (!hook || hook->id != id) return {};
  return hook;
}

std::error_code FakeIntakeBackend::list_failed(const FailedFilter& filter,
                                               std::optional<FailedKey> after,
                                               const SliceLimits& limits, FailedPage& page) {
  last_filter = filter;
  const std::size_t rows_max = std::min(limits.rows, slice_rows);
  for (const FailedHook& row : rows) {
    if (after && row.key <= *after) continue;
    if (page.rows.size() == rows_max) {
      page.next = page.rows.back().key;
      break;
    }
    page.rows.push_back(row);
  }
  return {};
}

RetryProgress FakeIntakeBackend::retry_failed(const RetryOptions& options) {
  std::unique_lock lock(mutex_);
  last_filter = options.filter;
  last_retry_limit = options.limit;
  last_retries = options.retries;
  ++retries_begun_;
  changed_.notify_all();
  RetryProgress last;
  bool more = true;
  if (until_stopped_) {
    while (more) {
      lock.unlock();
      more = options.progress(last) && !options.leave.stop_requested();
      lock.lock();
      changed_.wait_for(lock, std::chrono::milliseconds(1));
    }
    ++retries_stopped_;
    changed_.notify_all();
    return last;
  }
  for (const RetryProgress& step : retry_steps) {
    last = step;
    lock.unlock();
    more = options.progress(step);
    lock.lock();
    changed_.wait(lock, [&] { return !hold_retry_; });
  }
  return last;
}

RetryPlan FakeIntakeBackend::plan_retry(const RetryOptions& options) {
  last_filter = options.filter;
  return {10, 2, 3, 400, 1, plan_error};
}

PurgeResult FakeIntakeBackend::purge_failed(const FailedFilter& filter,
                                            std::optional<std::uint64_t> limit) {
  last_filter = filter;
  ++purges;
  PurgeResult result;
  result.purged = limit.value_or(9);
  result.error = purge_error;
  result.claimed = purge_claimed;
  return result;
}

std::uint64_t FakeIntakeBackend::flush(std::optional<std::string_view> target) {
  if (std::exchange(throw_next, false)) throw std::invalid_argument("not a target");
  last_text = "flush " + std::string(target.value_or("*"));
  return 7;
}

CancelResult FakeIntakeBackend::cancel(std::string_view target_glob) {
  last_text = "cancel " + std::string(target_glob);
  return {8, cancel_error};
}

void FakeIntakeBackend::hold_backup() {
  const std::lock_guard lock(mutex_);
  hold_backup_ = true;
}

void FakeIntakeBackend::wait_for_backup() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return backup_begun_; });
}

bool FakeIntakeBackend::wait_for_backup_stop() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return backup_stopped_; });
}

std::error_code FakeIntakeBackend::backup(const std::string& path, const std::stop_token& stop) {
  last_text = "backup " + path;
  const std::stop_callback wake(stop, [this] {
    { const std::lock_guard lock(mutex_); }
    changed_.notify_all();
  });
  std::unique_lock lock(mutex_);
  backup_begun_ = true;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !hold_backup_ || stop.stop_requested(); });
  if (stop.stop_requested()) {
    backup_stopped_ = true;
    changed_.notify_all();
    return Errc::stopping;
  }
  if (backup_error == Errc::ok) return {};
  return make_error_code(backup_error);
}

}  // namespace postbag::test
