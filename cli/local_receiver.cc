#include "cli/local_receiver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <utility>

#include "engine/pure/ascii.h"

namespace postbag {

namespace {

constexpr std::size_t head_bytes_max = 64 << 10;

int checked(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

// The value of a header field, without the spaces around it.
std::string_view field(std::string_view head, std::string_view name) {
  for (std::size_t start = head.find("\r\n"); start != std::string_view::npos;) {
    start += 2;
    const std::size_t end = head.find("\r\n", start);
    std::string_view line = head.substr(start, end - start);
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos && equal_ignoring_case(line.substr(0, colon), name)) {
      line.remove_prefix(colon + 1);
      while (line.starts_with(' ')) line.remove_prefix(1);
      while (line.ends_with(' ')) line.remove_suffix(1);
      return line;
    }
    start = end;
  }
  return {};
}

}  // namespace

struct LocalReceiver::Connection {
  int fd = -1;
  std::thread thread;
  std::atomic<bool> finished{false};
};

LocalReceiver::LocalReceiver(std::uint16_t port, Handler handler) : handler_(std::move(handler)) {
  listen_fd_ = checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const int on = 1;
  setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listen_fd_, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      listen(listen_fd_, 128) != 0 ||
      getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    const int error = errno;
    close(listen_fd_);
    throw std::system_error(error, std::generic_category(),
                            "cannot listen on 127.0.0.1:" + std::to_string(port));
  }
  port_ = ntohs(address.sin_port);
  quit_fd_ = eventfd(0, EFD_CLOEXEC);
  accept_thread_ = std::thread([this] { accept_loop(); });
}

LocalReceiver::~LocalReceiver() {
  stop();
  close(listen_fd_);
  close(quit_fd_);
}

void LocalReceiver::stop() {
  if (stopping_.exchange(true)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(quit_fd_, &one, sizeof one);
  accept_thread_.join();
  reap(true);
}

void LocalReceiver::accept_loop() {
  for (;;) {
    pollfd fds[2] = {{listen_fd_, POLLIN, 0}, {quit_fd_, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (stopping_) return;
    if ((fds[0].revents & POLLIN) == 0) continue;
    const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    reap(false);
    const std::lock_guard lock(connections_mutex_);
    if (connections_.size() >= connections_max) {
      close(fd);
      continue;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connections_.push_back(std::make_unique<Connection>());
    Connection& connection = *connections_.back();
    connection.fd = fd;
    connection.thread = std::thread([this, &connection] { serve(connection); });
  }
}

// Ends the finished connections, or all of them.
void LocalReceiver::reap(bool all) {
  const std::lock_guard lock(connections_mutex_);
  for (auto it = connections_.begin(); it != connections_.end();) {
    Connection& connection = **it;
    if (!all && !connection.finished) {
      ++it;
      continue;
    }
    shutdown(connection.fd, SHUT_RDWR);
    connection.thread.join();
    close(connection.fd);
    it = connections_.erase(it);
  }
}

void LocalReceiver::serve(Connection& connection) {
  std::string buffer;
  while (!stopping_ && serve_request(connection, buffer)) {
  }
  shutdown(connection.fd, SHUT_RDWR);
  connection.finished = true;
}

// One request and its answer. False: the connection is done with.
bool LocalReceiver::serve_request(Connection& connection, std::string& buffer) {
  const auto read_more = [&] {
    const std::size_t old_bytes = buffer.size();
    buffer.resize(old_bytes + (64 << 10));
    const ssize_t got = recv(connection.fd, buffer.data() + old_bytes, 64 << 10, 0);
    buffer.resize(old_bytes + (got > 0 ? static_cast<std::size_t>(got) : 0));
    return got > 0;
  };
  std::size_t head_bytes = 0;
  while ((head_bytes = buffer.find("\r\n\r\n")) == std::string::npos) {
    if (buffer.size() > head_bytes_max || !read_more()) return false;
  }
  const std::string head = buffer.substr(0, head_bytes + 2);
  buffer.erase(0, head_bytes + 4);
  const std::string_view length_text = field(head, "Content-Length");
  std::size_t length = 0;
  std::from_chars(length_text.data(), length_text.data() + length_text.size(), length);
  if (length > body_bytes_max || !field(head, "Transfer-Encoding").empty()) {
    write_all(connection.fd,
              "HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    return false;
  }
  if (equal_ignoring_case(field(head, "Expect"), "100-continue")) {
    write_all(connection.fd, "HTTP/1.1 100 Continue\r\n\r\n");
  }
  while (buffer.size() < length) {
    if (!read_more()) return false;
  }
  ReceivedRequest request;
  const std::string_view line = std::string_view(head).substr(0, head.find("\r\n"));
  const std::size_t path = line.find(' '), version = line.rfind(' ');
  if (path == std::string_view::npos || version <= path) return false;
  request.method = line.substr(0, path);
  request.path = line.substr(path + 1, version - path - 1);
  request.batch_id = field(head, "Postbag-Batch-Id");
  request.batch_size = field(head, "Postbag-Batch-Size");
  request.attempt = field(head, "Postbag-Attempt");
  request.body = std::string_view(buffer).substr(0, length);
  ReceiverAnswer reply;
  {
    const std::lock_guard lock(handler_mutex_);
    request.number = ++requests_;
    reply = handler_(request);
  }
  buffer.erase(0, length);
  return answer(connection, reply) && !equal_ignoring_case(field(head, "Connection"), "close");
}

bool LocalReceiver::answer(Connection& connection, const ReceiverAnswer& reply) {
  if (reply.drop) return false;
  pollfd fds[2] = {{connection.fd, POLLRDHUP, 0}, {quit_fd_, POLLIN, 0}};
  if (reply.hang) {
    poll(fds, 2, -1);
    return false;
  }
  if (reply.delay_ms > 0) poll(&fds[1], 1, static_cast<int>(std::min(reply.delay_ms, 86'400'000u)));
  const bool no_body = reply.status == 204 || reply.status == 304;
  const std::string body = no_body ? "" : reply.status < 300 ? "ok\n" : "no\n";
  std::string text = "HTTP/1.1 " + std::to_string(reply.status) + " Answer\r\n";
  if (!no_body) {
    text += "Content-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  }
  return write_all(connection.fd, text + "\r\n" + body);
}

}  // namespace postbag
