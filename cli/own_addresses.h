#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postbag {

struct ListenAddress {
  std::string host;  // an address, IPv6 without brackets
  std::uint16_t port = 0;
};
// "127.0.0.1:8420", "[::1]:8420"; port 0 is allowed. Nothing if it is neither. Pure.
std::optional<ListenAddress> parse_listen(std::string_view text);
// The inverse.
std::string format_listen(const ListenAddress& address);

// A port that is free there now. The engine must know its own address before the server listens, so
// port 0 is resolved first; that another process takes it in between is possible, and then the
// start fails. Throws std::system_error.
std::uint16_t find_free_port(const ListenAddress& address);

// Whether a listener could be bound there now, before anything is done that a start leaves behind.
// Throws std::system_error.
void check_can_listen(const ListenAddress& address);

// Every "address:port" that reaches a listener there: itself, or all addresses of this machine for
// 0.0.0.0 and [::].
std::vector<std::string> own_addresses_of(const ListenAddress& address);

}  // namespace postbag
