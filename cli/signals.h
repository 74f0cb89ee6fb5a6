#pragma once

#include <functional>
#include <initializer_list>
#include <thread>

#include <signal.h>

namespace postbag {

// Hears signals on a thread of its own. Construct it before any other thread is made: it blocks the
// signals in the calling thread, and threads made later inherit that. SIGPIPE is ignored for the
// whole process.
class SignalWatch {
 public:
  // Throws std::system_error.
  explicit SignalWatch(std::initializer_list<int> signals);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  // `on_signal` is called on the watch's thread, once per signal heard. Call once.
  void start(std::function<void(int signal)> on_signal = {});
  // Readable from the first SIGINT or SIGTERM on, for poll().
  int stop_fd() const { return stop_fd_; }
  bool stopped() const;

 private:
  void run();

  sigset_t watched_{};
  sigset_t previous_{};
  int signal_fd_ = -1, stop_fd_ = -1, quit_fd_ = -1;
  std::function<void(int)> on_signal_;
  std::thread thread_;
};

}  // namespace postbag
