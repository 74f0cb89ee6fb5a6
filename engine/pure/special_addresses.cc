#include "engine/pure/special_addresses.h"

#include <algorithm>

namespace postbag {
namespace {

struct Network {
  std::array<std::uint8_t, 16> bytes;
  int bits;
  std::string_view kind;
};

constexpr Network ipv4_networks[] = {
    {{0}, 8, "an address of \"this network\""},
    {{10}, 8, "a private address"},
    {{100, 64}, 10, "a shared (carrier-grade NAT) address"},
    {{127}, 8, "a loopback address"},
    {{168, 63, 129, 16}, 32, "a cloud platform address"},
    {{169, 254}, 16, "a link-local address"},
    {{172, 16}, 12, "a private address"},
    {{192, 0, 0}, 24, "an address of the IETF protocol assignments"},
    {{192, 0, 2}, 24, "a documentation address"},
    {{192, 88, 99}, 24, "a 6to4 relay address"},
    {{192, 168}, 16, "a private address"},
    {{198, 18}, 15, "a benchmarking address"},
    {{198, 51, 100}, 24, "a documentation address"},
    {{203, 0, 113}, 24, "a documentation address"},
    {{224}, 4, "a multicast address"},
    {{255, 255, 255, 255}, 32, "the broadcast address"},
    {{240}, 4, "a reserved address"},
};

// The first that matches names the kind; the last lines close everything outside 2000::/3.
constexpr Network ipv6_networks[] = {
    {{0x20, 0x01},
     23,
     "an address of the IETF protocol assignments (Teredo, ORCHID, benchmarking)"},
    {{0x20, 0x01, 0x0d, 0xb8}, 32, "a documentation address"},
    {{0x20, 0x02}, 16, "a 6to4 address"},
    {{0x3f, 0xff}, 20, "a documentation address"},
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, "a loopback address"},
    {{0}, 128, "the unspecified address"},
    {{0x00, 0x64, 0xff, 0x9b}, 32, "a NAT64 address"},
    {{0}, 96, "an IPv4-compatible address"},
    {{0x01}, 64, "a discard-only address"},
    {{0x5f, 0x00}, 16, "a segment routing address"},
    {{0xfc}, 7, "a unique local (private) address"},
    {{0xfe, 0x80}, 10, "a link-local address"},
    {{0xfe, 0xc0}, 10, "a site-local address"},
    {{0xff}, 8, "a multicast address"},
    {{0x00}, 3, "an address outside the global unicast space"},
    {{0x40}, 2, "an address outside the global unicast space"},
    {{0x80}, 1, "an address outside the global unicast space"},
};

constexpr IpAddress metadata_ipv4[] = {
    {{169, 254, 169, 254}, true},  // most clouds
    {{168, 63, 129, 16}, true},    // Azure's platform
    {{100, 100, 100, 200}, true},  // Alibaba
    {{192, 0, 0, 192}, true},      // Oracle
};
constexpr IpAddress metadata_ipv6 = {
    {0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54}, false};

bool equal_bits(const std::uint8_t* a, const std::uint8_t* b, int bits) {
  const int whole = bits / 8;
  if (!std::equal(a, a + whole, b)) return false;
  return bits % 8 == 0 || ((a[whole] ^ b[whole]) >> (8 - bits % 8)) == 0;
}

bool is_metadata_ipv4(const IpAddress& address) {
  return std::find(std::begin(metadata_ipv4), std::end(metadata_ipv4), address) !=
         std::end(metadata_ipv4);
}

IpAddress ipv4_at(const IpAddress& address, std::size_t begin, std::uint8_t mask = 0) {
  IpAddress out;
  out.is_v4 = true;
  for (std::size_t i = 0; i < 4; ++i) out.bytes[i] = address.bytes[begin + i] ^ mask;
  return out;
}

}  // namespace

std::string_view special_kind(const IpAddress& address) {
  const auto find = [&](const auto& networks) -> std::string_view {
    for (const Network& network : networks) {
      if (equal_bits(address.bytes.data(), network.bytes.data(), network.bits)) return network.kind;
    }
    return {};
  };
  return address.is_v4 ? find(ipv4_networks) : find(ipv6_networks);
}

bool is_metadata(const IpAddress& address) {
  if (address.is_v4) return is_metadata_ipv4(address);
  if (address == metadata_ipv6) return true;
  // Whatever carries the IPv4 address in the last 32 bits (compatible, SIIT, ISATAP, NAT64 with any
  // /96), in 6to4's bits or, inverted, in Teredo's. A public address that only looks alike needs
  // its own entry: one of 2^32.
  if (is_metadata_ipv4(ipv4_at(address, 12))) return true;
  if (address.bytes[0] != 0x20) return false;
  if (address.bytes[1] == 0x02) return is_metadata_ipv4(ipv4_at(address, 2));
  return address.bytes[1] == 0x01 && address.bytes[2] == 0 && address.bytes[3] == 0 &&
         is_metadata_ipv4(ipv4_at(address, 12, 0xff));
}

bool is_loopback(const IpAddress& address) {
  return special_kind(address) == "a loopback address";
}

bool is_unspecified(const IpAddress& address) {
  return std::all_of(address.bytes.begin(), address.bytes.end(), [](auto b) { return b == 0; });
}

IpAddress unmapped(const IpAddress& address) {
  static constexpr std::uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (address.is_v4 || !std::equal(std::begin(prefix), std::end(prefix), address.bytes.begin()))
    return address;
  return ipv4_at(address, 12);
}

bool in_network(const IpAddress& address, const IpAddress& network, int bits) {
  return address.is_v4 == network.is_v4 &&
         equal_bits(address.bytes.data(), network.bytes.data(), bits);
}

}  // namespace postbag
