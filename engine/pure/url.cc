#include "engine/pure/url.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <span>

#include "engine/pure/ascii.h"

namespace postbag {
namespace {

constexpr std::size_t url_bytes_max = 2048;
constexpr std::size_t host_bytes_max = 253;  // RFC 1035 2.3.4, without the trailing dot
constexpr std::size_t label_bytes_max = 63;

// What a character may be part of. Everything that has no bit is refused wherever it stands.
constexpr std::uint8_t in_host = 1;  // letter, digit, '-', '.'
constexpr std::uint8_t upper = 2;    // needs lower case in a host
constexpr std::uint8_t in_path = 4;  // RFC 3986 pchar without '%', which is looked at, and '/'
constexpr std::uint8_t digit = 8;
constexpr std::uint8_t hex_digit = 16;

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (int c = 'a'; c <= 'z'; ++c) classes[c] = in_host | in_path;
  for (int c = 'A'; c <= 'Z'; ++c) classes[c] = in_host | upper | in_path;
  for (int c = '0'; c <= '9'; ++c) classes[c] = in_host | in_path | digit | hex_digit;
  for (int c = 'a'; c <= 'f'; ++c) classes[c] |= hex_digit;
  for (int c = 'A'; c <= 'F'; ++c) classes[c] |= hex_digit;
  for (const char c : std::string_view("-.")) classes[static_cast<std::uint8_t>(c)] = in_host;
  for (const char c : std::string_view("-._~!$&'()*+,;=:@")) {
    classes[static_cast<std::uint8_t>(c)] |= in_path;
  }
  return classes;
}
constexpr std::array<std::uint8_t, 256> classes = make_classes();

std::uint8_t class_of(char c) {
  return classes[static_cast<std::uint8_t>(c)];
}
int hex_value(char c) {
  return c <= '9' ? c - '0' : ascii_lower(c) - 'a' + 10;
}

// Longest text: six groups and a dotted quad, 45 characters.
using AddressText = std::array<char, 48>;

std::size_t append_decimal(char* out, unsigned value) {
  std::size_t size = 0;
  if (value >= 100) out[size++] = static_cast<char>('0' + value / 100);
  if (value >= 10) out[size++] = static_cast<char>('0' + value / 10 % 10);
  out[size++] = static_cast<char>('0' + value % 10);
  return size;
}

std::size_t format_ipv4(std::span<const std::uint8_t, 4> bytes, char* out) {
  std::size_t size = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    if (i > 0) out[size++] = '.';
    size += append_decimal(out + size, bytes[i]);
  }
  return size;
}

// RFC 5952: lower case, no leading zeros, the longest (first) run of at least two zero groups as
// "::". `mixed`: the last 32 bits as a dotted quad (RFC 5952 5).
std::string_view format_ipv6(const IpAddress& address, bool mixed, AddressText& text) {
  const int groups = mixed ? 6 : 8;
  const auto group = [&](int i) {
    return static_cast<unsigned>(address.bytes[2 * i] << 8 | address.bytes[2 * i + 1]);
  };
  int run_begin = -1;
  int run_size = 1;
  for (int i = 0; i < groups;) {
    int end = i;
    while (end < groups && group(end) == 0) ++end;
    if (end - i > run_size) {
      run_begin = i;
      run_size = end - i;
    }
    i = end + 1;
  }
  std::size_t size = 0;
  bool separated = true;
  for (int i = 0; i < groups;) {
    if (i == run_begin) {
      text[size++] = ':';
      text[size++] = ':';
      separated = true;
      i += run_size;
      continue;
    }
    if (!separated) text[size++] = ':';
    separated = false;
    bool begun = false;
    for (int shift = 12; shift >= 0; shift -= 4) {
      const unsigned nibble = group(i) >> shift & 15U;
      begun = begun || nibble != 0 || shift == 0;
      if (begun) text[size++] = "0123456789abcdef"[nibble];
    }
    ++i;
  }
  if (mixed) {
    if (!separated) text[size++] = ':';
    size += format_ipv4(std::span(address.bytes).last<4>(), text.data() + size);
  }
  return {text.data(), size};
}

bool is_mapped(const IpAddress& address) {
  return std::all_of(address.bytes.begin(), address.bytes.begin() + 10,
                     [](auto b) { return b == 0; }) &&
         address.bytes[10] == 0xff && address.bytes[11] == 0xff;
}

