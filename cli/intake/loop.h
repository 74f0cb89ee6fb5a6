#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/shell/handler_memory.h"
#include "engine/shell/held_wakes.h"
#include "postbag/time.h"

namespace boost::asio {
class io_context;
}

namespace postbag {

class LoopWaker;

// Work for intake's thread. It is allocated before it is needed, so that posting it takes no
// memory.
class LoopWork {
 public:
  virtual ~LoopWork() = default;
  virtual void run() = 0;

 private:
  friend class IntakeLoop;
  std::shared_ptr<LoopWork> keep_;  // itself, while it waits
  LoopWork* next_ = nullptr;
};

// The thread of intake as others see it: a place to post work to, and timers. Shared by whatever
// may still hold on to it when the server is gone (an engine callback); after close() what is
// posted is dropped.
class IntakeLoop : public Wakeable, public std::enable_shared_from_this<IntakeLoop> {
 public:
  using TimerId = std::uint64_t;

  IntakeLoop();
  ~IntakeLoop() override;
  IntakeLoop(const IntakeLoop&) = delete;
  IntakeLoop& operator=(const IntakeLoop&) = delete;

  // Any thread. Runs on intake's thread, in the order of posting; many posts cost one wake. Never
  // runs inside post(). The same work must not be posted again before it ran.
  void post(std::shared_ptr<LoopWork> work) noexcept;
  // The same, but needs memory; throws std::bad_alloc and has posted nothing then.
  void post(std::function<void()> work);
  // Any thread: from now on post() drops.
  void close();

  // Intake's thread only: holds back the wakes that it sends until the handlers that are ready now
  // have run, or until this has been called so often that waiting longer would gain little.
  // end_burst() sends them at once.
  void begin_burst();
  void end_burst();

  // Intake's thread only. A timer that was cancelled does not fire. Throws std::bad_alloc.
  TimerId after(Duration delay, std::function<void()> work);
  void cancel(TimerId timer);
  // Every timer fires now: at the end of the server nothing may wait any longer.
  void fire_all();

  boost::asio::io_context& context() { return *context_; }
  // Runs until close() was called and nothing is left to do.
  void run();
  // For tests: what is ready now and what comes of it, without waiting. Returns how many handlers
  // ran.
  std::size_t run_ready();
  void wake_now() override;

 private:
  struct Timer;
  void drain_inbox();
  void put_back(LoopWork* first) noexcept;

  HandlerMemory wake_memory_, burst_memory_;  // before the context, which lets go of them
  std::unique_ptr<boost::asio::io_context> context_;
  std::unique_ptr<LoopWaker> waker_;  // keeps the context's run() going until close()
  std::map<TimerId, std::unique_ptr<Timer>> timers_;
  TimerId next_timer_ = 1;
  std::optional<HeldWakes> burst_;
  int burst_calls_ = 0;
  bool burst_end_posted_ = false;

  std::mutex mutex_;
  LoopWork* inbox_head_ = nullptr;  // each keeps itself
  LoopWork* inbox_tail_ = nullptr;
  bool closed_ = false;
  CoalescedWake wake_;
};

}  // namespace postbag
