// Whether the client of a request that is being handled is still there.
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "cli/intake/connection.h"

namespace postbag {

using boost::system::error_code;

void IntakeConnection::on_peer_gone(std::function<void()> gone,
                                    std::function<void()> has_finished) {
  if (state_ == State::closed) return gone();
  if (state_ != State::handling && state_ != State::streaming) return;
  peer_gone_ = std::move(gone);
  peer_finished_ = std::move(has_finished);
  if (input().empty())
    guard([this] { watch_peer(); });  // else there is a next request, and somebody who sent it
}

void IntakeConnection::forget_peer_handlers() noexcept {
  peer_gone_ = nullptr;
  peer_finished_ = nullptr;
}

void IntakeConnection::watch_peer() {
  watching_ = true;
  socket_.async_wait(Socket::wait_read,
                     HandlerIn(read_memory_, [self = shared_from_this()](error_code error) {
                       self->guard([&] { self->on_peer_readable(error); });
                     }));
}

void IntakeConnection::on_peer_readable(error_code error) {
  if (error || !watching_) return;
  watching_ = false;
  if (state_ != State::handling && state_ != State::streaming) return;
  char byte;
  const ssize_t bytes = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (bytes > 0) return;
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return watch_peer();
  const bool may_listen =
      bytes == 0 && state_ == State::handling && request_.head.minor_version == 1;
  if (may_listen && peer_finished_) return on_peer_finished();
  close();
}

// A FIN comes from a client that has sent all and waits, and from one that is gone. Where nobody
// is, an interim answer is answered with a reset; whoever waits passes over it (RFC 9110 15.2).
void IntakeConnection::on_peer_finished() {
  static constexpr std::string_view interim = "HTTP/1.1 100 Continue\r\n\r\n";
  // First: whoever has the interim answer may rely on it.
  std::exchange(peer_finished_, nullptr)();
  if (state_ != State::handling) return;
  const ssize_t sent =
      ::send(socket_.native_handle(), interim.data(), interim.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(interim.size())) return close();
  watch_reset();
}

void IntakeConnection::watch_reset() {
  watching_ = true;
  socket_.async_wait(Socket::wait_error,
                     HandlerIn(read_memory_, [self = shared_from_this()](error_code error) {
                       if (error || !self->watching_) return;
                       self->watching_ = false;
                       if (self->state_ != State::handling) return;
                       pollfd look{self->socket_.native_handle(), 0, 0};
                       if (::poll(&look, 1, 0) > 0) return self->close();
                       // Urgent data, which means nothing here; unread it would wake this again at
                       // once.
                       char urgent;
                       ::recv(self->socket_.native_handle(), &urgent, 1, MSG_OOB | MSG_DONTWAIT);
                       self->guard([&] { self->watch_reset(); });
                     }));
}

}  // namespace postbag
