#include "cli/intake/acceptor.h"

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <utility>

namespace postbag {
namespace {

using boost::system::error_code;

// The connection stays in the kernel's queue: trying at once would spin.
constexpr auto accept_pause = std::chrono::milliseconds(100);
// Then those that are connected have their turn.
constexpr int accepts_per_turn = 64;

}  // namespace

IntakeAcceptor::IntakeAcceptor(Socket listening, std::function<void(int)> on_connection,
                               std::function<void(std::error_code)> on_failure)
    : socket_(std::move(listening)),
      pause_(socket_.get_executor()),
      on_connection_(std::move(on_connection)),
      on_failure_(std::move(on_failure)) {
  socket_.native_non_blocking(true);
}

void IntakeAcceptor::start() {
  if (stopped_ || is_waiting_) return;
  socket_.async_wait(Socket::wait_read, HandlerIn(wait_memory_, [this](error_code) {
                       is_waiting_ = false;
                       if (!stopped_) take_ready();
                     }));
  is_waiting_ = true;
}

void IntakeAcceptor::stop() noexcept {
  if (std::exchange(stopped_, true)) return;
  error_code ignored;
  socket_.close(ignored);
  pause_.cancel();
}

void IntakeAcceptor::take_ready() {
  for (int i = 0; i < accepts_per_turn && !stopped_; ++i) {
    const int fd =
        ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      on_connection_(fd);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != ECONNABORTED && errno != EINTR) {
      on_failure_(std::error_code(errno, std::generic_category()));
      return pause();
    }
  }
  start();
}

void IntakeAcceptor::pause() {
  pause_.expires_after(accept_pause);
  pause_.async_wait(HandlerIn(pause_memory_, [this](error_code) {
    is_waiting_ = false;
    start();
  }));
  is_waiting_ = true;
}

}  // namespace postbag
