#include "bench/counting_receiver.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <span>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "bench/tls_identity.h"

namespace postbag {
namespace {

constexpr std::size_t read_bytes = 256 << 10;
constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::string_view answer_200 = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
constexpr std::string_view answer_503 =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

[[noreturn]] void throw_errno(const char* what) {
  throw std::system_error(errno, std::system_category(), what);
}

// One writer, so no locked instruction is needed.
void add(std::atomic<std::uint64_t>& counter, std::uint64_t n) {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

struct Connection {
  Connection(int descriptor, bool keep_bodies) : fd(descriptor), scanner(keep_bodies) {}
  ~Connection() {
    SSL_free(ssl);
    close(fd);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd;
  SSL* ssl = nullptr;
  RequestScanner scanner;
  std::string out;  // answers not written yet
  bool close_after_out = false;
  bool wants_write = false;
};

enum class IoResult { done, again, closed };

}  // namespace

class CountingReceiver::Impl {
 public:
  explicit Impl(CountingReceiverOptions options);
  ~Impl();
  void run();
  void stop() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = write(wake_, &one, sizeof one);
  }
  std::string stats_json() const;

  std::uint16_t port_ = 0;
  CountingReceiverOptions options_;
  ReceiverCounters own_counters_;
  ReceiverCounters& counters_;

 private:
  int wait_for_events(std::span<epoll_event> events);
  void accept_all();
  bool readable(Connection& connection);
  IoResult read_some(Connection& connection, std::size_t& bytes);
  bool write_out(Connection& connection);
  void answer(Connection& connection, const CountedRequest& request);
  bool fails_now();

  int listen_ = -1, epoll_ = -1, wake_ = -1;
  std::uint32_t fail_sum_ = 0;
  std::vector<char> buffer_ = std::vector<char>(read_bytes);
  std::unordered_map<int, std::unique_ptr<Connection>> connections_;
};

CountingReceiver::Impl::Impl(CountingReceiverOptions options)
    : options_(std::move(options)),
      counters_(options_.counters != nullptr ? *options_.counters : own_counters_) {
  listen_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listen_ < 0) throw_errno("socket");
  const int on = 1;
  setsockopt(listen_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(options_.port);
  socklen_t length = sizeof address;
  if (bind(listen_, reinterpret_cast<sockaddr*>(&address), length) != 0) throw_errno("bind");
  if (listen(listen_, 4096) != 0) throw_errno("listen");
  getsockname(listen_, reinterpret_cast<sockaddr*>(&address), &length);
  port_ = ntohs(address.sin_port);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (epoll_ < 0 || wake_ < 0) throw_errno("epoll");
  for (const int fd : {listen_, wake_}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
}

CountingReceiver::Impl::~Impl() {
  for (const int fd : {listen_, epoll_, wake_}) {
    if (fd >= 0) close(fd);
  }
}

void CountingReceiver::Impl::run() {
  std::array<epoll_event, 256> events;
  while (true) {
    const int n = wait_for_events(events);
    if (n < 0 && errno != EINTR) throw_errno("epoll_wait");
    for (int i = 0; i < n; ++i) {
      if (i > 0 && options_.between) options_.between();
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == wake_) return;
      if (fd == listen_) {
        accept_all();
        continue;
      }
      const auto found = connections_.find(fd);
      if (found == connections_.end()) continue;
      Connection& connection = *found->second;
      const bool writable = events[static_cast<std::size_t>(i)].events & EPOLLOUT;
      if ((writable && !write_out(connection)) || !readable(connection)) connections_.erase(found);
    }
  }
}

int CountingReceiver::Impl::wait_for_events(std::span<epoll_event> events) {
  const std::int64_t wait_ns = options_.between ? options_.between() : -1;
  const int places = static_cast<int>(events.size());
  // Valgrind knows this one only.
  if (wait_ns < 0) return epoll_wait(epoll_, events.data(), places, -1);
  const timespec wait{wait_ns / second_ns, wait_ns % second_ns};
  return epoll_pwait2(epoll_, events.data(), places, &wait, nullptr);
}

void CountingReceiver::Impl::accept_all() {
  while (true) {
    const int fd = accept4(listen_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto connection = std::make_unique<Connection>(fd, static_cast<bool>(options_.handler));
    if (options_.tls != nullptr) {
      connection->ssl = SSL_new(options_.tls->server_context());
      SSL_set_fd(connection->ssl, fd);
      SSL_set_accept_state(connection->ssl);
    }
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    connections_[fd] = std::move(connection);
    add(counters_.connections, 1);
  }
}

IoResult CountingReceiver::Impl::read_some(Connection& connection, std::size_t& bytes) {
  if (connection.ssl == nullptr) {
    const ssize_t n = recv(connection.fd, buffer_.data(), buffer_.size(), 0);
    if (n > 0) {
      bytes = static_cast<std::size_t>(n);
      return IoResult::done;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? IoResult::again : IoResult::closed;
  }
  ERR_clear_error();
  const int n = SSL_read(connection.ssl, buffer_.data(), static_cast<int>(buffer_.size()));
  if (n > 0) {
    bytes = static_cast<std::size_t>(n);
    return IoResult::done;
  }
  const int error = SSL_get_error(connection.ssl, n);
  return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? IoResult::again
                                                                       : IoResult::closed;
}

bool CountingReceiver::Impl::readable(Connection& connection) {
  while (!connection.close_after_out) {
    std::size_t bytes = 0;
    const IoResult result = read_some(connection, bytes);
    if (result == IoResult::closed) return false;
    if (result == IoResult::again) break;
    const auto each = [&](const CountedRequest& request) { answer(connection, request); };
    if (!connection.scanner.feed(std::string_view(buffer_.data(), bytes), each)) {
      add(counters_.malformed, 1);
      return false;
    }
    // A plain socket that gave less than asked for is empty; TLS may hold a record back. What comes
    // meanwhile is told again.
    const bool holds_more =
        connection.ssl != nullptr ? SSL_has_pending(connection.ssl) == 1 : bytes == buffer_.size();
    if (!holds_more) break;
  }
  return write_out(connection);
}

bool CountingReceiver::Impl::write_out(Connection& connection) {
  std::string_view left = connection.out;
  bool again = false;
  while (!left.empty() && !again) {
    ssize_t n = 0;
    if (connection.ssl == nullptr) {
      n = send(connection.fd, left.data(), left.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
    } else {
      ERR_clear_error();
      n = SSL_write(connection.ssl, left.data(), static_cast<int>(left.size()));
      const int error = n > 0 ? 0 : SSL_get_error(connection.ssl, static_cast<int>(n));
      if (n <= 0 && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return false;
    }
    again = n <= 0;
    if (n > 0) left.remove_prefix(static_cast<std::size_t>(n));
  }
  connection.out.erase(0, connection.out.size() - left.size());
  if (again != connection.wants_write) {
    connection.wants_write = again;
    epoll_event event{};
    event.events = again ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.fd = connection.fd;
    epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
  }
  return again || !connection.close_after_out;
}

bool CountingReceiver::Impl::fails_now() {
  const std::uint32_t share = counters_.fail_per_mille.load(std::memory_order_relaxed);
  if (share == 0) return false;
  fail_sum_ += share;
  if (fail_sum_ < 1000) return false;
  fail_sum_ -= 1000;
  return true;
}

void CountingReceiver::Impl::answer(Connection& connection, const CountedRequest& request) {
  connection.close_after_out = !request.keep_alive;
  if (request.method == "GET") {
    const std::string body = stats_json() + "\n";
    connection.out += "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
                      std::to_string(body.size()) + "\r\n\r\n" + body;
    return;
  }
  if (fails_now()) {
    add(counters_.refused, 1);
    connection.out += answer_503;
    return;
  }
  const int status = options_.handler ? options_.handler(request) : 200;
  if (status < 200 || status > 299) {
    add(counters_.refused, 1);
  } else {
    add(counters_.requests, 1);
    add(counters_.body_bytes, request.body_bytes);
    // Last: whoever sees the hooks sees the rest too.
    counters_.hooks.store(counters_.hooks.load(std::memory_order_relaxed) + request.batch_size,
                          std::memory_order_release);
  }
  if (status == 200) {
    connection.out += answer_200;
  } else {
    connection.out += "HTTP/1.1 " + std::to_string(status) + " Answer\r\nContent-Length: 0\r\n\r\n";
  }
}

std::string CountingReceiver::Impl::stats_json() const {
  const auto field = [](const char* name, const std::atomic<std::uint64_t>& value) {
    return "\"" + std::string(name) + "\":" + std::to_string(value.load());
  };
  return "{" + field("requests", counters_.requests) + "," + field("hooks", counters_.hooks) + "," +
         field("body_bytes", counters_.body_bytes) + "," + field("refused", counters_.refused) +
         "," + field("malformed", counters_.malformed) + "," + field("wrong", counters_.wrong) +
         "," + field("connections", counters_.connections) + "}";
}

CountingReceiver::CountingReceiver(CountingReceiverOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

CountingReceiver::~CountingReceiver() {
  stop();
  if (thread_.joinable()) thread_.join();
}

std::uint16_t CountingReceiver::port() const {
  return impl_->port_;
}
void CountingReceiver::start() {
  thread_ = std::thread([this] { impl_->run(); });
}
void CountingReceiver::run() {
  impl_->run();
}
void CountingReceiver::stop() {
  impl_->stop();
}
const ReceiverCounters& CountingReceiver::counters() const {
  return impl_->counters_;
}
std::string CountingReceiver::stats_json() const {
  return impl_->stats_json();
}

}  // namespace postbag
