#include "cli/intake/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>
#include <unordered_map>
#include <utility>

#include "cli/intake/acceptor.h"
#include "cli/intake/answers.h"
#include "cli/intake/connection.h"
#include "cli/intake/full_watch.h"
#include "cli/intake/http_text.h"
#include "cli/intake/listener.h"
#include "cli/intake/router.h"
#include "engine/shell/clock.h"

namespace postbag {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t worker_threads = 4;
constexpr std::size_t worker_queue_max = 64;
constexpr std::size_t local_connections_max = 64;
constexpr Duration trouble_log_interval = std::chrono::seconds(10);
constexpr Duration full_quiet = std::chrono::seconds(10);
// Between two tries to go on when there is no memory even for that.
constexpr Duration revive_pause = std::chrono::milliseconds(10);
constexpr Duration finish_grace = std::chrono::seconds(2);

// For connections that there is no room for.
struct TurnAway {
  explicit TurnAway(std::size_t connections_max)
      : answer(error_answer({503,
                             "full",
                             "all " + std::to_string(connections_max) +
                                 " connections that intake may have are in use",
                             {}})) {
    append_answer_head(text, answer, {"", true});
    text += answer.body;
  }
  Answer answer;
  std::string text;  // head and body
};

// Throws std::invalid_argument where it would lock out all.
std::optional<TokenSet> token_set(const std::optional<std::vector<std::string>>& lines) {
  if (!lines) return {};
  TokenSet tokens(*lines);
  if (tokens.empty()) {
    throw std::invalid_argument(
        "intake.token_file: the file holds no token; write one a line, or leave the key empty");
  }
  return tokens;
}

RouterOptions router_options(const IntakeServerOptions& options) {
  RouterOptions out;
  out.max_body = options.max_body;
  out.durability = options.durability;
  out.wall_now = wall_now_ms;
  out.on_loopback = options.listen.starts_with("127.") || options.listen.starts_with("[::1]");
  out.tokens = token_set(options.tokens);
  return out;
}

}  // namespace

class IntakeServer::Impl {
 public:
  Impl(IntakeBackend& backend, IntakeServerOptions options, Logger logger)
      : options_(std::move(options)),
        logger_(std::move(logger)),
        loop_(std::make_shared<IntakeLoop>()),
        pool_(worker_threads, worker_queue_max),
        router_(backend, router_options(options_), loop_, pool_),
        shared_{router_,
                options_.limits,
                options_.clock,
                std::make_shared<ByteBudget>(
                    std::max(options_.bodies_bytes_max, 2 * options_.max_body)),
                date_line_,
                [this](IntakeConnection& connection) { on_closed(connection); },
                [this](const char* what) { on_gave_up(what); },
                0},
        sweep_timer_(loop_->context()),
        grace_timer_(loop_->context()),
        finish_work_(std::make_shared<Step>(*this, &Impl::finish)),
        close_work_(std::make_shared<Step>(*this, &Impl::finish_connections)) {}

  ~Impl() { stop(); }

  void start();
  std::uint16_t port() const { return endpoint_.port(); }
  std::string address() const;
  void set_tokens(const std::optional<std::vector<std::string>>& lines);
  void stop_accepting() { router_.stop_accepting(); }
  void stop();

 private:
  // Made beforehand: the end must not fail for want of memory.
  struct Step : LoopWork {
    Step(Impl& owner, void (Impl::*function)()) : server(owner), step(function) {}
    void run() override { (server.*step)(); }
    Impl& server;
    void (Impl::*step)();
  };

  void run();
  void revive();
  void arm();
  void on_connection(int fd, bool local) noexcept;
  void on_accept_failed(std::error_code error) noexcept;
  bool close_longest_idle(bool local) noexcept;
  void turn_away(int fd, bool local) noexcept;
  void note_idle_closed() noexcept;
  void note_full(TimePoint now) noexcept;
  void on_closed(IntakeConnection& connection) noexcept;
  void on_gave_up(const char* what) noexcept;
  template <typename Function>
  void for_each_connection(Function function);
  void arm_sweep();
  void sweep();
  void bind_unix();
  void check_unix(TimePoint now);
  void finish();
  void finish_connections();
  void end();
  bool may_log(TimePoint& next) const noexcept;

