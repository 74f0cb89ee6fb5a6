#include "bench/raw_client.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "bench/bench_support.h"

namespace postbag {
namespace {

[[noreturn]] void throw_errno(const char* what) {
  throw std::system_error(errno, std::system_category(), what);
}

class RawClient {
 public:
  explicit RawClient(const RawClientOptions& options) : options_(options) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    for (std::uint32_t i = 0; i < options_.connections; ++i) {
      connections_.emplace_back().fd = connect_local(options_.port);
      watch(i, EPOLL_CTL_ADD, EPOLLIN);
    }
  }
  ~RawClient() {
    for (const Connection& connection : connections_) close(connection.fd);
    close(epoll_);
  }

  RawClientResult run() {
    for (std::uint32_t i = 0; i < options_.connections; ++i) next_request(i);
    std::array<epoll_event, 256> events;
    while (result_.answered < options_.requests) {
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 30'000);
      if (n == 0) throw std::runtime_error("no answer for 30 s");
      if (n < 0 && errno != EINTR) throw_errno("epoll_wait");
      for (int i = 0; i < n; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        if (event.events & EPOLLOUT) send_rest(event.data.u32);
        if (event.events & EPOLLIN) read_answer(event.data.u32);
      }
    }
    return result_;
  }

 private:
  struct Connection {
    int fd = -1;
    std::size_t sent = 0;
    bool wants_write = false;
    bool accepted = false;
    std::string head;  // the part that came so far
    std::uint64_t body_left = 0;
  };

  void watch(std::uint32_t index, int operation, std::uint32_t what) {
    epoll_event event{};
    event.events = what;
    event.data.u32 = index;
    epoll_ctl(epoll_, operation, connections_[index].fd, &event);
  }

  void next_request(std::uint32_t index) {
    if (started_ == options_.requests) return;
    ++started_;
    connections_[index].sent = 0;
    send_rest(index);
  }

  void send_rest(std::uint32_t index) {
    Connection& connection = connections_[index];
    while (connection.sent < options_.request.size()) {
      const ssize_t n = send(connection.fd, options_.request.data() + connection.sent,
                             options_.request.size() - connection.sent, MSG_NOSIGNAL);
      if (n < 0 && errno == EAGAIN) break;
      if (n < 0) throw_errno("send");
      connection.sent += static_cast<std::size_t>(n);
    }
    const bool again = connection.sent < options_.request.size();
    if (again != connection.wants_write) {
      connection.wants_write = again;
      watch(index, EPOLL_CTL_MOD, again ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
  }

  void read_answer(std::uint32_t index) {
    Connection& connection = connections_[index];
    const ssize_t n = recv(connection.fd, buffer_.data(), buffer_.size(), 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) throw_errno("recv");
    if (n == 0) throw std::runtime_error("connection closed by the server");
    std::string_view data(buffer_.data(), static_cast<std::size_t>(n));
    if (connection.body_left == 0) {
      // Only a head that came in pieces has to be put together.
      if (!connection.head.empty()) {
        connection.head += data;
        data = connection.head;
      }
      const std::size_t end = data.find("\r\n\r\n");
      if (end == data.npos) {
        if (connection.head.empty()) connection.head = data;
        return;
      }
      connection.accepted = check_status(data);
      connection.body_left = content_length(data.substr(0, end + 2));
      data.remove_prefix(end + 4);
    }
    if (data.size() > connection.body_left) throw std::runtime_error("more than one answer");
    connection.body_left -= data.size();
    connection.head.clear();
    if (connection.body_left != 0) return;
    ++(connection.accepted ? result_.answered : result_.refused);
    if (!connection.accepted) --started_;
    next_request(index);
  }

  static bool check_status(std::string_view answer) {
    if (answer.starts_with("HTTP/1.1 2")) return true;
    if (answer.starts_with("HTTP/1.1 503")) return false;
    throw std::runtime_error("unexpected answer: " + std::string(answer.substr(0, 400)));
  }

  static std::uint64_t content_length(std::string_view head) {
    constexpr std::string_view name = "\r\ncontent-length:";
    const auto found = std::search(
        head.begin(), head.end(), name.begin(), name.end(),
        [](char a, char b) { return a == b || (a >= 'A' && a <= 'Z' && (a | 0x20) == b); });
    if (found == head.end()) throw std::runtime_error("an answer without Content-Length");
    return std::strtoull(&*found + name.size(), nullptr, 10);
  }

  const RawClientOptions& options_;
  RawClientResult result_;
  std::uint64_t started_ = 0;
  int epoll_ = -1;
  std::vector<char> buffer_ = std::vector<char>(256 << 10);
  std::vector<Connection> connections_;
};

}  // namespace

int connect_local(std::uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw_errno("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    throw_errno("connect");
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

std::string exchange(std::uint16_t port, std::string_view request) {
  const int fd = connect_local(port);
  fcntl(fd, F_SETFL, 0);
  std::string answer;
  char buffer[4096];
  ssize_t n = send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  while (n > 0 && (n = recv(fd, buffer, sizeof buffer, 0)) > 0) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  close(fd);
  return answer;
}

bool is_ok(std::uint16_t port, const std::string& path) {
  try {
    return exchange(port,
                    "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .starts_with("HTTP/1.1 200");
  } catch (const std::system_error&) {
    return false;
  }
}

std::uint16_t unused_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  bind(fd, reinterpret_cast<sockaddr*>(&address), length);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  close(fd);
  return ntohs(address.sin_port);
}

RawClientResult run_raw_client(const RawClientOptions& options) {
  RawClient client(options);
  const double start = now_s();
  const double cpu_start = thread_cpu_s();
  RawClientResult result = client.run();
  result.seconds = now_s() - start;
  result.cpu_s = thread_cpu_s() - cpu_start;
  return result;
}

std::string prepared_request(std::uint16_t port, std::string_view body, std::uint64_t batch_size) {
  return "POST /t/0 HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port) +
         "\r\nUser-Agent: postbag/0.1.0\r\nContent-Type: application/json\r\n"
         "Postbag-Batch-Id: 0190a6f2-7c1e-7000-8000-000000000000\r\nPostbag-Batch-Size: " +
         std::to_string(batch_size) +
         "\r\nPostbag-Attempt: 1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

}  // namespace postbag
