#include "bench/hook_caller.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "bench/raw_client.h"

namespace postbag {
namespace {

constexpr int patience_ms = 60'000;

// Whether the answer is whole; Postbag always names its length.
bool is_whole(std::string_view answer) {
  const std::size_t end = answer.find("\r\n\r\n");
  const std::size_t length = answer.find("Content-Length: ");
  if (end == answer.npos || length > end) return false;
  const auto bytes = std::strtoull(answer.data() + length + 16, nullptr, 10);
  return answer.size() >= end + 4 + bytes;
}

}  // namespace

HookAnswer HookCaller::post(std::string_view body) {
  if (fd_ < 0) fd_ = connect_local(port_);
  const std::string head =
      "POST /v1/hooks HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port_) +
      "\r\nContent-Type: application/x-ndjson\r\nContent-Length: " + std::to_string(body.size()) +
      "\r\n\r\n";
  HookAnswer answer = read_answer(head, body);
  if (answer.status == 0) disconnect();
  return answer;
}

HookAnswer HookCaller::read_answer(std::string_view head, std::string_view body) {
  std::string answer;
  std::array<char, 65536> buffer;
  std::size_t sent = 0;
  bool can_send = true;  // false: the other side wants no more; its answer may be here all the same
  for (;;) {
    const bool sends = can_send && sent < head.size() + body.size();
    pollfd waits{fd_, static_cast<short>(sends ? POLLIN | POLLOUT : POLLIN), 0};
    if (poll(&waits, 1, patience_ms) <= 0) return {0, "no answer in a minute"};
    if (sends && (waits.revents & POLLOUT) != 0) can_send = send_some(head, body, sent);
    if ((waits.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    const ssize_t bytes = recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (bytes <= 0) {
      return {0, std::string(bytes == 0 ? "closed" : std::strerror(errno)) + " after " +
                     std::to_string(sent) + " of " + std::to_string(head.size() + body.size()) +
                     " bytes and \"" + answer.substr(0, 200) + "\""};
    }
    answer.append(buffer.data(), static_cast<std::size_t>(bytes));
    if (!is_whole(answer)) continue;
    const int status = static_cast<int>(std::strtol(answer.c_str() + 9, nullptr, 10));
    // One that came before all was sent is the last on its connection.
    const bool is_last = sent < head.size() + body.size() ||
                         answer.find("Connection: close\r\n") < answer.find("\r\n\r\n");
    if (is_last) disconnect();
    return {status, answer.substr(0, 400)};
  }
}

bool HookCaller::send_some(std::string_view head, std::string_view body, std::size_t& sent) {
  const bool in_head = sent < head.size();
  const std::string_view from_head = in_head ? head.substr(sent) : std::string_view();
  const std::string_view from_body = body.substr(in_head ? 0 : sent - head.size());
  std::array<iovec, 2> pieces{iovec{const_cast<char*>(from_head.data()), from_head.size()},
                              iovec{const_cast<char*>(from_body.data()), from_body.size()}};
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  const ssize_t bytes = sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (bytes < 0) return errno == EAGAIN || errno == EINTR;
  sent += static_cast<std::size_t>(bytes);
  return true;
}

void HookCaller::disconnect() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

}  // namespace postbag
