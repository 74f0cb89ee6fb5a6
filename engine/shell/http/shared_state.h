#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/pure/network_policy.h"
#include "engine/shell/http/http_transport.h"
#include "engine/shell/http/resolver.h"
#include "engine/shell/http/tls_session.h"

namespace postbag {

// Behind HttpShared: the resolver, and what is costly to compile from a policy, once for all
// shards. Thread-safe.
struct HttpShared::State {
  State(std::size_t resolver_threads, std::vector<std::string> addresses, Logger log);

  // The compiled policy. An unusable one (configuration refuses those) gives nothing and `error`.
  std::shared_ptr<const NetworkRules> rules(const NetworkPolicy& policy, std::string& error);
  std::shared_ptr<TlsContext> tls(const TlsPolicy& policy, std::string& error);
  // After a reload: certificates and policies are read again by whoever connects next.
  void forget();

  const std::vector<std::string> own_addresses;
  const Logger logger;
  std::shared_ptr<Resolver> resolver;  // tests put another in its place before the first transport

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const NetworkRules>> rules_;
  std::unordered_map<std::string, std::shared_ptr<TlsContext>> contexts_;
};

}  // namespace postbag
