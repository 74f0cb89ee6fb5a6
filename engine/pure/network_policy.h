#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/pure/url.h"
#include "postbag/policy.h"

namespace postbag {

// May a request go there? Compiled from [network]; immutable, so any thread may ask. reference: RFC
// 6890 special-purpose registries, cloud metadata addresses.
class NetworkRules {
 public:
  struct Verdict {
    bool allowed = true;
    // For people if refused: what is wrong and every key that would be needed to allow it.
    std::string why;
  };

  // `own_addresses` ("127.0.0.1:8420") are never allowed. Throws std::invalid_argument naming the
  // bad `allow` entry.
  NetworkRules(const NetworkPolicy& policy, const std::vector<std::string>& own_addresses);

  // Scheme, port, host name and, if the host is a literal, the address. At submit and at
  // configuration.
  Verdict judge_url(const Url& url) const;
  // An address that is about to be dialled for `host`:`port`. `host` matters because allow may name
  // it.
  Verdict judge_address(const IpAddress& address, std::uint16_t port, std::string_view host) const;

  // The message for an unusable `allow` entry, or nothing.
  static std::optional<std::string> check_allow_entry(std::string_view entry);
  // True if the networks of `allow` together are all of IPv4 or all of IPv6, "0.0.0.0/1" with
  // "128.0.0.0/1" too: that is no list but a switch that turns the policy off. Ports are not looked
  // at: all addresses on one port are all addresses. Unusable entries are passed over.
  static bool opens_everything(const std::vector<std::string>& allow, bool v4);

 private:
  struct AllowEntry {
    std::optional<IpAddress> network;
    int prefix_bits = 0;
    std::string host;                   // instead of network
    std::optional<std::uint16_t> port;  // nothing = every port
  };
  static std::optional<std::string> parse_allow_entry(std::string_view entry, AllowEntry& out);

  bool allow_http_ = false;
  std::vector<AllowEntry> allow_;
  std::vector<std::pair<IpAddress, std::uint16_t>> own_;
};

}  // namespace postbag
