#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <system_error>

#include "cli/intake/listener.h"
#include "engine/shell/handler_memory.h"

namespace postbag {

// Takes connections from one listening socket, on intake's thread. To wait for the next ones needs
// no memory, so it never goes deaf for want of it.
class IntakeAcceptor {
 public:
  using Socket =
      boost::asio::basic_socket_acceptor<boost::asio::generic::stream_protocol, IntakeExecutor>;

  // `on_connection` gets a descriptor (non-blocking) that is its own from then on; `on_failure` is
  // told why a connection that waits cannot be taken: it is tried again after a pause. Neither may
  // throw.
  IntakeAcceptor(Socket listening, std::function<void(int)> on_connection,
                 std::function<void(std::error_code)> on_failure);
  IntakeAcceptor(const IntakeAcceptor&) = delete;
  IntakeAcceptor& operator=(const IntakeAcceptor&) = delete;

  // Begins to take connections; does nothing if it does already. May throw std::bad_alloc, and is
  // to be called again then.
  void start();
  void stop() noexcept;

 private:
  void take_ready();
  void pause();

  HandlerMemory wait_memory_, pause_memory_;  // before what uses them
  Socket socket_;
  boost::asio::steady_timer pause_;
  const std::function<void(int)> on_connection_;
  const std::function<void(std::error_code)> on_failure_;
  bool is_waiting_ = false;  // for connections, or for the end of a pause
  bool stopped_ = false;
};

}  // namespace postbag
