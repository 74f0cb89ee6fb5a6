#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "cli/exit_codes.h"

namespace postbag {

// A daemon's answer, whole.
struct ControlAnswer {
  int status = 0;
  std::string content_type;
  std::string body;
  unsigned retry_after_s = 0;

  bool ok() const { return status >= 200 && status < 300; }
};

struct ControlRequest {
  std::string method = "GET";
  std::string path;          // with its query, encoded
  std::string content_type;  // of the body
  std::string accept;
  std::string_view body;
  bool may_take_long = false;  // the daemon works, or waits, before it says anything
};

// The request was on its way and no whole answer came: the daemon may have done what was asked of
// it.
class UnansweredError : public CommandError {
 public:
  using CommandError::CommandError;
};

// A blocking HTTP/1.1 client over the daemon's control socket; plain POSIX sockets. One thread.
// Keeps its connection and replaces it if the daemon closed it between two requests; only a GET is
// ever sent twice. Every failure is a CommandError (69, or 77 where the socket may not be used).
class ControlClient {
 public:
  // Nothing: no daemon answers there (no socket, or one that nobody listens on).
  static std::optional<ControlClient> connect(const std::string& socket_path);

  ControlClient(ControlClient&& other) noexcept;
  ControlClient& operator=(ControlClient&& other) noexcept;
  ~ControlClient();

  // When it becomes readable, send() waits `stop_grace_ms` more for its answer.
  void stop_on(int stop_fd) { stop_fd_ = stop_fd; }
  // For tests: without a byte for so long the daemon counts as unreachable.
  void give_up_after(std::chrono::milliseconds patience) { patience_ = patience; }
  // The whole answer, at most `answer_bytes_max` of it. Throws UnansweredError, too.
  ControlAnswer send(const ControlRequest& request);

  // For answers that come bit by bit: `on_bytes` gets the body as it arrives. When `stop_fd`
  // becomes readable the client says that it goes away (shuts down its half of the connection) and
  // reads on to the end. The answer comes without its body if the status is 2xx, with it otherwise.
  // `complete` tells whether it was whole.
  ControlAnswer stream(const ControlRequest& request, int stop_fd,
                       const std::function<void(std::string_view)>& on_bytes, bool& complete);

  const std::string& socket_path() const { return socket_path_; }
  static constexpr std::size_t answer_bytes_max = 256u << 20;
  static constexpr int stop_grace_ms = 3000;
  static constexpr std::chrono::seconds patience_default{30};

 private:
  ControlClient(std::string socket_path, int fd) : socket_path_(std::move(socket_path)), fd_(fd) {}
  bool write_request(const ControlRequest& request);
  void wait_for_answer(bool may_take_long);
  bool was_closed() const;
  void reconnect();
  void close_connection();
  [[noreturn]] void fail(const std::string& what) const;
  [[noreturn]] void fail_unanswered(const std::string& what);

  std::string socket_path_;
  int fd_ = -1;
  int stop_fd_ = -1;
  std::chrono::milliseconds patience_ = patience_default;
};

// application/x-www-form-urlencoded escaping of one value of a query.
std::string query_escape(std::string_view text);

}  // namespace postbag
