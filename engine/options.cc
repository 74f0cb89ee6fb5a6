#include "postbag/options.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <span>
#include <utility>

#include "engine/pure/header_rules.h"
#include "engine/pure/network_policy.h"
#include "engine/pure/url.h"
#include "postbag/limits.h"

namespace postbag {
namespace {

using Problem = std::optional<std::string>;

std::string to_text(std::uint32_t value) {
  return std::to_string(value);
}
std::string to_text(std::uint64_t value) {
  return std::to_string(value);
}
std::string to_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", value);
  return text;
}
std::string to_text(Duration value) {
  return to_text(std::chrono::duration<double>(value).count()) + " s";
}

// Keeps the first problem; "key: what; what is allowed".
class Checker {
 public:
  const Problem& problem() const { return problem_; }

  void fail(std::string key, std::string_view what) {
    if (!problem_) problem_ = std::move(key.append(": ").append(what));
  }

  template <typename Value>
  void range(const std::string& key, Value value, Range<Value> range) {
    if (!range.contains(value)) {  // a NaN is in no range
      fail(key, to_text(value) + " is out of range; allowed is " + to_text(range.min) + " to " +
                    to_text(range.max));
    }
  }

 private:
  Problem problem_;
};

// Where the keys of a policy stand in the file: "batch.size", or "target[3].size" in a block.
class PolicyKeys {
 public:
  PolicyKeys() = default;
  explicit PolicyKeys(std::size_t block) : block_("target[" + std::to_string(block) + "]") {}

  std::string operator()(std::string_view section, std::string_view name) const {
    std::string path = block_.empty() ? std::string(section) : block_;
    return path.append(".").append(name);
  }

 private:
  std::string block_;
};

void check_batch(Checker& checker, const PolicyKeys& key, const BatchPolicy& batch) {
  checker.range(key("batch", "size"), batch.size, Limits::batch_size);
  checker.range(key("batch", "time"), batch.time, Limits::batch_time);
  checker.range(key("batch", "bytes"), batch.bytes, Limits::batch_bytes);
  if (batch.size == 0 && batch.time == Duration::zero()) {
    checker.fail(
        key("batch", "size"),
        "size and time are both off, a bag would wait for ever; one of them must be more than 0");
  }
}

void check_retry(Checker& checker, const PolicyKeys& key, const RetryPolicy& retry) {
  checker.range(key("retry", "retries"), retry.retries, Limits::retry_retries);
  checker.range(key("retry", "retry_interval"), retry.retry_interval, Limits::retry_retry_interval);
  checker.range(key("retry", "max_retrying"), retry.max_retrying, Limits::retry_max_retrying);
  checker.range(key("retry", "max_interval"), retry.max_interval, Limits::retry_max_interval);
  checker.range(key("retry", "jitter"), retry.jitter, Limits::retry_jitter);
  if (retry.backoff == Backoff::exponential && retry.max_interval < retry.retry_interval) {
    checker.fail(key("retry", "max_interval"), to_text(retry.max_interval) +
                                                   " is less than retry_interval (" +
                                                   to_text(retry.retry_interval) +
                                                   "); with backoff \"exponential\" it may not be");
  }
}

// A name that is not shown as it is could be anything, a secret in the wrong place too.
bool is_harmless(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != ':';
  });
}

void check_delivery(Checker& checker, const PolicyKeys& key, const DeliveryPolicy& delivery) {
  checker.range(key("delivery", "timeout"), delivery.timeout, Limits::delivery_timeout);
  checker.range(key("delivery", "connect_timeout"), delivery.connect_timeout,
                Limits::delivery_connect_timeout);
  checker.range(key("delivery", "in_flight"), delivery.in_flight, Limits::delivery_in_flight);
  const std::string headers_key = key("delivery", "headers");
  std::vector<HeaderView> views;
  for (const auto& [name, value] : delivery.headers) {
    if (const Problem problem = check_header(name, value))
      checker.fail(is_harmless(name) ? headers_key + "." + name : headers_key, *problem);
    views.push_back({name, value});
  }
  if (const Problem problem = check_headers(views)) checker.fail(headers_key, *problem);
}

void check_network(Checker& checker, const PolicyKeys& key, const NetworkPolicy& network) {
  const std::string allow_key = key("network", "allow");
  if (network.allow.size() > Limits::allow_entries_max) {
    checker.fail(allow_key, std::to_string(network.allow.size()) + " entries; allowed are " +
                                std::to_string(Limits::allow_entries_max));
    return;
  }
  for (std::size_t i = 0; i < network.allow.size(); ++i) {
    if (const Problem problem = NetworkRules::check_allow_entry(network.allow[i])) {
      checker.fail(allow_key + "[" + std::to_string(i) + "]", *problem);
      return;
    }
  }
  for (const bool v4 : {true, false}) {
    if (NetworkRules::opens_everything(network.allow, v4)) {
      checker.fail(allow_key, std::string("the networks cover every ") + (v4 ? "IPv4" : "IPv6") +
                                  " address; name only those that are needed");
    }
  }
}

