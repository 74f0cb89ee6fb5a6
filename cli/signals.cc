#include "cli/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

namespace postbag {

namespace {

int checked(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

void raise_event(int fd) {
  const std::uint64_t one = 1;
  // Fails only where the counter is full, which is an event too.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

}  // namespace

SignalWatch::SignalWatch(std::initializer_list<int> signals) {
  signal(SIGPIPE, SIG_IGN);
  sigemptyset(&watched_);
  for (const int number : signals) sigaddset(&watched_, number);
  stop_fd_ = checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  quit_fd_ = checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  signal_fd_ = checked(signalfd(-1, &watched_, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
  pthread_sigmask(SIG_BLOCK, &watched_, &previous_);
}

SignalWatch::~SignalWatch() {
  if (thread_.joinable()) {
    raise_event(quit_fd_);
    thread_.join();
  }
  // What came too late must not kill a process that is about to end well.
  signalfd_siginfo info{};
  while (read(signal_fd_, &info, sizeof info) == sizeof info) {
  }
  close(signal_fd_);
  close(quit_fd_);
  close(stop_fd_);
  pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

void SignalWatch::start(std::function<void(int)> on_signal) {
  on_signal_ = std::move(on_signal);
  thread_ = std::thread([this] { run(); });
}

bool SignalWatch::stopped() const {
  pollfd fd{stop_fd_, POLLIN, 0};
  return poll(&fd, 1, 0) > 0;
}

void SignalWatch::run() {
  for (;;) {
    pollfd fds[2] = {{signal_fd_, POLLIN, 0}, {quit_fd_, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info{};
    while (read(signal_fd_, &info, sizeof info) == sizeof info) {
      const int number = static_cast<int>(info.ssi_signo);
      if (number == SIGINT || number == SIGTERM) raise_event(stop_fd_);
      if (on_signal_) on_signal_(number);
    }
  }
}

}  // namespace postbag