// The one reading of a URL that both functions share: positions in the text, nothing is copied.
struct Scan {
  std::string_view problem;  // what is wrong; empty: valid
  bool canonical = true;     // nothing has to be repaired
  bool https = false;
  std::string_view host;  // as written, without brackets and trailing dot
  std::optional<IpAddress> literal;
  bool bracketed = false;
  std::uint16_t port = 0;
  std::string_view path_and_query;  // may be empty or begin with '?'

  bool fail(std::string_view what) {
    problem = what;
    return false;
  }
};

bool scan_scheme(std::string_view text, std::size_t& at, Scan& scan) {
  if (text.starts_with("https://")) {
    scan.https = true;
    at = 8;
    return true;
  }
  if (text.starts_with("http://")) {
    at = 7;
    return true;
  }
  scan.canonical = false;
  if (text.size() >= 8 && equal_ignoring_case(text.substr(0, 8), "https://")) {
    scan.https = true;
    at = 8;
    return true;
  }
  if (text.size() >= 7 && equal_ignoring_case(text.substr(0, 7), "http://")) {
    at = 7;
    return true;
  }
  return scan.fail("it must begin with https:// or http://");
}

bool scan_bracketed_host(std::string_view text, std::size_t& at, Scan& scan) {
  const std::size_t close = text.find(']', at);
  if (close == std::string_view::npos) return scan.fail("the host has a '[' without a ']'");
  scan.bracketed = true;
  scan.host = text.substr(at + 1, close - at - 1);
  scan.literal = parse_ipv6(scan.host);
  if (!scan.literal) return scan.fail("the host in brackets is not an IPv6 address (no zone id)");
  // One text an address, or it would be two targets: the last 32 bits are a dotted quad where the
  // prefix says that they are an IPv4 address (RFC 5952 5), and nowhere else.
  AddressText buffer;
  const bool mixed = is_mapped(*scan.literal);
  const std::string_view wanted = format_ipv6(*scan.literal, mixed, buffer);
  if (!equal_ignoring_case(scan.host, wanted)) {
    return scan.fail(mixed ? "an IPv4-mapped address is written [::ffff:127.0.0.1] (RFC 5952)"
                           : "the IPv6 address is not in its shortest hexadecimal form (RFC 5952)");
  }
  scan.canonical = scan.canonical && scan.host == wanted;
  at = close + 1;
  return true;
}

// Any resolver takes "127.1", "0177.0.0.1", "2130706433" and "0x7f000001" for 127.0.0.1, so a host
// that ends in a number is a strict address or nothing (WHATWG URL, "ends in a number").
bool looks_numeric(std::string_view label) {
  const auto all = [](std::string_view text, std::uint8_t wanted) {
    return std::all_of(text.begin(), text.end(),
                       [&](char c) { return (class_of(c) & wanted) != 0; });
  };
  if (all(label, digit)) return true;
  return label.size() >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X') &&
         all(label.substr(2), hex_digit);
}

bool scan_named_host(std::string_view text, std::size_t& at, Scan& scan) {
  const std::size_t begin = at;
  std::size_t label = at;
  std::size_t last_label = at;
  std::uint8_t seen = 0;
  std::size_t end = at;
  for (;; ++end) {
    const char c = end < text.size() ? text[end] : '/';
    const std::uint8_t kind = class_of(c);
    if ((kind & in_host) != 0 && c != '.') {
      seen |= kind;
      continue;
    }
    const bool is_end = c == '/' || c == ':' || c == '?';
    if (c != '.' && !is_end) {
      if (c == '@') return scan.fail("a user name or password is not allowed");
      if (c == '#') return scan.fail("a fragment is not allowed");
      return scan.fail("the host has a character that it may not have");
    }
    if (end == label) {
      if (is_end && end > begin) break;  // the trailing dot
      return scan.fail(end == begin ? "there is no host" : "the host has an empty label");
    }
    if (end - label > label_bytes_max) return scan.fail("a label of the host has over 63 bytes");
    if (text[label] == '-' || text[end - 1] == '-') {
      return scan.fail("a label of the host begins or ends with '-'");
    }
    last_label = label;
    if (is_end) break;
    label = end + 1;
  }
  at = end;
  if (text[end - 1] == '.') {
    scan.canonical = false;
    --end;
  }
  scan.host = text.substr(begin, end - begin);
  if (scan.host.empty()) return scan.fail("there is no host");
  if (scan.host.size() > host_bytes_max) return scan.fail("the host has over 253 bytes");
  if ((seen & upper) != 0) scan.canonical = false;
  if ((class_of(text[last_label]) & digit) != 0 &&
      looks_numeric(text.substr(last_label, end - last_label))) {
    scan.literal = parse_ipv4(scan.host);
    if (!scan.literal) {
      return scan.fail(
          "a host that ends in a number must be an IPv4 address of four decimal numbers");
    }
  }
  return true;
}

