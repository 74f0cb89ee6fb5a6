#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/pure/url.h"
#include "postbag/outcome.h"
#include "postbag/time.h"

namespace postbag {

struct ResolveResult {
  Reason reason = Reason::none;  // dns_not_found, dns_failed, local_resource
  std::string detail;
  std::vector<IpAddress> addresses;  // every one: the policy judges them all
};
using ResolveResultPtr = std::shared_ptr<const ResolveResult>;

struct ResolverOptions {
  std::size_t threads = 2;  // at least 2
  Duration positive_ttl = std::chrono::seconds(5);
  Duration negative_ttl = std::chrono::seconds(1);
  std::size_t names_max = 16'384;  // waiting, running and cached
};

// Host names to addresses on threads of its own, because getaddrinfo() blocks and cannot be
// stopped. Equal names share one lookup. Thread-safe. Destroying it waits for no lookup: a thread
// that hangs in one ends by itself later.
class Resolver {
 public:
  // Blocks; any resolver thread.
  using Lookup = std::function<ResolveResult(const std::string& host)>;
  // On a resolver thread; must not block. What it throws, for want of memory, goes no further.
  using Done = std::function<void(ResolveResultPtr)>;

  explicit Resolver(ResolverOptions options, Lookup lookup = system_lookup);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // The answer if it is cached or if there is no room to wait (then `done` is not kept); else
  // nothing, and `done` is called.
  ResolveResultPtr resolve(const std::string& host, Done done);

  // getaddrinfo() without search domains, so a name means the same on every machine; /etc/hosts
  // counts.
  static ResolveResult system_lookup(const std::string& host);

 private:
  struct Core;
  void start_threads();

  std::shared_ptr<Core> core_;
};

}  // namespace postbag
