#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "bench/request_scanner.h"

namespace postbag {

class TlsIdentity;

// Written by the receiver's thread alone, read by anyone; may lie in memory that processes share.
struct ReceiverCounters {
  std::atomic<std::uint64_t> requests{0};    // answered with a 2xx
  std::atomic<std::uint64_t> hooks{0};       // in those, by Postbag-Batch-Size
  std::atomic<std::uint64_t> body_bytes{0};  // in those
  std::atomic<std::uint64_t> refused{0};     // answered with anything else
  std::atomic<std::uint64_t> malformed{0};   // connections closed because of what came
  std::atomic<std::uint64_t> wrong{0};  // for the handler: hooks that are not what was expected
  std::atomic<std::uint64_t> connections{0};  // accepted so far
  // May be set by anyone at any time: this share of the requests is answered with 503.
  std::atomic<std::uint32_t> fail_per_mille{0};
};

struct CountingReceiverOptions {
  std::uint16_t port = 0;                // on 127.0.0.1; 0 = any free one
  const TlsIdentity* tls = nullptr;      // not owned; null = plain HTTP
  ReceiverCounters* counters = nullptr;  // not owned; null = its own
  // Sees every request with its body and gives the status to answer; on the receiver's thread.
  // Without one bodies are skipped unseen and the status is 200.
  std::function<int(const CountedRequest&)> handler;
  // For a thread that does more than receive: called before every wait and between events, on the
  // receiver's thread. Gives how long the wait may last, in nanoseconds (-1: until something
  // comes).
  std::function<std::int64_t()> between;
};

// The far end of a benchmark: an HTTP/1.1 server in one thread on bare epoll, so that it costs
// little more than the kernel's share. Counts and answers with an empty body. `GET /stats` gives
// the counters as JSON.
class CountingReceiver {
 public:
  explicit CountingReceiver(
      CountingReceiverOptions options);  // binds and listens; throws std::system_error
  ~CountingReceiver();                   // stops
  CountingReceiver(const CountingReceiver&) = delete;
  CountingReceiver& operator=(const CountingReceiver&) = delete;

  std::uint16_t port() const;
  void start();  // serves on a thread of its own
  void run();    // serves on the caller's thread until stop()
  void stop();   // any thread, and signal handlers
  const ReceiverCounters& counters() const;
  std::string stats_json() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
  std::thread thread_;
};

}  // namespace postbag