bool scan_port(std::string_view text, std::size_t& at, Scan& scan) {
  const std::uint16_t standard = scan.https ? 443 : 80;
  scan.port = standard;
  if (at == text.size() || text[at] != ':') return true;
  const std::size_t begin = ++at;
  unsigned port = 0;
  while (at < text.size() && (class_of(text[at]) & digit) != 0 && at - begin < 5) {
    port = port * 10 + static_cast<unsigned>(text[at++] - '0');
  }
  if (at < text.size() &&
      text.substr(0, text.find_first_of("/?#", at)).find('@', begin) != std::string_view::npos) {
    return scan.fail("a user name or password is not allowed");
  }
  if (at == begin || text[begin] == '0' || port > 65535) {
    return scan.fail("the port is not a number from 1 to 65535 without leading zeros");
  }
  scan.port = static_cast<std::uint16_t>(port);
  if (port == standard) scan.canonical = false;
  return true;
}

// "." and ".." (also percent-encoded): clients and proxies remove them, so the request would go to
// another path than the one that [[target]] blocks were matched with.
bool is_dot_segment(std::string_view segment) {
  int dots = 0;
  while (!segment.empty()) {
    if (segment[0] == '.') {
      segment.remove_prefix(1);
    } else if (segment.size() >= 3 && segment[0] == '%' && segment[1] == '2' &&
               ascii_lower(segment[2]) == 'e') {
      segment.remove_prefix(3);
    } else {
      return false;
    }
    if (++dots > 2) return false;
  }
  return dots > 0;
}

bool scan_path_and_query(std::string_view text, std::size_t at, Scan& scan) {
  scan.path_and_query = text.substr(at);
  if (at == text.size() || text[at] == '?') scan.canonical = false;
  if (at < text.size() && text[at] != '/' && text[at] != '?') {
    return scan.fail(text[at] == '#' ? "a fragment is not allowed"
                                     : "something else than a path follows the host");
  }
  bool in_query = false;
  for (std::size_t i = at; i < text.size(); ++i) {
    const char c = text[i];
    if ((class_of(c) & in_path) != 0) continue;
    if (c == '/') {
      if (in_query || i + 1 == text.size()) continue;
      if (text[i + 1] != '.' && text[i + 1] != '%') continue;
      const std::string_view rest = text.substr(i + 1);
      if (is_dot_segment(rest.substr(0, rest.find_first_of("/?")))) {
        return scan.fail("the path has a '.' or '..' segment");
      }
    } else if (c == '?') {
      in_query = true;
    } else if (c == '%') {
      if (text.size() - i < 3 || (class_of(text[i + 1]) & hex_digit) == 0 ||
          (class_of(text[i + 2]) & hex_digit) == 0) {
        return scan.fail("a '%' is not followed by two hexadecimal digits");
      }
      i += 2;
    } else if (c == '#') {
      return scan.fail("a fragment is not allowed");
    } else {
      return scan.fail("the path or query has a character that must be percent-encoded");
    }
  }
  return true;
}

bool scan_url(std::string_view text, Scan& scan) {
  if (text.size() > url_bytes_max) return scan.fail("it has over 2048 bytes");
  std::size_t at = 0;
  if (!scan_scheme(text, at, scan)) return false;
  const bool bracketed = at < text.size() && text[at] == '[';
  if (!(bracketed ? scan_bracketed_host(text, at, scan) : scan_named_host(text, at, scan)))
    return false;
  return scan_port(text, at, scan) && scan_path_and_query(text, at, scan);
}

}  // namespace

std::optional<IpAddress> parse_ipv4(std::string_view text) {
  IpAddress address;
  address.is_v4 = true;
  std::size_t at = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    if (i > 0 && (at == text.size() || text[at++] != '.')) return std::nullopt;
    const std::size_t begin = at;
    unsigned value = 0;
    while (at < text.size() && at - begin < 3 && (class_of(text[at]) & digit) != 0) {
      value = value * 10 + static_cast<unsigned>(text[at++] - '0');
    }
    if (at == begin || value > 255 || (at - begin > 1 && text[begin] == '0')) return std::nullopt;
    address.bytes[i] = static_cast<std::uint8_t>(value);
  }
  if (at != text.size()) return std::nullopt;
  return address;
}

