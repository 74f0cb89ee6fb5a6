#include "engine/pure/network_policy.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "engine/pure/special_addresses.h"

namespace postbag {
namespace {

constexpr std::size_t entry_bytes_max = 300;
constexpr IpAddress loopback_v4 = {{127, 0, 0, 1}, true};
constexpr IpAddress loopback_v6 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, false};

std::optional<unsigned> parse_number(std::string_view text, unsigned max) {
  unsigned value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size() || value > max)
    return std::nullopt;
  if (text.size() > 1 && text[0] == '0') return std::nullopt;
  return value;
}

// The narrowest entry of `allow` that opens the address.
std::string entry_text(const IpAddress& address, std::uint16_t port) {
  const std::string text = to_string(address);
  return (address.is_v4 ? text : "[" + text + "]") + ":" + std::to_string(port);
}

std::string allow_key(const std::string& entry) {
  return "allow = [\"" + entry + "\"]";
}

std::string problem_of(const IpAddress& address) {
  const std::string_view kind =
      is_metadata(address) ? "a cloud metadata address" : special_kind(address);
  return to_string(address) + " is " + std::string(kind);
}

// Names that never are a public host: RFC 6761, RFC 6762, ICANN's .internal, and single labels,
// which a resolver completes with its search domain.
constexpr std::string_view this_machine = "a name for this machine";
std::string_view special_name(std::string_view host) {
  if (host == "localhost" || host.ends_with(".localhost")) return this_machine;
  if (host.ends_with(".local")) return "a name of the local network";
  if (host.ends_with(".internal")) return "an internal name";
  if (host.find('.') == std::string_view::npos) return "a single-label name";
  return {};
}

// The refusal for people: what is wrong, then every key that would be needed.
class Refusal {
 public:
  void add(const std::string& problem, const std::string& key) {
    if (!problems_.empty()) {
      problems_ += ", and ";
      keys_ += " and ";
    }
    problems_ += problem;
    keys_ += key;
  }

  NetworkRules::Verdict verdict() const {
    if (problems_.empty()) return {};
    return {false, problems_ + "; it needs " + keys_ + " in [network]"};
  }

 private:
  std::string problems_;
  std::string keys_;
};

using OwnAddresses = std::vector<std::pair<IpAddress, std::uint16_t>>;
constexpr std::string_view own_problem =
    "this is an address of Postbag itself, which is never a target";

void parse_own(std::string_view text, OwnAddresses& out) {
  constexpr std::string_view localhost = "localhost:";
  const bool is_localhost = text.starts_with(localhost);
  const auto own = parse_address_port(
      is_localhost ? "127.0.0.1:" + std::string(text.substr(localhost.size())) : std::string(text));
  if (!own) {
    throw std::invalid_argument("own address \"" + std::string(text) +
                                "\": want ADDRESS:PORT, IPv6 in brackets");
  }
  out.emplace_back(unmapped(own->address), own->port);
  if (is_localhost) out.emplace_back(loopback_v6, own->port);
}

// Linux connects 0.0.0.0 and :: to loopback, and a listener on 0.0.0.0 or :: is reached through
// loopback.
bool reaches_own(const IpAddress& address, const IpAddress& own) {
  if (address == own) return true;
  if (is_unspecified(own)) return is_loopback(address) || is_unspecified(address);
  return is_unspecified(address) && is_loopback(own);
}

bool is_own(const OwnAddresses& own, const IpAddress& address, std::uint16_t port) {
  return std::any_of(own.begin(), own.end(), [&](const auto& one) {
    return one.second == port && reaches_own(address, one.first);
  });
}

// An entry of `allow` in its parts, nothing checked yet.
struct EntryParts {
  std::string_view host;  // without brackets
  std::optional<std::string_view> bits;
  std::optional<std::string_view> port;
  bool is_v6 = false;
};

