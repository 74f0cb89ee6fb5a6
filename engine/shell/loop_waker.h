#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <cstdint>
#include <functional>

#include "engine/shell/handler_memory.h"

namespace postbag {

// Wakes the thread of an io_context that may be asleep. asio::post() does so under a lock: where
// both threads share a core, whoever is woken runs at once, finds the lock taken and sleeps again.
// Here no lock is held while a thread is woken, and nothing takes memory.
class LoopWaker {
 public:
  // `on_wake` runs on the thread of `io`. `memory` outlives `io`, and `io` outlives this. Throws
  // std::system_error, std::bad_alloc.
  LoopWaker(boost::asio::io_context& io, HandlerMemory& memory, std::function<void()> on_wake);
  LoopWaker(const LoopWaker&) = delete;
  LoopWaker& operator=(const LoopWaker&) = delete;

  // Any thread. on_wake runs afterwards, once for all wakes until it begins.
  void wake() noexcept;
  // Any thread: wakes once more, and then waits for no other. Until that the io_context has work.
  void stop() noexcept;

 private:
  void wait();

  HandlerMemory& memory_;
  const std::function<void()> on_wake_;
  std::atomic<bool> stopped_{false};
  std::uint64_t count_ = 0;  // read and of no meaning
  boost::asio::posix::basic_stream_descriptor<boost::asio::io_context::executor_type> event_;
};

}  // namespace postbag