  const IntakeServerOptions options_;
  const Logger logger_;
  const std::shared_ptr<IntakeLoop> loop_;
  WorkerPool pool_;
  Router router_;
  std::string date_line_;
  IntakeConnection::Shared shared_;
  std::unordered_map<IntakeConnection*, std::shared_ptr<IntakeConnection>> connections_;
  std::size_t local_connections_ = 0;
  std::unique_ptr<IntakeAcceptor> tcp_, unix_;
  // The one before; what it had under way has ended when the next one is bound.
  std::unique_ptr<IntakeAcceptor> former_unix_;
  FileIdentity unix_file_;  // that unix_ is bound to
  tcp::endpoint endpoint_;
  const TurnAway tcp_full_{options_.connections_max}, local_full_{local_connections_max};
  FullWatch full_watch_{full_quiet};
  TimePoint next_accept_log_{}, next_trouble_log_{}, next_idle_log_{};
  TimePoint next_unix_check_{};
  HandlerMemory sweep_memory_, grace_memory_;  // before the timers
  asio::steady_timer sweep_timer_, grace_timer_;
  bool sweep_armed_ = false;
  bool finishing_ = false;
  bool in_grace_ = false;  // the last answers are being written
  const std::shared_ptr<LoopWork> finish_work_, close_work_;
  std::thread thread_;
};

void IntakeServer::Impl::start() {
  asio::io_context& context = loop_->context();
  const auto on_failure = [this](std::error_code error) { on_accept_failed(error); };
  if (!options_.listen.empty()) {
    TcpAcceptor bound = listen_on_tcp(context, options_.listen);
    endpoint_ = bound.local_endpoint();
    tcp_ = std::make_unique<IntakeAcceptor>(
        std::move(bound), [this](int fd) { on_connection(fd, false); }, on_failure);
  }
  if (!options_.unix_socket.empty()) bind_unix();
  date_line_ = date_line(wall_now_ms());
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "postbag-intake");
  if (tcp_) logger_.log(LogLevel::debug, "intake listens on " + address());
}

void IntakeServer::Impl::set_tokens(const std::optional<std::vector<std::string>>& lines) {
  const auto tokens = std::make_shared<std::optional<TokenSet>>(token_set(lines));
  auto taken = std::make_shared<std::promise<void>>();
  const std::future<void> done = taken->get_future();
  loop_->post([this, tokens, taken] {
    router_.set_tokens(std::move(*tokens));
    taken->set_value();
  });
  taken.reset();  // where the work is dropped the wait ends, too
  done.wait();
}

void IntakeServer::Impl::bind_unix() {
  auto bound = std::make_unique<IntakeAcceptor>(
      listen_on_unix(loop_->context(), options_.unix_socket),
      [this](int fd) { on_connection(fd, true); },
      [this](std::error_code error) { on_accept_failed(error); });
  unix_file_ = identity_of(options_.unix_socket);
  if (unix_) unix_->stop();
  former_unix_ = std::move(unix_);
  unix_ = std::move(bound);
}

// A socket whose file was removed can be reached by nobody: every command would say that another
// process has the store, for as long as this one lives.
void IntakeServer::Impl::check_unix(TimePoint now) {
  if (!unix_ || now < next_unix_check_) return;
  next_unix_check_ = now + options_.socket_check_interval;
  const std::string& path = options_.unix_socket;
  if (identity_of(path) == unix_file_) return;
  try {
    bind_unix();
    unix_->start();
    logger_.log(LogLevel::warning, "the control socket " + path + " was removed: bound anew");
  } catch (const std::system_error& error) {
    logger_.log(LogLevel::warning,
                std::string("commands cannot reach the daemon: ") + error.what());
  }
}

