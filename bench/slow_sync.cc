// A disk that is slow to sync: a shared object whose fsync() and fdatasync() stand before the C
// library's, for a program that is linked to it or has it in LD_PRELOAD. Each waits
// POSTBAG_SYNC_DELAY_MS and is counted.

#include "bench/slow_sync.h"

#include <dlfcn.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

namespace postbag {
namespace {

std::atomic<std::uint64_t> syncs{0}, sync_ns{0}, longest_ns{0};

using SyncFunction = int (*)(int);

std::atomic<long>& delay() {
  static std::atomic<long> delay_ms = [] {
    const char* text = std::getenv("POSTBAG_SYNC_DELAY_MS");
    return text == nullptr ? 0 : std::strtol(text, nullptr, 10);
  }();
  return delay_ms;
}

std::uint64_t steady_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

int delayed_sync(SyncFunction real, int fd) {
  const std::uint64_t start = steady_ns();
  syncs.fetch_add(1, std::memory_order_relaxed);
  const long delay_ms = delay().load(std::memory_order_relaxed);
  if (delay_ms > 0) {
    timespec left{delay_ms / 1000, (delay_ms % 1000) * 1'000'000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
  }
  const int result = real(fd);
  const int error = errno;
  const std::uint64_t took_ns = steady_ns() - start;
  sync_ns.fetch_add(took_ns, std::memory_order_relaxed);
  std::uint64_t longest = longest_ns.load(std::memory_order_relaxed);
  while (took_ns > longest && !longest_ns.compare_exchange_weak(longest, took_ns)) {
  }
  errno = error;
  return result;
}

SyncFunction next(const char* name) {
  return reinterpret_cast<SyncFunction>(dlsym(RTLD_NEXT, name));
}

}  // namespace

std::uint64_t slow_sync_count() {
  return syncs.load(std::memory_order_relaxed);
}

double slow_sync_seconds() {
  return static_cast<double>(sync_ns.load(std::memory_order_relaxed)) * 1e-9;
}

double slow_sync_longest_s() {
  return static_cast<double>(longest_ns.exchange(0)) * 1e-9;
}

void set_sync_delay_ms(std::uint64_t delay_ms) {
  delay() = static_cast<long>(delay_ms);
}

}  // namespace postbag

extern "C" int fsync(int fd) {
  static const postbag::SyncFunction real = postbag::next("fsync");
  return postbag::delayed_sync(real, fd);
}

extern "C" int fdatasync(int fd) {
  static const postbag::SyncFunction real = postbag::next("fdatasync");
  return postbag::delayed_sync(real, fd);
}
