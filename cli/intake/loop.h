#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "postbag/time.h"

namespace boost::asio {
class io_context;
}

namespace postbag {

// The thread of intake as others see it: a place to post work to, and timers. Shared by whatever
// may still hold on to it when the server is gone (an engine callback); after close() what is
// posted is dropped.
class IntakeLoop : public std::enable_shared_from_this<IntakeLoop> {
 public:
  using TimerId = std::uint64_t;

  IntakeLoop();
  ~IntakeLoop();
  IntakeLoop(const IntakeLoop&) = delete;
  IntakeLoop& operator=(const IntakeLoop&) = delete;

  // Any thread. Runs on intake's thread, in the order of posting; many posts cost one wake. Never
  // runs inside post().
  void post(std::function<void()> work);
  // Any thread: from now on post() drops.
  void close();

  // Intake's thread only. A timer that was cancelled does not fire.
  TimerId after(Duration delay, std::function<void()> work);
  void cancel(TimerId timer);
  // Every timer fires now: at the end of the server nothing may wait any longer.
  void fire_all();

  boost::asio::io_context& context() { return *context_; }
  // Runs until close() was called and nothing is left to do.
  void run();

 private:
  struct Timer;
  struct Guard;
  void drain_inbox();

  std::unique_ptr<boost::asio::io_context> context_;
  std::unique_ptr<Guard> guard_;
  std::map<TimerId, std::unique_ptr<Timer>> timers_;
  TimerId next_timer_ = 1;

  std::mutex mutex_;
  std::vector<std::function<void()>> inbox_;
  bool closed_ = false;
};

}  // namespace postbag
