#include "tests/support/intake_client.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace postbag::test {
namespace {

constexpr int silence_seconds_max = 60;

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error("socket path too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

template <typename Address>
int connect_to(int family, const Address& address) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval timeout{silence_seconds_max, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    ::close(fd);
    throw std::runtime_error(std::string("connect: ") + std::strerror(error));
  }
  return fd;
}

bool same_name(const std::string& a, const std::string& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(a[i])) !=
        std::tolower(static_cast<unsigned char>(b[i]))) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::string Response::field(const std::string& name) const {
  for (const auto& [key, value] : fields) {
    if (same_name(key, name)) return value;
  }
  return {};
}

IntakeClient::IntakeClient(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  fd_ = connect_to(AF_INET, address);
}

IntakeClient::IntakeClient(const std::string& unix_path)
    : fd_(connect_to(AF_UNIX, unix_address(unix_path))) {}

IntakeClient::~IntakeClient() {
  if (fd_ >= 0) ::close(fd_);
}

IntakeClient::IntakeClient(IntakeClient&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      buffer_(std::move(other.buffer_)),
      in_stream_(other.in_stream_) {}

void IntakeClient::send(const std::string& bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += static_cast<std::size_t>(n);
  }
}

bool IntakeClient::read_some() {
  char bytes[64 * 1024];
  const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
  if (n <= 0) return false;
  buffer_.append(bytes, static_cast<std::size_t>(n));
  return true;
}

bool IntakeClient::read_until(const std::string& what, std::string& line) {
  std::size_t from = 0;
  for (;;) {
    const std::size_t at = buffer_.find(what, from);
    if (at != std::string::npos) {
      line = buffer_.substr(0, at);
      buffer_.erase(0, at + what.size());
      return true;
    }
    from = buffer_.size() < what.size() ? 0 : buffer_.size() - what.size() + 1;
    if (!read_some()) return false;
  }
}

bool IntakeClient::read_exactly(std::size_t bytes, std::string& out) {
  while (buffer_.size() < bytes) {
    if (!read_some()) return false;
  }
  out = buffer_.substr(0, bytes);
  buffer_.erase(0, bytes);
  return true;
}

Response IntakeClient::read_head() {
  Response response;
  std::string line;
  if (!read_until("\r\n", line) || !line.starts_with("HTTP/1.1 ") || line.size() < 12)
    return response;
  const int status = std::stoi(line.substr(9, 3));
  for (;;) {
    if (!read_until("\r\n", line)) return response;
    if (line.empty()) break;
    const std::size_t colon = line.find(": ");
    if (colon == std::string::npos) return response;
    response.fields.emplace_back(line.substr(0, colon), line.substr(colon + 2));
  }
  response.status = status;
  return response;
}

void IntakeClient::finish_sending() {
  shutdown(fd_, SHUT_WR);
}

Response IntakeClient::read_response(bool has_body) {
  Response response = read_head();
  if (response.status < 200 || !has_body) return response;
  const std::string length = response.field("Content-Length");
  if (length.empty() || !read_exactly(std::stoul(length), response.body)) response.status = 0;
  return response;
}

std::string IntakeClient::read_chunk() {
  if (!std::exchange(in_stream_, true) && read_head().status != 200) return {};
  std::string size;
  std::string data;
  std::string end;
  if (!read_until("\r\n", size) || !read_exactly(std::stoul(size, nullptr, 16), data)) return {};
  read_exactly(2, end);
  if (data.empty()) in_stream_ = false;
  return data;
}

int IntakeClient::unread_bytes() const {
  int bytes = 0;
  ::ioctl(fd_, SIOCOUTQ, &bytes);
  return bytes;
}

bool IntakeClient::is_closed() const {
  pollfd look{fd_, 0, 0};
  return ::poll(&look, 1, 0) > 0 && (look.revents & POLLHUP) != 0;
}

bool IntakeClient::has_input() const {
  pollfd one{fd_, POLLIN, 0};
  return !buffer_.empty() || poll(&one, 1, 0) > 0;
}

bool IntakeClient::at_end() {
  if (!buffer_.empty()) return false;
  char byte;
  const ssize_t n = ::recv(fd_, &byte, 1, 0);
  return n == 0 || (n < 0 && errno == ECONNRESET);
}

void make_stale_unix_socket(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd);
    throw std::runtime_error("bind failed");
  }
  ::close(fd);
}

}  // namespace postbag::test
