#include "postbag/outcome.h"

#include <algorithm>
#include <iterator>

namespace postbag {
namespace {

constexpr std::string_view status_prefix = "status_";

// In the order of the enumerators.
constexpr std::string_view tokens[] = {
    "delivered",          "connect_refused", "connect_timeout", "net_unreachable",
    "local_resource",     "reset",           "write_timeout",   "timeout",
    "closed_no_response", "tls_cert",        "tls_name",        "tls_version",
    "tls_timeout",        "tls_eof",         "tls_protocol",    "tls_client_cert",
    "tls_alpn",           "dns_not_found",   "dns_timeout",     "dns_failed",
    "truncated_header",   "header_limit",    "bad_framing",     "bad_response",
    "bad_protocol",       "too_many_1xx",    "early_success",   "status",
    "ssrf_denied",        "shutdown",        "cancelled",       "corrupt_payload",
    "url_syntax",
};
static_assert(std::size(tokens) == static_cast<std::size_t>(Reason::url_syntax) + 1);

}  // namespace

std::string reason_token(Reason reason, int status) {
  if (reason == Reason::status) return std::string(status_prefix) + std::to_string(status);
  const auto index = static_cast<std::size_t>(reason);
  return std::string(index < std::size(tokens) ? tokens[index] : "unknown");
}

std::optional<ParsedReason> parse_reason(std::string_view token) {
  if (token.starts_with(status_prefix)) {
    const std::string_view digits = token.substr(status_prefix.size());
    const bool is_number =
        std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits.size() != 3 || !is_number || digits[0] == '0') return std::nullopt;
    return ParsedReason{Reason::status,
                        (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0')};
  }
  const auto found = std::find(std::begin(tokens), std::end(tokens), token);
  const auto reason = static_cast<Reason>(found - std::begin(tokens));
  if (found == std::end(tokens) || reason == Reason::status) return std::nullopt;
  return ParsedReason{reason, 0};
}

}  // namespace postbag
