#include "engine/shell/http/shared_state.h"

#include <stdexcept>
#include <utility>

namespace postbag {
namespace {

constexpr std::size_t cached_policies_max = 1024;

std::string policy_key(const NetworkPolicy& policy) {
  std::string key = policy.allow_http ? "http" : "https";
  for (const std::string& entry : policy.allow) {
    key += '\n';
    key += entry;
  }
  return key;
}

}  // namespace

HttpShared::State::State(std::size_t resolver_threads, std::vector<std::string> addresses,
                         Logger log)
    : own_addresses(std::move(addresses)),
      logger(std::move(log)),
      resolver(std::make_shared<Resolver>(ResolverOptions{.threads = resolver_threads})) {}

std::shared_ptr<const NetworkRules> HttpShared::State::rules(const NetworkPolicy& policy,
                                                             std::string& error) {
  const std::string key = policy_key(policy);
  const std::lock_guard lock(mutex_);
  if (const auto known = rules_.find(key); known != rules_.end()) return known->second;
  try {
    auto compiled = std::make_shared<const NetworkRules>(policy, own_addresses);
    if (rules_.size() >= cached_policies_max) rules_.clear();
    rules_.emplace(key, compiled);
    return compiled;
  } catch (const std::invalid_argument& invalid) {
    error = invalid.what();
    return nullptr;
  }
}

std::shared_ptr<TlsContext> HttpShared::State::tls(const TlsPolicy& policy, std::string& error) {
  const std::lock_guard lock(mutex_);
  if (const auto known = contexts_.find(policy.ca_file); known != contexts_.end())
    return known->second;
  std::shared_ptr<TlsContext> context = TlsContext::make(policy.ca_file, error);
  if (!context) return nullptr;  // not remembered: the file may come back
  if (contexts_.size() >= cached_policies_max) contexts_.clear();
  contexts_.emplace(policy.ca_file, context);
  return context;
}

void HttpShared::State::forget() {
  const std::lock_guard lock(mutex_);
  rules_.clear();
  contexts_.clear();
}

HttpShared::HttpShared(std::size_t resolver_threads, std::vector<std::string> own_addresses,
                       Logger logger)
    : state_(
          std::make_unique<State>(resolver_threads, std::move(own_addresses), std::move(logger))) {}

HttpShared::~HttpShared() = default;

}  // namespace postbag
