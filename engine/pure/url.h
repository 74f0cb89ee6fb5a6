#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postbag {

// An IP address in network byte order; IPv4 uses the first four bytes.
struct IpAddress {
  std::array<std::uint8_t, 16> bytes{};
  bool is_v4 = false;
  bool operator==(const IpAddress&) const = default;
};

// Strict: four decimal octets without leading zeros / RFC 4291 text without zone. Nothing else.
std::optional<IpAddress> parse_ipv4(std::string_view text);
std::optional<IpAddress> parse_ipv6(std::string_view text);
std::string to_string(const IpAddress& address);

// "127.0.0.1:8420", "[::1]:0": an address as above, IPv6 in brackets, and a port of at most five
// digits.
struct AddressPort {
  IpAddress address;
  std::uint16_t port = 0;
};
std::optional<AddressPort> parse_address_port(std::string_view text);

// A target in the parts that the wire needs.
struct Url {
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case, no trailing dot; IPv6 in its canonical text, without brackets
  std::optional<IpAddress> literal;  // set when the host is an address
  std::uint16_t port = 0;            // explicit or the scheme's default
  std::string path_and_query;        // begins with '/'
  std::string canonical;             // the target's identity
};

// Our own grammar, a subset of RFC 3986 (scheme, reg-name of LDH labels or strict literal, port,
// path, query), at most 2,048 bytes. Repaired: case of scheme and host, default port, trailing dot
// of the host, empty path. Anything else that would need repair is refused. On failure returns
// nothing and sets `error` to what is wrong, for people.
std::optional<Url> parse_url(std::string_view text, std::string& error);

}  // namespace postbag
