#include "tests/crash/tally_receiver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <stdexcept>

namespace postbag::test {
namespace {

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The value of a field of a head that ends every line with CR LF. Field names as Postbag writes
// them.
std::string_view field(std::string_view head, std::string_view name) {
  const std::string start = "\r\n" + std::string(name) + ": ";
  const std::size_t at = head.find(start);
  if (at == std::string_view::npos) return {};
  const std::size_t begin = at + start.size();
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

std::uint32_t number(std::string_view text) {
  std::uint32_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

TallyReceiver::TallyReceiver(Handler handler) : handler_(std::move(handler)) {
  listen_fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listen_fd_, 1024) != 0 ||
      ::getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("the receiver cannot listen");
  }
  port_ = ntohs(address.sin_port);
  epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (const int fd : {listen_fd_, wake_fd_}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event);
  }
  thread_ = std::thread([this] { loop(); });
}

TallyReceiver::~TallyReceiver() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  ::eventfd_write(wake_fd_, 1);
  thread_.join();
  for (const auto& [fd, connection] : connections_) ::close(fd);
  for (const int fd : {listen_fd_, epoll_fd_, wake_fd_}) ::close(fd);
}

bool TallyReceiver::drained() {
  std::unique_lock lock(mutex_);
  wants_drained_ = true;
  ::eventfd_write(wake_fd_, 1);
  return wake_.wait_for(lock, std::chrono::seconds(30), [this] { return !wants_drained_; });
}

int TallyReceiver::next_timeout_ms() const {
  if (due_.empty()) return -1;
  return static_cast<int>(std::max<std::int64_t>(0, due_.begin()->first - now_ms()));
}

void TallyReceiver::loop() {
  for (;;) {
    epoll_event events[64];
    const int count = ::epoll_wait(epoll_fd_, events, 64, next_timeout_ms());
    for (int i = 0; i < count; ++i) on_event(events[i].data.fd, events[i].events);
    answer_due();
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    if (!wants_drained_) continue;
    accept_all();
    if (!connections_.empty()) continue;
    wants_drained_ = false;
    wake_.notify_all();
  }
}

void TallyReceiver::accept_all() {
  for (;;) {
    const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    connections_[fd].first = ++serials_;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event);
  }
}

void TallyReceiver::on_event(int fd, std::uint32_t events) {
  if (fd == listen_fd_) return accept_all();
  if (fd == wake_fd_) {
    eventfd_t value = 0;
    ::eventfd_read(wake_fd_, &value);
    return;
  }
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  Connection& connection = found->second.second;
  // Read first, also after an error: what came before it counts.
  const bool open = read_all(fd, connection);
  bool good = take_requests(fd, connection);
  if ((events & EPOLLOUT) != 0 && good) good = flush(fd, connection);
  if (!open || !good) close_connection(fd);
}

// False at the end of the connection.
bool TallyReceiver::read_all(int fd, Connection& connection) {
  for (;;) {
    char bytes[64 << 10];
    const ssize_t got = ::recv(fd, bytes, sizeof bytes, 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    connection.in.append(bytes, static_cast<std::size_t>(got));
  }
}

// False: close it.
bool TallyReceiver::take_requests(int fd, Connection& connection) {
  for (;;) {
    const std::size_t end = connection.in.find("\r\n\r\n");
    if (end == std::string::npos) return true;
    const std::string_view head = std::string_view(connection.in).substr(0, end + 2);
    const std::size_t length = number(field(head, "Content-Length"));
    if (connection.in.size() < end + 4 + length) return true;
    ArrivedBatch batch;
    constexpr std::string_view begin = "POST /t";
    if (head.starts_with(begin)) batch.target = number(head.substr(begin.size()));
    batch.batch_id = field(head, "Postbag-Batch-Id");
    batch.size = number(field(head, "Postbag-Batch-Size"));
    batch.attempt = number(field(head, "Postbag-Attempt"));
    batch.body = std::string_view(connection.in).substr(end + 4, length);
    const TallyAnswer answer = handler_(batch);
    connection.in.erase(0, end + 4 + length);
    if (answer.drop) return false;
    std::string text = "HTTP/1.1 " + std::to_string(answer.status) +
                       (answer.status == 200 ? " OK" : " No") + "\r\nContent-Length: 0\r\n\r\n";
    due_.insert({now_ms() + answer.delay_ms, {fd, connections_[fd].first, std::move(text)}});
  }
}

void TallyReceiver::answer_due() {
  while (!due_.empty() && due_.begin()->first <= now_ms()) {
    Due due = std::move(due_.begin()->second);
    due_.erase(due_.begin());
    const auto found = connections_.find(due.fd);
    if (found == connections_.end() || found->second.first != due.serial) continue;
    found->second.second.out += due.answer;
    if (!flush(due.fd, found->second.second)) close_connection(due.fd);
  }
}

// False: the peer has gone.
bool TallyReceiver::flush(int fd, Connection& connection) {
  while (!connection.out.empty()) {
    const ssize_t sent =
        ::send(fd, connection.out.data(), connection.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) break;
    connection.out.erase(0, static_cast<std::size_t>(sent));
  }
  const bool wants_write = !connection.out.empty();
  if (wants_write == connection.writing) return true;
  connection.writing = wants_write;
  epoll_event event{};
  event.events = wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN;
  event.data.fd = fd;
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
  return true;
}

void TallyReceiver::close_connection(int fd) {
  connections_.erase(fd);
  ::close(fd);
}

}  // namespace postbag::test
