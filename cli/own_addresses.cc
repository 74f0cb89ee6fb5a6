#include "cli/own_addresses.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "engine/pure/url.h"

namespace postbag {

std::optional<ListenAddress> parse_listen(std::string_view text) {
  const auto parsed = parse_address_port(text);
  if (!parsed) return std::nullopt;
  std::string_view host = text.substr(0, text.rfind(':'));
  if (!parsed->address.is_v4) host = host.substr(1, host.size() - 2);
  return ListenAddress{std::string(host), parsed->port};
}

std::string format_listen(const ListenAddress& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return (v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

namespace {

// Binds a socket there, and lets go of it; the port that it had. Throws std::system_error.
std::uint16_t try_to_bind(const ListenAddress& address, const std::string& what) {
  const bool v6 = address.host.find(':') != std::string::npos;
  sockaddr_storage name{};
  socklen_t size = v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  void* host = v6 ? static_cast<void*>(&reinterpret_cast<sockaddr_in6*>(&name)->sin6_addr)
                  : static_cast<void*>(&reinterpret_cast<sockaddr_in*>(&name)->sin_addr);
  (v6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
      : reinterpret_cast<sockaddr_in*>(&name)->sin_port) = htons(address.port);
  name.ss_family = v6 ? AF_INET6 : AF_INET;
  inet_pton(name.ss_family, address.host.c_str(), host);
  const int fd = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto* any = reinterpret_cast<sockaddr*>(&name);
  // As the listener will: what a daemon before us left in TIME_WAIT is no obstacle.
  const int yes = 1;
  if (fd < 0 ||
      (address.port != 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0) ||
      bind(fd, any, size) != 0 || getsockname(fd, any, &size) != 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    throw std::system_error(error, std::generic_category(), what + format_listen(address));
  }
  close(fd);
  return ntohs(v6 ? reinterpret_cast<const sockaddr_in6*>(&name)->sin6_port
                  : reinterpret_cast<const sockaddr_in*>(&name)->sin_port);
}

}  // namespace

std::uint16_t find_free_port(const ListenAddress& address) {
  return try_to_bind(address, "[intake] listen: no port at ");
}

void check_can_listen(const ListenAddress& address) {
  try_to_bind(address, "[intake] listen: cannot listen on ");
}

std::vector<std::string> own_addresses_of(const ListenAddress& address) {
  std::vector<std::string> own = {format_listen(address)};
  if (address.host != "0.0.0.0" && address.host != "::") return own;
  own.push_back(format_listen({"127.0.0.1", address.port}));
  own.push_back(format_listen({"::1", address.port}));
  ifaddrs* interfaces = nullptr;
  if (getifaddrs(&interfaces) != 0) return own;
  for (const ifaddrs* at = interfaces; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    char text[INET6_ADDRSTRLEN] = "";
    if (at->ifa_addr->sa_family == AF_INET) {
      inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(at->ifa_addr)->sin_addr, text,
                sizeof text);
    } else if (at->ifa_addr->sa_family == AF_INET6) {
      inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(at->ifa_addr)->sin6_addr, text,
                sizeof text);
    }
    if (text[0] != '\0') own.push_back(format_listen({text, address.port}));
  }
  freeifaddrs(interfaces);
  return own;
}

}  // namespace postbag
