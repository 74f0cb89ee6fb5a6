#include "bench/open_loop.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "bench/raw_client.h"

namespace postbag {
namespace {

constexpr std::string_view stamp_prefix = R"({"at":")";
constexpr std::size_t stamp_digits = 18;
constexpr std::size_t payload_bytes = 300;
constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t patience_ns = 10 * second_ns;

class OpenLoopClient {
 public:
  OpenLoopClient(std::uint16_t port, std::uint32_t connections)
      : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    StampedPayload payload;
    request_ = prepared_request(port, "[" + std::string(payload.make(0)) + "]", 1);
    stamp_at_ = request_.size() - 1 - payload_bytes;
    for (std::uint32_t i = 0; i < connections; ++i) {
      fds_.push_back(connect_local(port));
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = fds_.back();
      epoll_ctl(epoll_, EPOLL_CTL_ADD, fds_.back(), &event);
    }
    idle_ = fds_;
  }
  ~OpenLoopClient() {
    for (const int fd : fds_) close(fd);
    close(epoll_);
  }
  OpenLoopClient(const OpenLoopClient&) = delete;
  OpenLoopClient& operator=(const OpenLoopClient&) = delete;

  void run(const OpenLoop& loop) {
    std::uint64_t sent = 0;
    std::int64_t last_answer = now_ns();
    while (answered_ < loop.hooks) {
      std::int64_t now = now_ns();
      while (sent < loop.hooks && !idle_.empty() && loop.due_ns(sent) <= now) {
        send_one(loop.stamp_ns(sent++));
        now = now_ns();
      }
      const bool can_send = sent < loop.hooks && !idle_.empty();
      const std::int64_t wait =
          can_send ? std::max<std::int64_t>(0, loop.due_ns(sent) - now) : patience_ns;
      if (take_answers(wait)) last_answer = now_ns();
      if (now_ns() - last_answer > patience_ns && idle_.size() < fds_.size()) {
        throw std::runtime_error("no answer for 10 s");
      }
    }
  }

 private:
  void send_one(std::int64_t stamp_ns) {
    StampedPayload::stamp(request_, stamp_at_, stamp_ns);
    const int fd = idle_.back();
    idle_.pop_back();
    // A request of 600 bytes on an idle connection goes out whole.
    if (send(fd, request_.data(), request_.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request_.size())) {
      throw std::system_error(errno, std::system_category(), "send");
    }
  }

  bool take_answers(std::int64_t wait_ns) {
    const timespec wait{wait_ns / second_ns, wait_ns % second_ns};
    std::array<epoll_event, 256> events;
    const int n =
        epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &wait, nullptr);
    for (int i = 0; i < n; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      char answer[256];
      const ssize_t bytes = recv(fd, answer, sizeof answer, 0);
      if (bytes <= 0) throw std::runtime_error("connection closed by the receiver");
      // The receiver writes its short answer in one piece.
      if (!std::string_view(answer, static_cast<std::size_t>(bytes)).ends_with("\r\n\r\n"))
        continue;
      ++answered_;
      idle_.push_back(fd);
    }
    return n > 0;
  }

  int epoll_;
  std::string request_;
  std::size_t stamp_at_ = 0;
  std::vector<int> fds_, idle_;
  std::uint64_t answered_ = 0;
};

}  // namespace

OpenLoop OpenLoop::make(double per_second, double warm_up_s, double seconds) {
  OpenLoop loop;
  loop.interval_ns = 1e9 / per_second;
  loop.warm_up = static_cast<std::uint64_t>(per_second * warm_up_s);
  loop.hooks = loop.warm_up + static_cast<std::uint64_t>(per_second * seconds);
  loop.start_ns = now_ns();
  return loop;
}

std::int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * second_ns + time.tv_nsec;
}

void sleep_until_ns(std::int64_t instant) {
  const timespec until{instant / second_ns, instant % second_ns};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

StampedPayload::StampedPayload() {
  text_ = std::string(stamp_prefix) + std::string(stamp_digits, '0') + R"(","data":")";
  text_.append(payload_bytes - text_.size() - 2, 'x');
  text_ += "\"}";
}

std::string_view StampedPayload::make(std::int64_t stamp_ns) {
  stamp(text_, 0, stamp_ns);
  return text_;
}

void StampedPayload::stamp(std::string& text, std::size_t at, std::int64_t stamp_ns) {
  char* const first = text.data() + at + stamp_prefix.size();
  for (std::size_t i = stamp_digits; i-- > 0; stamp_ns /= 10) {
    first[i] = static_cast<char>('0' + stamp_ns % 10);
  }
}

std::int64_t StampedPayload::read(std::string_view body) {
  const std::size_t at = 1 + stamp_prefix.size();
  std::int64_t stamp_ns = 0;
  if (body.size() < at + stamp_digits || !body.substr(1).starts_with(stamp_prefix)) return 0;
  std::from_chars(body.data() + at, body.data() + at + stamp_digits, stamp_ns);
  return stamp_ns;
}

void run_raw_open_loop(std::uint16_t port, std::uint32_t connections, double per_second,
                       double warm_up_s, double seconds) {
  OpenLoopClient client(port, connections);
  client.run(OpenLoop::make(per_second, warm_up_s, seconds));
}

}  // namespace postbag
