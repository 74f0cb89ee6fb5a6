#include "engine/pure/header_rules.h"

#include <simdjson.h>

#include <algorithm>
#include <array>

#include "engine/pure/ascii.h"

namespace postbag {
namespace {

constexpr std::size_t headers_max = 32;
constexpr std::size_t name_bytes_max = 256;
constexpr std::size_t value_bytes_max = 4096;
constexpr std::size_t label_bytes_max = 128;
constexpr std::size_t content_type_bytes_max = 128;
constexpr std::size_t id_bytes_max = 64;

// Framing, connection, what Postbag writes itself, and names by which metadata services tell
// requests that were meant for them. Lower case.
constexpr std::string_view forbidden_names[] = {
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "metadata",
    "metadata-flavor",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-google-metadata-request",
};
constexpr std::string_view forbidden_prefixes[] = {"postbag-", "proxy-", "x-aws-ec2-metadata-",
                                                   "x-forwarded-"};

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

constexpr std::array<bool, 256> make_token_chars() {
  std::array<bool, 256> chars{};
  for (int c = '0'; c <= '9'; ++c) chars[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) chars[c] = chars[c - 'a' + 'A'] = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~"))
    chars[static_cast<std::uint8_t>(c)] = true;
  return chars;
}
constexpr std::array<bool, 256> token_chars = make_token_chars();  // RFC 9110 5.6.2
bool is_token_char(char c) {
  return token_chars[static_cast<std::uint8_t>(c)];
}

bool is_value_char(char c) {
  return (c >= 0x20 && c <= 0x7e) || c == '\t';
}
bool is_space(char c) {
  return c == ' ' || c == '\t';
}

bool is_forbidden(std::string_view name) {
  const auto is_name = [&](std::string_view one) { return equal_ignoring_case(name, one); };
  const auto is_prefix = [&](std::string_view one) {
    return equal_ignoring_case(name.substr(0, one.size()), one);
  };
  return std::any_of(std::begin(forbidden_names), std::end(forbidden_names), is_name) ||
         std::any_of(std::begin(forbidden_prefixes), std::end(forbidden_prefixes), is_prefix);
}

std::string_view take_token(std::string_view& rest) {
  const auto end = std::find_if_not(rest.begin(), rest.end(), is_token_char);
  const std::string_view token = rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
  rest.remove_prefix(token.size());
  return token;
}

// A quoted-string of RFC 9110 5.6.4, printable ASCII only.
bool take_quoted(std::string_view& rest) {
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (!is_value_char(rest[i])) return false;
    if (rest[i] == '"') {
      rest.remove_prefix(i + 1);
      return true;
    }
    if (rest[i] == '\\' && (++i == rest.size() || !is_value_char(rest[i]))) return false;
  }
  return false;
}

void skip_spaces(std::string_view& rest) {
  while (!rest.empty() && is_space(rest[0])) rest.remove_prefix(1);
}

}  // namespace

std::optional<std::string> check_header(std::string_view name, std::string_view value) {
  if (name.empty()) return "a header has no name";
  if (name.size() > name_bytes_max) return "a header name has over 256 bytes";
  if (!std::all_of(name.begin(), name.end(), is_token_char)) {
    // Only the part in front of the fault: somebody may have put "Authorization: secret" into the
    // name.
    std::string_view rest = name;
    return "the header name that begins with \"" + std::string(take_token(rest)) +
           "\" has a character that a name may not have (RFC 9110 token)";
  }
  const auto problem = [&](std::string_view what) {
    return "header " + std::string(name) + " " + std::string(what);
  };
  if (is_forbidden(name)) {
    return problem(
        "is not allowed: the name belongs to Postbag, to the connection, to proxies or to metadata "
        "services");
  }
  if (value.size() > value_bytes_max) return problem("has a value of over 4096 bytes");
  if (!std::all_of(value.begin(), value.end(), is_value_char)) {
    return problem("has a value with other characters than printable ASCII and tab");
  }
  if (!value.empty() && (is_space(value.front()) || is_space(value.back()))) {
    return problem("has a value that begins or ends with a space or tab");
  }
  return std::nullopt;
}

std::optional<std::string> check_headers(std::span<const HeaderView> headers) {
  if (headers.size() > headers_max) return "over 32 headers";
  for (std::size_t i = 0; i < headers.size(); ++i) {
    if (auto problem = check_header(headers[i].name, headers[i].value)) return problem;
    for (std::size_t j = 0; j < i; ++j) {
      if (equal_ignoring_case(headers[i].name, headers[j].name)) {
        return "header " + std::string(headers[i].name) + " stands there twice";
      }
    }
  }
  return std::nullopt;
}

std::string join_headers(std::span<const HeaderView> headers) {
  std::size_t bytes = 0;
  for (const HeaderView& header : headers) bytes += header.name.size() + header.value.size() + 4;
  std::string out;
  out.reserve(bytes);
  for (const HeaderView& header : headers) {
    out += header.name;
    out += ": ";
    out += header.value;
    out += "\r\n";
  }
  return out;
}

std::optional<std::string> check_label(std::string_view field, std::string_view value) {
  const auto problem = [&](std::string_view what) {
    return std::string(field) + " " + std::string(what);
  };
  if (value.size() > label_bytes_max) return problem("has over 128 bytes");
  bool ascii = true;
  for (const char c : value) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f) return problem("has a control character");
    ascii = ascii && byte < 0x80;
  }
  if (ascii) return std::nullopt;
  if (!simdjson::validate_utf8(value.data(), value.size())) return problem("is not valid UTF-8");
  // U+0080 to U+009F, the control characters of Latin-1.
  for (std::size_t i = 0; i + 1 < value.size(); ++i) {
    if (value[i] == '\xc2' && static_cast<std::uint8_t>(value[i + 1]) < 0xa0)
      return problem("has a control character");
  }
  return std::nullopt;
}

// Empty is the default, application/json, and fine.
std::optional<std::string> check_content_type(std::string_view value) {
  if (value.empty() || value == "application/json") return std::nullopt;
  if (value.size() > content_type_bytes_max) return "content_type has over 128 bytes";
  constexpr std::string_view bad = "content_type is not a media type such as application/json";
  std::string_view rest = value;
  if (take_token(rest).empty() || !rest.starts_with('/')) return std::string(bad);
  rest.remove_prefix(1);
  if (take_token(rest).empty()) return std::string(bad);
  while (!rest.empty()) {
    skip_spaces(rest);
    if (!rest.starts_with(';')) return std::string(bad);
    rest.remove_prefix(1);
    skip_spaces(rest);
    if (take_token(rest).empty() || !rest.starts_with('=')) return std::string(bad);
    rest.remove_prefix(1);
    if (rest.starts_with('"') ? !take_quoted(rest) : take_token(rest).empty())
      return std::string(bad);
  }
  return std::nullopt;
}

bool is_valid_hook_id(std::string_view id) {
  return !id.empty() && id.size() <= id_bytes_max && std::all_of(id.begin(), id.end(), [](char c) {
    return is_alphanumeric(c) || c == '_' || c == '-';
  });
}

}  // namespace postbag
