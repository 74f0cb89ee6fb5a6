#pragma once

#include <cstdint>
#include <memory>

#include "bench/open_loop.h"

namespace postbag {

// The raw client as a sender of an open loop: a thread of its own that is handed hooks as a shard
// is, by an inbox with one lock and one wake that sends constant requests, one at a time on each
// connection, in the order in which they were handed over.
class RawOpenLoopClient {
 public:
  // Connects, and starts its thread on the cores that the caller may use. Throws std::system_error.
  RawOpenLoopClient(std::uint16_t port, std::uint32_t connections);
  ~RawOpenLoopClient();  // ends the thread
  RawOpenLoopClient(const RawOpenLoopClient&) = delete;
  RawOpenLoopClient& operator=(const RawOpenLoopClient&) = delete;

  void offer(const OpenLoop& loop, std::uint64_t first, std::uint64_t end);  // any thread

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postbag
