#include "cli/intake/server.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <unordered_map>
#include <utility>

#include "cli/intake/connection.h"
#include "cli/intake/http_text.h"
#include "cli/intake/listener.h"
#include "cli/intake/router.h"

namespace postbag {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t worker_threads = 4;
constexpr std::size_t worker_queue_max = 64;
constexpr std::size_t local_connections_max = 64;
constexpr Duration accept_pause = std::chrono::milliseconds(100);
constexpr Duration accept_log_interval = std::chrono::seconds(10);
constexpr Duration finish_grace = std::chrono::seconds(2);

WallMs system_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

RouterOptions router_options(const IntakeServerOptions& options) {
  RouterOptions out;
  out.max_body = options.max_body;
  out.durability = options.durability;
  out.wall_now = system_now;
  if (options.tokens) {
    out.tokens.emplace(*options.tokens);
    if (out.tokens->empty()) {
      throw std::invalid_argument(
          "intake.token_file: the file holds no token; write one a line, or leave the key empty");
    }
  }
  return out;
}

}  // namespace

class IntakeServer::Impl {
 public:
  Impl(IntakeBackend& backend, IntakeServerOptions options, Logger logger)
      : options_(std::move(options)),
        logger_(std::move(logger)),
        limits_{options_.head_timeout, options_.body_timeout, options_.write_timeout,
                options_.idle_timeout, options_.linger_timeout},
        loop_(std::make_shared<IntakeLoop>()),
        pool_(worker_threads, worker_queue_max),
        router_(backend, router_options(options_), loop_, pool_),
        shared_{router_,
                limits_,
                std::make_shared<ByteBudget>(
                    std::max(options_.bodies_bytes_max, 2 * options_.max_body)),
                date_line_,
                [this](IntakeConnection& connection) { on_closed(connection); },
                0} {}

  ~Impl() { stop(); }

  void start();
  std::uint16_t port() const { return endpoint_.port(); }
  std::string address() const;
  void stop_accepting() { router_.stop_accepting(); }
  void stop();

 private:
  template <typename Acceptor>
  struct Listener {
    Listener(Acceptor bound, bool is_local)
        : acceptor(std::move(bound)), peer(acceptor.get_executor()), local(is_local) {}
    Acceptor acceptor;
    IntakeConnection::Socket peer;
    const bool local;
  };

  void run();
  template <typename Acceptor>
  void accept(Listener<Acceptor>& listener);
  template <typename Acceptor>
  void on_accepted(Listener<Acceptor>& listener, error_code error);
  void on_accept_failed(const error_code& error);
  void on_closed(IntakeConnection& connection);
  void sweep();
  void finish();
  void end();
  std::vector<std::shared_ptr<IntakeConnection>> all_connections() const;

  const IntakeServerOptions options_;
  const Logger logger_;
  const ConnectionLimits limits_;
  const std::shared_ptr<IntakeLoop> loop_;
  WorkerPool pool_;
  Router router_;
  std::string date_line_;
  IntakeConnection::Shared shared_;
  std::unordered_map<IntakeConnection*, std::shared_ptr<IntakeConnection>> connections_;
  std::size_t local_connections_ = 0;
  std::unique_ptr<Listener<TcpAcceptor>> tcp_;
  std::unique_ptr<Listener<UnixAcceptor>> unix_;
  tcp::endpoint endpoint_;
  TimePoint next_accept_log_{};
  bool finishing_ = false;
  std::optional<IntakeLoop::TimerId> grace_timer_;  // set while the last answers are written
  std::thread thread_;
};

void IntakeServer::Impl::start() {
  asio::io_context& context = loop_->context();
  if (!options_.listen.empty()) {
    tcp_ = std::make_unique<Listener<TcpAcceptor>>(listen_on_tcp(context, options_.listen), false);
    endpoint_ = tcp_->acceptor.local_endpoint();
  }
  if (!options_.unix_socket.empty()) {
    unix_ = std::make_unique<Listener<UnixAcceptor>>(listen_on_unix(context, options_.unix_socket),
                                                     true);
  }
  sweep();
  if (tcp_) accept(*tcp_);
  if (unix_) accept(*unix_);
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "postbag-intake");
  if (tcp_) logger_.log(LogLevel::info, "intake listens on " + address());
}

void IntakeServer::Impl::run() {
  for (;;) {
    try {
      return loop_->run();
    } catch (
        const std::exception& error) {  // no memory: the request it hit is lost, intake goes on
      logger_.log(LogLevel::error, std::string("intake: ") + error.what());
    }
  }
}

