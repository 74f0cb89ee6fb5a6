#include "bench/raw_open_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "bench/raw_client.h"

namespace postbag {

class RawOpenLoopClient::Impl {
 public:
  Impl(std::uint16_t port, std::uint32_t connections)
      : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    StampedPayload payload;
    const std::string_view text = payload.make(0);
    request_ = prepared_request(port, "[" + std::string(text) + "]", 1);
    stamp_at_ = request_.size() - 1 - text.size();
    watch(wake_);
    for (std::uint32_t i = 0; i < connections; ++i) {
      fds_.push_back(connect_local(port));
      watch(fds_.back());
    }
    idle_ = fds_;
    thread_ = std::thread([this] { run(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake();
    thread_.join();
    for (const int fd : fds_) close(fd);
    close(wake_);
    close(epoll_);
  }

  void offer(const OpenLoop& loop, std::uint64_t first, std::uint64_t end) {
    bool was_empty = false;
    {
      const std::lock_guard lock(mutex_);
      was_empty = inbox_.empty();
      for (; first < end; ++first) inbox_.push_back(loop.stamp_ns(first));
    }
    if (was_empty) wake();
  }

 private:
  void watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0)
      throw std::system_error(errno, std::system_category(), "epoll_ctl");
  }

  void wake() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = write(wake_, &one, sizeof one);
  }

  void run() {
    std::array<epoll_event, 256> events;
    while (true) {
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < n; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd != wake_) {
          take_answer(fd);
        } else if (!take_inbox()) {
          return;
        }
      }
      while (!due_.empty() && !idle_.empty()) send_next();
    }
  }

  bool take_inbox() {
    std::uint64_t wakes = 0;
    [[maybe_unused]] const auto n = read(wake_, &wakes, sizeof wakes);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return false;
      taken_.swap(inbox_);
    }
    due_.insert(due_.end(), taken_.begin(), taken_.end());
    taken_.clear();
    return true;
  }

  void take_answer(int fd) {
    char answer[256];
    const ssize_t bytes = recv(fd, answer, sizeof answer, 0);
    if (bytes <= 0) fail("connection closed by the receiver");
    // The receiver writes its short answer in one piece.
    if (!std::string_view(answer, static_cast<std::size_t>(bytes)).ends_with("\r\n\r\n")) return;
    idle_.push_back(fd);
  }

  void send_next() {
    StampedPayload::stamp(request_, stamp_at_, due_.front());
    due_.pop_front();
    const int fd = idle_.back();
    idle_.pop_back();
    // A request of 600 bytes on an idle connection goes out whole.
    if (send(fd, request_.data(), request_.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request_.size())) {
      fail("cannot send");
    }
  }

  // The process is the case's own: it ends as a failed one.
  [[noreturn]] static void fail(const char* what) {
    std::fprintf(stderr, "raw client: %s\n", what);
    std::_Exit(71);
  }

  int epoll_, wake_;
  std::string request_;
  std::size_t stamp_at_ = 0;
  std::vector<int> fds_, idle_;
  std::deque<std::int64_t> due_;  // the client's thread alone, as all above
  std::vector<std::int64_t> taken_;
  std::mutex mutex_;
  std::vector<std::int64_t> inbox_;
  bool stopping_ = false;
  std::thread thread_;
};

RawOpenLoopClient::RawOpenLoopClient(std::uint16_t port, std::uint32_t connections)
    : impl_(std::make_unique<Impl>(port, connections)) {}

RawOpenLoopClient::~RawOpenLoopClient() = default;

void RawOpenLoopClient::offer(const OpenLoop& loop, std::uint64_t first, std::uint64_t end) {
  impl_->offer(loop, first, end);
}

}  // namespace postbag