void check_policy(Checker& checker, const PolicyKeys& key, const TargetPolicy& policy) {
  check_batch(checker, key, policy.batch);
  check_retry(checker, key, policy.retry);
  check_delivery(checker, key, policy.delivery);
  check_network(checker, key, policy.network);
}

// A block whose url its own policy forbids could never be used. For a prefix the part that is there
// decides: scheme, host and port are complete in it.
void check_target_url(Checker& checker, const std::string& key, const TargetBlock& block,
                      const std::vector<std::string>& own_addresses) {
  std::string error;
  const std::string written = block.url + (block.prefix ? "*" : "");
  const std::string canonical = canonical_target(written, error);
  if (canonical.empty()) {
    checker.fail(key, error);
    return;
  }
  if (canonical != written || block.url.ends_with('*')) {
    checker.fail(key, "is not canonical; use canonical_target(), and `prefix` for a closing *");
    return;
  }
  const auto url = parse_url(block.url, error);
  if (!url || checker.problem()) {  // the policy has to be a valid one
    return;
  }
  try {
    const auto verdict = NetworkRules(block.policy.network, own_addresses).judge_url(*url);
    if (!verdict.allowed) checker.fail(key, verdict.why);
  } catch (const std::exception& bad_entry) {
    checker.fail("own_addresses", bad_entry.what());
  }
}

void check_targets(Checker& checker, const Options& options) {
  if (options.targets.size() > Limits::target_blocks_max) {
    checker.fail("target", std::to_string(options.targets.size()) + " blocks; allowed are " +
                               std::to_string(Limits::target_blocks_max));
    return;
  }
  std::map<std::pair<std::string_view, bool>, std::size_t> seen;
  for (std::size_t i = 0; i < options.targets.size() && !checker.problem(); ++i) {
    const TargetBlock& block = options.targets[i];
    const PolicyKeys key(i);
    check_policy(checker, key, block.policy);
    check_target_url(checker, key("", "url"), block, options.own_addresses);
    const auto [first, is_new] =
        seen.emplace(std::pair(std::string_view(block.url), block.prefix), i);
    if (!is_new) {
      checker.fail(key("", "url"), "the same url as target[" + std::to_string(first->second) +
                                       "]; a url may have one block");
    }
  }
}

void check_process(Checker& checker, const Options& options) {
  const StoreOptions& store = options.store;
  checker.range("store.max_bytes", store.max_bytes, Limits::store_max_bytes);
  checker.range("store.failed_max_age", store.failed_max_age, Limits::store_failed_max_age);
  checker.range("store.failed_max_bytes", store.failed_max_bytes, Limits::store_failed_max_bytes);
  const IntakeOptions& intake = options.intake;
  if (!parse_address_port(intake.listen)) {
    checker.fail("intake.listen",
                 "is not an address with a port; allowed is as 127.0.0.1:8420 or [::1]:8420");
  }
  checker.range("intake.max_body", intake.max_body, Limits::intake_max_body);
  checker.range("intake.max_hook", intake.max_hook, Limits::intake_max_hook);
  checker.range("intake.id_window", intake.id_window, Limits::intake_id_window);
  const EngineOptions& engine = options.engine;
  checker.range("engine.threads", engine.threads, Limits::engine_threads);
  checker.range("engine.max_memory", engine.max_memory, Limits::engine_max_memory);
  checker.range("engine.max_connections", engine.max_connections, Limits::engine_max_connections);
  checker.range("engine.drain_timeout", engine.drain_timeout, Limits::engine_drain_timeout);
}

}  // namespace

std::string_view durability_name(Durability durability) {
  switch (durability) {
    case Durability::memory:
      return "memory";
    case Durability::os:
      return "os";
    case Durability::fsync:
      return "fsync";
  }
  return "?";
}

std::optional<std::string> validate_options(const Options& options) {
  Checker checker;
  check_process(checker, options);
  check_policy(checker, PolicyKeys(), options.defaults);
  check_targets(checker, options);
  return checker.problem();
}

std::string canonical_target(std::string_view url, std::string& error) {
  const bool prefix = url.ends_with('*');
  const std::string_view text = prefix ? url.substr(0, url.size() - 1) : url;
  if (text.find('*') != std::string_view::npos) {
    error = "a * stands only at the end of a url";
    return {};
  }
  if (prefix) {
    const std::size_t scheme = text.find("://");
    const std::size_t path =
        scheme == std::string_view::npos ? scheme : text.find_first_of("/?#", scheme + 3);
    if (path == std::string_view::npos || text[path] != '/') {
      error = "a * may only follow scheme, host and a '/', as in https://example.com/*";
      return {};
    }
  }
  const auto parsed = parse_url(text, error);
  if (!parsed) return {};
  return prefix ? parsed->canonical + "*" : parsed->canonical;
}

}  // namespace postbag
