#include "engine/shell/http/resolver.h"
#include "engine/shell/clock.h"

#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

namespace postbag {
namespace {

ResolveResultPtr local_failure(const char* detail) {
  auto result = std::make_shared<ResolveResult>();
  result->reason = Reason::local_resource;
  result->detail = detail;
  return result;
}

// If telling finds no memory nobody is told, and the attempt runs into its timeout.
void tell(const Resolver::Done& done, const ResolveResultPtr& result) noexcept {
  try {
    done(result);
  } catch (const std::exception&) {
    return;
  }
}

}  // namespace

struct Resolver::Core {
  struct Name {
    std::vector<Done> waiting;  // not empty while the lookup is queued or running
    ResolveResultPtr result;
    TimePoint expires{};
  };
  struct Worker {
    std::thread thread;
    bool in_lookup = false;
  };

  Core(ResolverOptions resolver_options, Lookup lookup_function)
      : options(resolver_options), lookup(std::move(lookup_function)) {}

  void work(Worker& worker);
  ResolveResultPtr look_up(const std::string& host) const noexcept;
  bool make_room();

  const ResolverOptions options;
  const Lookup lookup;
  const ResolveResultPtr no_memory = local_failure("out of memory while resolving");
  std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
  std::unordered_map<std::string, Name> names;
  std::deque<std::string> queue;
  std::deque<Worker> workers;
};

namespace {

Reason reason_of(int error, int system_error) {
  switch (error) {
    case EAI_NONAME:
    case EAI_NODATA:
      return Reason::dns_not_found;
    case EAI_MEMORY:
      return Reason::local_resource;
    case EAI_SYSTEM:
      return system_error == EMFILE || system_error == ENFILE ? Reason::local_resource
                                                              : Reason::dns_failed;
    default:
      return Reason::dns_failed;
  }
}

void collect(const addrinfo* list, std::vector<IpAddress>& addresses) {
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    IpAddress address;
    if (entry->ai_family == AF_INET) {
      sockaddr_in from{};
      std::memcpy(&from, entry->ai_addr, sizeof from);
      address.is_v4 = true;
      std::memcpy(address.bytes.data(), &from.sin_addr, 4);
    } else if (entry->ai_family == AF_INET6) {
      sockaddr_in6 from{};
      std::memcpy(&from, entry->ai_addr, sizeof from);
      std::memcpy(address.bytes.data(), &from.sin6_addr, 16);
    } else {
      continue;
    }
    if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
      addresses.push_back(address);
    }
  }
}

}  // namespace

ResolveResult Resolver::system_lookup(const std::string& host) {
  // Per thread and per lookup, so that a changed resolv.conf is seen. A trailing dot would switch
  // the search domains off too, but /etc/hosts does not match it.
  res_init();
  _res.options &= ~static_cast<unsigned long>(RES_DNSRCH | RES_DEFNAMES);

  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  errno = 0;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  const int system_error = errno;
  ResolveResult result;
  if (error != 0) {
    result.reason = reason_of(error, system_error);
    result.detail = gai_strerror(error);
    return result;
  }
  collect(list, result.addresses);
  freeaddrinfo(list);
  if (result.addresses.empty()) {
    result.reason = Reason::dns_not_found;
    result.detail = "no address";
  }
  return result;
}

Resolver::Resolver(ResolverOptions options, Lookup lookup)
    : core_(std::make_shared<Core>(options, std::move(lookup))) {}

Resolver::~Resolver() {
  std::vector<std::thread> idle;
  // Their handlers are destroyed outside the lock.
  std::unordered_map<std::string, Core::Name> names;
  {
    const std::lock_guard lock(core_->mutex);
    core_->stopping = true;
    core_->queue.clear();
    names.swap(core_->names);
    for (Core::Worker& worker : core_->workers) {
      if (worker.in_lookup) {
        worker.thread
            .detach();  // may hang in getaddrinfo() for half a minute; it holds the core itself
      } else {
        idle.push_back(std::move(worker.thread));
      }
    }
  }
  core_->changed.notify_all();
  for (std::thread& thread : idle) thread.join();
}

ResolveResultPtr Resolver::resolve(const std::string& host, Done done) {
  const std::lock_guard lock(core_->mutex);
  auto entry = core_->names.find(host);
  if (entry != core_->names.end() && entry->second.waiting.empty()) {
    if (entry->second.expires > steady_now()) return entry->second.result;
  } else if (entry != core_->names.end()) {
    entry->second.waiting.push_back(std::move(done));
    return nullptr;
  }
  if (entry == core_->names.end() && !core_->make_room()) {
    return local_failure("too many names wait to be resolved");
  }
  try {
    start_threads();
  } catch (const std::system_error&) {
    return local_failure("no thread to resolve names");
  }
  core_->names[host].waiting.push_back(std::move(done));
  core_->queue.push_back(host);
  core_->changed.notify_one();
  return nullptr;
}

// Under the lock. Lazily, so that a process that dials addresses alone has no idle threads.
void Resolver::start_threads() {
  const std::size_t wanted = std::max<std::size_t>(2, core_->options.threads);
  while (core_->workers.size() < wanted) {
    Core::Worker& worker = core_->workers.emplace_back();
    try {
      worker.thread = std::thread([core = core_, &worker] { core->work(worker); });
    } catch (const std::system_error&) {
      core_->workers.pop_back();
      if (core_->workers.empty()) throw;
      return;
    }
  }
}

// Under the lock. True if another name can be kept.
bool Resolver::Core::make_room() {
  if (names.size() < options.names_max) return true;
  std::erase_if(names, [](const auto& entry) { return entry.second.waiting.empty(); });
  return names.size() < options.names_max;
}

ResolveResultPtr Resolver::Core::look_up(const std::string& host) const noexcept {
  try {
    return std::make_shared<ResolveResult>(lookup(host));
  } catch (const std::exception&) {
    return no_memory;
  }
}

void Resolver::Core::work(Worker& worker) {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [this] { return stopping || !queue.empty(); });
    if (stopping) return;
    const std::string host = std::move(queue.front());
    queue.pop_front();
    worker.in_lookup = true;
    lock.unlock();
    const ResolveResultPtr result = look_up(host);
    lock.lock();
    worker.in_lookup = false;
    const auto entry = names.find(host);
    if (stopping || entry == names.end()) continue;
    std::vector<Done> waiting;
    waiting.swap(entry->second.waiting);
    entry->second.result = result;
    entry->second.expires = steady_now() + (result->reason == Reason::none ? options.positive_ttl
                                                                           : options.negative_ttl);
    lock.unlock();
    for (const Done& done : waiting) tell(done, result);
    waiting.clear();
    lock.lock();
  }
}

}  // namespace postbag
