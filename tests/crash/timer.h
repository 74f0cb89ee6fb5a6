#pragma once

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cstdint>

namespace postbag::test {

// Waits for a time that is part of a crash run's plan (when to kill, how fast to produce), never as
// a means to have something else done by then.
class Timer {
 public:
  Timer() : fd_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)) {}
  ~Timer() { close(fd_); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void wait_us(std::uint64_t microseconds) {
    itimerspec spec{};
    spec.it_value.tv_sec = static_cast<time_t>(microseconds / 1'000'000);
    spec.it_value.tv_nsec = static_cast<long>(microseconds % 1'000'000 * 1'000);
    if (microseconds == 0 || timerfd_settime(fd_, 0, &spec, nullptr) != 0) return;
    std::uint64_t expirations = 0;
    while (read(fd_, &expirations, sizeof expirations) < 0) {
    }
  }

 private:
  int fd_;
};

}  // namespace postbag::test
