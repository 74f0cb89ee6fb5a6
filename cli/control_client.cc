#include "cli/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "cli/exit_codes.h"
#include "cli/http_answer.h"

namespace postbag {

namespace {

std::string error_text(int error) {
  return std::generic_category().message(error);
}

// A connected socket, or -1 where nobody listens.
int connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return -1;  // no daemon can listen there
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw CommandError(exit_system, "cannot make a socket: " + error_text(errno));
  // A daemon that takes nothing: a full queue of connections, a full buffer.
  timeval patience{};
  patience.tv_sec = ControlClient::patience_default.count();
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  int result = 0;
  do {
    result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return fd;
  const int error = errno;
  close(fd);
  if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR) return -1;
  throw CommandError(error == EACCES ? exit_permission : exit_unavailable,
                     "cannot reach the daemon at " + path + ": " + error_text(error));
}

std::string request_head(const ControlRequest& request) {
  std::string head = request.method + " " + request.path + " HTTP/1.1\r\nHost: localhost\r\n";
  if (!request.accept.empty()) head += "Accept: " + request.accept + "\r\n";
  if (!request.content_type.empty()) head += "Content-Type: " + request.content_type + "\r\n";
  if (request.method != "GET" || !request.body.empty()) {
    head += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
  }
  return head + "\r\n";
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

ssize_t read_some(int fd, char* data, std::size_t size) {
  for (;;) {
    const ssize_t got = recv(fd, data, size, 0);
    if (got >= 0 || errno != EINTR) return got;
  }
}

}  // namespace

std::optional<ControlClient> ControlClient::connect(const std::string& socket_path) {
  const int fd = connect_to(socket_path);
  if (fd < 0) return std::nullopt;
  return ControlClient(socket_path, fd);
}

ControlClient::ControlClient(ControlClient&& other) noexcept
    : socket_path_(std::move(other.socket_path_)),
      fd_(std::exchange(other.fd_, -1)),
      stop_fd_(other.stop_fd_),
      patience_(other.patience_) {}

ControlClient& ControlClient::operator=(ControlClient&& other) noexcept {
  if (this != &other) {
    close_connection();
    socket_path_ = std::move(other.socket_path_);
    fd_ = std::exchange(other.fd_, -1);
    stop_fd_ = other.stop_fd_;
    patience_ = other.patience_;
  }
  return *this;
}

ControlClient::~ControlClient() {
  close_connection();
}

void ControlClient::close_connection() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void ControlClient::fail(const std::string& what) const {
  throw CommandError(exit_unavailable, "the daemon at " + socket_path_ + ": " + what);
}

// An answer that comes all the same must not be taken for that of the next request.
void ControlClient::fail_unanswered(const std::string& what) {
  close_connection();
  throw UnansweredError(exit_unavailable, "the daemon at " + socket_path_ + ": " + what);
}

void ControlClient::reconnect() {
  close_connection();
  fd_ = connect_to(socket_path_);
  if (fd_ < 0) fail("it is gone");
}

bool ControlClient::write_request(const ControlRequest& request) {
  const std::string head = request_head(request);
  // A refused body may be answered before all of it is written: the answer is read in any case.
  return write_all(fd_, head) && write_all(fd_, request.body);
}

// The daemon may close an idle connection at any time.
bool ControlClient::was_closed() const {
  pollfd idle{fd_, POLLIN, 0};
  return poll(&idle, 1, 0) > 0;
}

void ControlClient::wait_for_answer(bool may_take_long) {
  const int patience_ms = may_take_long ? -1 : static_cast<int>(patience_.count());
  pollfd fds[2] = {{fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  while (fds[0].revents == 0) {
    const bool stopping = fds[1].revents != 0;
    const int ready = poll(fds, stopping ? 1 : 2, stopping ? stop_grace_ms : patience_ms);
    if (ready < 0 && errno != EINTR) fail_unanswered(error_text(errno));
    if (ready == 0 && !stopping) {
      fail_unanswered("it does not answer; what was asked of it may have been done");
    }
    if (ready == 0) fail_unanswered("no answer came; what was asked of it may have been done");
  }
}

ControlAnswer ControlClient::send(const ControlRequest& request) {
  const bool fresh = fd_ < 0 || was_closed();
  if (fresh) reconnect();
  // What was asked for may be done although no answer came.
  for (bool again = !fresh && request.method == "GET";; again = false) {
    const bool written = write_request(request);
    HttpAnswerDecoder decoder;
    ControlAnswer answer;
    char buffer[64 << 10];
    bool got_bytes = false;
    while (!decoder.done()) {
      wait_for_answer(request.may_take_long);
      const ssize_t got = read_some(fd_, buffer, sizeof buffer);
      if (got <= 0) {
        if (!got_bytes || !decoder.end()) break;
        continue;
      }
      got_bytes = true;
      if (!decoder.feed({buffer, static_cast<std::size_t>(got)}, answer.body))
        fail_unanswered(decoder.error());
      if (answer.body.size() > answer_bytes_max) fail_unanswered("an answer of more than 256 MiB");
    }
    if (decoder.done()) {
      answer.status = decoder.status();
      answer.content_type = decoder.content_type();
      answer.retry_after_s = decoder.retry_after_s();
      if (!decoder.keep_alive() || !written) close_connection();
      return answer;
    }
    if (got_bytes || !again) fail_unanswered("the connection ended before the answer did");
    reconnect();
  }
}

ControlAnswer ControlClient::stream(const ControlRequest& request, int stop_fd,
                                    const std::function<void(std::string_view)>& on_bytes,
                                    bool& complete) {
  if (fd_ < 0) reconnect();
  write_request(request);
  HttpAnswerDecoder decoder;
  ControlAnswer answer;
  char buffer[64 << 10];
  std::string piece;
  bool stopping = stop_fd < 0, head_done = false;
  while (!decoder.done()) {
    pollfd fds[2] = {{fd_, POLLIN, 0}, {stop_fd, POLLIN, 0}};
    if (poll(fds, stopping ? 1 : 2, -1) < 0 && errno != EINTR) fail(error_text(errno));
    if (!stopping && fds[1].revents != 0) {
      stopping = true;
      shutdown(fd_, SHUT_WR);
    }
    if (fds[0].revents == 0) continue;
    const ssize_t got = read_some(fd_, buffer, sizeof buffer);
    if (got <= 0) {
      head_done = decoder.head_done();
      decoder.end();
      break;
    }
    piece.clear();
    if (!decoder.feed({buffer, static_cast<std::size_t>(got)}, piece)) fail(decoder.error());
    if (decoder.head_done() && decoder.status() / 100 == 2) {
      if (!piece.empty()) on_bytes(piece);
    } else if (answer.body.size() <= (1u << 20)) {
      answer.body += piece;
    }
  }
  complete = decoder.done();
  if (!complete && !head_done) fail("the connection ended before the answer came");
  answer.status = decoder.status();
  answer.content_type = decoder.content_type();
  close_connection();
  return answer;
}

std::string query_escape(std::string_view text) {
  static constexpr char hex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
        c == '_' || c == '.' || c == '~') {
      out += c;
    } else {
      out += '%';
      out += hex[byte >> 4];
      out += hex[byte & 15];
    }
  }
  return out;
}

}  // namespace postbag