void IntakeServer::Impl::run() {
  for (;;) {
    try {
      revive();
      return loop_->run();
    } catch (const std::exception& error) {  // no memory: what it hit is lost, intake goes on
      on_gave_up(error.what());
    }
  }
}

// Sees to it that everything that keeps intake going is under way, however an exception left it.
void IntakeServer::Impl::revive() {
  for (;;) {
    try {
      return arm();
    } catch (const std::exception&) {
      std::this_thread::sleep_for(revive_pause);
    }
  }
}

void IntakeServer::Impl::arm() {
  if (!finishing_) {
    if (tcp_) tcp_->start();
    if (unix_) unix_->start();
    if (!sweep_armed_) arm_sweep();
  }
}

std::string IntakeServer::Impl::address() const {
  if (endpoint_.port() == 0) return {};
  const std::string host = endpoint_.address().to_string();
  const std::string port = ":" + std::to_string(endpoint_.port());
  return endpoint_.address().is_v6() ? "[" + host + "]" + port : host + port;
}

void IntakeServer::Impl::on_connection(int fd, bool local) noexcept {
  const std::size_t others = connections_.size() - local_connections_;
  const bool full =
      local ? local_connections_ >= local_connections_max : others >= options_.connections_max;
  if (full && !close_longest_idle(local)) return turn_away(fd, local);
  bool is_ours = true;
  try {
    IntakeConnection::Socket socket(loop_->context());
    if (!local) {
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    const int family = local ? AF_UNIX : endpoint_.protocol().family();
    error_code error;
    socket.assign(asio::generic::stream_protocol(family, 0), fd, error);
    is_ours = static_cast<bool>(error);
    if (error) throw std::system_error(error.value(), std::generic_category());
    auto connection = std::make_shared<IntakeConnection>(loop_, std::move(socket), local, shared_);
    connections_.emplace(connection.get(), connection);
    local_connections_ += local ? 1 : 0;
    connection->start();
  } catch (const std::exception& error) {
    if (is_ours) ::close(fd);
    on_gave_up(error.what());
  }
}

// Who keeps a connection for later can open another one.
bool IntakeServer::Impl::close_longest_idle(bool local) noexcept {
  std::shared_ptr<IntakeConnection> longest;
  for (const auto& [key, connection] : connections_) {
    if (connection->local() != local) continue;
    if (longest && connection->deadline() >= longest->deadline()) continue;
    if (connection->is_idle()) longest = connection;
  }
  if (!longest) return false;
  note_idle_closed();
  longest->close();
  return true;
}

// One write and no wait, as there is no room for more; what the peer has sent so far is read, for
// unread bytes would make the close a reset that takes the answer with it.
void IntakeServer::Impl::turn_away(int fd, bool local) noexcept {
  const TurnAway& full = local ? local_full_ : tcp_full_;
  router_.count_turned_away();
  router_.note_error(full.answer);
  ::send(fd, full.text.data(), full.text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(fd, SHUT_WR);
  char unread[4096];
  for (int i = 0; i < 16 && ::recv(fd, unread, sizeof unread, MSG_DONTWAIT) > 0; ++i) continue;
  ::close(fd);
}

void IntakeServer::Impl::note_idle_closed() noexcept {
  if (!may_log(next_idle_log_)) return;
  try {
    logger_.log(
        LogLevel::warning,
        "intake has all the connections that it may have: idle ones are closed for new ones",
        {{"event", "idle_closed"}});
  } catch (const std::exception&) {
    return;
  }
}

void IntakeServer::Impl::note_full(TimePoint now) noexcept {
  try {
    const auto line = full_watch_.look(now, router_.errors("full"), router_.full_answer());
    if (line) logger_.log(LogLevel::warning, *line, {{"event", "intake_full"}});
  } catch (const std::exception&) {
    return;  // no memory for the line
  }
}

bool IntakeServer::Impl::may_log(TimePoint& next) const noexcept {
  const TimePoint now = steady_now();
  if (now < next) return false;
  next = now + trouble_log_interval;
  return true;
}

void IntakeServer::Impl::on_accept_failed(std::error_code error) noexcept {
  if (error == std::errc::too_many_files_open) close_longest_idle(false);
  if (!may_log(next_accept_log_)) return;
  try {
    const std::string cause = error.message();
    logger_.log(LogLevel::warning, "intake cannot accept connections: " + cause,
                {{"event", "accept_failed"}, {"cause", cause}});
  } catch (const std::exception&) {
    return;  // no memory for the line
  }
}

// A request or a connection was dropped for want of memory.
void IntakeServer::Impl::on_gave_up(const char* what) noexcept {
  router_.count_dropped();
  if (!may_log(next_trouble_log_)) return;
  try {
    logger_.log(LogLevel::error, std::string("intake dropped a request: ") + what,
                {{"event", "intake_dropped"}, {"cause", what}});
  } catch (const std::exception&) {
    return;
  }
}

void IntakeServer::Impl::on_closed(IntakeConnection& connection) noexcept {
  local_connections_ -= connection.local() ? 1 : 0;
  connections_.erase(&connection);
  if (in_grace_ && connections_.empty()) end();
}

// The function may close the connection that it gets.
template <typename Function>
void IntakeServer::Impl::for_each_connection(Function function) {
  for (auto it = connections_.begin(); it != connections_.end();) {
    const auto connection = it->second;
    ++it;
    function(*connection);
  }
}

void IntakeServer::Impl::arm_sweep() {
  sweep_timer_.expires_after(options_.sweep_interval);
  sweep_timer_.async_wait(HandlerIn(sweep_memory_, [this](error_code) {
    sweep_armed_ = false;
    if (!finishing_) sweep();
  }));
  sweep_armed_ = true;
}

void IntakeServer::Impl::sweep() {
  arm_sweep();  // first: what follows may end early
  const TimePoint now = options_.clock();
  for_each_connection([now](IntakeConnection& connection) { connection.check_deadline(now); });
  date_line_ = date_line(wall_now_ms());
  note_full(now);
  check_unix(now);
}

void IntakeServer::Impl::finish() {
  finishing_ = true;
  sweep_timer_.cancel();
  if (tcp_) tcp_->stop();
  if (unix_) {
    unix_->stop();
    if (identity_of(options_.unix_socket) == unix_file_) ::unlink(options_.unix_socket.c_str());
  }
  loop_->fire_all();
  // Behind the timers: calls that waited have their answer by then.
  loop_->post(close_work_);
}

void IntakeServer::Impl::finish_connections() {
  for_each_connection([](IntakeConnection& connection) { connection.finish(); });
  in_grace_ = true;
  if (connections_.empty()) return end();
  try {
    grace_timer_.expires_after(finish_grace);
    grace_timer_.async_wait(HandlerIn(grace_memory_, [this](error_code) {
      for_each_connection([](IntakeConnection& connection) { connection.close(); });
    }));
  } catch (const std::exception&) {
    for_each_connection([](IntakeConnection& connection) { connection.close(); });
  }
}

void IntakeServer::Impl::end() {
  grace_timer_.cancel();
  loop_->close();
}

void IntakeServer::Impl::stop() {
  if (!thread_.joinable()) return;
  router_.stop_accepting();
  router_.stop();
  pool_.stop();
  loop_->post(finish_work_);
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
void IntakeServer::set_tokens(const std::optional<std::vector<std::string>>& lines) {
  impl_->set_tokens(lines);
}
void IntakeServer::stop_accepting() {
  impl_->stop_accepting();
}
void IntakeServer::stop() {
  impl_->stop();
}

}  // namespace postbag
