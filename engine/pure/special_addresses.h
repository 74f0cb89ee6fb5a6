#pragma once

#include <optional>
#include <string_view>

#include "engine/pure/url.h"

namespace postbag {

// What an address is if it is not plain public unicast ("a loopback address", ...), else empty.
// Sources: the IANA special-purpose registries (RFC 6890) and IPv6 unicast assignments: outside
// 2000::/3 nothing is public. Mapped IPv4 (::ffff:a.b.c.d) must have gone through unmapped().
std::string_view special_kind(const IpAddress& address);

// The addresses where clouds hand out credentials, and carriers of them (NAT64, 6to4, ...).
bool is_metadata(const IpAddress& address);

bool is_loopback(const IpAddress& address);
bool is_unspecified(const IpAddress& address);

// ::ffff:a.b.c.d as the IPv4 address that a connect() to it reaches; every other address as it is.
IpAddress unmapped(const IpAddress& address);

// The first `bits` bits of both are equal. Never across the two families.
bool in_network(const IpAddress& address, const IpAddress& network, int bits);

}  // namespace postbag
