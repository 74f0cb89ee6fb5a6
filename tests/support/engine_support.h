#pragma once

#include <chrono>
#include <condition_variable>
#include <future>
#include <initializer_list>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "postbag/engine.h"
#include "postbag/memory_store.h"
#include "tests/support/eventually.h"
#include "tests/support/fault_receiver.h"
#include "tests/support/logged_lines.h"

namespace postbag::test {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

// One shard, loopback allowed, a bag is cut by flush() alone, one attempt.
inline Options loopback_options() {
  Options options;
  options.engine.threads = 1;
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.defaults.batch.size = 1000;
  options.defaults.batch.time = Duration::zero();
  options.defaults.retry.retries = 0;
  options.defaults.retry.retry_interval = milliseconds(1);
  options.defaults.delivery.timeout = patience;
  return options;
}

inline HookList hooks_to(std::string_view url, const std::vector<std::string>& payloads) {
  HookList hooks;
  for (const std::string& payload : payloads) hooks.add(url, payload);
  return hooks;
}

// One hook with an id of the producer's.
inline HookList hook_with_id(std::string_view url, std::string_view payload, std::string_view id) {
  HookList hooks;
  HookView hook;
  hook.target = url;
  hook.body = payload;
  hook.id = id;
  hooks.add(hook);
  return hooks;
}

inline std::vector<FailedHook> failed_rows(Engine& engine, const FailedFilter& filter = {}) {
  std::vector<FailedHook> rows;
  std::optional<FailedKey> after;
  do {
    FailedPage page;
    if (engine.list_failed(filter, after, SliceLimits{}, page)) return {};
    for (FailedHook& row : page.rows) rows.push_back(std::move(row));
    after = page.next;
  } while (after);
  return rows;
}

inline std::vector<std::string> bodies(const std::vector<FailedHook>& rows) {
  std::vector<std::string> result;
  for (const FailedHook& row : rows) result.push_back(row.body);
  return result;
}

inline std::vector<std::string> bodies(const std::vector<FaultRequest>& requests) {
  std::vector<std::string> result;
  for (const FaultRequest& request : requests) result.push_back(request.body);
  return result;
}

// The payloads of a batch body; they must hold no comma or bracket of their own outside of braces.
inline std::vector<std::string> payloads_of(std::string_view body) {
  std::vector<std::string> payloads;
  std::size_t depth = 0, start = 1;
  for (std::size_t at = 1; at < body.size(); ++at) {
    if (body[at] == '{') ++depth;
    if (body[at] == '}') --depth;
    if (depth > 0 || (body[at] != ',' && body[at] != ']')) continue;
    payloads.emplace_back(body.substr(start, at - start));
    start = at + 1;
  }
  return payloads;
}

// All hooks that arrived, in order of arrival, by path.
inline std::map<std::string, std::vector<std::string>> hooks_by_path(
    const FaultReceiver& receiver) {
  std::map<std::string, std::vector<std::string>> hooks;
  for (const FaultRequest& request : receiver.requests()) {
    for (std::string& payload : payloads_of(request.body)) {
      hooks[request.path].push_back(std::move(payload));
    }
  }
  return hooks;
}

inline std::future<SubmitResult> submit_async(Engine& engine, HookList hooks,
                                              SubmitOptions options = {}) {
  auto promise = std::make_shared<std::promise<SubmitResult>>();
  auto future = promise->get_future();
  engine.submit(std::move(hooks), std::move(options),
                [promise](SubmitResult result) { promise->set_value(std::move(result)); });
  return future;
}

inline ReceiverOptions replying(std::function<FaultReply(const FaultRequest&)> reply) {
  ReceiverOptions options;
  options.reply = std::move(reply);
  return options;
}

// Answers every request, once release() was called.
inline ReceiverOptions hanging(int status = 200) {
  return replying([status](const FaultRequest&) {
    return FaultReply::hang().then(FaultReply::status(status));
  });
}

inline ReceiverOptions always(int status) {
  return replying([status](const FaultRequest&) { return FaultReply::status(status, "no"); });
}

// A port where nobody listens.
inline std::string refusing_url() {
  return FaultReceiver().url("/nobody");
}

// Collects outcomes; takes failed hooks over or not.
class Outcomes : public OutcomeListener {
 public:
  explicit Outcomes(bool takes_over) : takes_over_(takes_over) {}
  bool hook_done(std::size_t index, const HookOutcome& outcome) override {
    const std::lock_guard lock(mutex_);
    outcomes_[index] = outcome;
    calls_ += 1;
    changed_.notify_all();
    return takes_over_;
  }
  void hook_settled(std::size_t) override {
    const std::lock_guard lock(mutex_);
    settled_ += 1;
    changed_.notify_all();
  }
  void hook_forgotten(std::size_t) override {
    const std::lock_guard lock(mutex_);
    forgotten_ += 1;
    changed_.notify_all();
  }
  bool wait_forgotten(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return forgotten_ >= count; });
  }
  std::size_t forgotten() {
    const std::lock_guard lock(mutex_);
    return forgotten_;
  }
  bool wait_settled(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return settled_ >= count; });
  }
  bool wait(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return outcomes_.size() >= count; });
  }
  std::map<std::size_t, HookOutcome> all() {
    const std::lock_guard lock(mutex_);
    return outcomes_;
  }
  std::size_t calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

 private:
  const bool takes_over_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::size_t, HookOutcome> outcomes_;
  std::size_t calls_ = 0, settled_ = 0, forgotten_ = 0;
};

// Hooks in memory, failed rows too.
inline std::unique_ptr<Engine> make_engine(const Options& options = loopback_options()) {
  return std::make_unique<Engine>(options, make_memory_store());
}

// So many payloads, each another one.
inline std::vector<std::string> numbers(int count) {
  std::vector<std::string> payloads;
  for (int i = 0; i < count; ++i) payloads.push_back("{\"n\":" + std::to_string(i) + "}");
  return payloads;
}

}  // namespace postbag::test