std::optional<IpAddress> parse_ipv6(std::string_view text) {
  IpAddress address;
  std::size_t used = 0;  // bytes
  std::optional<std::size_t> gap;
  std::size_t at = 0;
  if (text.starts_with("::")) {
    gap = 0;
    at = 2;
  }
  bool needs_group = !gap;
  while (at < text.size()) {
    if (used == 16) return std::nullopt;
    const std::size_t begin = at;
    unsigned value = 0;
    while (at < text.size() && at - begin < 5 && (class_of(text[at]) & hex_digit) != 0) {
      value = value << 4 | static_cast<unsigned>(hex_value(text[at++]));
    }
    if (at == begin || at - begin > 4) return std::nullopt;
    if (at < text.size() && text[at] == '.') {
      const std::optional<IpAddress> tail = parse_ipv4(text.substr(begin));
      if (!tail || used > 12) return std::nullopt;
      std::copy_n(tail->bytes.begin(), 4,
                  address.bytes.begin() + static_cast<std::ptrdiff_t>(used));
      used += 4;
      needs_group = false;
      at = text.size();
      break;
    }
    address.bytes[used++] = static_cast<std::uint8_t>(value >> 8);
    address.bytes[used++] = static_cast<std::uint8_t>(value);
    needs_group = false;
    if (at == text.size()) break;
    if (text[at++] != ':') return std::nullopt;
    needs_group = true;
    if (at < text.size() && text[at] == ':') {
      if (gap) return std::nullopt;
      gap = used;
      ++at;
      needs_group = false;
    }
  }
  if (needs_group || (gap ? used > 14 : used != 16)) return std::nullopt;
  if (gap) {
    const auto begin = address.bytes.begin() + static_cast<std::ptrdiff_t>(*gap);
    const auto end = address.bytes.begin() + static_cast<std::ptrdiff_t>(used);
    std::fill(begin, std::move_backward(begin, end, address.bytes.end()), std::uint8_t{0});
  }
  return address;
}

std::string to_string(const IpAddress& address) {
  AddressText text;
  if (address.is_v4) {
    return {text.data(), format_ipv4(std::span(address.bytes).first<4>(), text.data())};
  }
  return std::string(format_ipv6(address, is_mapped(address), text));
}

std::optional<Url> parse_url(std::string_view text, std::string& error) {
  Scan scan;
  if (!scan_url(text, scan)) {
    error = "not a target URL: ";
    error += scan.problem;
    return std::nullopt;
  }
  Url url;
  url.scheme = scan.https ? "https" : "http";
  url.host.resize(scan.host.size());
  std::transform(scan.host.begin(), scan.host.end(), url.host.begin(), ascii_lower);
  url.literal = scan.literal;
  url.port = scan.port;
  if (!scan.path_and_query.starts_with('/')) url.path_and_query = "/";
  url.path_and_query += scan.path_and_query;
  if (scan.canonical) {
    url.canonical = text;
    return url;
  }
  url.canonical = url.scheme + "://";
  if (scan.bracketed) url.canonical += '[';
  url.canonical += url.host;
  if (scan.bracketed) url.canonical += ']';
  if (url.port != (scan.https ? 443 : 80)) url.canonical += ":" + std::to_string(url.port);
  url.canonical += url.path_and_query;
  if (url.canonical.size() > url_bytes_max) {  // by the '/' of an empty path
    error = "not a target URL: it has over 2048 bytes";
    return std::nullopt;
  }
  return url;
}

std::optional<AddressPort> parse_address_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  const bool is_bracketed = host.starts_with('[') && host.ends_with(']');
  const auto address =
      is_bracketed ? parse_ipv6(host.substr(1, host.size() - 2)) : parse_ipv4(host);
  AddressPort found;
  const char* const end = digits.data() + digits.size();
  const auto [stop, failure] = std::from_chars(digits.data(), end, found.port);
  if (!address || failure != std::errc() || stop != end || digits.size() > 5) return std::nullopt;
  found.address = *address;
  return found;
}

}  // namespace postbag