// HOST[/BITS][:PORT], where an IPv6 address with a port stands in brackets: [fd00::]/8:443. Returns
// what is wrong.
std::string_view split_entry(std::string_view entry, EntryParts& out) {
  if (entry.empty() || entry.size() > entry_bytes_max) {
    return "want an address, a network (10.1.0.0/16) or a host name, each with or without :port";
  }
  if (entry.find("://") != std::string_view::npos)
    return "only host and port, without scheme and path";
  std::string_view rest = entry;
  if (entry.starts_with('[')) {
    out.is_v6 = true;
    const std::size_t close = entry.find(']');
    if (close == std::string_view::npos) return "a ']' is missing";
    out.host = entry.substr(1, close - 1);
    rest = entry.substr(close + 1);
    if (!rest.empty() && rest[0] != '/' && rest[0] != ':')
      return "want [ADDRESS]:PORT or [ADDRESS]/BITS:PORT";
  } else {
    out.is_v6 = std::count(entry.begin(), entry.end(), ':') > 1;
    const std::size_t end = std::min(entry.find_first_of(out.is_v6 ? "/" : "/:"), entry.size());
    out.host = entry.substr(0, end);
    rest = entry.substr(end);
    if (out.is_v6 && rest.find(':') != std::string_view::npos)
      return "an IPv6 network with a port needs brackets";
  }
  if (rest.starts_with('/')) {
    const std::size_t end = std::min(rest.find(':'), rest.size());
    out.bits = rest.substr(1, end - 1);
    rest = rest.substr(end);
  }
  if (rest.starts_with(':')) out.port = rest.substr(1);
  return {};
}

IpAddress masked(IpAddress address, int bits) {
  for (int bit = bits; bit < (address.is_v4 ? 32 : 128); ++bit) {
    address.bytes[static_cast<std::size_t>(bit / 8)] &=
        static_cast<std::uint8_t>(~(0x80U >> (bit % 8)));
  }
  return address;
}

}  // namespace

std::optional<std::string> NetworkRules::parse_allow_entry(std::string_view entry,
                                                           AllowEntry& out) {
  const auto problem = [&](const std::string& what) {
    return "\"" + std::string(entry.substr(0, entry_bytes_max)) + "\": " + what;
  };
  EntryParts parts;
  if (const std::string_view what = split_entry(entry, parts); !what.empty())
    return problem(std::string(what));
  if (parts.port) {
    const std::optional<unsigned> port = parse_number(*parts.port, 65535);
    if (!port || *port == 0) return problem("the port must be a number from 1 to 65535");
    out.port = static_cast<std::uint16_t>(*port);
  }
  const std::optional<IpAddress> address =
      parts.is_v6 ? parse_ipv6(parts.host) : parse_ipv4(parts.host);
  if (!address) {
    if (parts.is_v6)
      return problem("not an IPv6 address; with a port it needs brackets, [::1]:8080");
    if (parts.host.find('*') != std::string_view::npos)
      return problem("a host name is exact, without '*'");
    // The same rules as for a target's host, so whatever is accepted here can also match.
    std::string ignored;
    const std::optional<Url> url = parse_url("https://" + std::string(parts.host) + "/", ignored);
    if (!url || url->path_and_query != "/") {
      return problem(
          "neither an address (four decimal numbers or IPv6), nor a network, nor a host name");
    }
    if (parts.bits) return problem("only a network of addresses takes a prefix length");
    out.host = url->host;
    return std::nullopt;
  }
  out.network = unmapped(*address);
  const int width = address->is_v4 ? 32 : 128;
  out.prefix_bits = width;
  if (parts.bits) {
    const std::optional<unsigned> bits = parse_number(*parts.bits, static_cast<unsigned>(width));
    if (!bits)
      return problem("the prefix length must be a number from 1 to " + std::to_string(width));
    if (*bits == 0)
      return problem("a prefix length of 0 would open every address; name what is needed");
    out.prefix_bits = static_cast<int>(*bits);
  }
  // ::ffff:10.0.0.0/104 is 10.0.0.0/8: such addresses are judged as IPv4.
  if (out.network->is_v4 != address->is_v4) {
    if (out.prefix_bits <= 96)
      return problem("a network of mapped IPv4 addresses is written as IPv4");
    out.prefix_bits -= 96;
  }
  const IpAddress base = masked(*out.network, out.prefix_bits);
  if (base != *out.network) {
    return problem("has bits set behind the prefix length; the network is " + to_string(base) +
                   "/" + std::to_string(out.prefix_bits) +
                   ", the address alone takes no prefix length");
  }
  return std::nullopt;
}

std::optional<std::string> NetworkRules::check_allow_entry(std::string_view entry) {
  AllowEntry ignored;
  return parse_allow_entry(entry, ignored);
}