std::string IntakeServer::Impl::address() const {
  if (endpoint_.port() == 0) return {};
  const std::string host = endpoint_.address().to_string();
  const std::string port = ":" + std::to_string(endpoint_.port());
  return endpoint_.address().is_v6() ? "[" + host + "]" + port : host + port;
}

template <typename Acceptor>
void IntakeServer::Impl::accept(Listener<Acceptor>& listener) {
  listener.acceptor.async_accept(
      listener.peer, [this, &listener](error_code error) { on_accepted(listener, error); });
}

template <typename Acceptor>
void IntakeServer::Impl::on_accepted(Listener<Acceptor>& listener, error_code error) {
  if (finishing_ || error == asio::error::operation_aborted) return;
  if (error && error != asio::error::connection_aborted) {
    on_accept_failed(error);
    // The connection stays in the kernel's queue: trying at once would spin.
    loop_->after(accept_pause, [this, &listener] {
      if (!finishing_) accept(listener);
    });
    return;
  }
  if (!error) {
    const std::size_t others = connections_.size() - local_connections_;
    const bool full = listener.local ? local_connections_ >= local_connections_max
                                     : others >= options_.connections_max;
    if (full) {
      listener.peer.close(error);
    } else {
      if (!listener.local) listener.peer.set_option(tcp::no_delay(true), error);
      local_connections_ += listener.local ? 1 : 0;
      auto connection = std::make_shared<IntakeConnection>(loop_, std::move(listener.peer),
                                                           listener.local, shared_);
      connections_.emplace(connection.get(), connection);
      connection->start();
    }
  }
  listener.peer = IntakeConnection::Socket(listener.acceptor.get_executor());
  accept(listener);
}

void IntakeServer::Impl::on_accept_failed(const error_code& error) {
  const TimePoint now = std::chrono::steady_clock::now();
  if (now < next_accept_log_) return;
  next_accept_log_ = now + accept_log_interval;
  logger_.log(LogLevel::warning, "intake cannot accept connections: " + error.message());
}

void IntakeServer::Impl::on_closed(IntakeConnection& connection) {
  local_connections_ -= connection.local() ? 1 : 0;
  connections_.erase(&connection);
  if (grace_timer_ && connections_.empty()) end();
}

std::vector<std::shared_ptr<IntakeConnection>> IntakeServer::Impl::all_connections() const {
  std::vector<std::shared_ptr<IntakeConnection>> all;
  all.reserve(connections_.size());
  for (const auto& [key, connection] : connections_) all.push_back(connection);
  return all;
}

void IntakeServer::Impl::sweep() {
  if (finishing_) return;
  date_line_ = date_line(system_now());
  const TimePoint now = std::chrono::steady_clock::now();
  for (const auto& connection : all_connections()) connection->check_deadline(now);
  loop_->after(options_.sweep_interval, [this] { sweep(); });
}

void IntakeServer::Impl::finish() {
  finishing_ = true;
  error_code ignored;
  if (tcp_) tcp_->acceptor.close(ignored);
  if (unix_) {
    unix_->acceptor.close(ignored);
    ::unlink(options_.unix_socket.c_str());
  }
  loop_->fire_all();
  // Behind the timers: calls that waited have their answer by then.
  loop_->after(Duration::zero(), [this] {
    for (const auto& connection : all_connections()) connection->finish();
    if (connections_.empty()) return end();
    grace_timer_ = loop_->after(finish_grace, [this] {
      for (const auto& connection : all_connections()) connection->close();
    });
  });
}

void IntakeServer::Impl::end() {
  if (grace_timer_) loop_->cancel(*grace_timer_);
  loop_->close();
}

void IntakeServer::Impl::stop() {
  if (!thread_.joinable()) return;
  router_.stop_accepting();
  router_.stop();
  pool_.stop();
  loop_->post([this] { finish(); });
  thread_.join();
}

IntakeServer::IntakeServer(IntakeBackend& backend, IntakeServerOptions options, Logger logger)
    : impl_(std::make_unique<Impl>(backend, std::move(options), std::move(logger))) {}

IntakeServer::~IntakeServer() = default;

void IntakeServer::start() {
  impl_->start();
}
std::uint16_t IntakeServer::port() const {
  return impl_->port();
}
std::string IntakeServer::address() const {
  return impl_->address();
}
void IntakeServer::stop_accepting() {
  impl_->stop_accepting();
}
void IntakeServer::stop() {
  impl_->stop();
}

}  // namespace postbag