bool NetworkRules::opens_everything(const std::vector<std::string>& allow, bool v4) {
  std::vector<AllowEntry> networks;
  for (const std::string& text : allow) {
    AllowEntry entry;
    if (parse_allow_entry(text, entry) || !entry.network) continue;
    if (entry.network->is_v4 == v4) networks.push_back(std::move(entry));
  }
  std::stable_sort(networks.begin(), networks.end(), [](const AllowEntry& a, const AllowEntry& b) {
    return a.prefix_bits < b.prefix_bits;
  });
  double covered = 0;
  for (auto network = networks.begin(); network != networks.end(); ++network) {
    const bool is_nested = std::any_of(networks.begin(), network, [&](const AllowEntry& wider) {
      return in_network(*network->network, *wider.network, wider.prefix_bits);
    });
    covered += is_nested ? 0 : std::ldexp(1.0, -network->prefix_bits);
  }
  return covered >= 1;
}

NetworkRules::NetworkRules(const NetworkPolicy& policy,
                           const std::vector<std::string>& own_addresses)
    : allow_http_(policy.allow_http) {
  for (const std::string& text : policy.allow) {
    AllowEntry entry;
    if (const auto problem = parse_allow_entry(text, entry)) {
      throw std::invalid_argument("[network] allow: " + *problem);
    }
    allow_.push_back(std::move(entry));
  }
  for (const std::string& text : own_addresses) parse_own(text, own_);
}

NetworkRules::Verdict NetworkRules::judge_url(const Url& url) const {
  Refusal refusal;
  if (url.scheme == "http") {
    if (!allow_http_) refusal.add("http is not allowed", "allow_http = true");
  } else if (url.scheme != "https") {
    return {false, "the scheme is neither https nor http"};
  }
  if (url.literal) {
    const IpAddress address = unmapped(*url.literal);
    if (is_own(own_, address, url.port)) return {false, std::string(own_problem)};
    if (!judge_address(address, url.port, url.host).allowed) {
      refusal.add(problem_of(address), allow_key(entry_text(address, url.port)));
    }
    return refusal.verdict();
  }
  const std::string_view kind = special_name(url.host);
  if (kind == this_machine && std::any_of(own_.begin(), own_.end(), [&](const auto& own) {
        return own.second == url.port && (is_loopback(own.first) || is_unspecified(own.first));
      })) {
    return {false, std::string(own_problem)};
  }
  const bool named = std::any_of(allow_.begin(), allow_.end(), [&](const AllowEntry& entry) {
    return entry.host == url.host && (!entry.port || *entry.port == url.port);
  });
  // Where loopback is opened, its own name is too: whoever allows 127.0.0.1 means localhost.
  const bool opened =
      named || (url.host == "localhost" && (judge_address(loopback_v4, url.port, {}).allowed ||
                                            judge_address(loopback_v6, url.port, {}).allowed));
  if (!kind.empty() && !opened) {
    refusal.add(url.host + " is " + std::string(kind),
                allow_key(url.host + ":" + std::to_string(url.port)));
  }
  return refusal.verdict();
}

NetworkRules::Verdict NetworkRules::judge_address(const IpAddress& dialled, std::uint16_t port,
                                                  std::string_view host) const {
  const IpAddress address = unmapped(dialled);
  if (is_own(own_, address, port)) return {false, std::string(own_problem)};
  // A wide network, or a name that somebody else resolves, must never open metadata by accident.
  const bool exact_only = is_metadata(address);
  if (!exact_only && special_kind(address).empty()) return {};
  for (const AllowEntry& entry : allow_) {
    if (entry.port && *entry.port != port) continue;
    if (entry.network) {
      if (exact_only && entry.prefix_bits < (address.is_v4 ? 32 : 128)) continue;
      if (in_network(address, *entry.network, entry.prefix_bits)) return {};
    } else if (!exact_only && entry.host == host) {
      return {};
    }
  }
  // "localhost" has an address of each family, and one refused address refuses a name.
  if (host == "localhost" && is_loopback(address) &&
      (judge_address(loopback_v4, port, {}).allowed ||
       judge_address(loopback_v6, port, {}).allowed)) {
    return {};
  }
  Refusal refusal;
  refusal.add(problem_of(address), allow_key(entry_text(address, port)));
  return refusal.verdict();
}

}  // namespace postbag
